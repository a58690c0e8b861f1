"""HDF5 files as flat columns, and the one door through which the store meets the HDF5 library.

Files may come from anybody, and HDF5 does not promise to survive hostile ones, so reading refuses whatever this
module does not write: only hard links, no storage outside the file, known filters, plain types, bounded sizes.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from mtbench.errors import StoreError
from mtbench.tasks import Array

# Keeps HDF5 from loading filter plugins named by a file; it is read when the library starts.
os.environ["HDF5_PLUGIN_PRELOAD"] = "::"
import h5py

Column = Array | list[str] | str
"""Numbers of any shape, one text per trial, or one text."""

DETAILS = ("predictions", "history", "learned")
"""Groups of the columns that no summary repeats."""

DEFLATE_FROM = 1024
MAX_DEPTH = 4
MAX_OBJECTS = 10_000
MAX_BYTES = 1 << 34
MAX_CHUNK = 1 << 26
# Deflate cannot do better than 1032 to 1: more than that was declared, not stored.
MAX_RATIO = 1040
_CHUNK_WHOLE = 1 << 20
_DEFLATED: Mapping[str, Any] = {"compression": "gzip", "compression_opts": 4}
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_LAYOUTS = {h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED}


def write_columns(
    columns: Mapping[str, Column],
    attributes: Mapping[str, str | int],
    stored_raw: str,
    user_block: int,
    deflate: bool = True,
) -> tuple[bytearray, int]:
    """The image of an HDF5 file.

    Args:
        columns: By path, e.g. "metrics/test/rmse".
        attributes: Attributes of the root group.
        stored_raw: The column that is to lie in the file as it is, in one piece.
        user_block: Bytes left free before the HDF5 part: a power of two, at least 512.
        deflate: Whether to compress columns. If not, those that appear once are shuffled: the bytes of equal weight
            together, so that the image as a whole can be compressed well.

    Returns:
        The image, and where in it the raw column begins.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("v110", "v110"), userblock_size=user_block) as file:
        for path, column in columns.items():
            _write(file, path, column, {} if path == stored_raw else _DEFLATED if deflate else _filters(path))
        for name, value in attributes.items():
            file.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value
        file.flush()
        offset: int = file[stored_raw].id.get_offset()
    return bytearray(buffer.getbuffer()), offset


def _write(file: Any, path: str, column: Column, filters: Mapping[str, Any]) -> None:
    data = column if isinstance(column, np.ndarray) else _encoded(column)
    options: dict[str, Any] = {}
    if filters and data.ndim and data.nbytes > DEFLATE_FROM:
        options = {"chunks": data.shape if data.nbytes <= _CHUNK_WHOLE else True, **filters}
    file.create_dataset(path, data=data, **options)


def _filters(path: str) -> Mapping[str, Any]:
    return {"shuffle": True} if path.split("/")[0] in DETAILS else {}


def _encoded(texts: list[str] | str) -> Array:
    """Texts as a numpy array of UTF-8 in a field of fixed length: nothing of them lies outside the array."""
    encoded = [text.encode() for text in ([texts] if isinstance(texts, str) else texts)]
    field = h5py.string_dtype("utf-8", max([1, *map(len, encoded)]))
    return np.array(encoded[0] if isinstance(texts, str) else encoded, field)


def read_columns(source: Path | bytes, name: str = "") -> tuple[dict[str, Column], dict[str, str | int]]:
    """Columns and root attributes of a file or image.

    Args:
        source: Where they are.
        name: What messages call it; by default the file's name.

    Raises:
        StoreError: It cannot be read, or holds something that a store's file never holds.
    """
    name = name or (source.name if isinstance(source, Path) else "the image")
    try:
        size = plain_file_size(source) if isinstance(source, Path) else len(source)
        # Published files never change, so no lock is needed; on shared file systems HDF5's locks often fail.
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        options = {} if isinstance(source, bytes) else {"locking": False}
        with h5py.File(opened, "r", **options) as file:
            found = dict(_datasets(file.id, "", set(), 1))
            declared = sum(_declared(dataset, path, size) for path, dataset in found.items())
            _require(declared <= MAX_BYTES, f"all data together may declare {MAX_BYTES} bytes; found {declared}")
            columns = {path: _read(dataset) for path, dataset in found.items()}
            return columns, _attributes(file)
    except StoreError as error:
        raise StoreError(f"{name}: {error}") from None
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, MemoryError, UnicodeError) as error:
        raise StoreError(f"{name} is no readable HDF5 file: {_first_line(error)}") from None


def plain_file_size(path: Path) -> int:
    """Size in bytes of a file that is neither a link nor a pipe: those lead out of a foreign store, or hang.

    Raises:
        StoreError: It is something else.
        OSError: It cannot be looked at.
    """
    found = path.lstat()
    _require(stat.S_ISREG(found.st_mode), "a store's files are plain files; this is a link, pipe or directory")
    return found.st_size


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise StoreError(f"refused, because {otherwise}.")


def _datasets(group: Any, prefix: str, seen: set[Any], depth: int) -> Iterator[tuple[str, Any]]:
    """All datasets below a group by path; every object is reached once, by hard links alone."""
    _require(depth <= MAX_DEPTH, f"groups may be nested {MAX_DEPTH} deep; '{prefix}' is deeper")
    for link in group:
        path = prefix + link.decode()
        _require(len(seen) < MAX_OBJECTS, f"a file may hold {MAX_OBJECTS} objects; found more")
        kind = group.links.get_info(link).type
        _require(kind == h5py.h5l.TYPE_HARD, f"only hard links are followed; '{path}' is a soft or external link")
        info = h5py.h5o.get_info(group, link)
        _require(info.addr not in seen, f"an object has one name; '{path}' is another name of one")
        seen.add(info.addr)
        known = info.type in (h5py.h5o.TYPE_GROUP, h5py.h5o.TYPE_DATASET)
        _require(known, f"only groups and datasets are read; '{path}' is neither")
        child = h5py.h5o.open(group, link)
        if info.type == h5py.h5o.TYPE_DATASET:
            yield path, child
        else:
            yield from _datasets(child, path + "/", seen, depth + 1)


def _declared(dataset: Any, path: str, file_size: int) -> int:
    """Bytes a dataset declares, after checking that reading them is safe."""
    created, kind = dataset.get_create_plist(), dataset.get_type()
    layout = created.get_layout()
    _require(layout in _LAYOUTS, f"virtual datasets are not read; '{path}' is one")
    _require(created.get_external_count() == 0, f"data lie inside the file; those of '{path}' lie in another")
    _plain_type(kind, path)
    filters = {created.get_filter(i)[0] for i in range(created.get_nfilters())}
    _require(filters <= _FILTERS, f"filters are deflate, shuffle and fletcher32; '{path}' has number {filters}")
    size: int = prod(dataset.shape) * kind.get_size()
    stored = dataset.get_storage_size()
    enough = stored <= file_size and size <= (stored * MAX_RATIO if filters else stored)
    _require(enough, f"'{path}' declares {size} bytes, more than its {stored} stored bytes can hold")
    if layout == h5py.h5d.CHUNKED:
        chunk = prod(created.get_chunk()) * kind.get_size()
        _require(chunk <= MAX_CHUNK, f"chunks may have {MAX_CHUNK} bytes; those of '{path}' have {chunk}")
    return size


def _plain_type(kind: Any, path: str) -> None:
    plain = isinstance(kind, h5py.h5t.TypeIntegerID | h5py.h5t.TypeFloatID)
    text = isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
    _require(plain or text, f"data are numbers or texts of fixed length; '{path}' has another type")


def _read(dataset: Any) -> Column:
    data = h5py.Dataset(dataset)[()]
    if dataset.dtype.kind != "S":
        return np.asarray(data)
    return data.decode() if dataset.shape == () else [text.decode() for text in data.ravel()]


def _attributes(file: Any) -> dict[str, str | int]:
    """The root's attributes that are single numbers or short texts; others are not ours, and are not read."""
    found: dict[str, str | int] = {}
    for i in range(min(h5py.h5a.get_num_attrs(file.id), 64)):
        attribute = h5py.h5a.open(file.id, index=i)
        kind = attribute.get_type()
        if attribute.shape != () or kind.get_size() > 1 << 16:
            continue
        _plain_type(kind, attribute.name.decode())
        value = file.attrs[attribute.name]
        found[attribute.name.decode()] = value.decode() if isinstance(value, bytes) else int(value)
    return found
