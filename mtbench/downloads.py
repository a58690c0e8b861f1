"""Data files: fetched once, verified by content, never used unverified.

Guarantees: a file at its final path was complete and verified when it was put there (it is downloaded beside it, as
"<name>.part", and renamed); a file that is there and right is left alone; a broken download goes on where it stopped.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from functools import cache
from pathlib import Path

import pooch

from mtbench.errors import DataError
from mtbench.sources import Source

_CHUNK = 1 << 16
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
    target = root / source.path
    try:
        if target.is_file() and _found(target, source) == source.digest:
            return target
        if source.url is None:
            raise DataError(
                f"{dataset}: '{source.path}' has no public address. Obtain it as the data set's page says "
                f"(`mtbench show {dataset}`) and put it at {target}; its {_LABEL[source.algorithm]} must be "
                f"{source.digest}."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        part = _download(source, source.url, target.with_name(target.name + ".part"))
        found = _content_digest(part, _is_gzip(source), source.algorithm)
        if found != source.digest:
            part.unlink()
            raise DataError(
                f"{dataset}: {source.url} must give content with {_LABEL[source.algorithm]} {source.digest}, found "
                f"{found}. The publisher may have changed the file; put the original at {target}."
            )
        os.replace(part, target)
    except OSError as error:
        raise DataError(
            f"{dataset}: cannot fetch {source.url} to {target}: {error}. Run `mtbench data prepare {dataset}` again to "
            "go on, or put the file there yourself."
        ) from error
    return target


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


def _download(source: Source, url: str, part: Path) -> Path:
    """Downloads to `part`, going on from what an earlier attempt left there if it can be part of the file."""
    start = part.stat().st_size if part.exists() else 0
    if 0 < start < source.n_bytes:
        _append(url, part, start)
        if _content_digest(part, _is_gzip(source), source.algorithm) == source.digest:
            return part
    # Nothing to go on from, or the server sent something else than the missing rest.
    part.unlink(missing_ok=True)
    _append(url, part, 0)
    return part


def _append(url: str, part: Path, start: int) -> None:
    # "identity": a byte range of a compressed transfer would be no byte range of the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with part.open("ab") as stream:
        pooch.HTTPDownloader(chunk_size=_CHUNK, headers=headers)(url, stream, None)


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
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with gzip.open(path) if compressed else path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return f"a broken gzip file ({error})"
    return digest.hexdigest()
