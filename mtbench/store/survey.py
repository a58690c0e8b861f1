"""What a compaction finds in a store: what is intact, what lies there twice, and what is better left alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtbench.errors import StoreError
from mtbench.store.files import Source, StackFiles, exists, path_of
from mtbench.store.intact import IntactStack, examined
from mtbench.store.pack_format import Member, Pack, check_pack
from mtbench.store.verify import Checked


@dataclass(frozen=True)
class IntactPack:
    """A pack that is complete, and all of whose members are intact."""

    path: Path
    members: Sequence[IntactStack]

    @property
    def size(self) -> int:
        """Bytes of its members."""
        return sum(stack.size for stack in self.members)

    @property
    def names(self) -> set[str]:
        """Names of its members."""
        return {stack.name for stack in self.members}


@dataclass
class Survey:
    """What is there.

    Attributes:
        singles: IntactStack files that no pack holds.
        twice: IntactStack files that a pack holds too, byte for byte.
        packs: IntactStack packs; of those that were not asked for, only such as overlap with another.
        rescued: IntactStack members of packs that are damaged; nothing else holds them.
        left: Files that are better left alone, with the reason.
    """

    singles: list[IntactStack] = field(default_factory=list)
    twice: list[IntactStack] = field(default_factory=list)
    packs: list[IntactPack] = field(default_factory=list)
    rescued: list[IntactStack] = field(default_factory=list)
    left: list[Checked] = field(default_factory=list)

    def superseded(self) -> set[str]:
        """Names of the failed tries whose trials have all come to an end in finished stacks."""
        return superseded([*self.singles, *self.rescued, *(stack for pack in self.packs for stack in pack.members)])

    def overlapping(self) -> set[Path]:
        """The packs that share something with another."""
        count = Counter(name for pack in self.packs for name in pack.names)
        return {pack.path for pack in self.packs if any(count[name] > 1 for name in pack.names)}


def superseded(found: Sequence[IntactStack]) -> set[str]:
    """Names of the failed tries whose trials have all come to an end in finished stacks."""
    ended = frozenset[str]().union(*(stack.final for stack in found if not stack.failed))
    return {stack.name for stack in found if stack.failed and stack.trials <= ended}


def survey(files: StackFiles, wanted: Callable[[int], bool], tick: Callable[[], None]) -> Survey:
    """Reads the stack files of a store.

    Args:
        files: The files.
        wanted: Whether what is in a pack of so many bytes of stacks is asked for, although no other pack has it.
        tick: Called before each file.
    """
    found = Survey()
    # In this order: what is packed meanwhile is met in its pack.
    singles = intact_of(files, files.singles(), tick, found.left)
    packs, faults = files.packs.load()
    found.left += [Checked(path, str(error)) for path, error in faults.items()]
    checked = {pack.path: checked_bytes(pack, tick) for pack in packs}
    broken = {pack.path: pack for pack in packs if not checked[pack.path].ok}
    whole = [pack for pack in packs if pack.path not in broken]
    for pack in _alike(whole, found.left):
        shares = any(pack.members.keys() & other.members.keys() for other in whole if other is not pack)
        if shares or wanted(sum(member.size for member in pack.members.values())):
            members = intact_of(files, pack.members.values(), tick, found.left)
            if len(members) == len(pack.members):
                found.packs.append(IntactPack(pack.path, members))
    held = {name: member for pack in whole for name, member in pack.members.items()}
    for stack in singles:
        _sort(stack, held.get(stack.name), found)
    names = {stack.name for stack in singles} | held.keys()
    for pack in broken.values():
        _rescue(files, pack, checked[pack.path], names, tick, found)
    return found


def intact_of(
    files: StackFiles, sources: Iterable[Source], tick: Callable[[], None], bad: list[Checked]
) -> list[IntactStack]:
    """Those of some files that are intact; the others are put on a list."""
    found = []
    for source in sources:
        tick()
        try:
            found.append(examined(files, source))
        except (StoreError, OSError) as error:
            if exists(source):
                bad.append(Checked(path_of(source), str(error)))
    return found


def checked_bytes(pack: Pack, tick: Callable[[], None]) -> Checked:
    """Whether a pack is complete and holds what was packed."""
    try:
        check_pack(pack.path)
        for member in pack.members.values():
            tick()
            member.read()
    except StoreError as error:
        return Checked(pack.path, str(error))
    return Checked(pack.path, "")


def _alike(packs: Sequence[Pack], left: list[Checked]) -> list[Pack]:
    """The packs that hold nothing under a name under which another holds something else."""
    hashes: dict[str, set[str]] = {}
    for pack in packs:
        for member in pack.members.values():
            hashes.setdefault(member.name, set()).add(member.sha256)
    unlike = {name for name, found in hashes.items() if len(found) > 1}
    shared = [(pack, min(unlike & pack.members.keys(), default=None)) for pack in packs]
    left += [Checked(pack.path, f"another pack holds another result as {name}.") for pack, name in shared if name]
    return [pack for pack, name in shared if name is None]


def _sort(stack: IntactStack, member: Member | None, found: Survey) -> None:
    """Puts a single file where it belongs, given what a pack has under its name."""
    if member is None:
        found.singles.append(stack)
    elif member.sha256 == stack.sha256:
        found.twice.append(stack)
    else:
        reason = f"{member.pack.name} holds another result of its stack, which counts."
        found.left.append(Checked(path_of(stack.source), reason))


def _rescue(
    files: StackFiles, pack: Pack, checked: Checked, held: set[str], tick: Callable[[], None], found: Survey
) -> None:
    """Takes what is intact in a damaged pack, but what others hold."""
    whole = intact_of(files, pack.members.values(), tick, [])
    found.rescued += [stack for stack in whole if stack.name not in held]
    held |= {stack.name for stack in whole}
    if checked.path.exists():
        lost = f"Of its {len(pack.members)} stack files {len(pack.members) - len(whole)} cannot be read"
        reason = f"{checked.reason} {lost}; the others lie elsewhere too by now, so it can be deleted."
        found.left.append(Checked(checked.path, reason))
