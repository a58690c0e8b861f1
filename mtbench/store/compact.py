"""Compaction: moves the many small files of a store's stacks into few packs, losing nothing whatever is killed."""

from __future__ import annotations

from dataclasses import dataclass, field

from mtbench.store import packing
from mtbench.store.claims import Claim
from mtbench.store.pack_format import Member
from mtbench.store.packing import Packing, alone, groups
from mtbench.store.store import Store
from mtbench.store.survey import Survey, survey
from mtbench.store.verify import Checked


@dataclass
class Compacted:
    """What a compaction did.

    Attributes:
        n_before: Files that held stacks.
        bytes_before: Their bytes.
        n_after: Files that hold stacks now.
        bytes_after: Their bytes.
        n_packed: Single files that were moved into packs.
        n_merged: PackFolder that were replaced by new ones.
        n_packs: PackFolder that were made.
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
    with alone(store) as claim:
        return _Compaction(store, claim).run(drop_failed)


class _Compaction(Packing):
    def __init__(self, store: Store, claim: Claim) -> None:
        super().__init__(store, claim)
        self._done = Compacted(*store.files.extent())

    def run(self, drop_failed: bool) -> Compacted:
        found = survey(self.store.files, lambda size: drop_failed or _small(size), self.tick)
        dropped = found.superseded() if drop_failed else set()
        for stack in found.twice:
            self._done.n_twice += self.remove(stack)
        self._move(found, dropped)
        for stack in found.singles:
            if stack.name in dropped:
                self._done.n_dropped += self.remove(stack)
        self._done.left = found.left
        self._done.n_packed, self._done.n_packs = self.n_packed, self.n_packs
        self._done.n_after, self._done.bytes_after = self.store.files.extent()
        return self._done

    def _move(self, found: Survey, dropped: set[str]) -> None:
        """Makes packs of what is worth packing."""
        urgent = {pack.path for pack in found.packs if dropped & pack.names} | found.overlapping()
        old = [pack for pack in found.packs if pack.path in urgent or _small(pack.size)]
        singles = [stack for stack in found.singles if _small(stack.size)]
        inside = [stack for pack in old for stack in pack.members]
        kept = {stack.name: stack for stack in [*inside, *found.rescued, *singles] if stack.name not in dropped}
        made = list(groups([kept[name] for name in sorted(kept)], packing.PACK_BYTES))
        n_files = len(old) + sum(stack.name in kept for stack in singles)
        if not urgent and not found.rescued and len(made) >= n_files:
            return
        # What was compressed once stays so.
        compress = any(isinstance(stack.source, Member) and stack.source.block for stack in kept.values())
        for group in made:
            contents: dict[str, bytes] = {}
            for stack in group:
                self.tick("read")
                content = stack.read()
                if content is not None:  # else another compaction has moved it
                    contents[stack.name] = content
            if contents:
                self.make(contents, group, compress)
        self._done.n_rescued = len(found.rescued)
        for pack in old:
            self._done.n_merged += self.unlink(pack.path, "remove pack")
        self._done.n_dropped += len(dropped & {stack.name for stack in inside})


def _small(size: int) -> bool:
    return size <= packing.PACK_BYTES // 2
