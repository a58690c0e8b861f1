"""Runs a study: plans what is missing from the store, keeps the engine busy, publishes what comes back.

A cell goes through a search and, where asked for, a refit of what the search selected; each of the two is calibrated,
divided into stacks and trained. Nothing depends on the order in which stacks end.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from mtbench.engines import Engine, Job, JobFailed
from mtbench.grid import PlannedCell, divide, groups
from mtbench.plugins import Plugins
from mtbench.provenance import Facts
from mtbench.report.selected import selected_trials
from mtbench.store import Claim, Store, decode, encode, scan
from mtbench.study import Study
from mtbench.trials import FINAL, Stack, StackResult, Status, Trial

_CALIBRATE_FROM = 4  # fewer trials than this are not worth measuring for
_POLL = 0.2
_REFRESH_CLAIMS = 30.0


class Watcher(Protocol):
    """Sees a run go by."""

    def planned(self, cell: PlannedCell, phase: str, n_trials: int, n_done: int) -> None:
        """A cell's phase has so many trials, of which so many are in the store already."""

    def measuring(self, cell: PlannedCell, under_way: bool) -> None:
        """Stack sizes of a cell begin to be measured, or have been."""

    def started(self, stack: Stack, progress: Path) -> None:
        """A stack was handed to a worker, which appends "epoch active" lines to a file."""

    def ended(self, stack: Stack, statuses: Sequence[Status], reasons: Sequence[str]) -> None:
        """A stack's result is in the store, or another run's is."""

    def tick(self) -> None:
        """Called a few times a second."""


@dataclass
class _Phase:
    """A cell's search or refit."""

    planned: PlannedCell
    kind: Literal["search", "refit"]
    open_groups: int = 0
    open_stacks: int = 0


@dataclass(frozen=True, eq=False)
class _Calibration:
    """A group of trials whose stack size is to be measured."""

    phase: _Phase
    group: Sequence[Trial]


@dataclass(frozen=True, eq=False)
class _Training:
    """A stack that is to be trained."""

    phase: _Phase
    stack: Stack
    again: bool = False  # its worker was killed once in this run


@dataclass
class _Flight:
    """A job under way."""

    work: _Calibration | _Training
    claim: Claim | None
    log: Path


@dataclass
class Summary:
    """What a run did: trials that reached a final result in it, and trials that did not."""

    n_finished: int = 0
    n_failed: int = 0
    failures: list[tuple[Trial, Status, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what else the user should hear of


class Runner:
    """One run of a study on one store. Other runs may use the store at the same time.

    Args:
        study: The study.
        cells: Its grid.
        store: Where results go.
        engine: Where stacks run.
        plugins: Told of events.
        root: Where the data are.
        watcher: Shows progress.
    """

    def __init__(
        self,
        study: Study,
        cells: Sequence[PlannedCell],
        store: Store,
        engine: Engine,
        plugins: Plugins,
        root: Path,
        watcher: Watcher,
    ) -> None:
        self._study, self._cells, self._store, self._engine = study, cells, store, engine
        self._plugins, self._root, self._watcher = plugins, root, watcher
        self._queue: deque[_Calibration | _Training] = deque()
        self._elsewhere: list[_Training] = []  # stacks that another run is training
        self._flights: dict[Future[bytes], _Flight] = {}
        self._sizes: dict[str, int] = {}  # by cell key, the largest stack size measured so far
        for division in store.divisions():
            size = int(division.facts.get("stack_size", 1))
            self._sizes[division.cell_key] = max(size, self._sizes.get(division.cell_key, 1))
        self._finished = store.finished_ids()
        self._facts = Facts(study, plugins, engine.name)
        self._refreshed = time.monotonic()
        self.summary = Summary()

    def run(self) -> Summary:
        """Trains all that is missing.

        Raises:
            StoreError: A result could not be written; all that was published before stays.
        """
        n_trials = sum(0 if cell.skipped else len(cell.trials()) for cell in self._cells)
        self._plugins.notify("mtbench_run_start", store=str(self._store.path), n_trials=n_trials)
        try:
            for cell in self._cells:
                self._begin(_Phase(cell, "search"), cell.trials())
            while self._queue or self._flights or self._elsewhere:
                self._launch()
                done, _ = wait(self._flights, timeout=_POLL, return_when=FIRST_COMPLETED)
                for future in done:
                    self._land(future, self._flights.pop(future))
                self._idle(bool(done))
        finally:
            for flight in self._flights.values():
                if flight.claim is not None:
                    flight.claim.release()
            counts = {"n_finished": self.summary.n_finished, "n_failed": self.summary.n_failed}
            self._plugins.notify("mtbench_run_end", store=str(self._store.path), **counts)
        return self.summary

    def _begin(self, phase: _Phase, trials: Sequence[Trial]) -> None:
        """Plans a phase: leaves out what is finished, takes up stacks that were decided, measures for the rest."""
        if phase.planned.skipped is not None:
            self._watcher.planned(phase.planned, phase.kind, 0, 0)
            self._skip(phase.planned, trials)
            return
        decided, rest = self._decided(phase.planned, trials)
        n_open = len(rest) + sum(len(stack.trials) for stack in decided)
        self._watcher.planned(phase.planned, phase.kind, len(trials), len(trials) - n_open)
        self._enqueue(phase, decided)
        for group in groups(phase.planned, rest):
            size = self._known_size(phase, group)
            if size is not None:
                self._divide(phase, group, size, {"stack_size": size})
            else:
                phase.open_groups += 1
                self._queue.append(_Calibration(phase, group))
        self._close_if_done(phase)

    def _decided(self, planned: PlannedCell, trials: Sequence[Trial]) -> tuple[list[Stack], list[Trial]]:
        """Unfinished stacks of earlier divisions, and the missing trials that are in none."""
        by_id = {trial.id: trial for trial in trials}
        open_ids = by_id.keys() - self._finished
        stacks = []
        for division in self._store.divisions():
            if division.cell_key != planned.cell.key:
                continue
            for ids in division.stacks:
                if open_ids.intersection(ids) and all(trial_id in by_id for trial_id in ids):
                    stacks.append(Stack(tuple(by_id[trial_id] for trial_id in ids)))
                    open_ids.difference_update(ids)
        return stacks, [trial for trial in trials if trial.id in open_ids]

    def _known_size(self, phase: _Phase, group: Sequence[Trial]) -> int | None:
        """The stack size of a group where it needs no measuring."""
        if not getattr(phase.planned.method, "stackable", True):
            return 1
        if self._study.stack_size != "auto":
            return self._study.stack_size
        if phase.kind == "refit" or len(group) < _CALIBRATE_FROM:
            return self._sizes.get(phase.planned.cell.key, len(group))
        return None

    def _divide(self, phase: _Phase, group: Sequence[Trial], size: int, facts: dict[str, Any]) -> None:
        slots = 1 if self._study.stack_size != "auto" else self._engine.slots
        stacks = divide(group, size, slots)
        ids = [[trial.id for trial in stack.trials] for stack in stacks]
        agreed = self._store.save_division(phase.planned.cell.key, ids, facts)
        by_id = {trial.id: trial for trial in group}
        self._enqueue(phase, [Stack(tuple(by_id[trial_id] for trial_id in stack)) for stack in agreed])

    def _enqueue(self, phase: _Phase, stacks: Iterable[Stack]) -> None:
        for stack in stacks:
            phase.open_stacks += 1
            self._queue.append(_Training(phase, stack))

    def _close_if_done(self, phase: _Phase) -> None:
        """After the last stack of a search, begins the refit of what it selected."""
        if phase.open_groups or phase.open_stacks or phase.kind == "refit" or not phase.planned.refit:
            return
        if phase.planned.skipped is None:
            self._begin(_Phase(phase.planned, "refit"), self._selected(phase.planned))

    def _selected(self, planned: PlannedCell) -> list[Trial]:
        """The refit trials of a cell whose search is over."""
        mine = [columns for columns in scan(self._store).stacks if columns.cell_key == planned.cell.key]
        chosen = selected_trials(mine, self._study.selection)
        return [
            Trial(planned.cell, _typed(planned, setting.params), setting.split, seed, epochs=epoch)
            for setting in chosen
            if setting.split in planned.splits
            for seed, epoch in zip(setting.seeds, setting.best_epochs, strict=True)
            if seed < planned.seeds
        ]

    def _launch(self) -> None:
        """Hands out work while there are free slots."""
        while self._queue and len(self._flights) < self._engine.slots:
            work = self._queue.popleft()
            if isinstance(work, _Calibration):
                if self._adopt(work):
                    work.phase.open_groups -= 1
                    continue
                self._watcher.measuring(work.phase.planned, True)
                self._fly(work, "calibrate", work.group, None, f"calibrate-{work.group[0].id[:16]}")
                continue
            if self._store.has_stack(work.stack.id):
                self._settle(work, self._store.read(self._store.stack_path(work.stack.id)))
                continue
            claim = self._store.claim(work.stack.id)
            if claim is None:
                self._elsewhere.append(work)
                continue
            log = self._fly(work, "train", work.stack.trials, claim, work.stack.id)
            self._watcher.started(work.stack, log.with_suffix(".progress"))
            self._plugins.notify("mtbench_stack_start", stack=work.stack)

    def _fly(
        self,
        work: _Calibration | _Training,
        kind: Literal["train", "calibrate"],
        trials: Sequence[Trial],
        claim: Claim | None,
        name: str,
    ) -> Path:
        log = self._store.path / "logs" / f"{name}.log"
        job = Job(
            kind,
            tuple(trials),
            trials[0].cell.options,
            self._root,
            tuple(self._study.plugins),
            log,
            self._study.time_limit,
            self._facts.of(work.phase.planned) if kind == "train" else {},
        )
        try:
            self._flights[self._engine.submit(job)] = _Flight(work, claim, log)
        except BaseException:  # an interruption too: other runs should not wait for this one
            if claim is not None:
                claim.release()
            raise
        return log

    def _land(self, future: Future[bytes], flight: _Flight) -> None:
        """Takes in what a job gave."""
        error = future.exception()
        if isinstance(flight.work, _Calibration):
            self._land_calibration(flight.work, error, b"" if error else future.result())
        else:
            self._land_training(flight.work, flight.claim, error, b"" if error else future.result())
        flight.log.with_suffix(".progress").unlink(missing_ok=True)
        if error is None:
            flight.log.unlink(missing_ok=True)

    def _land_training(self, work: _Training, claim: Claim | None, error: BaseException | None, image: bytes) -> None:
        if error is not None:
            failed = error if isinstance(error, JobFailed) else JobFailed(Status.FAILED, str(error))
            record = StackResult.without_training(work.stack.trials, failed.status, failed.reason, failed.log)
            record.provenance = self._facts.of(work.phase.planned)
            image = encode(record)
        try:
            self._store.publish_image(image)
        finally:
            # Publishing a finished stack removes its claims; any other stays to be trained, by whichever run.
            if claim is not None and claim.path.exists():
                claim.release()
        if isinstance(error, JobFailed) and error.status is Status.KILLED and not work.again:
            # Chance kills should not decide what the search selects; what kills again is left for another run.
            self.summary.notes.append(f"{work.stack.cell.label}: trained a stack once more: {error}")
            self._queue.appendleft(_Training(work.phase, work.stack, again=True))
            return
        self._settle(work, decode(image))

    def _land_calibration(self, work: _Calibration, error: BaseException | None, answer: bytes) -> None:
        phase, planned = work.phase, work.phase.planned
        phase.open_groups -= 1
        self._watcher.measuring(planned, False)
        if error is None:
            facts: dict[str, Any] = json.loads(answer)
            size = int(facts["stack_size"])
            self._sizes[planned.cell.key] = max(size, self._sizes.get(planned.cell.key, 1))
            self._divide(phase, work.group, size, facts)
            return
        # Trained one by one, so that each failure is on record. Not kept as a division: the next run measures again.
        self.summary.notes.append(f"{planned.cell.label}: stacks could not be measured, so trials ran alone: {error}")
        if not self._adopt(work):
            self._enqueue(phase, divide(work.group, 1, 1))

    def _adopt(self, work: _Calibration) -> bool:
        """Takes over the division that another run has decided meanwhile, if there is one."""
        by_id = {trial.id: trial for trial in work.group}
        agreed = self._store.division_for(work.phase.planned.cell.key, by_id)
        if agreed is None:
            return False
        self._enqueue(work.phase, [Stack(tuple(by_id[trial_id] for trial_id in stack)) for stack in agreed])
        return True

    def _settle(self, work: _Training, result: StackResult) -> None:
        """Notes the end of a stack and goes on with its cell."""
        self._note(work.stack, result)
        work.phase.open_stacks -= 1
        self._close_if_done(work.phase)

    def _note(self, stack: Stack, result: StackResult) -> None:
        for trial, status, reason in zip(stack.trials, result.status, result.reason, strict=True):
            if status is Status.FINISHED:
                self.summary.n_finished += 1
            elif status is not Status.SKIPPED:
                self.summary.n_failed += 1
                self.summary.failures.append((trial, status, reason))
                self._plugins.notify("mtbench_trial_failed", trial=trial, status=str(status), reason=reason)
            if status in FINAL:
                self._finished.add(trial.id)
        self._plugins.notify("mtbench_stack_end", stack=stack, statuses=[str(s) for s in result.status])
        self._watcher.ended(stack, result.status, result.reason)

    def _skip(self, planned: PlannedCell, trials: Sequence[Trial]) -> None:
        """Records the reason why a cell cannot be trained; one trial per split stands for all its settings."""
        first = {(t.split, t.seed): t for t in reversed(trials) if t.params == trials[0].params}
        if all(trial.id in self._finished for trial in first.values()):
            return
        stack = Stack(tuple(first.values()))
        result = StackResult.without_training(stack.trials, Status.SKIPPED, planned.skipped or "")
        result.provenance = self._facts.of(planned)
        self._store.publish_image(encode(result))
        self._note(stack, result)

    def _idle(self, busy: bool) -> None:
        """Between results: shows progress, keeps claims alive, looks after stacks that other runs train."""
        self._watcher.tick()
        if time.monotonic() - self._refreshed > _REFRESH_CLAIMS:
            self._refreshed = time.monotonic()
            for flight in self._flights.values():
                if flight.claim is not None:
                    flight.claim.refresh()
        if not self._queue and self._elsewhere and not busy:
            self._queue.extend(self._elsewhere)
            self._elsewhere.clear()
            if not self._flights:
                time.sleep(_POLL)


def _typed(planned: PlannedCell, params: Any) -> dict[str, Any]:
    """A setting as this run would write it, in the order and with the types of its hyperparameters."""
    first = planned.settings[0]
    return {name: type(value)(params[name]) for name, value in first.items()}
