"""Images, decoded once: uint8 in one HDF5 file per data set and size, memory-mapped by every trial after that.

Rows of numbers that are too many to hold more than once are kept in the same way, as float32.

Guarantees: a file at its path is complete (it is written beside it, as "<name>.part", and renamed); what was broken off
is done again; the images lie in one piece, so that opening reads none of them and all trials and processes share their
pages; a file that is cut off or has changed is refused with what was expected, what was found and how to make it again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtbench.data.preparation import report
from mtbench.errors import DataError
from mtbench.tasks import Array

# Keeps HDF5 from loading filter plugins named by a file; it is read when the library starts.
os.environ["HDF5_PLUGIN_PRELOAD"] = "::"
import h5py

FORMAT = "mtbench images 1"
_REPORT_EVERY = 256  # images
_TYPES = (np.dtype(np.uint8), np.dtype(np.float32))
Column = Array | list[str]
"""Numbers of any shape, or texts."""


@dataclass(frozen=True, eq=False)
class ImageCache:
    """An open cache.

    Attributes:
        images: uint8 [N, ...], usually [N, C, H, W], or float32 [N, d]; mapped, read-only.
        columns: What belongs to them, such as labels [N], by name.
        attributes: What is true of all of them, such as where they come from.
    """

    images: Array
    columns: Mapping[str, Column]
    attributes: Mapping[str, str]


def write_cache(
    path: Path,
    dataset: str,
    shape: tuple[int, ...],
    images: Iterable[tuple[int, Array]],
    columns: Mapping[str, Column],
    attributes: Mapping[str, str] | None = None,
    dtype: type[np.generic] = np.uint8,
) -> None:
    """Writes a cache, complete or not at all.

    Args:
        path: Where it will lie; folders are made.
        dataset: Name of the data set, for the messages.
        shape: (N, ...), the shape of all images together.
        images: Each image, of shape `shape[1:]` and the type `dtype`, with its place 0 to N - 1; `enumerate(...)` where
            they come in order. One at a time is held in memory.
        columns: What belongs to the images, by name.
        attributes: What is true of all of them, as text.
        dtype: np.uint8 or np.float32.

    Raises:
        DataError: An image has another type or shape, is missing or comes twice, or the file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(part, "w", libver=("v110", "v110")) as file:
            stored = file.create_dataset("images", shape, dtype)
            _write_images(stored, images, dataset)
            for name, column in columns.items():
                file[f"columns/{name}"] = _stored(column)
            texts = {"format": FORMAT, "attributes": json.dumps(dict(attributes or {}), sort_keys=True)}
            file.attrs.update({name: np.bytes_(text.encode()) for name, text in texts.items()})
            file.flush()
            file.attrs["sha256"] = np.bytes_(_content_sha256(_mapped(part, stored), columns).encode())
            file.attrs["columns_sha256"] = np.bytes_(_columns_sha256(columns).encode())
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    except OSError as error:
        raise DataError(
            f"{dataset}: cannot write {path}: {error}. Make room or choose another folder with --data DIR, and run "
            f"`mtbench data prepare {dataset}` again."
        ) from error


def open_cache(path: Path, dataset: str) -> ImageCache:
    """Maps a cache, after a check of everything but the images' own content.

    Args:
        path: The file.
        dataset: Name of the data set, for the messages.

    Raises:
        DataError: It is missing, cut off, damaged or of another format.
    """
    if not path.is_file():
        raise DataError(
            f"{dataset}: no file '{path.name}', looked for at {path}. `mtbench data prepare {dataset}` makes it; or "
            "name the folder that holds it with --data DIR or MTBENCH_DATA."
        )
    try:
        with h5py.File(path, "r", locking=False) as file:
            form = _text(file, "format")
            if form != FORMAT:
                raise _damaged(path, dataset, f"format '{FORMAT}'", f"'{form}'")
            columns = {name: _loaded(file[f"columns/{name}"]) for name in file.get("columns", ())}
            _compare(path, dataset, "columns", _text(file, "columns_sha256"), _columns_sha256(columns))
            return ImageCache(_mapped(path, file["images"]), columns, json.loads(_text(file, "attributes")))
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        size = path.stat().st_size
        raise _damaged(path, dataset, "a complete HDF5 file", f"{size:,} bytes ({error})") from error


def check_cache(path: Path, dataset: str) -> None:
    """Compares the whole content of a cache with the SHA-256 it was written with.

    Args:
        path: The file.
        dataset: Name of the data set, for the messages.

    Raises:
        DataError: It is missing, cut off, damaged or of another format.
    """
    cache = open_cache(path, dataset)
    _compare(path, dataset, "content", cache_sha256(path), _content_sha256(cache.images, cache.columns))


def cache_sha256(path: Path) -> str:
    """The SHA-256 that a cache was written with, over images and columns; it does not depend on the HDF5 library."""
    with h5py.File(path, "r", locking=False) as file:
        return _text(file, "sha256")


def _write_images(stored: Any, images: Iterable[tuple[int, Array]], dataset: str) -> None:
    n, shape = stored.shape[0], stored.shape[1:]
    written = np.zeros(n, dtype=bool)
    for done, (place, image) in enumerate(images):
        if done % _REPORT_EVERY == 0:
            report(f"{dataset}: decoding", done, n, "images")
        if image.dtype != stored.dtype or image.shape != shape:
            raise DataError(
                f"{dataset}: image {place} must be {stored.dtype} of shape {shape}; found {image.dtype} of shape "
                f"{image.shape}."
            )
        if not 0 <= place < n or written[place]:
            raise DataError(f"{dataset}: there must be {n} images, each once; found another one for place {place}.")
        stored[place] = image
        written[place] = True
    if not written.all():
        raise DataError(f"{dataset}: there must be {n} images; found {written.sum()}, none for {np.argmin(written)}.")


def _mapped(path: Path, stored: Any) -> Array:
    """The images without reading them; HDF5 keeps a dataset without chunks in one piece at a known offset."""
    offset = stored.id.get_offset()
    if offset is None or stored.dtype not in _TYPES:
        raise ValueError("the images are not stored in one piece as uint8 or float32")
    return np.memmap(path, stored.dtype, "r", offset, stored.shape)


def _stored(column: Column) -> Any:
    return np.array(column, dtype=h5py.string_dtype()) if isinstance(column, list) else column


def _loaded(stored: Any) -> Column:
    if h5py.check_string_dtype(stored.dtype):
        return [str(text) for text in stored.asstr()[:]]
    return np.asarray(stored[()])


def _text(file: Any, name: str) -> str:
    return bytes(file.attrs.get(name, b"")).decode()


def _content_sha256(images: Array, columns: Mapping[str, Column]) -> str:
    digest = hashlib.sha256(json.dumps(images.shape).encode())
    digest.update(images.data)
    digest.update(_columns_sha256(columns).encode())
    return digest.hexdigest()


def _columns_sha256(columns: Mapping[str, Column]) -> str:
    """SHA-256 over the columns, in the order of their names: name, type, shape and bytes."""
    digest = hashlib.sha256()
    for name, column in sorted(columns.items()):
        if isinstance(column, list):
            digest.update(json.dumps([name, "texts", column]).encode())
        else:
            digest.update(json.dumps([name, column.dtype.str, column.shape]).encode())
            digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()


def _compare(path: Path, dataset: str, what: str, expected: str, found: str) -> None:
    if found != expected:
        raise _damaged(path, dataset, f"{what} with SHA-256 {expected}", found)


def _damaged(path: Path, dataset: str, expected: str, found: str) -> DataError:
    return DataError(
        f"{dataset}: {path} is corrupt or truncated: it must hold {expected}, found {found}. Delete it and run "
        f"`mtbench data prepare {dataset}`, which makes it again."
    )
