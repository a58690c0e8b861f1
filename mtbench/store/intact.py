"""A stack file whose content was checked: what a compaction may copy, and then remove."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from mtbench.contracts.trials import FINAL
from mtbench.errors import StoreError
from mtbench.store.files import Source, StackFiles, exists, path_of
from mtbench.store.pack_format import NAME
from mtbench.store.summary import read_summary
from mtbench.store.verify import check_content


@dataclass(frozen=True)
class IntactStack:
    """A stack file whose content was checked.

    Attributes:
        source: Where it lies.
        size: Its bytes.
        sha256: SHA-256 of its content.
        trials: Ids of its trials.
        final: Those of them that need not be trained again.
        stamp: Tells a file of its own from another that took its name later; None for one in a pack.
    """

    source: Source
    size: int
    sha256: str
    trials: frozenset[str]
    final: frozenset[str]
    stamp: tuple[int, ...] | None

    @property
    def name(self) -> str:
        """What it is called as a file of its own."""
        return self.source.name

    @property
    def failed(self) -> bool:
        """Whether it is a failed try."""
        return ".failed-" in self.name

    def read(self) -> bytes | None:
        """Its content once more; None if it lies there no longer.

        Raises:
            StoreError: It cannot be read, or is not what was checked.
        """
        try:
            content = self.source.read_bytes() if isinstance(self.source, Path) else self.source.read()
        except (OSError, StoreError) as error:
            if not exists(self.source):
                return None
            raise StoreError(f"{path_of(self.source)} could be read a moment ago and cannot now: {error}") from None
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise StoreError(f"{path_of(self.source)} must not change and did; nothing was removed.")
        return content


def examined(files: StackFiles, source: Source) -> IntactStack:
    """Reads a stack file and checks it: a single one in full; in a pack, that it is what was checked and packed.

    Raises:
        StoreError: Something does not hold.
        OSError: It cannot be read.
    """
    if not isinstance(source, Path):
        return _sound(source, source.read(), None)
    if not NAME.fullmatch(source.name) or source != files.own(source.name):
        raise StoreError(f"{source.name}: a stack's file must be named after it and lie in '{source.name[:2]}'.")
    stamp = stamp_of(source)
    content = source.read_bytes()
    check_content(source.name, content)
    return _sound(source, content, stamp)


def _sound(source: Source, content: bytes, stamp: tuple[int, ...] | None) -> IntactStack:
    texts = read_summary(content, source.name)[0]["texts"]
    pairs = list(zip(texts["trials/id"], texts["trials/status"], strict=True))
    trials = frozenset(trial for trial, _ in pairs)
    final = frozenset(trial for trial, status in pairs if status in FINAL)
    return IntactStack(source, len(content), hashlib.sha256(content).hexdigest(), trials, final, stamp)


def stamp_of(path: Path) -> tuple[int, ...] | None:
    """Tells a file from another of the same name; None if there is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
