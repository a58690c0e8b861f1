"""Claims: how two runs on one store keep from training the same stack at the same time.

A claim is advice. Without it the first result published would win all the same; it only saves the work. Claims of a
stack are files numbered from 0, and a stale claim is taken over by making the next number, which exactly one process
can do. The highest number counts, and none is removed while the stack is unfinished, so that a slow contender, to whom
an older claim still is the highest, finds the next number taken.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mtbench.store.publish import explained, make_folder, place

STALE_AFTER = 120.0
"""Seconds without `refresh` after which a claim of another host is stale."""


@dataclass(frozen=True)
class Claim:
    """The right to train a stack, as long as its holder lives.

    Attributes:
        store: The store's directory.
        stack_id: The stack.
        number: Its number among the claims of that stack.
    """

    store: Path
    stack_id: str
    number: int

    @property
    def path(self) -> Path:
        """The claim's file."""
        return _path(self.store, self.stack_id, self.number)

    def refresh(self) -> bool:
        """Says that the holder lives; to be called more often than every two minutes.

        Returns:
            False if another run has taken the stack over meanwhile, or the file is gone.
        """
        try:
            os.utime(self.path)
        except OSError:
            return False
        return not _path(self.store, self.stack_id, self.number + 1).exists()

    def release(self) -> None:
        """Gives the stack up, trained or not."""
        # The file stays, see above; `forget` removes it once the stack is finished.
        with contextlib.suppress(OSError), _draft(self.store, self.stack_id, {"released": True}) as draft:
            os.replace(draft, self.path)


def take(store: Path, stack_id: str) -> Claim | None:
    """Claims a stack.

    Args:
        store: The store's directory.
        stack_id: The stack.

    Returns:
        None if a living run has it.

    Raises:
        StoreError: Claims cannot be written there.
    """
    holder = {"host": machine(), "pid": os.getpid(), "started": started(os.getpid())}
    try:
        make_folder(store / "claims")
        with _draft(store, stack_id, holder) as draft:
            number = _highest(store, stack_id)
            # The time as the file system tells it: clocks of several hosts differ.
            if number >= 0 and not _stale(_path(store, stack_id, number), draft.stat().st_mtime):
                return None
            claim = Claim(store, stack_id, number + 1)
            return claim if place(draft, claim.path) else None
    except OSError as error:
        raise explained(error, store / "claims" / stack_id) from error


def forget(store: Path, stack_id: str) -> None:
    """Removes the claims of a stack that is finished."""
    with contextlib.suppress(OSError):
        for number in range(_highest(store, stack_id) + 1):
            _path(store, stack_id, number).unlink(missing_ok=True)


@functools.cache
def machine() -> str:
    """This machine as far as process numbers mean the same: host, boot and process namespace."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def started(pid: int) -> str | None:
    """When a process began, in the words of /proc, or None: tells a number's old owner from its new one."""
    try:
        # The second field is the program's name in parentheses, which may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def alive(pid: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def _draft(store: Path, stack_id: str, content: dict[str, object]) -> Iterator[Path]:
    """A claim's file before it has its name. Not synced: after a crash of the machine no claim holds anyway."""
    make_folder(store / "tmp")
    draft = store / "tmp" / f"claim-{stack_id}.{os.getpid()}-{uuid.uuid4().hex[:12]}"
    try:
        draft.write_text(json.dumps(content))
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _stale(path: Path, now: float) -> bool:
    try:
        holder = json.loads(path.read_text())
        if holder.get("released"):
            return True
        pid = int(holder["pid"])
        if holder["host"] == machine() and pid > 0:
            return not alive(pid) or started(pid) != holder["started"]
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        pass  # unreadable: judged by its age, like another host's
    try:
        return now - path.stat().st_mtime > STALE_AFTER
    except FileNotFoundError:
        return False


def _path(store: Path, stack_id: str, number: int) -> Path:
    return store / "claims" / f"{stack_id}.{number}.json"


def _highest(store: Path, stack_id: str) -> int:
    numbers = itertools.takewhile(lambda n: _path(store, stack_id, n).exists(), itertools.count())
    return max(numbers, default=-1)
