"""PackFolder: the files of many stacks in one file.

A pack lies in stacks/packs/ and, like every file of a store, is published whole and never changes. A stack in it is
found by the name it had as a file of its own.

Layout: a header of 512 bytes (a line of JSON, padded with spaces), the index (JSON), then the members' bytes one after
another. The header says how long pack and index are, and what the index hashes to; the index says the same of each
member. In a compressed pack (format 2) some members at a time are compressed together: see blocks.py. A pack is named
by the SHA-256 of its index. That holds a random number, so that no pack is ever made twice: `compact` relies on it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from mtbench.errors import StoreError
from mtbench.store.blocks import Block, compressed, grouped, part_of
from mtbench.store.hdf5 import plain_file_size

PLAIN, COMPRESSED = 1, 2
"""Versions of a pack's layout: members as they are, or compressed in blocks."""

SUFFIX = ".pack"
HEADER_SIZE = 512
_KIND = "mtbench pack"
_MAX_INDEX = 1 << 26
NAME = re.compile(r"([0-9a-f]{64})(\.(failed|again)-[1-9][0-9]{0,8})?\.h5")


@dataclass(frozen=True)
class Member:
    """A stack's file in a pack.

    Attributes:
        pack: The pack's file.
        name: What it was called as a file of its own.
        offset: Where in the pack, or in its block, it begins.
        size: Its length in bytes.
        sha256: SHA-256 of its bytes.
        block: Where it is compressed together with others; None where it lies in the pack as it is.
    """

    pack: Path
    name: str
    offset: int
    size: int
    sha256: str
    block: Block | None = None

    @property
    def path(self) -> Path:
        """A path that names it, as if the pack were a folder."""
        return self.pack / self.name

    @property
    def stored_size(self) -> int:
        """Bytes it takes in the pack; where it is compressed with others, its share."""
        return self.size if self.block is None else round(self.size * self.block.stored / max(self.block.size, 1))

    def opened(self) -> tuple[BinaryIO, int]:
        """A stream to read from, to be closed, and where in it the member begins.

        Raises:
            StoreError: It is compressed, and cannot be read.
            OSError: The pack cannot be opened.
        """
        if self.block is None:
            return open(self.pack, "rb", buffering=0), self.offset
        return io.BytesIO(self.read()), 0

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            StoreError: They cannot be read, or are not those that were packed.
        """
        try:
            with open(self.pack, "rb", buffering=0) as file:
                if self.block is None:
                    file.seek(self.offset)
                    content = file.read(self.size) or b""
                else:
                    content = part_of(file, self.block, self.offset, self.size)
        except StoreError as error:
            raise StoreError(f"{self.name}: {error}") from None
        except OSError as error:
            raise StoreError(f"{self.name} cannot be read: {error.strerror}: {self.pack}.") from None
        if len(content) != self.size:
            raise StoreError(f"{self.name}: its pack must hold {self.size} bytes of it; found {len(content)}.")
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise StoreError(f"{self.name}: its bytes do not have the SHA-256 they were packed with: it is damaged.")
        return content


@dataclass(frozen=True)
class Pack:
    """A pack's index.

    Attributes:
        path: The pack's file.
        size: The length in bytes that it must have.
        members: What it holds, by name.
        is_compressed: Whether its members are compressed.
    """

    path: Path
    size: int
    members: Mapping[str, Member]
    is_compressed: bool = False

    @cached_property
    def by_stack(self) -> Mapping[str, list[Member]]:
        """Its finished stacks by id; several where a file was damaged and another published beside it."""
        found: dict[str, list[Member]] = {}
        for member in self.members.values():
            stack, _, try_ = member.name.partition(".")
            if not try_.startswith("failed-"):
                found.setdefault(stack, []).append(member)
        return found


def pack_image(contents: Mapping[str, bytes], compress: bool = False) -> tuple[str, bytes]:
    """A pack of these files.

    Args:
        contents: By name.
        compress: Whether to compress them.

    Returns:
        The name that the pack must have, and its content.
    """
    members = [[name, len(content), hashlib.sha256(content).hexdigest()] for name, content in contents.items()]
    record: dict[str, Any] = {"number": uuid.uuid4().hex, "members": members}
    body = list(contents.values())
    if compress:
        groups = list(grouped(body))
        body = [compressed(b"".join(group)) for group in groups]
        record["blocks"] = [[len(group), len(block)] for group, block in zip(groups, body, strict=True)]
    index = json.dumps(record, separators=(",", ":")).encode() + b"\n"
    digest = hashlib.sha256(index).hexdigest()
    size = HEADER_SIZE + len(index) + sum(map(len, body))
    format_ = COMPRESSED if compress else PLAIN
    head = {"kind": _KIND, "format": format_, "size": size, "index": len(index), "sha256": digest}
    header = json.dumps(head).encode().ljust(HEADER_SIZE - 1) + b"\n"
    return f"{digest}{SUFFIX}", b"".join([header, index, *body])


def read_pack(path: Path) -> Pack:
    """A pack's index. Members are not looked at: where a pack was cut short, those before the cut can still be read.

    Raises:
        StoreError: It cannot be read, is damaged, or of another format.
    """
    try:
        plain_file_size(path)
        with open(path, "rb", buffering=0) as file:
            header = _header(file.read(HEADER_SIZE) or b"")
            index = file.read(header["index"]) or b""
        digest = hashlib.sha256(index).hexdigest()
        if digest != header["sha256"] or path.name != f"{digest}{SUFFIX}":
            raise StoreError("its index does not have the SHA-256 in its name: it is damaged.")
        members = _members(path, index, header["size"], header["format"])
        return Pack(path, header["size"], members, header["format"] == COMPRESSED)
    except StoreError as error:
        raise StoreError(f"{path.name}: {error}") from None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise StoreError(f"{path.name} is no readable pack: {error}") from None


def check_pack(path: Path) -> None:
    """Checks a pack but for what its members hold.

    Raises:
        StoreError: Something does not hold.
    """
    pack = read_pack(path)
    try:
        found = path.stat().st_size
    except OSError as error:
        raise StoreError(f"{path.name} is no readable pack: {error.strerror}") from None
    if found != pack.size:
        raise StoreError(f"{path.name}: it must have {pack.size} bytes; found {found}: it is truncated or was changed.")


def _header(text: bytes) -> dict[str, Any]:
    if len(text) < HEADER_SIZE or not text.startswith(b"{"):
        raise StoreError(f"it must begin with {HEADER_SIZE} bytes of a pack's header; found {text[:16]!r}.")
    found: dict[str, Any] = json.loads(text)
    if found["kind"] != _KIND or found["format"] not in (PLAIN, COMPRESSED):
        raise StoreError(
            f"this mtbench reads packs of formats {PLAIN} and {COMPRESSED}; found '{found['kind']}' of format "
            f"{found['format']}. "
            "Use the version of mtbench that wrote it."
        )
    if not 0 <= found["index"] <= min(found["size"], _MAX_INDEX):
        raise StoreError(f"its index must lie inside it; found {found['index']} bytes.")
    return found


def _members(path: Path, index: bytes, size: int, format_: int) -> dict[str, Member]:
    members: dict[str, Member] = {}
    record = json.loads(index)
    start = HEADER_SIZE + len(index)
    places = _blocks(record, start) if format_ == COMPRESSED else [(None, [m[1] for m in record["members"]])]
    end = start
    listed = iter(record["members"])
    for block, sizes in places:
        at = start if block is None else 0
        for _ in sizes:
            name, length, sha256 = next(listed)
            if not NAME.fullmatch(name) or name in members or not isinstance(length, int) or length < 0:
                raise StoreError(f"its members must be files of stacks, each once; found {name!r} of {length!r} bytes.")
            members[name] = Member(path, name, at, length, sha256, block)
            at += length
        end = at if block is None else block.offset + block.stored
    if end != size or next(listed, None) is not None:
        raise StoreError(f"its members must fill it; they end at {end} of {size} bytes.")
    return members


def _blocks(record: Mapping[str, Any], start: int) -> list[tuple[Block | None, Sequence[int]]]:
    """The blocks of a compressed pack, in order, with the lengths of their members."""
    found: list[tuple[Block | None, Sequence[int]]] = []
    sizes = [length for _, length, _ in record["members"]]
    first = 0
    for n_members, stored in record["blocks"]:
        mine = sizes[first : first + n_members]
        if n_members < 1 or len(mine) != n_members or stored < 0:
            raise StoreError(f"its blocks must hold its members in order; found one of {n_members!r} members.")
        found.append((Block(start, stored, sum(mine)), mine))
        start += stored
        first += n_members
    return found
