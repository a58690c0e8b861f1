"""Preparation of data: how it is watched, how it is kept off the network, and the files that it makes.

Guarantees of `made`: a file that is returned is complete; one that is there is not made again; two processes that make
it at the same time both end with a complete file; nothing is written below a data root whose folder grants no writing,
not even by a user who may write anyway.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

import platformdirs

from mtbench.errors import DataError

OFFLINE = "MTBENCH_OFFLINE"
"""The variable that switches fetching off: empty, 0, false and no do not, all else does."""

Listener = Callable[[str, int, int, str], None]
"""Told what is worked on, how much of it is done, how much there is (0: unknown), and in which unit ("B": bytes)."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_WRITE_BITS = 0o222


def offline() -> bool:
    """Whether nothing may be fetched."""
    return os.environ.get(OFFLINE, "").lower() not in ("", "0", "false", "no")


@contextlib.contextmanager
def kept_offline() -> Iterator[None]:
    """Switches fetching off meanwhile, here and in processes that are started."""
    before = os.environ.get(OFFLINE)
    os.environ[OFFLINE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[OFFLINE]
        else:
            os.environ[OFFLINE] = before


@contextlib.contextmanager
def watched(listener: Listener) -> Iterator[None]:
    """Tells a listener of all that is prepared meanwhile."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report(what: str, done: int, total: int, unit: str) -> None:
    """Says how far a preparation is, to whoever watches it.

    Args:
        what: What is worked on, such as the name of a file.
        done: How much of it is done.
        total: How much there is; 0 where that is not known.
        unit: What is counted: "B" for bytes, else a plural, such as "images".
    """
    listener = _listener.get()
    if listener is not None:
        listener(what, done, total, unit)


def made(root: Path, path: str, key: str, make: Callable[[Path], None], dataset: str) -> Path:
    """A file made from sources, which is made now unless it is there.

    Args:
        root: The data root.
        path: Where it lies below the root; where the root cannot be written to, it lies in the user's cache folder.
        key: Stands for its content (a hash of what it is made from, and how); names the file in the cache folder, which
            all data roots share.
        make: Writes it, whole, to the path it is given.
        dataset: Name of the data set, for the messages.

    Returns:
        Where the file lies.

    Raises:
        DataError: It can be written in neither place, or `make` raised it.
    """
    there = found(root, path, key)
    if there is not None:
        return there
    place = root / path if can_write((root / path).parent) else cache_place(path, key)
    part = place.with_name(f"{place.name}.{os.getpid()}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        make(part)
        os.replace(part, place)
    except OSError as error:
        raise DataError(
            f"{dataset}: cannot write {place}: {error}. Make room there, or name a data folder that can be written to "
            "with --data DIR or MTBENCH_DATA."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return place


def found(root: Path, path: str, key: str) -> Path | None:
    """Where a file that `made` would make lies already, if it does."""
    return next((place for place in (root / path, cache_place(path, key)) if place.is_file()), None)


def cache_place(path: str, key: str) -> Path:
    """Where a file lies that found no place below the data root."""
    relative = Path(path)
    name = f"{relative.stem}-{key[:16]}{relative.suffix}"
    return Path(platformdirs.user_cache_dir("mtbench")) / "data" / relative.parent / name


def can_write(folder: Path) -> bool:
    """Whether files may be made in a folder that is there or can be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        granted = folder.stat().st_mode & _WRITE_BITS
    except OSError:
        return False
    return bool(granted) and os.access(folder, os.W_OK)
