"""Engines and listeners for tests of whole runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from mtbench.contracts.trials import Stack, Status
from mtbench.engines import Engine, Job, JobFailed
from mtbench.engines.workers.worker import answer
from mtbench.plan.grid import PlannedCell


class InlineEngine(Engine):
    """Runs jobs at once, in this process; is interrupted, if so told, when it has done some.

    Attributes:
        jobs: What it was given.
    """

    name = "inline"
    slots = 2

    def __init__(self, n_jobs: int | None = None) -> None:
        self.jobs: list[Job] = []
        self.n_jobs = n_jobs

    def submit(self, job: Job) -> Future[bytes]:
        """Runs a job."""
        if len(self.jobs) == self.n_jobs:
            raise KeyboardInterrupt
        self.jobs.append(job)
        future: Future[bytes] = Future()
        result, text = answer(job)
        if result is None:
            future.set_exception(JobFailed(Status.FAILED, text, "its last words"))
        else:
            future.set_result(result)
        return future

    def close(self) -> None:
        """Nothing to end."""


class Silent:
    """Watches a run without a word, and counts."""

    def __init__(self) -> None:
        self.n_done = self.n_ended = self.n_measured = 0
        self._planned: dict[tuple[str, str], int] = {}  # by cell and phase
        self.reached_epochs: dict[str, int] = {}  # by id of a stack, the last that was told

    def planned(self, cell: PlannedCell, phase: str, n_trials: int, n_done: int) -> None:
        """Counts."""
        self._planned[cell.cell.key, phase] = n_trials
        self.n_done += n_done

    @property
    def n_planned(self) -> int:
        """Trials of all phases that have begun."""
        return sum(self._planned.values())

    def measuring(self, cell: PlannedCell, under_way: bool) -> None:
        """Counts."""
        self.n_measured += under_way

    def measured(self, cell: PlannedCell, facts: Mapping[str, Any]) -> None:
        """Says nothing."""

    def started(self, stack: Stack) -> None:
        """Says nothing."""

    def reached(self, stack: Stack, epoch: int, n_active: int) -> None:
        """Remembers."""
        self.reached_epochs[stack.id] = epoch

    def ended(self, stack: Stack, statuses: Sequence[Status], reasons: Sequence[str]) -> None:
        """Counts."""
        self.n_ended += len(statuses)

    def tick(self) -> None:
        """Says nothing."""
