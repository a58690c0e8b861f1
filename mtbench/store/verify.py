"""The full check of a store's files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mtbench.contracts.trials import StackResult
from mtbench.errors import StoreError
from mtbench.store.image import verify_image
from mtbench.store.pack_format import Member
from mtbench.store.promises import check_name


@dataclass(frozen=True)
class Checked:
    """What a check found of one file.

    Attributes:
        path: The file.
        reason: "" if all holds, else what does not.
    """

    path: Path
    reason: str

    @property
    def ok(self) -> bool:
        """Whether all holds."""
        return not self.reason

    @classmethod
    def of(cls, path: Path, check: Callable[[Path], object]) -> Checked:
        """The outcome of a check that raises StoreError where something does not hold."""
        try:
            check(path)
        except StoreError as error:
            return cls(path, str(error).removeprefix(f"{path.name}: "))
        return cls(path, "")


def check_stack(source: Path | Member) -> None:
    """Checks a stack's file, in a pack or not: hashes, ids, summary, and that its name says what it holds.

    Raises:
        StoreError: Something does not hold.
    """
    check_content(source.name, source)
    if isinstance(source, Path) and source.parent.name != source.name[:2]:
        raise StoreError(f"{source.name}: it must lie in the folder '{source.name[:2]}'; found '{source.parent.name}'.")


def check_content(name: str, source: Path | Member | bytes) -> StackResult:
    """Checks what a stack's file holds, or is to hold, under a name.

    Returns:
        The result in it.

    Raises:
        StoreError: Something does not hold.
    """
    result = verify_image(source, name)
    check_name(name, [trial.id for trial in result.trials], result.status)
    return result
