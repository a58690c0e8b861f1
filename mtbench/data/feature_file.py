"""Features of images, one matrix per kind, in one HDF5 file that may come from anybody.

Layout: `class_index`, integers [n], is the class of each image, 0 to C - 1, and its attribute `classes` holds the C
names. Every other dataset is a kind of features, floats [n, d]. Where a dataset has an attribute `sha256`, over type,
shape and bytes as `write_features` gives it, its content is held against it whenever it is read.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtbench.errors import DataError, UnknownName
from mtbench.tasks import Array

# Keeps HDF5 from loading filter plugins named by a file; it is read when the library starts.
os.environ["HDF5_PLUGIN_PRELOAD"] = "::"
import h5py

CLASS_INDEX = "class_index"


@dataclass(frozen=True, eq=False)
class Features:
    """What was read.

    Attributes:
        rows: The kinds side by side, float32 [n, d]. Of each kind every row is scaled to a mean square of 1, unless it
            is all 0, so that kinds of any scale may stand beside each other and nothing is fitted.
        class_index: int64 [n].
        classes: The C names.
        kinds: Names of the kinds, in order of the columns.
        sha256: Over the content of what was read, as it is stored.
    """

    rows: NDArray[np.float32]
    class_index: NDArray[np.int64]
    classes: tuple[str, ...]
    kinds: tuple[str, ...]
    sha256: str


def write_features(
    path: Path, classes: Sequence[str], class_index: Array, kinds: Mapping[str, tuple[int, Iterable[Array]]]
) -> None:
    """Writes a file of features.

    Args:
        path: The file; its folder must be there.
        classes: The C names.
        class_index: Class of each image, integers [n].
        kinds: By name the number of columns d, and the rows in order as blocks [rows, d]; one block at a time is held
            in memory.

    Raises:
        DataError: A kind has another number of rows or columns.
    """
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        index = file.create_dataset(CLASS_INDEX, data=np.asarray(class_index, dtype=np.int64))
        index.attrs["classes"] = np.array(list(classes), dtype=h5py.string_dtype())
        _seal(index, _digest(index[:]).hexdigest())
        for name, (width, blocks) in kinds.items():
            _write_kind(file.create_dataset(name, (len(class_index), width), np.float32), blocks)


def _write_kind(stored: Any, blocks: Iterable[Array]) -> None:
    n, width = stored.shape
    digest, start = _digest(np.empty((0, width), np.float32), stored.shape), 0
    for block in blocks:
        rows = np.ascontiguousarray(block, dtype=np.float32)
        end = start + len(rows)
        if rows.shape[1:] != (width,) or end > n:
            break
        stored[start:end] = rows
        digest.update(rows.data)
        start = end
    else:
        if start == n:
            return _seal(stored, digest.hexdigest())
    raise DataError(f"'{stored.name[1:]}' must have {n} rows of {width} columns; found others after row {start}.")


def kinds_in(path: Path, dataset: str) -> tuple[str, ...]:
    """Names of the kinds of features that a file holds, sorted.

    Args:
        path: The file.
        dataset: Name of the data set, for the messages.

    Raises:
        DataError: It is missing, cut off, or not such a file.
    """
    with _opened(path, dataset) as file:
        return tuple(sorted(name for name in file if name != CLASS_INDEX))


def is_sealed(path: Path, dataset: str) -> bool:
    """Whether everything in a file has a hash that its content is held against.

    Args:
        path: The file.
        dataset: Name of the data set, for the messages.

    Raises:
        DataError: It is missing, cut off, or not such a file.
    """
    with _opened(path, dataset) as file:
        return all("sha256" in stored.attrs for stored in file.values())


def read_features(path: Path, dataset: str, kinds: Sequence[str]) -> Features:
    """Reads kinds of features; once per process and state of the file.

    Args:
        path: The file.
        dataset: Name of the data set, for the messages.
        kinds: Which, by name.

    Raises:
        DataError: The file is missing, damaged or not such a file.
        UnknownName: It does not hold one of the kinds.
    """
    state = path.stat() if path.is_file() else None
    changed = (state.st_size, state.st_mtime_ns) if state else (0, 0)
    return _read(path, changed, dataset, tuple(kinds))


@functools.lru_cache(maxsize=2)
def _read(path: Path, changed: tuple[int, int], dataset: str, kinds: tuple[str, ...]) -> Features:
    with _opened(path, dataset) as file:
        there = sorted(name for name in file if name != CLASS_INDEX)
        for kind in kinds:
            if kind not in there:
                raise UnknownName.among("kind of features", kind, there, f"{path} holds {', '.join(there)}.")
        classes = tuple(map(str, file[CLASS_INDEX].attrs["classes"]))
        index = _content(file[CLASS_INDEX], path, dataset)
        if index.ndim != 1 or index.dtype.kind not in "iu" or not 0 <= index.min() <= index.max() < len(classes):
            raise _wrong(
                path, dataset, f"'{CLASS_INDEX}' with whole numbers [n] from 0 to {len(classes) - 1}", "others"
            )
        record, blocks = [[CLASS_INDEX, *classes, _digest(index).hexdigest()]], []
        for kind in kinds:
            matrix = _content(file[kind], path, dataset)
            if matrix.ndim != 2 or len(matrix) != len(index) or matrix.dtype.kind != "f":
                raise _wrong(path, dataset, f"'{kind}' as floats [{len(index)}, d]", f"{matrix.dtype} {matrix.shape}")
            record.append([kind, _digest(matrix).hexdigest()])
            blocks.append(_scaled(matrix.astype(np.float32)))
    sha256 = hashlib.sha256(json.dumps(record).encode()).hexdigest()
    return Features(np.concatenate(blocks, 1), index.astype(np.int64), classes, kinds, sha256)


def _scaled(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows [n, d] at a mean square of 1 each."""
    size = np.sqrt(np.mean(np.square(rows, dtype=np.float64), 1, keepdims=True))
    return (rows / np.where(size > 0, size, 1.0)).astype(np.float32)


@contextmanager
def _opened(path: Path, dataset: str) -> Iterator[Any]:
    """A file of features, open for reading; what goes wrong meanwhile is an error that names it."""
    if not path.is_file():
        raise DataError(
            f"{dataset}: no file '{path.name}', looked for at {path}. `mtbench data prepare {dataset}` makes it or "
            "says where to get it; or name the folder that holds it with --data DIR or MTBENCH_DATA."
        )
    try:
        with h5py.File(path, "r", locking=False) as file:
            file[CLASS_INDEX].attrs["classes"]
            yield file
    except (OSError, KeyError, RuntimeError) as error:
        expected = f"a complete HDF5 file with '{CLASS_INDEX}', its attribute 'classes', and matrices of features"
        raise _wrong(path, dataset, expected, f"{path.stat().st_size:,} bytes ({error})") from error


def _content(stored: Any, path: Path, dataset: str) -> Array:
    content = np.asarray(stored[()])
    expected = stored.attrs.get("sha256", b"").decode()
    found = _digest(content).hexdigest() if expected else ""
    if found != expected:
        raise _wrong(path, dataset, f"'{stored.name[1:]}' with SHA-256 {expected}", found)
    return content


def _seal(stored: Any, digest: str) -> None:
    stored.attrs["sha256"] = np.bytes_(digest.encode())


def _digest(array: Array, shape: tuple[int, ...] | None = None) -> Any:
    """SHA-256 over type, shape (its own, or that of the whole that it begins) and bytes."""
    digest = hashlib.sha256(json.dumps([array.dtype.str, shape or array.shape]).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest


def _wrong(path: Path, dataset: str, expected: str, found: str) -> DataError:
    return DataError(
        f"{dataset}: {path} is corrupt, truncated or no file of features: it must hold {expected}; found {found}. "
        f"Delete it and run `mtbench data prepare {dataset}`, which makes it again or says how to get it."
    )
