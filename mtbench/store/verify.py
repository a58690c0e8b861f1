"""The full check of a store's files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mtbench.errors import StoreError
from mtbench.store.image import result_id, verify_image
from mtbench.store.summary import read_summary
from mtbench.trials import FINAL


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
            return cls(path, str(error))
        return cls(path, "")


def check_stack(path: Path) -> None:
    """Checks a stack's file: hashes, ids, summary, and that its name says what it holds.

    Raises:
        StoreError: Something does not hold.
    """
    read_summary(path)
    result = verify_image(path)
    stack, _, try_ = path.name.removesuffix(".h5").partition(".")
    if stack != result_id(result) or path.parent.name != stack[:2]:
        raise StoreError(f"{path.name}: it must be named after its stack; that is {result_id(result)}.")
    if try_.startswith("failed-") == all(status in FINAL for status in result.status):
        raise StoreError(
            f"{path.name}: only a stack with a trial that is to be tried again is named 'failed'; found statuses "
            f"{', '.join(sorted(set(result.status)))}."
        )
