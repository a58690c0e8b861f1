"""The miniature data sets keep the contract of data sets themselves."""

from pathlib import Path

import numpy as np
import pytest

from mtbench import NoOptions
from mtbench.testing import DatasetContract
from mtbench.testing.problems import (
    OwnImages,
    OwnMulticlass,
    OwnRegression,
    SharedImages,
    SharedOneVsAll,
    SharedRegression,
)


class TestSharedOneVsAll(DatasetContract):
    dataset = SharedOneVsAll


class TestSharedRegression(DatasetContract):
    dataset = SharedRegression


class TestOwnRegression(DatasetContract):
    dataset = OwnRegression


class TestOwnMulticlass(DatasetContract):
    dataset = OwnMulticlass


class TestSharedImages(DatasetContract):
    dataset = SharedImages


class TestOwnImages(DatasetContract):
    dataset = OwnImages


@pytest.mark.parametrize("dataset", [SharedImages, OwnImages])
def test_the_nearest_mean_of_training_images_names_nearly_every_test_image(dataset):
    """So any network that learns at all learns them; bytes as the harness takes them."""
    problem = dataset().load(Path(), 0, NoOptions())
    means, labels, wrong = [], [], []
    for name in ("train", "test"):
        part = problem.parts[name]
        images = np.asarray(part.inputs).reshape(part.n_rows, -1) / 255
        shown = part.labels.argmax(1) if part.task is None else 10 * part.task + part.labels[:, 0]
        if name == "train":
            labels = np.unique(shown)
            means = np.stack([images[shown == label].mean(0) for label in labels])
        else:
            nearest = ((images[:, None] - means) ** 2).sum(2).argmin(1)
            wrong = labels[nearest] != shown
    assert np.mean(wrong) < 0.02


@pytest.mark.parametrize("dataset", [SharedImages, OwnImages])
def test_all_parts_and_splits_of_miniature_images_share_one_array_of_bytes(dataset):
    parts = [part for split in range(3) for part in dataset().load(Path(), split, NoOptions()).parts.values()]
    assert len({part.inputs.place for part in parts}) == 1
    assert parts[0].inputs.dtype == np.uint8
    rows = np.concatenate([part.inputs.index for part in parts[:3]])
    assert len(np.unique(rows)) == len(rows)
