"""What a run tells, as it goes by and at its end: one stream of events, to its display and to plugins' hooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mtbench.contracts.trials import Stack, StackResult, Status, Trial
from mtbench.plan.grid import PlannedCell
from mtbench.plugins.host import Plugins


class RunListener(Protocol):
    """Sees a run go by."""

    def planned(self, cell: PlannedCell, phase: str, n_trials: int, n_done: int) -> None:
        """A round of a cell's search, or its refit, begins.

        Args:
            cell: The cell.
            phase: "search" or "refit".
            n_trials: Trials of the whole phase, with those of rounds to come.
            n_done: Trials of this round that are in the store already.
        """

    def measuring(self, cell: PlannedCell, under_way: bool) -> None:
        """Stack sizes of a cell begin to be measured, or have been."""

    def measured(self, cell: PlannedCell, facts: Mapping[str, Any]) -> None:
        """What measuring stack sizes gave, as `mtbench.training.calibrate` has it."""

    def started(self, stack: Stack) -> None:
        """A stack was handed to a worker."""

    def reached(self, stack: Stack, epoch: int, n_active: int) -> None:
        """A stack reached an epoch; so many of its trials still train. Not every epoch is told."""

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


class Events:
    """Tells a run's events: each to the display, and to the hooks of plugins where there is one for it.

    Args:
        store: The store's directory, as hooks are told it.
        listener: The display.
        plugins: Those whose hooks are called.
    """

    def __init__(self, store: str, listener: RunListener, plugins: Plugins) -> None:
        self._store, self._listener, self._plugins = store, listener, plugins

    def run_started(self, n_trials: int) -> None:
        """A run begins, with so many trials before any refit."""
        self._plugins.notify("mtbench_run_start", store=self._store, n_trials=n_trials)

    def planned(self, cell: PlannedCell, phase: str, n_trials: int, n_done: int) -> None:
        """A round of a cell's search, or its refit, begins."""
        self._listener.planned(cell, phase, n_trials, n_done)

    def measuring(self, cell: PlannedCell, under_way: bool) -> None:
        """Stack sizes of a cell begin to be measured, or have been."""
        self._listener.measuring(cell, under_way)

    def measured(self, cell: PlannedCell, facts: Mapping[str, Any]) -> None:
        """What measuring stack sizes gave."""
        self._listener.measured(cell, facts)

    def started(self, stack: Stack) -> None:
        """A stack was handed to a worker."""
        self._listener.started(stack)
        self._plugins.notify("mtbench_stack_start", stack=stack)

    def reached(self, stack: Stack, epoch: int, n_active: int) -> None:
        """A stack reached an epoch."""
        self._listener.reached(stack, epoch, n_active)
        self._plugins.notify("mtbench_epoch", stack_id=stack.id, epoch=epoch, n_active=n_active)

    def ended(self, stack: Stack, result: StackResult) -> None:
        """A stack's result is in the store."""
        for trial, status, reason in zip(stack.trials, result.status, result.reason, strict=True):
            if status not in (Status.FINISHED, Status.SKIPPED):
                self._plugins.notify("mtbench_trial_failed", trial=trial, status=str(status), reason=reason)
        self._plugins.notify("mtbench_stack_end", stack=stack, statuses=[str(s) for s in result.status])
        self._listener.ended(stack, result.status, result.reason)

    def tick(self) -> None:
        """To be called a few times a second."""
        self._listener.tick()

    def run_ended(self, summary: Summary) -> None:
        """A run is over, or was interrupted."""
        counts = {"n_finished": summary.n_finished, "n_failed": summary.n_failed}
        self._plugins.notify("mtbench_run_end", store=self._store, **counts)
