"""Data files: fetched once, verified by content, never used unverified.

Guarantees: a file at its final path was complete and verified when it was put there (it is downloaded beside it, as
"<name>.part", and renamed); a file that is there and right is left alone; a broken download goes on where it stopped.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from mtbench.data.http_download import download
from mtbench.data.preparation import can_write, offline, report
from mtbench.data.sources import Source
from mtbench.errors import DataError

_CHUNK = 1 << 16
_REPORT_EVERY = 1 << 24  # bytes
_LABEL = {"sha256": "SHA-256", "md5": "MD5"}


def fetch(source: Source, root: Path, dataset: str) -> Path:
    """Brings a source file to the data root, unless it is already there and right.

    Args:
        source: The file.
        root: The data root.
        dataset: Name of the data set, for the messages.

    Returns:
        Where the file lies.

    Raises:
        DataError: It cannot be fetched or written, what came is not what was published, or it has no address.
    """
    target, label = root / source.path, _LABEL[source.algorithm]
    with _errors_named(dataset, source.url, target):
        if target.is_file() and _found(target, source) == source.digest:
            return target
    if source.url is None:
        raise DataError(
            f"{dataset}: '{source.path}' has no public address. Obtain it as the data set's page says "
            f"(`mtbench show {dataset}`) and put it at {target}; its {label} must be {source.digest}."
        )

    def fault(path: Path) -> str | None:
        found = _content_digest(path, _is_gzip(source), source.algorithm)
        return None if found == source.digest else f"must give content with {label} {source.digest}, found {found}"

    return _bring(source.url, target, dataset, source.n_bytes, fault, f"; its {label} must be {source.digest}")


def fetch_unhashed(url: str, root: Path, path: str, dataset: str, fault: Callable[[Path], str | None]) -> Path:
    """Brings a file whose publisher states no hash to the data root, unless it is already there and right.

    Args:
        url: Where it comes from.
        root: The data root.
        path: Where it shall lie below the root.
        dataset: Name of the data set, for the messages.
        fault: Looks at its content: None, or "must be ..., found ...".

    Returns:
        Where the file lies.

    Raises:
        DataError: It cannot be fetched or written, or what came is not right.
    """
    target = root / path
    if target.is_file() and fault(target) is None:
        return target
    return _bring(url, target, dataset, 0, fault)


def _bring(
    url: str, target: Path, dataset: str, n_bytes: int, fault: Callable[[Path], str | None], also: str = ""
) -> Path:
    if offline():
        raise DataError(
            f"{dataset}: {target} is missing or wrong, and nothing is fetched (--offline or MTBENCH_OFFLINE). Get it "
            f"from {url} and put it there{also}."
        )
    if not can_write(target.parent):
        raise DataError(
            f"{dataset}: {target.parent} grants no writing, so {url} cannot be fetched to it. Name a data folder that "
            "can be written to with --data DIR or MTBENCH_DATA."
        )
    with _errors_named(dataset, url, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = download(url, target.with_name(target.name + ".part"), n_bytes, fault)
        found = fault(part)
        if found is not None:
            part.unlink()
            raise DataError(
                f"{dataset}: {url} {found}. The publisher may have changed the file; put the original at {target}."
            )
        os.replace(part, target)
    return target


@contextmanager
def _errors_named(dataset: str, url: str | None, target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{dataset}: cannot fetch {url} to {target}: {error}. Run `mtbench data prepare {dataset}` again to "
            "go on, or put the file there yourself."
        ) from error


def verified(source: Source, root: Path, dataset: str) -> Path:
    """Where a source file lies, once its content is known to be right. Never touches the network.

    A file is read for this once per process, and again only when its size or time of change differ.

    Args:
        source: The file.
        root: The data root.
        dataset: Name of the data set, for the messages.

    Returns:
        Its path.

    Raises:
        DataError: The file is missing, unreadable, truncated or otherwise not what it must be.
    """
    path = root / source.path
    remedy = f"`mtbench data prepare {dataset}` fetches it"
    try:
        if not path.is_file():
            raise DataError(
                f"{dataset}: no file '{source.path}', looked for at {path}. {remedy}; or name the folder that holds "
                "it with --data DIR or MTBENCH_DATA."
            )
        found = _found(path, source)
    except OSError as error:
        raise DataError(f"{dataset}: cannot read {path}: {error}. Make it readable, or fetch it elsewhere.") from error
    if found != source.digest:
        size = path.stat().st_size
        raise DataError(
            f"{dataset}: {path} is corrupt or truncated: its content must have {_LABEL[source.algorithm]} "
            f"{source.digest}, found {found} ({size:,} bytes). {remedy} again."
        )
    return path


def _is_gzip(source: Source) -> bool:
    return source.path.endswith(".gz")


def _found(path: Path, source: Source) -> str:
    return content_digest(path, source.algorithm)


def content_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hash of a file's content, read once per process and state of the file; of a ".gz" file uncompressed.

    Args:
        path: The file.
        algorithm: "sha256" or "md5".

    Returns:
        The hash in hexadecimal digits, or in words why the content cannot be uncompressed.
    """
    state = path.stat()
    return _remembered(path, state.st_size, state.st_mtime_ns, algorithm)


@cache
def _remembered(path: Path, size: int, changed_ns: int, algorithm: str) -> str:
    return _content_digest(path, path.suffix == ".gz", algorithm)


def _content_digest(path: Path, compressed: bool, algorithm: str) -> str:
    """Hash of the bytes, uncompressed if they are compressed; says so in words where they cannot be uncompressed."""
    digest, done, size = hashlib.new(algorithm, usedforsecurity=False), 0, path.stat().st_size
    try:
        with gzip.open(path) if compressed else path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                done += len(chunk)
                if done % _REPORT_EVERY == 0:
                    report(f"{path.name}: hashing", done, 0 if compressed else size, "B")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return f"a broken gzip file ({error})"
    return digest.hexdigest()
