"""Compaction: moves the many small files of a store's stacks into few packs, losing nothing whatever is killed.

A single file is unlinked only after its bytes were read from a pack that is published, and a pack only after all that
it holds was read from packs that this compaction has made since: packs are always new, so of two compactions at once
neither can rely on what the other unlinks. (The claim that keeps them apart only saves work.) Readers and runs need not
know: see files.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtbench.errors import StoreError
from mtbench.store import claims
from mtbench.store.claims import Claim
from mtbench.store.files import path_of
from mtbench.store.leftovers import clear_leftovers
from mtbench.store.pack import check_pack, pack_image, read_pack
from mtbench.store.publish import publish
from mtbench.store.sound import Sound, stamp_of
from mtbench.store.store import Store
from mtbench.store.survey import Survey, survey
from mtbench.store.verify import Checked

PACK_BYTES = 1 << 26
"""Bytes of stacks in a pack at most. What has more than half of it alone is large enough, be it a stack or a pack."""

COMPACT_STEPS = ("examine", "read", "check pack", "remove file", "remove pack")
"""Steps that `Store.step` is told, besides those of publishing a pack."""

_CLAIM = "compact"
_REFRESH_CLAIM = 30.0


@dataclass
class Compacted:
    """What a compaction did.

    Attributes:
        n_before: Files that held stacks.
        bytes_before: Their bytes.
        n_after: Files that hold stacks now.
        bytes_after: Their bytes.
        n_packed: Single files that were moved into packs.
        n_merged: Packs that were replaced by new ones.
        n_packs: Packs that were made.
        n_rescued: Stack files that were copied into packs out of damaged ones.
        n_twice: Single files that were removed because a pack held them already, as after a kill.
        n_dropped: Failed tries that were removed, because their trials have come to an end elsewhere.
        left: Files that were left alone, with the reason.
    """

    n_before: int
    bytes_before: int
    n_after: int = 0
    bytes_after: int = 0
    n_packed: int = 0
    n_merged: int = 0
    n_packs: int = 0
    n_rescued: int = 0
    n_twice: int = 0
    n_dropped: int = 0
    left: list[Checked] = field(default_factory=list)


def compact(store: Store, drop_failed: bool = False) -> Compacted:
    """Moves a store's small stack files into packs, and small packs into larger ones, if that makes fewer files.

    Damaged files are left as they are, and so is one of two files of a name that differ.

    Args:
        store: The store. Runs and reports may be using it.
        drop_failed: Whether to remove failed tries whose trials have all come to an end in finished stacks.

    Returns:
        What was done.

    Raises:
        StoreError: Another compaction is under way, or a file could not be written or removed; nothing is lost.
    """
    claim = claims.take(store.path, _CLAIM)
    if claim is None:
        raise StoreError(f"Another `mtbench store compact` is at work on {store.path}; wait until it has ended.")
    try:
        clear_leftovers(store.path)
        return _Compaction(store, claim).run(drop_failed)
    finally:
        claims.forget(store.path, _CLAIM)


class _Compaction:
    def __init__(self, store: Store, claim: Claim) -> None:
        self._store, self._claim = store, claim
        self._refreshed = time.monotonic()
        self._done = Compacted(*store.files.extent())

    def run(self, drop_failed: bool) -> Compacted:
        found = survey(self._store.files, lambda size: drop_failed or _small(size), self._tick)
        dropped = found.superseded() if drop_failed else set()
        for sound in found.twice:
            self._done.n_twice += self._remove(sound)
        self._move(found, dropped)
        for sound in found.singles:
            if sound.name in dropped:
                self._done.n_dropped += self._remove(sound)
        self._done.left = found.left
        self._done.n_after, self._done.bytes_after = self._store.files.extent()
        return self._done

    def _move(self, found: Survey, dropped: set[str]) -> None:
        """Makes packs of what is worth packing."""
        urgent = {pack.path for pack in found.packs if dropped & pack.names} | found.overlapping()
        old = [pack for pack in found.packs if pack.path in urgent or _small(pack.size)]
        singles = [sound for sound in found.singles if _small(sound.size)]
        inside = [sound for pack in old for sound in pack.members]
        kept = {sound.name: sound for sound in [*inside, *found.rescued, *singles] if sound.name not in dropped}
        groups = list(_groups([kept[name] for name in sorted(kept)]))
        n_files = len(old) + sum(sound.name in kept for sound in singles)
        if not urgent and not found.rescued and len(groups) >= n_files:
            return
        for group in groups:
            self._make(group)
        self._done.n_rescued = len(found.rescued)
        for pack in old:
            self._done.n_merged += self._unlink(pack.path, "remove pack")
        self._done.n_dropped += len(dropped & {sound.name for sound in inside})

    def _make(self, group: Sequence[Sound]) -> None:
        """Publishes a pack, reads it back, and only then removes what it holds of single files."""
        contents: dict[str, bytes] = {}
        for sound in group:
            self._tick("read")
            content = sound.read()
            if content is not None:  # else another compaction has moved it
                contents[sound.name] = content
        if not contents:
            return
        name, image = pack_image(contents)
        path = self._store.files.packs.folder / name
        publish(self._store.path, path, image, self._store.step)
        self._read_back(path)
        self._done.n_packs += 1
        for sound in group:
            if isinstance(sound.source, Path) and sound.name in contents:
                self._done.n_packed += self._remove(sound)

    def _read_back(self, path: Path) -> None:
        self._tick("check pack")
        try:
            check_pack(path)
            for member in read_pack(path).members.values():
                member.read()
        except StoreError:
            if path.exists():
                raise
            raise StoreError(
                f"Another compaction of {self._store.path} has overtaken this one. Nothing is lost; run it again."
            ) from None

    def _remove(self, sound: Sound) -> bool:
        """Removes a single file, unless another has taken its name since it was read."""
        path = path_of(sound.source)
        return sound.stamp == stamp_of(path) and self._unlink(path, "remove file")

    def _unlink(self, path: Path, step: str) -> bool:
        self._tick(step)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(
                f"Cannot remove {path}: {error.strerror}. A pack holds what is in it; nothing is lost, and the same "
                "command goes on."
            ) from None
        return True

    def _tick(self, step: str = "examine") -> None:
        self._store.step(step)
        if time.monotonic() - self._refreshed > _REFRESH_CLAIM:
            self._refreshed = time.monotonic()
            self._claim.refresh()


def _small(size: int) -> bool:
    return size <= PACK_BYTES // 2


def _groups(sounds: Iterable[Sound]) -> Iterator[list[Sound]]:
    """What goes into each pack, in order."""
    group: list[Sound] = []
    for sound in sounds:
        if group and sum(each.size for each in group) + sound.size > PACK_BYTES:
            yield group
            group = []
        group.append(sound)
    if group:
        yield group
