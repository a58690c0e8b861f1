"""One stack's result as the image of one HDF5 file, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mtbench.contracts.trials import StackResult, stack_id
from mtbench.errors import StoreError
from mtbench.store.columns import from_columns, to_columns
from mtbench.store.hdf5 import Column, read_columns, write_columns
from mtbench.store.pack_format import Member
from mtbench.store.summary import FILE_FORMAT, HEADER_SIZE, header, pack, read_summary, summary_bytes


def encode(result: StackResult, deflate: bool = True) -> bytes:
    """The image of a stack's file: complete, in memory, so that no reader ever meets a half-written one.

    Args:
        result: What came of the stack.
        deflate: Whether to compress its columns; not in a pack that compresses the image.

    Raises:
        StoreError: The result is not that of trials of one cell, or holds what a store cannot.
    """
    columns = _with_summary(to_columns(result))
    cell = result.trials[0].cell
    attributes: dict[str, str | int] = {
        "format": FILE_FORMAT,
        "payload_sha256": payload_sha256(columns),
        "method": cell.method,
        "dataset": cell.dataset,
    }
    image, offset = write_columns(columns, attributes, "summary", HEADER_SIZE, deflate)
    summary = pack(columns)
    if image[offset : offset + len(summary)] != summary:
        raise StoreError("HDF5 did not write the summary in one piece; please report this with the version of h5py.")
    image[:HEADER_SIZE] = header(len(image), offset, summary)
    return bytes(image)


def decode(source: Path | Member | bytes) -> StackResult:
    """The result in a stack's file, in a pack's member, or in an image.

    Raises:
        StoreError: It cannot be read, is damaged, or holds what a stack's file never holds.
    """
    return from_columns(_checked_columns(source, _name(source)))


def verify_image(source: Path | Member | bytes, name: str = "") -> StackResult:
    """Like `decode`, after a full check.

    Beside the payload's hash, everything that is derived (ids, parameter columns, the summary) is derived again from
    the trials' identities and must come out the same, and what reports read must be that summary.

    Args:
        source: Where it is.
        name: What messages call an image.

    Raises:
        StoreError: Anything does not hold.
    """
    name = name or _name(source)
    read_summary(source, name)
    columns = _checked_columns(source, name)
    result = from_columns(columns)
    again = _with_summary(to_columns(result))
    wrong = sorted(p for p in columns.keys() | again.keys() if _digest(columns, p) != _digest(again, p))
    if wrong:
        raise StoreError(f"{name}: what is derived from the trials' identities disagrees: {', '.join(wrong)}.")
    # What reports read lies where the header says, which need not be in the column of that name.
    if summary_bytes(source) != again["summary"].tobytes():  # type: ignore[union-attr]
        raise StoreError(f"{name}: the summary that its header points to is not that of its columns.")
    return result


def result_id(result: StackResult) -> str:
    """The id of the stack a result belongs to."""
    return stack_id([trial.id for trial in result.trials])


def payload_sha256(columns: Mapping[str, Column]) -> str:
    """SHA-256 over all columns: path, type, shape and bytes, in the order of their paths."""
    total = hashlib.sha256()
    for path in sorted(columns):
        total.update(_digest(columns, path))
    return total.hexdigest()


def _checked_columns(source: Path | Member | bytes, name: str) -> dict[str, Column]:
    columns, attributes = read_columns(source.read() if isinstance(source, Member) else source, name)
    if attributes.get("format") != FILE_FORMAT:
        raise StoreError(
            f"{name} must be a stack file of format {FILE_FORMAT}; found {attributes.get('format')}. Use the "
            "version of mtbench that wrote it, or train again."
        )
    if attributes.get("payload_sha256") != payload_sha256(columns):
        raise StoreError(f"{name}: its data do not have the SHA-256 they were written with: it is damaged.")
    return columns


def _with_summary(columns: dict[str, Column]) -> dict[str, Column]:
    return {**columns, "summary": np.frombuffer(pack(columns), np.uint8)}


def _digest(columns: Mapping[str, Column], path: str) -> bytes:
    column = columns.get(path)
    if isinstance(column, np.ndarray):
        kind: list[object] = [path, column.dtype.str, list(column.shape)]
        return hashlib.sha256(json.dumps(kind).encode() + np.ascontiguousarray(column).tobytes()).digest()
    return hashlib.sha256(json.dumps([path, column]).encode()).digest()


def _name(source: Path | Member | bytes) -> str:
    return "the image" if isinstance(source, bytes) else source.name
