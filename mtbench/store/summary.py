"""The part of a stack's file that reports read, packed so that reading it needs no HDF5.

Opening an HDF5 file costs about half a millisecond and each dataset in it a tenth, too much for thousands of files.
So a stack's file repeats its small columns in one raw dataset, `summary`, and its first 512 bytes (a user block, which
HDF5 skips) say where that lies. The summary is derived: `verify` compares it with the columns.

Layout of the header: a line of JSON, padded with spaces. Layout of the summary: a line of JSON, then the arrays.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mtbench.contracts.trials import Trial
from mtbench.errors import StoreError
from mtbench.store.hdf5 import Column, plain_file_size
from mtbench.store.pack_format import Member
from mtbench.store.promises import check_name, check_summary
from mtbench.tasks import Array

FILE_FORMAT = 1
"""Version of a stack file's layout."""

HEADER_SIZE = 512
_KIND = "mtbench stack"
_MAX_SUMMARY = 1 << 28
_ROOTS = ("trials", "params", "metrics", "best_epoch", "train_seconds", "n_parameters", "residual")
_DTYPES = {"<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "|i1", "<u8", "<u4", "<u2", "|u1"}


def pack(columns: Mapping[str, Column]) -> bytes:
    """The summary of a stack's columns."""
    small = {p: c for p, c in columns.items() if p.split("/")[0] in _ROOTS and p != "trials/identity"}
    arrays = {path: column for path, column in small.items() if isinstance(column, np.ndarray)}
    head = {
        "cell": Trial.from_identity(columns["trials/identity"][0]).cell.key,
        "provenance": columns["provenance"],
        "texts": {path: column for path, column in small.items() if isinstance(column, list)},
        "arrays": [[path, array.dtype.str, list(array.shape)] for path, array in arrays.items()],
    }
    line = json.dumps(head, separators=(",", ":"), ensure_ascii=False)
    return line.encode() + b"\n" + b"".join(array.tobytes() for array in arrays.values())


def header(image_size: int, offset: int, summary: bytes) -> bytes:
    """The first bytes of a stack's file."""
    record = {
        "kind": _KIND,
        "format": FILE_FORMAT,
        "size": image_size,
        "summary": [offset, len(summary)],
        "sha256": hashlib.sha256(summary).hexdigest(),
    }
    return json.dumps(record).encode().ljust(HEADER_SIZE - 1) + b"\n"


def read_summary(source: Path | Member | bytes, name: str = "") -> tuple[dict[str, Any], dict[str, Array]]:
    """The summary of a file, of a pack's member, or of an image: checked for all that reports take for granted.

    Args:
        source: Where it is.
        name: What messages call it, unless it has a name.

    Returns:
        Its head (keys "cell", "provenance", "texts"), and its arrays by path, which are read-only.

    Raises:
        StoreError: It cannot be read, is incomplete, damaged, of another format, or no summary of a stack.
    """
    name = (name or "the image") if isinstance(source, bytes) else source.name
    try:
        return _unpack(_bytes_of(source))
    except StoreError as error:
        raise StoreError(f"{name}: {error}") from None
    except _FAULTS as error:
        raise StoreError(f"{name} is no readable stack file: {error}") from None


def read_named(source: Path | Member) -> tuple[dict[str, Any], dict[str, Array]]:
    """`read_summary` of a stack's file, whose name must say what it holds.

    Raises:
        StoreError: It cannot be read, or is named after another stack.
    """
    head, arrays = read_summary(source)
    check_name(source.name, head["texts"]["trials/id"], head["texts"]["trials/status"])
    return head, arrays


def summary_bytes(source: Path | Member | bytes) -> bytes:
    """The summary as it lies in a file: exactly what reports read.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        return _bytes_of(source)
    except _FAULTS as error:
        raise StoreError(f"it is no readable stack file: {error}") from None


_FAULTS = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, MemoryError)


def _bytes_of(source: Path | Member | bytes) -> bytes:
    if isinstance(source, bytes):
        return _from_stream(io.BytesIO(source), 0, len(source))
    if isinstance(source, Path):
        size = plain_file_size(source)
        with open(source, "rb", buffering=0) as file:
            return _from_stream(file, 0, size)
    stream, start = source.opened()
    with stream:
        return _from_stream(stream, start, source.size)


def _from_stream(stream: BinaryIO | io.FileIO, start: int, size: int) -> bytes:
    """The bytes of the summary of the file that begins in a stream at `start`, checked against the header."""
    end = stream.seek(0, io.SEEK_END)
    if end < start + size:
        raise StoreError(f"its pack must have {start + size} bytes, with it; found {end}: it is truncated.")
    stream.seek(start)
    first = stream.read(HEADER_SIZE) or b""
    if len(first) < HEADER_SIZE or not first.startswith(b"{"):
        raise StoreError(f"it must begin with {HEADER_SIZE} bytes of a stack file's header; found {first[:16]!r}.")
    found = json.loads(first)
    if found["kind"] != _KIND or found["format"] != FILE_FORMAT:
        raise StoreError(
            f"this mtbench reads stack files of format {FILE_FORMAT}; found '{found['kind']}' of format "
            f"{found['format']}. Use the version of mtbench that wrote it, or train again."
        )
    if found["size"] != size:
        raise StoreError(f"it must have {found['size']} bytes; found {size}: it is truncated or was changed.")
    offset, length = found["summary"]
    if not HEADER_SIZE <= offset <= offset + length <= size or length > _MAX_SUMMARY:
        raise StoreError(f"its summary must lie inside the file; found {length} bytes at {offset}.")
    stream.seek(start + offset)
    summary = stream.read(length) or b""
    if hashlib.sha256(summary).hexdigest() != found["sha256"]:
        raise StoreError("its summary does not have the SHA-256 in its header: it is damaged.")
    return summary


def _unpack(summary: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    line, _, body = summary.partition(b"\n")
    head = json.loads(line)
    arrays = {}
    at = 0
    for path, dtype, shape in head["arrays"]:
        if dtype not in _DTYPES or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise StoreError(f"arrays in a summary hold numbers; '{path}' has {dtype} {shape}.")
        count = prod(shape)
        arrays[path] = np.frombuffer(body, dtype, count, at).reshape(shape)
        at += count * arrays[path].itemsize
    if at != len(body):
        raise StoreError(f"the columns of a summary must fill it; they end at {at} of {len(body)} bytes.")
    check_summary(head, arrays)
    return head, arrays
