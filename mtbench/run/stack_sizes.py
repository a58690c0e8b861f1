"""How large a run's stacks are: as the study says, as earlier runs have found, or as measuring gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from mtbench.contracts.stacking import divide
from mtbench.contracts.trials import Stack, Trial
from mtbench.plan.grid import PlannedCell

_MEASURED_FROM = 4  # fewer trials than this are not worth measuring for


class StackSizes:
    """The stack sizes of a run's cells, as far as they are known.

    Args:
        stack_size: What the study asks for.
        n_slots: Jobs that run at once.
    """

    def __init__(self, stack_size: int | Literal["auto"], n_slots: int) -> None:
        self._fixed = None if stack_size == "auto" else stack_size
        self._n_slots = n_slots
        self._largest: dict[str, int] = {}  # by cell key, of those measured so far
        self._memory: dict[str, int] = {}  # by id of a stack, the bytes it is predicted to take

    def known(self, planned: PlannedCell, group: Sequence[Trial], again: bool, refit: bool) -> int | None:
        """The size of a group's stacks; None where it is to be measured.

        Args:
            planned: Their cell.
            group: The trials.
            again: Whether stacks of the cell were trained before, so that what was measured then will do.
            refit: Whether they are refits, which are few and never measured.
        """
        if not getattr(planned.method, "stackable", True):
            return 1
        if self._fixed is not None:
            return self._fixed
        if refit or len(group) < _MEASURED_FROM:
            return self._largest.get(planned.cell.key, len(group))
        if again:
            return self._largest.get(planned.cell.key)
        return None

    def note(self, planned: PlannedCell, facts: Mapping[str, Any]) -> None:
        """Takes in what measuring a group of a cell's trials gave, now or in an earlier run."""
        key = planned.cell.key
        self._largest[key] = max(int(facts.get("stack_size", 1)), self._largest.get(key, 1))

    def divided(self, group: Sequence[Trial], size: int) -> list[Stack]:
        """A group's stacks. A size that the study fixes is kept to, whatever the number of slots."""
        return divide(group, size, self._n_slots if self._fixed is None else 1)

    def note_memory(self, stacks: Iterable[Stack], facts: Mapping[str, Any]) -> None:
        """Takes in what memory stacks are predicted to take, where measuring has told."""
        predicted = facts.get("predicted_bytes") or {}
        for stack in stacks:
            if (n_bytes := predicted.get(str(len(stack.trials)))) is not None:
                self._memory[stack.id] = int(n_bytes)

    def predicted_bytes(self, stack: Stack) -> int | None:
        """The memory that a stack is predicted to take; None where nobody has told."""
        return self._memory.get(stack.id)
