"""The one way a file gets into a store: complete and lasting, or not at all.

Write to tmp/, fsync, reopen and verify, link to the final name, fsync the directory. The first writer of a name wins
and nothing is ever overwritten, so readers need no locks, and a writer killed anywhere leaves at most a file in tmp/.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from mtbench.errors import StoreError

Step = Callable[[str], None]
"""Told the name of each step before it is taken, so that tests can kill the writer there."""

STEPS = ("write", "fsync", "verify", "folder", "link", "fsync folder", "unlink")

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}
_STALLED_AFTER = 60.0
_ADVICE = {
    errno.ENOSPC: "the disk is full. Free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up. Free some space and run the same command again",
    errno.EROFS: "the file system is read-only. Choose another directory",
    errno.EACCES: "there is no permission to write there. Change it, or choose another directory",
    errno.EPERM: "there is no permission to write there. Change it, or choose another directory",
}


def no_step(name: str) -> None:
    """Lets every step pass."""


def publish(
    directory: Path,
    final_path: Path,
    payload: bytes,
    step: Step = no_step,
) -> bool:
    """Publishes a file under a name that has none yet. When this returns, the file survives a crash of the machine.

    Args:
        directory: The store.
        final_path: The name, inside the store.
        payload: Its content, already checked: what is on the disk is compared with it byte by byte.
        step: Told the name of each step.

    Returns:
        False if the name was taken: the file that has it is left as it is.

    Raises:
        StoreError: The file could not be written; whatever was published before is untouched.
    """
    try:
        with temporary(directory, final_path.name, payload, step) as path:
            step("verify")
            if path.read_bytes() != payload:
                raise StoreError(f"{path} must read back as it was written and does not: the disk is not reliable.")
            step("folder")
            make_folder(final_path.parent)
            step("link")
            won = place(path, final_path)
            # Also for the loser: what it reports as published must last, whoever wrote it.
            step("fsync folder")
            sync_folder(final_path.parent)
            step("unlink")
            return won
    except OSError as error:
        raise explained(error, final_path) from error


@contextlib.contextmanager
def temporary(directory: Path, name: str, payload: bytes, step: Step = no_step) -> Iterator[Path]:
    """A file in the store's tmp/ that is on the disk when the body runs, and gone afterwards."""
    make_folder(directory / "tmp")
    path = directory / "tmp" / f"{name}.{os.getpid()}-{uuid.uuid4().hex[:12]}"
    step("write")
    try:
        with open(path, "xb") as file:
            file.write(payload)
            file.flush()
            step("fsync")
            os.fsync(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)


def place(path: Path, final_path: Path) -> bool:
    """Gives a file its final name unless that is taken, in one step that other processes see whole or not at all.

    Returns:
        Whether the name was free. The file may keep its old name too.
    """
    try:
        os.link(path, final_path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _rename_in_turn(path, final_path)
    return True


def _rename_in_turn(path: Path, final_path: Path) -> bool:
    """`place` where links are refused: rename overwrites, so only the holder of a turn may look and rename.

    A turn is a file made exclusively. Turns are numbered: when a holder died, exactly one process takes the next.
    """
    number = 0
    while not final_path.exists():
        turn = path.with_name(f"{final_path.name}.turn-{number}")
        try:
            os.close(os.open(turn, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            if _stalled(turn):
                number += 1
            else:
                time.sleep(0.01)
            continue
        try:
            if not final_path.exists():
                os.rename(path, final_path)
                return True
        finally:
            turn.unlink(missing_ok=True)
    return False


def _stalled(turn: Path) -> bool:
    try:
        return time.time() - turn.stat().st_mtime > _STALLED_AFTER
    except FileNotFoundError:
        return False


def make_folder(path: Path) -> None:
    """Makes a directory and its missing parents, so that they last."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Makes the names in a directory last."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems know no fsync of directories; there is nothing better to do there.
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def explained(error: OSError, path: Path) -> StoreError:
    """The error for somebody who has to do something about it."""
    reason = _ADVICE.get(error.errno or 0, f"{error.strerror or error}")
    return StoreError(f"Cannot write {path}: {reason}. What the store held before is untouched.")
