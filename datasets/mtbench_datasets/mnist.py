"""MNIST with few images: ten one-vs-all tasks on 64 principal components.

Source: LeCun, Cortes and Burges, fetched from a public mirror of the original files and verified by the SHA-256 of
their uncompressed content, so that repacked archives serve as well.
Licence: not stated by the authors of the data.
Preprocessing: pixels / 255; PCA to 64 components, not whitened, fitted on the 1,000 training images of the split alone.
A component's sign is fixed by its largest loading, so that every machine finds the same one.
Shapes: rows [64]. Each split draws 100 / 50 / 50 images per class from the 60,000 training images; the part
"test_10000" is the standard test set, because 500 test images leave a standard error of 1.4 points. Labels [n, 10].
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from mtbench import (
    DataError,
    Dataset,
    Part,
    Problem,
    Recipe,
    Reference,
    Source,
    Task,
    TaskKind,
    draw_by_group,
    hookimpl,
    seed_from,
    verified,
)

ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist/"
N_COMPONENTS = 64


def _source(file: str, n_bytes: int, sha256: str) -> Source:
    return Source(f"mnist/{file}", sha256, ADDRESS + file, n_bytes)


TRAIN_IMAGES = _source(
    "train-images-idx3-ubyte.gz", 9912422, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
)
TRAIN_LABELS = _source(
    "train-labels-idx1-ubyte.gz", 28881, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
)
TEST_IMAGES = _source(
    "t10k-images-idx3-ubyte.gz", 1648877, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
)
TEST_LABELS = _source(
    "t10k-labels-idx1-ubyte.gz", 4542, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
)


class MNIST(Dataset):
    """Ten handwritten digits, 100 training images each."""

    name = "mnist"
    title = "MNIST, 1,000 training images, 64 principal components, one-vs-all"
    licence = "not stated"
    citation = Reference("Gradient-based learning applied to document recognition", "Proceedings of the IEEE 1998")
    sources = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
    recipe = Recipe(hidden=500, learning_rate=2e-3, batch_size=100, max_epochs=100, patience=20)
    selection_metric = "one_vs_all_error"
    report_metric = "one_vs_all_error"
    also_report = ("one_vs_all_error@test_10000",)
    n_splits = 20
    default_splits = 5

    def load(self, root: Path, split: int, options: Any) -> Problem:
        """Draws a split from the training images and projects all parts on its training part's components."""
        self.check_split(split)
        images, classes = self._read(root, TRAIN_IMAGES), self._read(root, TRAIN_LABELS)
        rng = np.random.default_rng(seed_from(self.name, split, "split"))
        train, validation, test, _ = draw_by_group(classes, (100, 50, 50), rng)
        pixels = {part: images[rows] for part, rows in (("train", train), ("validation", validation), ("test", test))}
        digits = {"train": classes[train], "validation": classes[validation], "test": classes[test]}
        pixels["test_10000"], digits["test_10000"] = self._read(root, TEST_IMAGES), self._read(root, TEST_LABELS)
        centre, components = principal_components(_rows(pixels["train"]), N_COMPONENTS)
        one_hot = np.eye(10, dtype=np.float32)
        parts = {
            name: Part(((_rows(part) - centre) @ components).astype(np.float32), one_hot[digits[name]])
            for name, part in pixels.items()
        }
        return Problem(self.name, split, tuple(Task(f"digit_{c}", TaskKind.BINARY) for c in range(10)), parts)

    def _read(self, root: Path, source: Source) -> NDArray[np.uint8]:
        """The array in an idx file: two zero bytes, the type (8: uint8), the number of dimensions, their sizes."""
        content = gzip.decompress(verified(source, root, self.name).read_bytes())
        if content[:3] != b"\0\0\x08":
            raise DataError(
                f"{self.name}: '{source.path}' must be an idx file of bytes; it begins with {content[:4]!r}."
            )
        shape = np.frombuffer(content, dtype=">i4", count=content[3], offset=4)
        return np.frombuffer(content, dtype=np.uint8, offset=4 + shape.nbytes).reshape(shape)


def _rows(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Images [n, 28, 28] as rows [n, 784] of values from 0 to 1."""
    return images.reshape(len(images), -1) / 255.0


def principal_components(rows: NDArray[np.float64], k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean and the first k principal directions of rows [n, d]: [d] and [d, k], largest variance first."""
    centre = rows.mean(0)
    centred = rows - centre
    d = centred.shape[1]
    _, directions = eigh(centred.T @ centred, subset_by_index=(d - k, d - 1))
    components = directions[:, ::-1]
    largest = np.abs(components).argmax(0)
    return centre, components * np.sign(components[largest, np.arange(k)])


@hookimpl
def mtbench_datasets() -> list[type[Dataset]]:
    """The data set of this file."""
    return [MNIST]
