"""Files that others made: whatever a store never writes is refused before it is read."""

from __future__ import annotations

import contextlib
import os

import h5py
import numpy as np
import pytest

from mtbench.errors import StoreError
from mtbench.store import decode, encode
from mtbench.store.hdf5 import read_columns
from mtbench.store.summary import read_summary


@pytest.fixture
def foreign(tmp_path):
    """Makes a file with `build(file)` and reads it."""

    def read(build):
        path = tmp_path / "foreign.h5"
        with h5py.File(path, "w") as file:
            build(file)
        return read_columns(path)

    return read


def external_storage(file, tmp):
    secret = tmp / "secret"
    secret.write_bytes(b"12345678")
    file.create_dataset("a", (1,), "f8", external=[(str(secret), 0, 8)])


def virtual(file, tmp):
    with h5py.File(tmp / "source.h5", "w") as source:
        source["x"] = np.zeros(3)
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(str(tmp / "source.h5"), "x", (3,))
    file.create_virtual_dataset("a", layout)


def external_link(file, tmp):
    file["a"] = h5py.ExternalLink(str(tmp / "other.h5"), "/x")


def soft_link(file, tmp):
    file["x"] = np.zeros(3)
    file["a"] = h5py.SoftLink("/x")


def two_names(file, tmp):
    file["x"] = np.zeros(3)
    file["y"] = file["x"]


def loop(file, tmp):
    group = file.create_group("g")
    group["again"] = group


def references(file, tmp):
    file.create_dataset("a", (1,), h5py.ref_dtype)


def opaque(file, tmp):
    file.create_dataset("a", (1,), np.dtype("V8"))


def variable_text(file, tmp):
    file["a"] = "of any length"


def compound(file, tmp):
    file["a"] = np.zeros(2, [("x", "f8")])


def named_type(file, tmp):
    file["a"] = np.dtype("f8")


def other_filter(file, tmp):
    file.create_dataset("a", data=np.zeros(2000), compression="lzf")


def too_deep(file, tmp):
    file["a/b/c/d/e/f"] = 1.0


def declared_but_not_stored(file, tmp):
    file.create_dataset("a", (1 << 40,), "f8", chunks=(1 << 16,), compression="gzip")


def huge_chunks(file, tmp):
    file.create_dataset("a", data=np.zeros(10), chunks=((1 << 23) + 1,), maxshape=(None,), compression="gzip")


def bomb(file, tmp):
    file.create_dataset("a", (1 << 24,), "f8", chunks=(1 << 16,), compression="gzip")[:10] = 1.0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (external_storage, "inside the file"),
        (virtual, "virtual"),
        (external_link, "hard links"),
        (soft_link, "hard links"),
        (two_names, "one name"),
        (loop, "one name"),
        (references, "numbers or texts"),
        (opaque, "numbers or texts"),
        (variable_text, "numbers or texts"),
        (compound, "numbers or texts"),
        (named_type, "groups and datasets"),
        (other_filter, "filters are"),
        (too_deep, "nested 4 deep"),
        (declared_but_not_stored, "stored bytes can hold"),
        (huge_chunks, "chunks may have"),
        (bomb, "stored bytes can hold"),
    ],
)
def test_what_a_store_never_writes_is_refused(foreign, tmp_path, build, message):
    with pytest.raises(StoreError, match=rf"foreign\.h5: refused.*{message}"):
        foreign(lambda file: build(file, tmp_path))


def test_plain_files_of_others_are_read(foreign):
    def build(file):
        file.create_dataset("a/b", data=np.arange(3000), compression="gzip", shuffle=True, fletcher32=True)
        file.attrs["long"] = np.zeros(3)
        file.attrs["number"] = 5

    columns, attributes = foreign(build)
    assert columns["a/b"].tolist() == list(range(3000))
    assert attributes == {"number": 5}


def test_attributes_of_other_types_are_refused(foreign):
    with pytest.raises(StoreError, match="numbers or texts"):
        foreign(lambda file: file.attrs.update(word="of any length"))


def test_too_many_objects_are_refused(foreign, monkeypatch):
    monkeypatch.setattr("mtbench.store.hdf5.MAX_OBJECTS", 5)
    with pytest.raises(StoreError, match="may hold 5 objects"):
        foreign(lambda file: [file.create_group(str(i)) for i in range(6)])


def test_too_many_bytes_altogether_are_refused(foreign, monkeypatch):
    monkeypatch.setattr("mtbench.store.hdf5.MAX_BYTES", 100)
    with pytest.raises(StoreError, match="may declare 100 bytes; found 160"):
        foreign(lambda file: [file.create_dataset(name, data=np.zeros(10)) for name in "ab"])


def test_what_is_no_hdf5_is_named(tmp_path):
    path = tmp_path / "text.h5"
    path.write_text("no such format")
    for read in (decode, read_summary):
        with pytest.raises(StoreError, match=r"text\.h5"):
            read(path)


def test_links_and_pipes_are_not_opened(result, tmp_path):
    (tmp_path / "real").write_bytes(encode(result()))
    (tmp_path / "link.h5").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe.h5")
    for name in ("link.h5", "pipe.h5"):
        for read in (decode, read_summary):
            with pytest.raises(StoreError, match="plain files"):
                read(tmp_path / name)


def test_damage_never_escapes_as_another_error(result, tmp_path):
    image = encode(result())
    rng = np.random.default_rng(1)
    path = tmp_path / "damaged.h5"
    for _ in range(150):
        damaged = bytearray(image)
        for offset in rng.integers(0, len(image), 5):
            damaged[offset] = rng.integers(256)
        path.write_bytes(damaged)
        for read in (decode, read_summary):
            # Damage in unused bytes may go unnoticed; any error but StoreError fails the test.
            with contextlib.suppress(StoreError):
                read(path)
