import gzip
from collections.abc import Callable

import numpy as np
import pytest
from mtbench_datasets.mnist import MNIST, MNISTImbalanced

from mtbench import DataError, NoOptions, Problem


@pytest.fixture(scope="module")
def problem(root_of: Callable) -> Problem:
    return MNIST().load(root_of(MNIST), 0, NoOptions())


def test_a_file_of_another_format_is_named(tmp_path, monkeypatch):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(b"no idx file"))
    monkeypatch.setattr("mtbench_datasets.mnist.verified", lambda source, root, dataset: path)
    with pytest.raises(DataError, match="must be an idx file of bytes"):
        MNIST().load(tmp_path, 0, NoOptions())


@pytest.mark.real_data
def test_every_class_has_its_images_in_every_part(problem):
    parts = problem.parts
    counts = {name: part.labels.sum(0).tolist() for name, part in parts.items()}
    assert counts["train"] == [100] * 10
    assert counts["validation"] == counts["test"] == [50] * 10
    assert counts["test_10000"] == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert all((part.labels.sum(1) == 1).all() for part in parts.values())


@pytest.mark.real_data
def test_components_were_fitted_on_the_training_images_alone(problem):
    """Training rows are centred and uncorrelated, of falling variance; no other part's rows are."""
    parts = problem.parts
    train = parts["train"].inputs.astype(float)
    assert np.abs(train.mean(0)).max() < 1e-5
    covariance = np.cov(train.T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-5
    assert (np.diff(np.diag(covariance)) < 0).all()
    for name in ("validation", "test", "test_10000"):
        assert np.abs(parts[name].inputs.mean(0)).max() > 0.05


@pytest.mark.real_data
def test_parts_have_no_image_in_common(problem):
    parts = problem.parts
    rows = np.concatenate([parts[name].inputs for name in ("train", "validation", "test")])
    assert len(np.unique(rows.round(5), axis=0)) == len(rows)


@pytest.mark.real_data
def test_the_imbalanced_variant_trains_on_the_first_images_of_each_class(root_of):
    problem = MNISTImbalanced().load(root_of(MNISTImbalanced), 3, None)
    train, validation, test = (problem.parts[name] for name in ("train", "validation", "test"))
    assert train.labels.sum(0).tolist() == [200, 180, 160, 140, 120, 100, 80, 60, 40, 20]
    assert [part.n_rows for part in (train, validation, test)] == [1100, 58900, 10000]
    assert train.inputs.place == validation.inputs.place == test.inputs.place
    nines = np.flatnonzero(np.asarray(problem.refit().parts["train"].labels)[:, 9])
    assert len(nines) == 5949
    assert not set(train.inputs.index) & set(validation.inputs.index)
    first = validation.inputs.index[validation.labels[:, 0] == 1].min()
    assert train.inputs.index[train.labels[:, 0] == 1].max() < first


@pytest.mark.real_data
def test_the_splits_of_the_imbalanced_variant_hold_the_same_rows(root_of):
    one, other = (MNISTImbalanced().load(root_of(MNISTImbalanced), split, None) for split in (0, 1))
    assert all(np.array_equal(one.parts[name].inputs.index, other.parts[name].inputs.index) for name in one.parts)
