"""MNIST with few images: ten one-vs-all tasks, on 64 principal components or, imbalanced, on the images themselves.

Source: LeCun, Cortes and Burges, fetched from a public mirror of the original files and verified by the SHA-256 of
their uncompressed content, so that repacked archives serve as well.
Licence: not stated by the authors of the data.
Preprocessing of `mnist`: pixels / 255; PCA to 64 components, not whitened, fitted on the 1,000 training images of the
split alone. A component's sign is fixed by its largest loading, so that every machine finds the same one.
Shapes: rows [64]. Each split draws 100 / 50 / 50 images per class from the 60,000 training images; the part
"test_10000" is the standard test set, because 500 test images leave a standard error of 1.4 points. Labels [n, 10].

`mnist_imbalanced` is MNIST-Imbalanced of "Deep Asymmetric Multi-task Feature Learning" (ICML 2018, section 4.2): the
first 200, 180, ..., 20 training images of classes 0, 1, ..., 9 train (1,100), all other 58,900 validate, the standard
10,000 test. Rows are images [28, 28] of bytes, taken as fractions of 255; nothing is fitted. Every split holds the same
rows: a split is one run, whose initialisation and batches are its own.
"""

from __future__ import annotations

import functools
import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtbench import (
    DataError,
    Dataset,
    Part,
    Problem,
    Recipe,
    Reference,
    Rows,
    Source,
    Task,
    TaskKind,
    draw_by_group,
    hookimpl,
    seed_from,
    verified,
)
from mtbench.data.projection import principal_components

IMBALANCED = tuple(range(200, 0, -20))
"""Training images of classes 0 to 9."""

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
        images, classes = _read(root, TRAIN_IMAGES, self.name), _read(root, TRAIN_LABELS, self.name)
        rng = np.random.default_rng(seed_from(self.name, split, "split"))
        train, validation, test, _ = draw_by_group(classes, (100, 50, 50), rng)
        pixels = {part: images[rows] for part, rows in (("train", train), ("validation", validation), ("test", test))}
        digits = {"train": classes[train], "validation": classes[validation], "test": classes[test]}
        pixels["test_10000"] = _read(root, TEST_IMAGES, self.name)
        digits["test_10000"] = _read(root, TEST_LABELS, self.name)
        centre, components = principal_components(_rows(pixels["train"]), N_COMPONENTS)
        one_hot = np.eye(10, dtype=np.float32)
        parts = {
            name: Part(((_rows(part) - centre) @ components).astype(np.float32), one_hot[digits[name]])
            for name, part in pixels.items()
        }
        return Problem(self.name, split, tuple(Task(f"digit_{c}", TaskKind.BINARY) for c in range(10)), parts)


class MNISTImbalanced(Dataset):
    """Ten handwritten digits, from 200 training images of the first down to 20 of the last."""

    name = "mnist_imbalanced"
    title = "MNIST, 200 to 20 training images a class, one-vs-all"
    licence = "not stated"
    citation = Reference("Gradient-based learning applied to document recognition", "Proceedings of the IEEE 1998")
    sources = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
    # The paper fixes the step size; a look at 58,900 validation images costs as much as twenty epochs.
    recipe = Recipe(
        backbone="lenet",
        channels_last=True,
        learning_rate=1e-4,
        learning_rate_span=1.0,
        batch_size=100,
        max_epochs=1000,
        decay_every=500,
        eval_every=100,
        keep="learned",
    )
    selection_metric = "one_vs_all_error"
    report_metric = "one_vs_all_error"
    n_splits = 20
    default_splits = 5
    splits_share_rows = True

    def load(self, root: Path, split: int, options: Any) -> Problem:
        """The same rows for every split."""
        self.check_split(split)
        images, digits, parts = _imbalanced(root, self.name)
        one_hot = np.eye(10, dtype=np.float32)
        tasks = tuple(Task(f"digit_{c}", TaskKind.BINARY) for c in range(10))
        made = {name: Part(Rows(images, rows), one_hot[digits[rows]]) for name, rows in parts.items()}
        return Problem(self.name, split, tasks, made)


@functools.lru_cache(maxsize=1)
def _imbalanced(root: Path, dataset: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, NDArray[np.int64]]]:
    """All 70,000 images, training images first, their digits, and the rows of each part."""
    sources = ((TRAIN_IMAGES, TEST_IMAGES), (TRAIN_LABELS, TEST_LABELS))
    images, digits = (np.concatenate([_read(root, source, dataset) for source in pair]) for pair in sources)
    n_train = len(_read(root, TRAIN_LABELS, dataset))
    drawn = [np.flatnonzero(digits[:n_train] == c)[:n] for c, n in enumerate(IMBALANCED)]
    train = np.sort(np.concatenate(drawn))
    validation = np.setdiff1d(np.arange(n_train), train)
    return images, digits, {"train": train, "validation": validation, "test": np.arange(n_train, len(digits))}


def _read(root: Path, source: Source, dataset: str) -> NDArray[np.uint8]:
    """The array in an idx file: two zero bytes, the type (8: uint8), the number of dimensions, their sizes."""
    content = gzip.decompress(verified(source, root, dataset).read_bytes())
    if content[:3] != b"\0\0\x08":
        raise DataError(f"{dataset}: '{source.path}' must be an idx file of bytes; it begins with {content[:4]!r}.")
    shape = np.frombuffer(content, dtype=">i4", count=content[3], offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + shape.nbytes).reshape(shape)


def _rows(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Images [n, 28, 28] as rows [n, 784] of values from 0 to 1."""
    return images.reshape(len(images), -1) / 255.0


@hookimpl
def mtbench_datasets() -> list[type[Dataset]]:
    """The data sets of this file."""
    return [MNIST, MNISTImbalanced]
