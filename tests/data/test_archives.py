import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from mtbench import DataError
from mtbench.data.archives import member_names, members

FILES = {"set/b.txt": b"second" * 4000, "set/a/a.txt": b"first", "set/empty": b""}


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("set")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        folder = tarfile.TarInfo("set")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


WRITERS = pytest.mark.parametrize(
    ("write", "name"), [(write_zip, "a.zip"), (write_tar, "a.tgz"), (write_tar, "a.tar")], ids=["zip", "tgz", "tar"]
)


@WRITERS
def test_members_come_one_at_a_time_in_the_order_of_the_archive(write, name, tmp_path):
    path = write(tmp_path / name, FILES)
    assert member_names(path, "set") == list(FILES)
    found = {}
    for member, stream in members(path, "set"):
        assert stream.read(3) == FILES[member][:3]
        found[member] = FILES[member][:3] + stream.read()
    assert found == FILES


@WRITERS
def test_members_that_are_not_wanted_are_left_out(write, name, tmp_path):
    path = write(tmp_path / name, FILES)
    content = {member: stream.read() for member, stream in members(path, "set", lambda name: name.endswith(".txt"))}
    assert content == {member: FILES[member] for member in ("set/b.txt", "set/a/a.txt")}


@WRITERS
def test_lines_of_a_member_can_be_read_as_text(write, name, tmp_path):
    path = write(tmp_path / name, {"rows.txt": b"1 2\n3 4\n"})
    [lines] = [[line.split() for line in stream] for _, stream in members(path, "set")]
    assert lines == [[b"1", b"2"], [b"3", b"4"]]


@WRITERS
@pytest.mark.parametrize("bad", ["../b.txt", "/b.txt", "set/../../b.txt", "C:\\b.txt", "..\\b.txt", "\\b.txt"])
def test_a_member_that_would_land_outside_is_refused(write, name, bad, tmp_path):
    path = write(tmp_path / name, {"set/good": b"1", bad: b"2"})
    with pytest.raises(DataError, match=r"^set: every member of .* would land outside. Fetch") as caught:
        member_names(path, "set")
    assert str(path) in str(caught.value)
    with pytest.raises(DataError, match="would land outside"):
        list(members(path, "set", lambda name: name == "set/good"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_archive_are_refused(kind, tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("set/link")
        info.type, info.linkname = kind, "/etc/hostname"
        archive.addfile(info)
    with pytest.raises(DataError, match="'set/link' is a link or a device"):
        member_names(path, "set")


def test_links_in_a_zip_archive_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("set/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/hostname")
    with pytest.raises(DataError, match="'set/link' is a link or a device"):
        member_names(path, "set")


@WRITERS
@pytest.mark.parametrize("kept", [0, 200, 512, 600, 9999])
def test_a_truncated_archive_is_named(write, name, kept, tmp_path):
    path = write(tmp_path / name, FILES)
    whole = path.read_bytes()
    path.write_bytes(whole[: min(kept, len(whole) // 2)])
    with pytest.raises(DataError, match=r"must be a complete zip or tar archive; found [\d,]+ bytes") as caught:
        [stream.read() for _, stream in members(path, "set")]
    assert str(path) in str(caught.value)
    assert "`mtbench data prepare set`" in str(caught.value)


def test_a_member_whose_content_changed_is_named_while_it_is_read(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a", b"content" * 100)
    path.write_bytes(path.read_bytes().replace(b"contentcontent", b"contenTcontent", 1))
    for _, stream in members(path, "set"):
        with pytest.raises(DataError, match="CRC"):
            stream.read()


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(DataError, match="found no file"):
        member_names(tmp_path / "a.zip", "set")
