"""Runs a study: keeps the engine busy with what is on the schedule, and publishes what comes back.

Nothing depends on the order in which stacks end.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mtbench.contracts.trials import Cell, Stack, StackResult, Status, Trial
from mtbench.engines import Engine, Job, JobFailed
from mtbench.engines.answers import fault_of
from mtbench.engines.workers.process import tail
from mtbench.engines.workers.progress import latest
from mtbench.plan.grid import PlannedCell
from mtbench.plan.study import Study
from mtbench.plugins.host import Plugins
from mtbench.plugins.sources import FILE
from mtbench.run.events import Events, RunListener, Summary
from mtbench.run.pretrained import PretrainedBackbones
from mtbench.run.provenance import Facts
from mtbench.run.schedule import Calibration, Phase, Schedule, Training
from mtbench.store import Claim, Store, clear_stale_files, decode, encode

_POLL = 0.2
_REFRESH_CLAIMS = 30.0


@dataclass
class _RunningJob:
    """A job under way."""

    work: Calibration | Training
    job: Job
    claim: Claim | None
    log: Path
    epoch: int = 0


class Runner:
    """One run of a study on one store. Other runs may use the store at the same time.

    Args:
        study: The study.
        cells: Its grid.
        store: Where results go.
        engine: Where stacks run.
        plugins: Those that offer methods and data sets; told of events.
        root: Where the data are.
        listener: Shows the run.
    """

    def __init__(
        self,
        study: Study,
        cells: Sequence[PlannedCell],
        store: Store,
        engine: Engine,
        plugins: Plugins,
        root: Path,
        listener: RunListener,
    ) -> None:
        self._study, self._cells, self._store, self._engine = study, cells, store, engine
        self._plugins, self._root = plugins, root
        self._events = Events(str(store.path), listener, plugins)
        self._schedule = Schedule(study, store, engine.slots)
        self._pretrained = PretrainedBackbones(store, cells)
        self._elsewhere: list[Training] = []  # stacks that another run is training
        self._running: dict[Future[bytes], _RunningJob] = {}
        self._facts = Facts(study, plugins, engine.name)
        self._refreshed = time.monotonic()
        self.summary = Summary()

    def run(self) -> Summary:
        """Trains all that is missing.

        Raises:
            StoreError: A result could not be written; all that was published before stays.
        """
        n_trials = sum(0 if cell.skipped else cell.n_trials for cell in self._cells)
        self._events.run_started(n_trials)
        try:
            clear_stale_files(self._store.path)
            for cell in self._cells:
                self._begin(cell)
            while self._schedule.queue or self._running or self._elsewhere:
                self._launch()
                done, _ = wait(self._running, timeout=_POLL, return_when=FIRST_COMPLETED)
                for future in done:
                    self._collect(future, self._running.pop(future))
                self._idle(bool(done))
            self.summary.n_lost = self._schedule.lost()
        finally:
            for running in self._running.values():
                if running.claim is not None:
                    running.claim.release()
            self._events.run_ended(self.summary)
        return self.summary

    def _begin(self, planned: PlannedCell) -> None:
        if planned.skipped is None:
            if planned.base is None:
                self._announce(self._schedule.begin_search(planned))
            elif self._pretrained.asks(planned):
                self._announce(self._schedule.begin_search(planned.base))
            return
        self._events.planned(planned, "search", 0, 0)
        stack = self._schedule.stand_ins(planned)
        if stack is not None:
            result = StackResult.without_training(stack.trials, Status.SKIPPED, planned.skipped)
            result.provenance = self._facts.of(planned)
            self._store.publish_image(encode(result))
            self._note(stack, result)

    def _announce(self, phase: Phase) -> None:
        """Shows a phase that begins; one with nothing left to do is followed by the next at once."""
        self.summary.n_present += phase.n_done
        self._events.planned(phase.planned, phase.kind, phase.n_trials, phase.n_done)
        self._go_on(phase)

    def _go_on(self, phase: Phase) -> None:
        if phase.planned.cell.role and phase.over:
            for planned in self._pretrained.ready(phase.planned):
                self._announce(self._schedule.begin_search(planned))
        if phase.awaits_more and (following := self._schedule.go_on(phase.planned)) is not None:
            self._announce(following)

    def _launch(self) -> None:
        """Hands out work while there are free slots."""
        while self._schedule.queue and len(self._running) < self._engine.slots:
            work = self._schedule.queue.popleft()
            if isinstance(work, Training):
                self._launch_training(work)
            elif self._pretrained.missing(work.phase.planned, work.group) is not None:
                self._schedule.queue_singly(work)
            elif not self._schedule.take_agreed(work):
                self._events.measuring(work.phase.planned, True)
                self._submit(work, "calibrate", work.group, None, f"calibrate-{work.group[0].id[:16]}")

    def _launch_training(self, work: Training) -> None:
        if self._store.has_stack(work.stack.id):
            result = self._store.read_stack(work.stack.id)
            self.summary.n_elsewhere += result.status.count(Status.FINISHED)
            self._settle(work, result)
            return
        reason = self._pretrained.missing(work.phase.planned, work.stack.trials)
        if reason is not None:
            self._collect_training(work, None, JobFailed(Status.FAILED, reason), b"")
            return
        claim = self._store.claim(work.stack.id)
        if claim is None:
            self._elsewhere.append(work)
            return
        self._submit(work, "train", work.stack.trials, claim, work.stack.id)
        self._events.started(work.stack)

    def _submit(
        self,
        work: Calibration | Training,
        kind: Literal["train", "calibrate"],
        trials: Sequence[Trial],
        claim: Claim | None,
        name: str,
    ) -> None:
        log = self._store.path / "logs" / f"{name}.log"
        files, modules = self._providers(trials[0].cell)
        provenance = {}
        if isinstance(work, Training):
            provenance = {**self._facts.of(work.phase.planned), "predicted_bytes": work.predicted_bytes}
        job = Job(
            kind,
            tuple(trials),
            trials[0].cell.options,
            self._root,
            files,
            log,
            self._study.time_limit,
            provenance,
            self._checkpoint(name) if kind == "train" else None,
            self._pretrained.of(work.phase.planned, trials),
            modules,
            work.phase.planned.content,
        )
        try:
            self._running[self._engine.submit(job)] = _RunningJob(work, job, claim, log)
        except BaseException:  # an interruption too: other runs should not wait for this one
            if claim is not None:
                claim.release()
            raise

    def _providers(self, cell: Cell) -> tuple[tuple[Path, ...], tuple[str, ...]]:
        """The plugin files, and the installed plugins, that offer a cell's method, data set and metrics."""
        owners = [owner for name in (cell.method, cell.dataset) for owner in self._plugins.providers(name)]
        owners += self._plugins.metric_owners(cell.dataset).values()
        named = {owner.plugin for owner in owners if owner.distribution == FILE}
        files = tuple(path for path in self._study.plugins if str(path) in named)
        return files, tuple(dict.fromkeys(owner.plugin for owner in owners if owner.distribution != FILE))

    def _checkpoint(self, stack_id: str) -> Path:
        """Where a half-trained stack is kept until it is finished."""
        return self._store.path / "checkpoints" / f"{stack_id}.npz"

    def _collect(self, future: Future[bytes], running: _RunningJob) -> None:
        """Takes in what a job gave."""
        self._tell_epoch(running)
        error = future.exception()
        fault = "" if error else fault_of(running.job, future.result())
        if fault:
            error = JobFailed(Status.FAILED, " ".join(f"{self._engine.blamed} {fault}".split()), tail(running.log))
        if isinstance(running.work, Calibration):
            self._collect_calibration(running.work, error, b"" if error else future.result())
        else:
            self._collect_training(running.work, running.claim, error, b"" if error else future.result())
        running.log.with_suffix(".progress").unlink(missing_ok=True)
        if error is None:
            running.log.unlink(missing_ok=True)
            self._checkpoint(running.log.stem).unlink(missing_ok=True)

    def _collect_training(self, work: Training, claim: Claim | None, error: BaseException | None, image: bytes) -> None:
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
            self._schedule.queue.appendleft(dataclasses.replace(work, again=True))
            return
        self._settle(work, decode(image))

    def _collect_calibration(self, work: Calibration, error: BaseException | None, answer: bytes) -> None:
        planned = work.phase.planned
        self._events.measuring(planned, False)
        if error is None:
            facts = json.loads(answer)
            self._schedule.divide(work, facts)
            self._events.measured(planned, facts)
            return
        # Trained one by one, so that each failure is on record.
        self.summary.notes.append(f"{planned.cell.label}: stacks could not be measured, so trials ran alone: {error}")
        if not self._schedule.take_agreed(work):
            self._schedule.queue_singly(work)

    def _settle(self, work: Training, result: StackResult) -> None:
        """Notes the end of a stack and goes on with its cell."""
        self._note(work.stack, result)
        work.phase.open_stacks -= 1
        self._go_on(work.phase)

    def _note(self, stack: Stack, result: StackResult) -> None:
        self._schedule.note(result)
        for trial, status, reason in zip(stack.trials, result.status, result.reason, strict=True):
            if status is Status.FINISHED:
                self.summary.n_finished += 1
            elif status is not Status.SKIPPED:
                self.summary.failures.append((trial, status, reason))
        self._events.ended(stack, result)

    def _tell_epoch(self, running: _RunningJob) -> None:
        if not isinstance(running.work, Training):
            return
        found = latest(running.log.with_suffix(".progress"))
        if found is not None and found[0] != running.epoch:
            running.epoch, n_active = found
            self._events.reached(running.work.stack, running.epoch, n_active)

    def _idle(self, busy: bool) -> None:
        """Between results: tells progress, keeps claims alive, looks after stacks that other runs train."""
        self._events.tick()
        for running in self._running.values():
            self._tell_epoch(running)
        if time.monotonic() - self._refreshed > _REFRESH_CLAIMS:
            self._refreshed = time.monotonic()
            for running in self._running.values():
                if running.claim is not None:
                    running.claim.refresh()
        if not self._schedule.queue and self._elsewhere and not busy:
            self._schedule.queue.extend(self._elsewhere)
            self._elsewhere.clear()
            if not self._running:
                time.sleep(_POLL)
