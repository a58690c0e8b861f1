"""Members of zip and tar archives, one at a time, without unpacking.

Guarantees: no member is held in memory or written anywhere here; an archive with a member whose name would land outside
the folder it is unpacked into, or that is no plain file, is refused; a broken archive is an error that names it, at
whatever point the break is met.
"""

from __future__ import annotations

import io
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from mtbench.errors import DataError

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, RuntimeError)
_DRIVE = re.compile(r"[A-Za-z]:")
_BUFFER = 1 << 16


def member_names(path: Path, dataset: str) -> list[str]:
    """Names of the files in an archive, in its order. A compressed tar archive is read through for this.

    Args:
        path: A zip archive, or a tar archive, compressed or not.
        dataset: Name of the data set, for the messages.

    Raises:
        DataError: As `members`.
    """
    return [name for name, _ in _files(path, dataset)]


def members(
    path: Path, dataset: str, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[tuple[str, IO[bytes]]]:
    """The files in an archive, in its order; folders are left out.

    Args:
        path: A zip archive, or a tar archive, compressed or not.
        dataset: Name of the data set, for the messages.
        wanted: Which names to give; all are checked.

    Yields:
        The name, with "/" between folders, and the content as a stream that is good until the next one is asked for.

    Raises:
        DataError: The archive is missing or broken, or has a member that would land outside its folder.
    """
    for name, open_member in _files(path, dataset):
        if wanted(name):
            with _errors_named(path, dataset):
                raw = open_member()
            with io.BufferedReader(_Stream(raw, path, dataset), _BUFFER) as stream:
                yield name, stream


def _files(path: Path, dataset: str) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    """Name of each file, once it is known to be harmless, and what opens it."""
    with _errors_named(path, dataset):
        listing = _zip if zipfile.is_zipfile(path) else _tar
    for name, is_plain, open_member in listing(path, dataset):
        plain = name.replace("\\", "/")
        if plain.startswith("/") or _DRIVE.match(plain) or ".." in PurePosixPath(plain).parts:
            raise _refused(name, path, dataset, "would land outside")
        if not is_plain:
            raise _refused(name, path, dataset, "is a link or a device")
        yield name, open_member


def _zip(path: Path, dataset: str) -> Iterator[tuple[str, bool, Callable[[], IO[bytes]]]]:
    with _errors_named(path, dataset):
        archive = zipfile.ZipFile(path)
    with archive:
        for info in archive.infolist():
            if not info.is_dir():
                kind = stat.S_IFMT(info.external_attr >> 16)
                yield info.filename, kind in (0, stat.S_IFREG), lambda info=info: archive.open(info)  # type: ignore[misc]


def _tar(path: Path, dataset: str) -> Iterator[tuple[str, bool, Callable[[], IO[bytes]]]]:
    with _errors_named(path, dataset):
        archive = tarfile.open(path)  # noqa: SIM115 (its errors are named, those of the reader are not its own)
    with archive:
        while True:
            with _errors_named(path, dataset):
                info = archive.next()
                if info is None:
                    _expect_end(archive)
                    return
            if not info.isdir():
                yield info.name, info.isfile(), lambda info=info: archive.extractfile(info)  # type: ignore[misc]
            # tarfile remembers every member it has met.
            archive.members.clear()  # type: ignore[attr-defined]


def _expect_end(archive: tarfile.TarFile) -> None:
    """Makes sure of the block of zeros that ends an archive: tarfile takes one cut off at a header for complete."""
    stream: Any = archive.fileobj
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise EOFError("it ends before its last block")


def _refused(name: str, path: Path, dataset: str, why: str) -> DataError:
    return DataError(
        f"{dataset}: every member of {path} must be a plain file inside the folder it is unpacked to; {name!r} {why}. "
        "Fetch the archive again from where its publisher keeps it."
    )


@contextmanager
def _errors_named(path: Path, dataset: str) -> Iterator[None]:
    """Turns what a broken archive raises into a DataError that names it."""
    try:
        yield
    except _BROKEN as error:
        found = f"{path.stat().st_size:,} bytes" if path.is_file() else "no file"
        raise DataError(
            f"{dataset}: {path} must be a complete zip or tar archive; found {found} ({error}). Delete it and run "
            f"`mtbench data prepare {dataset}` again."
        ) from error


class _Stream(io.RawIOBase):
    """The content of a member, whose errors name the archive."""

    def __init__(self, raw: IO[bytes], path: Path, dataset: str) -> None:
        self._raw, self._path, self._dataset = raw, path, dataset

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _errors_named(self._path, self._dataset):
            content = self._raw.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._raw.close()
        super().close()
