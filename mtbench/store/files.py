"""Where a store's stacks lie: in files of their own or in packs, to which `compact` may move them at any time.

A file that is moved is in its pack before it is gone, so whoever looks at single files first and at packs afterwards
misses none; and one that is gone when it is opened is found again by its name. A stack may be met twice meanwhile.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from mtbench.errors import StoreError
from mtbench.store.pack_folder import PackFolder
from mtbench.store.pack_format import Member
from mtbench.store.summary import read_named

Source = Path | Member
"""Where a stack's bytes lie: in a file, or in a pack."""

T = TypeVar("T")


class StackFiles:
    """The stack files of a store.

    Args:
        store: The store's directory.

    Attributes:
        folder: The directory below which they lie.
        packs: Those that hold several.
    """

    def __init__(self, store: Path) -> None:
        self.folder = store / "stacks"
        self.packs = PackFolder(self.folder / "packs")

    def own(self, name: str) -> Path:
        """The path of a stack file that is not packed."""
        return self.folder / name[:2] / name

    def singles(self) -> list[Path]:
        """All stack files that are not packed, in the order of their names.

        Raises:
            StoreError: They cannot be listed.
        """
        found: list[str] = []
        try:
            with os.scandir(self.folder) as folders:
                for folder in folders:
                    if folder.is_dir():
                        found += [entry.path for entry in os.scandir(folder) if entry.name.endswith(".h5")]
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StoreError(f"Cannot list {error.filename}: {error.strerror}.") from None
        return [Path(path) for path in sorted(found)]

    def listed(self) -> tuple[list[Source], dict[Path, StoreError]]:
        """All stack files in the order of their names, whether packed or not, and the packs that cannot be read.

        Of two files of one name the packed one comes last: of equals, the last one counts.
        """
        # In this order: see above.
        singles = self.singles()
        packs, faults = self.packs.load()
        members = [member for pack in packs for member in pack.members.values()]
        if not members:
            return list(singles), faults
        return sorted([*singles, *members], key=lambda source: source.name), faults

    def sizes(self) -> dict[Path, int]:
        """Bytes of each stack file, whether packed or not."""
        sizes: dict[Path, int] = {}
        for source in self.listed()[0]:
            with contextlib.suppress(FileNotFoundError):
                sizes[path_of(source)] = source.stat().st_size if isinstance(source, Path) else source.stored_size
        return sizes

    def extent(self) -> tuple[int, int]:
        """Number and bytes of the files in which stacks lie: single ones, and packs."""
        sizes = []
        for path in [*self.singles(), *self.packs.paths()]:
            with contextlib.suppress(FileNotFoundError):
                sizes.append(path.stat().st_size)
        return len(sizes), sum(sizes)

    def each(self, look: Callable[[Source], T]) -> Iterator[tuple[Path, T | StoreError]]:
        """What a function finds in each stack file, or why it could not; of unreadable packs only why.

        Args:
            look: Raises StoreError where a file cannot be read or something in it does not hold.
        """
        sources, faults = self.listed()
        seen: set[Path] = set()
        while sources:
            moved = []
            for source in sources:
                path = path_of(source)
                try:
                    found: T | StoreError = look(source)
                except StoreError as error:
                    if not exists(source):
                        moved.append(source.name)
                        continue
                    found = error
                seen.add(path)
                yield path, found
            members = [member for name in dict.fromkeys(moved) for member in self.packs.named(name)]
            sources = [member for member in members if member.path not in seen]
        yield from faults.items()

    def at(self, path: Path) -> Source:
        """The stack file that a path names, wherever it lies by now."""
        packed = [] if path.exists() else self.packs.named(path.name, path.parent)
        return packed[0] if packed else path

    def look(self, path: Path, look: Callable[[Source], T]) -> T:
        """What a function finds in the stack file that a path names, wherever it lies by now.

        Raises:
            StoreError: It cannot be read.
        """
        while True:
            source = self.at(path)
            try:
                return look(source)
            except StoreError:
                if exists(source) or self.at(path) == source:
                    raise

    def finished(self, stack_id: str) -> list[Source]:
        """Where a finished stack may lie: under its name or, where that is taken by a damaged file, beside it.

        A packed file comes first: it was published before any other of its name.
        """
        own = self.own(f"{stack_id}.h5")
        singles = [path for path in (own, *sorted(own.parent.glob(f"{stack_id}.again-*.h5"))) if path.exists()]
        return [*self.packs.finished(stack_id), *singles]

    def holds(self, stack_id: str) -> bool:
        """Whether the stack is finished, and a file of it can be read."""
        while sources := self.finished(stack_id):
            if any(_readable(source) for source in sources):
                return True
            if all(exists(source) for source in sources):
                break
        return False

    def packed(self, stack_id: str) -> bool:
        """Whether a pack has the finished stack, and it can be read there."""
        return any(_readable(member) for member in self.packs.finished(stack_id))

    def is_taken(self, path: Path) -> bool:
        """Whether a stack file has this name, packed or not."""
        return path.exists() or bool(self.packs.named(path.name))


def path_of(source: Source) -> Path:
    """The path that names a stack file; in a pack, as if that were a folder."""
    return source if isinstance(source, Path) else source.path


def exists(source: Source) -> bool:
    """Whether the file a stack lies in is still there."""
    return (source if isinstance(source, Path) else source.pack).exists()


def _readable(source: Source) -> bool:
    try:
        read_named(source)
    except StoreError:
        return False
    return True
