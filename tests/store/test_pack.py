"""PackFolder that others made: whatever a compaction never writes is refused before it is used."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from mtbench.errors import StoreError
from mtbench.store.pack_format import HEADER_SIZE, check_pack, pack_image, read_pack

NAME = "ab" * 32 + ".h5"
SHA = hashlib.sha256(b"content").hexdigest()


@pytest.fixture
def pack(tmp_path):
    """Writes a pack whose index and header are as they should be, but for what is said."""

    def write(members=((NAME, 7, SHA),), body=b"content", name=None, **header):
        index = json.dumps({"number": "0", "members": members}).encode()
        digest = hashlib.sha256(index).hexdigest()
        size = HEADER_SIZE + len(index) + len(body)
        record = {"kind": "mtbench pack", "format": 1, "size": size, "index": len(index), "sha256": digest, **header}
        path = tmp_path / (name or f"{digest}.pack")
        path.write_bytes(json.dumps(record).encode().ljust(HEADER_SIZE) + index + body)
        return path

    return write


def test_a_pack_gives_back_the_bytes_of_each_file(tmp_path):
    contents = {NAME: b"one", NAME.replace(".h5", ".failed-1.h5"): b"", "cd" * 32 + ".again-12.h5": b"three"}
    name, image = pack_image(contents)
    assert pack_image(contents)[0] != name
    (tmp_path / name).write_bytes(image)
    found = read_pack(tmp_path / name)
    assert {member.name: member.read() for member in found.members.values()} == contents
    assert {stack: [member.name for member in members] for stack, members in found.by_stack.items()} == {
        "ab" * 32: [NAME],
        "cd" * 32: ["cd" * 32 + ".again-12.h5"],
    }
    check_pack(tmp_path / name)


def test_a_plain_pack_is_read(pack):
    assert read_pack(pack()).members[NAME].read() == b"content"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": (("../../etc/passwd", 7, SHA),)}, "must be files of stacks"),
        ({"members": (("notes.h5", 7, SHA),)}, "must be files of stacks"),
        ({"members": ((NAME, 3, SHA), (NAME, 4, SHA))}, "each once"),
        ({"members": ((NAME, -7, SHA),)}, "found .* of -7 bytes"),
        ({"members": ((NAME, 7.0, SHA),)}, "of 7.0 bytes"),
        ({"members": ((NAME, 1 << 60, SHA),)}, "must fill it"),
        ({"members": ((NAME, 6, SHA),)}, "must fill it"),
        ({"members": (NAME,)}, "no readable pack"),
        ({"members": 3}, "no readable pack"),
        ({"name": "0" * 64 + ".pack"}, "SHA-256 in its name"),
        ({"sha256": "0" * 64}, "SHA-256 in its name"),
        ({"kind": "mtbench stack"}, "found 'mtbench stack' of format 1"),
        ({"format": 3}, "reads packs of formats 1 and 2; found 'mtbench pack' of format 3"),
        ({"index": 1 << 40, "size": 1 << 41}, "its index must lie inside it"),
        ({"index": -1}, "its index must lie inside it"),
        ({"index": "all"}, "no readable pack"),
        ({"size": 10}, "its index must lie inside it"),
    ],
)
def test_what_a_compaction_never_writes_is_refused(pack, change, message):
    path = pack(**change)
    with pytest.raises(StoreError, match=rf"{path.name}.*{message}"):
        read_pack(path)


@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 600, b"{" * 600, b'{"kind": 3}'.ljust(512)])
def test_what_is_no_pack_is_told(tmp_path, content):
    path = tmp_path / "x.pack"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"x\.pack"):
        read_pack(path)


def test_a_link_is_no_pack(pack, tmp_path):
    path = pack()
    moved = tmp_path / "elsewhere"
    path.rename(moved)
    os.symlink(moved, path)
    with pytest.raises(StoreError, match="plain files"):
        read_pack(path)


def test_a_member_of_another_content_is_not_given_out(pack):
    member = read_pack(pack(body=b"CONTENT")).members[NAME]
    with pytest.raises(StoreError, match="SHA-256 they were packed with"):
        member.read()


def test_a_member_of_a_pack_that_is_gone_says_so(pack):
    path = pack()
    member = read_pack(path).members[NAME]
    path.unlink()
    with pytest.raises(StoreError, match="No such file"):
        member.read()
    with pytest.raises(StoreError, match="no readable pack"):
        check_pack(path)
