"""Slimming: drops what no report, figure or resume needs, and packs the rest, compressed.

Of trials that nobody will look at again the details go: predictions, histories and learned matrices. Everything else
stays, so every trial stays finished, with its settings and scores. A slimmed stack file keeps its name; where a kill
has left a stack both whole and slimmed, either serves, and the next slimming goes on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mtbench.contracts.trials import StackResult
from mtbench.store import packing
from mtbench.store.claims import Claim
from mtbench.store.columns import to_columns
from mtbench.store.files import path_of
from mtbench.store.hdf5 import DETAILS
from mtbench.store.image import decode, encode, payload_sha256
from mtbench.store.intact import IntactStack
from mtbench.store.pack_format import Pack, pack_image
from mtbench.store.packing import Packing, alone, groups
from mtbench.store.scan import StackColumns, scan
from mtbench.store.store import Store
from mtbench.store.survey import checked_bytes, intact_of, superseded
from mtbench.store.verify import Checked
from mtbench.tasks import Array

MARK = "slimmed"
"""Key of the provenance of a slimmed stack: how many of its trials kept their details."""

Choose = Callable[[list[StackColumns]], Collection[str]]
"""What is in a store -> ids of trials: of those that keep their details, or of those that go."""


@dataclass
class Slimmed:
    """What a slimming did, or would do.

    Attributes:
        n_before: Files that held stacks.
        bytes_before: Their bytes.
        n_after: Files that hold stacks now.
        bytes_after: Their bytes.
        n_trials: Trials whose details were dropped.
        n_kept: Trials that keep theirs.
        n_packs: PackFolder that were made.
        n_dropped: Failed tries that were removed, because their trials have come to an end elsewhere.
        n_replaced: Stacks that were removed, because nobody wants their trials any more.
        left: Files that were left alone, with the reason.
    """

    n_before: int
    bytes_before: int
    n_after: int = 0
    bytes_after: int = 0
    n_trials: int = 0
    n_kept: int = 0
    n_packs: int = 0
    n_dropped: int = 0
    n_replaced: int = 0
    left: list[Checked] = field(default_factory=list)


def slim(
    store: Store, choose: Choose, matrices: bool = False, dry_run: bool = False, replaced: Choose | None = None
) -> Slimmed:
    """Drops the details of all trials but some, and packs all stacks.

    Args:
        store: The store. Reports may be using it, and runs.
        choose: Says which trials keep their details.
        matrices: Whether all trials keep their learned matrices.
        dry_run: Whether to do nothing but find out what would be done.
        replaced: Says which trials nobody wants any more; stacks of such alone are removed.

    Returns:
        What was done.

    Raises:
        StoreError: A compaction is under way, or a file could not be written or removed; nothing is lost.
    """
    with alone(store) as claim:
        return _Slimming(store, claim, choose, matrices, dry_run, replaced).run()


def without_details(result: StackResult, keep: Collection[str], matrices: bool = False) -> StackResult | None:
    """A stack's result without the details of some trials: NaN in their rows, no array where no trial keeps any.

    Args:
        result: The result; stays as it is.
        keep: Ids of the trials that keep theirs.
        matrices: Whether all keep their matrices.

    Returns:
        None if it is slimmed already and has nothing to drop.
    """
    rows = np.array([trial.id in keep for trial in result.trials])
    slimmed = copy.copy(result)
    changed = MARK not in result.provenance
    for group in DETAILS:
        if group == "learned" and matrices:
            continue
        before: dict[str, Array] = getattr(result, group)
        after = {name: _blank(values, ~rows) for name, values in before.items() if rows.any()}
        changed |= any(name not in after or after[name] is not values for name, values in before.items())
        setattr(slimmed, group, after)
    slimmed.provenance = {**result.provenance, MARK: int(rows.sum())}
    return slimmed if changed else None


def _blank(values: Array, rows: Array) -> Array:
    """An array with NaN in some rows; itself where they are so. Whole numbers, of which there are few, stay."""
    if values.dtype.kind != "f" or np.isnan(values[rows]).all():
        return values
    blank = values.copy()
    blank[rows] = np.nan
    return blank


class _Slimming(Packing):
    def __init__(
        self, store: Store, claim: Claim, choose: Choose, matrices: bool, dry_run: bool, replaced: Choose | None
    ) -> None:
        super().__init__(store, claim)
        self._replaced = replaced
        self._choose, self._matrices, self._dry_run = choose, matrices, dry_run
        self._done = Slimmed(*store.files.extent())
        self._contents: dict[str, bytes] = {}
        self._sources: list[IntactStack] = []

    def run(self) -> Slimmed:
        singles, members, whole = self._survey()
        stacks = scan(self.store).stacks
        keep = self._choose(stacks)
        found = _by_name([*singles, *members])
        chosen = {name: stack for name in sorted(found) if (stack := self._fullest(found[name])) is not None}
        failed = superseded([*chosen.values()])
        unwanted = frozenset(self._replaced(stacks)) if self._replaced is not None else frozenset()
        replaced = {name for name, stack in chosen.items() if stack.trials <= unwanted} - failed
        gone = failed | replaced
        kept = [stack for name, stack in chosen.items() if name not in gone]
        old = [pack for pack in whole if pack.members.keys() <= chosen.keys()]
        if gone or not self._is_done(kept, singles, old, keep):
            self._repack(kept, keep)
            self._clear(singles, old, chosen.keys())
            self._done.n_dropped, self._done.n_replaced = len(failed), len(replaced)
        self._done.n_packs = self.n_packs
        if not self._dry_run:
            self._done.n_after, self._done.bytes_after = self.store.files.extent()
        return self._done

    def _survey(self) -> tuple[list[IntactStack], list[IntactStack], list[Pack]]:
        """The intact files, single ones and packed ones, and the packs that are whole.

        Says of others why they are left alone.
        """
        files, left = self.store.files, self._done.left
        # In this order: what is packed meanwhile is met in its pack.
        singles = intact_of(files, files.singles(), self.tick, left)
        packs, faults = files.packs.load()
        left += [Checked(path, str(error)) for path, error in faults.items()]
        checked = {pack.path: checked_bytes(pack, self.tick) for pack in packs}
        left += [check for check in checked.values() if not check.ok]
        whole = [pack for pack in packs if checked[pack.path].ok]
        members = [stack for pack in whole for stack in intact_of(files, pack.members.values(), self.tick, left)]
        held = {stack.name for stack in (*singles, *members)}
        for pack in packs:
            if not checked[pack.path].ok:
                # Stays as evidence; what is intact in it and nowhere else is copied.
                rest = [member for name, member in pack.members.items() if name not in held]
                members += intact_of(files, rest, self.tick, [])
        return singles, members, whole

    def _fullest(self, found: Sequence[IntactStack]) -> IntactStack | None:
        """Of several files of a name the one that has most; None if they are not forms of one result."""
        if len({stack.sha256 for stack in found}) == 1:
            return found[-1]
        results = [(stack, decode(content)) for stack in found if (content := stack.read()) is not None]
        if len({_essence(result) for _, result in results}) > 1:
            reason = "two files have its name and hold different results."
            self._done.left += [Checked(path_of(stack.source), reason) for stack in found]
            return None
        return max(results, key=lambda pair: pair[1].provenance.get(MARK, len(pair[1].trials)))[0]

    def _is_done(
        self, kept: Sequence[IntactStack], singles: Sequence[IntactStack], old: Sequence[Pack], keep: Collection[str]
    ) -> bool:
        """Whether nothing is left to do."""
        if singles or not all(pack.is_compressed for pack in old) or sum(len(p.members) for p in old) != len(kept):
            return False
        if len(old) > len(list(groups(kept, packing.PACK_BYTES))):
            return False
        results = (decode(stack.read() or b"") for stack in kept)
        if any(without_details(result, keep, self._matrices) is not None for result in results):
            return False
        self._done.n_after, self._done.bytes_after = self._done.n_before, self._done.bytes_before
        return True

    def _repack(self, kept: Iterable[IntactStack], keep: Collection[str]) -> None:
        """Makes packs of what is kept."""
        for stack in kept:
            self.tick("read")
            content = stack.read()
            if content is None:  # another compaction has moved it
                continue
            content = self._slimmed(content, keep)
            if sum(map(len, self._contents.values())) + len(content) > packing.PACK_BYTES:
                self._flush()
            self._contents[stack.name] = content
            self._sources.append(stack)
        self._flush()

    def _slimmed(self, content: bytes, keep: Collection[str]) -> bytes:
        result = decode(content)
        rows = np.array([trial.id in keep for trial in result.trials])
        had = _with_details(result)
        self._done.n_kept += int((had & rows).sum())
        slimmed = without_details(result, keep, self._matrices)
        if slimmed is None:
            return content
        self._done.n_trials += int((had & ~rows).sum())
        return encode(slimmed, deflate=False)

    def _flush(self) -> None:
        if self._contents and self._dry_run:
            self._done.n_after += 1
            self._done.bytes_after += len(pack_image(self._contents, compress=True)[1])
        elif self._contents:
            self.make(self._contents, self._sources, compress=True)
        self._contents, self._sources = {}, []

    def _clear(self, singles: Iterable[IntactStack], old: Iterable[Pack], names: Collection[str]) -> None:
        """Removes what the new packs stand for."""
        if self._dry_run:
            return
        for stack in singles:
            if stack.name in names:
                self.remove(stack)
        for pack in old:
            self.unlink(pack.path, "remove pack")


def _by_name(found: Iterable[IntactStack]) -> dict[str, list[IntactStack]]:
    named: dict[str, list[IntactStack]] = {}
    for stack in found:
        named.setdefault(stack.name, []).append(stack)
    return named


def _essence(result: StackResult) -> str:
    """Equal for a stack's result, slimmed or not."""
    bare = copy.copy(result)
    for group in DETAILS:
        setattr(bare, group, {})
    bare.provenance = {name: value for name, value in result.provenance.items() if name != MARK}
    return payload_sha256(to_columns(bare))


def _with_details(result: StackResult) -> Array:
    """Which trials have any details, bool [R]."""
    found = np.zeros(len(result.trials), bool)
    for group in DETAILS:
        for values in getattr(result, group).values():
            if values.dtype.kind == "f":
                found |= ~np.isnan(values.reshape(len(found), -1)).all(1)
    return found
