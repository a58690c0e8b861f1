"""Small files in the exact layout of those that MNIST, School and the AMTL data sets are made from.

`write_<name>(root, patch)` as in `official_files`.
"""

import dataclasses
import gzip
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mtbench_datasets import amtl, mnist, school
from scipy.io import savemat

from mtbench import Source


def write_mnist(root: Path, patch: pytest.MonkeyPatch) -> None:
    """The four files of MNIST, with 2,100 training images."""
    digits = {"TRAIN": np.tile(np.arange(10), 210), "TEST": np.tile(np.arange(10), 12)}
    found = []
    for part, classes in digits.items():
        rng = np.random.default_rng(len(classes))
        strokes = np.random.default_rng(0).integers(0, 2, (10, 28, 28))
        images = (strokes[classes] * 160 + rng.integers(0, 96, (len(classes), 28, 28))).astype(np.uint8)
        for name, values in ((f"{part}_IMAGES", images), (f"{part}_LABELS", classes.astype(np.uint8))):
            shape = np.array(values.shape, dtype=">i4").tobytes()
            content = b"\0\0\x08" + bytes([values.ndim]) + shape + values.tobytes()
            found.append(put(root, getattr(mnist, name), gzip.compress(content, 1), content))
            patch.setattr(mnist, name, found[-1])
    for dataset in (mnist.MNIST, mnist.MNISTImbalanced):
        patch.setattr(dataset, "sources", tuple(found))


def write_mnist_imbalanced(root: Path, patch: pytest.MonkeyPatch) -> None:
    """The same, of which classes 0 to 9 train with 20 to 2 images."""
    write_mnist(root, patch)
    patch.setattr(mnist, "IMBALANCED", tuple(range(20, 0, -2)))
    mnist._imbalanced.cache_clear()


def write_school(root: Path, patch: pytest.MonkeyPatch) -> None:
    """The matrix of six schools and the ten splits of their pupils."""
    rng = np.random.default_rng(0)
    pupils = np.array([12, 9, 20, 7, 15, 10])
    first = np.cumsum(pupils) - pupils + 1
    n = pupils.sum()
    x = np.vstack([rng.integers(0, 2, (25, n)), rng.integers(0, 90, (2, n)), np.ones((1, n))]).astype(np.uint8)
    y = rng.integers(1, 71, (n, 1)).astype(np.uint8)
    matrix = put(root, school.MATRIX, mat({"x": x, "y": y, "task_indexes": first[:, None].astype(np.uint16)}))
    splits = []
    for source in school.SPLITS:
        order = np.concatenate([start + rng.permutation(k) for start, k in zip(first, pupils, strict=True)])
        tests = np.concatenate([np.arange(k) < k // 4 for k in pupils])
        content = mat({"tr": order[~tests][:, None].astype(np.uint16), "tst": order[tests][:, None].astype(np.uint16)})
        splits.append(put(root, source, content))
    patch.setattr(school, "MATRIX", matrix)
    patch.setattr(school, "SPLITS", tuple(splits))
    patch.setattr(school.School, "sources", (matrix, *splits))


def write_usps(root: Path, patch: pytest.MonkeyPatch) -> None:
    """The digits: ten classes of six, three and three rows."""
    content = {}
    for seed, (part, n) in enumerate({"train": 6, "val": 3, "test": 3}.items()):
        labels = np.tile(np.arange(1, 11), n)
        rows = np.random.default_rng(seed).standard_normal((len(labels), 87)) + 3 * np.eye(87)[labels]
        content |= {f"{part}_x": rows, f"{part}_y": labels[:, None].astype(np.uint8)}
    source = put(root, amtl.DIGITS, mat(content))
    patch.setattr(amtl, "DIGITS", source)
    patch.setattr(amtl.USPS, "sources", (source,))


def write_amtl_synthetic(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Regressions of equal size."""
    source = put(root, amtl.BALANCED, regressions([6, 6, 6, 6]))
    patch.setattr(amtl, "BALANCED", source)
    patch.setattr(amtl.AMTLSynthetic, "sources", (source,))


def write_amtl_imbalanced(root: Path, patch: pytest.MonkeyPatch) -> None:
    """The five variants of regressions of unequal size."""
    variants = tuple(put(root, source, regressions([9, 9, 3, 3], i)) for i, source in enumerate(amtl.VARIANTS))
    patch.setattr(amtl, "VARIANTS", variants)
    patch.setattr(amtl.AMTLImbalanced, "sources", variants)


def regressions(n_train: list[int], seed: int = 0) -> bytes:
    """A file of regression tasks, rows of a task together."""
    rng, content = np.random.default_rng(seed), {}
    weights = rng.standard_normal((20, len(n_train)))
    sizes = {"train": ("trindex", n_train), "val": ("valindex", [5] * len(n_train))}
    for part, (key, rows) in {**sizes, "test": ("teindex", [5] * len(n_train))}.items():
        x = rng.standard_normal((sum(rows), 20))
        task = np.repeat(np.arange(len(rows)), rows)
        content |= {f"{part}_x": x, f"{part}_y": (x * weights.T[task]).sum(1)[:, None]}
        content[key] = (np.cumsum(rows) - rows + 1)[None].astype(np.uint16)
    return mat(content)


def mat(content: dict[str, np.ndarray]) -> bytes:
    """A MATLAB file."""
    stream = io.BytesIO()
    savemat(stream, content, do_compression=True)
    return stream.getvalue()


def put(root: Path, source: Source, content: bytes, plain: bytes | None = None) -> Source:
    """Writes a source's file; the source as it must be for that. `plain` is its content uncompressed."""
    path = root / source.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    digest = hashlib.sha256(content if plain is None else plain).hexdigest()
    return dataclasses.replace(source, sha256=digest, n_bytes=len(content))


TABLE_WRITERS: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "amtl_imbalanced": write_amtl_imbalanced,
    "amtl_synthetic": write_amtl_synthetic,
    "mnist": write_mnist,
    "mnist_imbalanced": write_mnist_imbalanced,
    "school": write_school,
    "usps": write_usps,
}
