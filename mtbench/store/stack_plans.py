"""How cells were divided into stacks: decided once per set of trials, so that a resumed run trains the same stacks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtbench.errors import StoreError
from mtbench.store.publish import Step, no_step, publish

STACK_PLAN_FORMAT = 1


@dataclass(frozen=True)
class StackPlan:
    """How a set of trials of one cell is divided into stacks.

    Attributes:
        cell_key: `Cell.key` of the cell.
        stacks: Trial ids, stack by stack.
        facts: What led to it (device, calibration), for people.
    """

    cell_key: str
    stacks: list[list[str]]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The name of its file: the same for every plan of the same trials of the same cell."""
        return stack_plan_name(self.cell_key, [trial for stack in self.stacks for trial in stack])

    def to_bytes(self) -> bytes:
        """Its file's content."""
        record = {
            "format": STACK_PLAN_FORMAT,
            "cell": self.cell_key,
            "stacks": self.stacks,
            "facts": dict(self.facts),
        }
        return json.dumps(record, indent=1, default=str).encode() + b"\n"


class StackPlans:
    """The stack plans of a store. The first for a set of trials holds, whoever kept it.

    Args:
        store: The store's directory.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._read: dict[str, StackPlan] = {}  # by file name: they never change

    def keep(
        self, cell_key: str, stacks: Sequence[Sequence[str]], facts: Mapping[str, Any], step: Step = no_step
    ) -> list[list[str]]:
        """Keeps how a cell's trials are divided into stacks, unless that is decided already.

        Args:
            cell_key: `Cell.key` of the cell.
            stacks: Trial ids, stack by stack.
            facts: What led to it, for people.
            step: Told the name of each step of publishing.

        Returns:
            The plan that holds from now on: this one, or the one another run was first to keep.

        Raises:
            StoreError: It could not be written, or the one that is there cannot be read.
        """
        plan = StackPlan(cell_key, [list(stack) for stack in stacks], facts)
        path = self._folder / plan.file_name
        if not path.exists():
            publish(self._store, path, plan.to_bytes(), step)
        return read_stack_plan(path).stacks

    def find(self, cell_key: str, trial_ids: Iterable[str]) -> list[list[str]] | None:
        """How these trials of a cell are divided, if that is decided.

        Raises:
            StoreError: The file that says so cannot be read.
        """
        path = self._folder / stack_plan_name(cell_key, list(trial_ids))
        return read_stack_plan(path).stacks if path.exists() else None

    def of(self, cell_key: str) -> list[StackPlan]:
        """All plans of a cell's trials, in the order of their files' names.

        Raises:
            StoreError: One of the store's plans cannot be read.
        """
        for path in self.paths():
            if path.name not in self._read:
                self._read[path.name] = read_stack_plan(path)
        return [plan for _, plan in sorted(self._read.items()) if plan.cell_key == cell_key]

    def paths(self) -> list[Path]:
        """The files of all plans, in the order of their names."""
        return sorted(self._folder.glob("*.json"))

    @property
    def _folder(self) -> Path:
        return self._store / "divisions"


def stack_plan_name(cell_key: str, trial_ids: Sequence[str]) -> str:
    """The name of the file that holds how these trials of a cell are divided, whatever their order."""
    digest = hashlib.sha256("\n".join([cell_key, *sorted(trial_ids)]).encode())
    return digest.hexdigest() + ".json"


def read_stack_plan(path: Path) -> StackPlan:
    """The plan in a file.

    Raises:
        StoreError: The file does not hold one, or not the one its name says.
    """
    try:
        record = json.loads(path.read_bytes())
        found = record["format"]
        plan = StackPlan(record["cell"], record["stacks"], record["facts"])
        fits = found == STACK_PLAN_FORMAT and plan.file_name == path.name and all(plan.stacks)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{path} must hold a plan: {error!r}. {_REMEDY}") from None
    if not fits:
        raise StoreError(
            f"{path} must hold a plan of format {STACK_PLAN_FORMAT} of the trials its name stands for; found format "
            f"{found} or other trials. {_REMEDY}"
        )
    return plan


_REMEDY = "Move it away: the cell is then divided anew, and finished trials stay."
