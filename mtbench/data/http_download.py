"""Downloads that go on where they stopped, and tell how far they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pooch

from mtbench.data.preparation import report

_CHUNK = 1 << 16
_NO_SUCH_RANGE = 416


def download(url: str, part: Path, n_bytes: int, fault: Callable[[Path], str | None]) -> Path:
    """Downloads to `part`, going on from what an earlier attempt left there if it can be part of the file.

    Args:
        url: Where it comes from.
        part: Where it goes; what an earlier attempt left lies there.
        n_bytes: Its size; 0 where that is not known.
        fault: Looks at its content: None where it is right.

    Returns:
        `part`, which holds what the server sent; whether it is right is for the caller to see.

    Raises:
        OSError: The server cannot be reached or refuses, the connection broke, or nothing can be written.
    """
    start = part.stat().st_size if part.exists() else 0
    if start and (not n_bytes or start <= n_bytes):
        if start != n_bytes:
            _append(url, part, start)
        if fault(part) is None:
            return part
    # Nothing to go on from, or the server sent something else than the missing rest.
    part.unlink(missing_ok=True)
    _append(url, part, 0)
    return part


def _append(url: str, part: Path, start: int) -> None:
    # "identity": a byte range of a compressed transfer would be no byte range of the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    told = _Told(part.name.removesuffix(".part"), start)
    try:
        with part.open("ab") as stream:
            pooch.HTTPDownloader(progressbar=told, chunk_size=_CHUNK, headers=headers)(url, stream, None)
    except OSError as error:
        if part.exists() and part.stat().st_size == 0:
            part.unlink()  # nothing came that another attempt could go on from
        response = getattr(error, "response", None)
        if response is None and error.errno is None:  # neither the server's answer nor the disk's
            raise OSError(f"{urlsplit(url).hostname} cannot be reached, or the connection broke") from error
        if not start or getattr(response, "status_code", None) != _NO_SUCH_RANGE:
            raise  # else there is nothing after what we have


class _Told:
    """Tells of a download as pooch tells its progress bars."""

    def __init__(self, name: str, start: int) -> None:
        self.name, self.start, self.done, self.total = name, start, 0, 0

    def update(self, n_bytes: int) -> None:
        self.done = min(self.done + n_bytes, self.total) if self.total else self.done + n_bytes
        report(self.name, self.start + self.done, self.start + self.total if self.total else 0, "B")

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        pass
