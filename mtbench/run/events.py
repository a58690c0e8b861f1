"""What a run tells: as it goes by, and at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mtbench.contracts.trials import Stack, Status, Trial
from mtbench.plan.grid import PlannedCell


class RunListener(Protocol):
    """Sees a run go by."""

    def planned(self, cell: PlannedCell, phase: str, n_trials: int, n_done: int) -> None:
        """A cell's phase has so many trials, of which so many are in the store already."""

    def measuring(self, cell: PlannedCell, under_way: bool) -> None:
        """Stack sizes of a cell begin to be measured, or have been."""

    def measured(self, cell: PlannedCell, facts: Mapping[str, Any]) -> None:
        """What measuring stack sizes gave, as `mtbench.training.calibrate` has it."""

    def started(self, stack: Stack, progress: Path) -> None:
        """A stack was handed to a worker, which appends "epoch active" lines to a file."""

    def ended(self, stack: Stack, statuses: Sequence[Status], reasons: Sequence[str]) -> None:
        """A stack's result is in the store, or another run's is."""

    def tick(self) -> None:
        """Called a few times a second."""


@dataclass
class Summary:
    """What a run did.

    Attributes:
        n_finished: Trials that reached a final result in it.
        n_elsewhere: Those of them that another run has trained meanwhile.
        n_present: Trials of the study that were in the store before.
        failures: Those that did not, with the reason.
        notes: What else the user should hear of.
        n_lost: Trials whose results were in the store while the run went on, and are not any more.
    """

    n_finished: int = 0
    n_elsewhere: int = 0
    n_present: int = 0
    failures: list[tuple[Trial, Status, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    n_lost: int = 0

    @property
    def n_trained(self) -> int:
        """Trials that this run has trained to the end."""
        return self.n_finished - self.n_elsewhere

    @property
    def n_failed(self) -> int:
        """Trials that did not reach a final result."""
        return len(self.failures)
