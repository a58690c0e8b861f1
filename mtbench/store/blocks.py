"""Blocks: some files of a pack that are compressed together, because files of one store are much alike."""

from __future__ import annotations

import lzma
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from mtbench.errors import StoreError

BLOCK_BYTES = 1 << 21
"""Bytes of files in a block at most, unless a single file has more: all of a block is read to read a file of it."""

_PRESET = 6
_MAX_BYTES = 1 << 34
# What xz makes of zeros is about 7000 times smaller: more than that was declared, not stored.
_MAX_RATIO = 20_000
_MAX_MEMORY = 1 << 27
_REMEMBERED = 3


@dataclass(frozen=True)
class Block:
    """Where some compressed files lie.

    Attributes:
        offset: Where in the pack the block begins.
        stored: Its length in bytes.
        size: The length of the files in it together.
    """

    offset: int
    stored: int
    size: int


def grouped(contents: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Files in groups, in order: those of a group make a block."""
    group: list[bytes] = []
    for content in contents:
        if group and sum(map(len, group)) + len(content) > BLOCK_BYTES:
            yield group
            group = []
        group.append(content)
    if group:
        yield group


def compressed(content: bytes) -> bytes:
    """A block's bytes."""
    return lzma.compress(content, preset=_PRESET)


def part_of(file: BinaryIO, block: Block, offset: int, size: int) -> bytes:
    """Some of what is in a block.

    Args:
        file: The pack, open for reading.
        block: The block.
        offset: Where in the block's files together it begins.
        size: Its length in bytes.

    Raises:
        StoreError: The block is damaged, or declares more than it can hold.
        OSError: It cannot be read.
    """
    found = os.fstat(file.fileno())
    key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, block)
    content = _latest.get(key)
    if content is None:
        file.seek(block.offset)
        content = _decompressed(file.read(block.stored) or b"", block)
        # Files are read in order of their names, and so lie in packs: the last blocks are those asked for next.
        for old in list(_latest)[: -_REMEMBERED + 1]:
            _latest.pop(old, None)
        _latest[key] = content
    return content[offset : offset + size]


_latest: dict[tuple[object, ...], bytes] = {}


def _decompressed(stored: bytes, block: Block) -> bytes:
    if block.size > min(_MAX_BYTES, len(stored) * _MAX_RATIO):
        raise StoreError(f"its block declares {block.size} bytes, more than {len(stored)} stored bytes can hold.")
    reader = lzma.LZMADecompressor(memlimit=_MAX_MEMORY)
    try:
        content = reader.decompress(stored, max_length=block.size) if block.size else b""
    except (lzma.LZMAError, EOFError) as error:
        raise StoreError(f"its block cannot be decompressed: {error}: it is damaged.") from None
    if len(content) != block.size:
        raise StoreError(f"its block must hold {block.size} bytes; found {len(content)}: it is damaged.")
    return content
