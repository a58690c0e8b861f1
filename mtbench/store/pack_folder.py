"""The packs of a store, as they are at the moment."""

from __future__ import annotations

import os
from pathlib import Path

from mtbench.errors import StoreError
from mtbench.store.pack_format import SUFFIX, Member, Pack, read_pack


class PackFolder:
    """Lists packs and remembers their indices.

    Args:
        folder: Where they lie; may not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, Pack] = {}  # they never change

    def paths(self) -> list[Path]:
        """All packs, in the order of their names.

        Raises:
            StoreError: They cannot be listed.
        """
        # Of two packs, one made from the other, a list made at that moment may have neither: until it stays the same.
        before, found = None, self._list()
        while found != before:
            before, found = found, self._list()
        return found

    def load(self) -> tuple[list[Pack], dict[Path, StoreError]]:
        """The packs that can be read, and why the others cannot."""
        while True:
            faults: dict[Path, StoreError] = {}
            read: dict[Path, Pack] = {}
            for path in self.paths():
                try:
                    read[path] = self._read.get(path) or read_pack(path)
                except StoreError as error:
                    faults[path] = error
            if all(path.exists() for path in faults):
                self._read = read
                return list(read.values()), faults

    def named(self, name: str, rather: Path | None = None) -> list[Member]:
        """The stack files of that name that packs hold.

        Args:
            name: The name.
            rather: The pack that comes first.
        """
        packs, _ = self.load()
        found = [pack.members[name] for pack in packs if name in pack.members]
        return sorted(found, key=lambda member: member.pack != rather)

    def finished(self, stack_id: str) -> list[Member]:
        """The files of a finished stack: first that of its own name."""
        packs, _ = self.load()
        found = [member for pack in packs for member in pack.by_stack.get(stack_id, [])]
        return sorted(found, key=lambda member: (member.name != f"{stack_id}.h5", member.name))

    def _list(self) -> list[Path]:
        try:
            with os.scandir(self.folder) as entries:
                return sorted(Path(entry.path) for entry in entries if entry.name.endswith(SUFFIX))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"Cannot list {error.filename}: {error.strerror}.") from None
