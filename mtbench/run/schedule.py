"""The schedule of a run: which groups of trials are measured and which stacks are trained, and in which order.

A cell goes through a search, in one round or several, and, where asked for, a refit of what the search selected. Each
of these leaves out what is finished, takes up stacks that were decided by earlier runs, and divides the rest. Stack
sizes are known, or measured first. What holds is kept in the store's stack plans, so that a resumed run trains the same
stacks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mtbench.contracts.hyperparameters import describe
from mtbench.contracts.stacking import divide, groups
from mtbench.contracts.trials import FINAL, Stack, StackResult, Trial
from mtbench.contracts.values import Value
from mtbench.plan.grid import PlannedCell
from mtbench.plan.rounds import SearchRounds, validation_results
from mtbench.plan.selected import selected_trials
from mtbench.plan.study import Study
from mtbench.run.stack_sizes import StackSizes
from mtbench.store import StackColumns, Store, scan


@dataclass
class Phase:
    """A round of a cell's search, or its refit.

    Attributes:
        planned: The cell.
        kind: Which of the two.
        n_trials: Trials of the refit, or of the whole search as far as it is known, with rounds to come.
        n_done: Those of this round or refit that were in the store when it began.
        open_groups: Groups of trials that are not divided yet.
        open_stacks: Stacks that have not ended yet.
    """

    planned: PlannedCell
    kind: Literal["search", "refit"]
    n_trials: int
    n_done: int = 0
    open_groups: int = 0
    open_stacks: int = 0

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.open_groups or self.open_stacks)

    @property
    def awaits_more(self) -> bool:
        """Whether it is a round that is over: another one, or a refit, may follow."""
        return self.kind == "search" and self.over


@dataclass(frozen=True, eq=False)
class Calibration:
    """A group of trials whose stack size is to be measured."""

    phase: Phase
    group: Sequence[Trial]


@dataclass(frozen=True, eq=False)
class Training:
    """A stack that is to be trained."""

    phase: Phase
    stack: Stack
    again: bool = False  # its worker was killed once in this run
    predicted_bytes: int | None = None  # where measuring its stack size has told


class Schedule:
    """The work of one run that is known so far.

    Args:
        study: The study.
        store: What is there already, and which stack plans hold.
        n_slots: Jobs that run at once.

    Attributes:
        queue: What is to be done next, in order.
    """

    def __init__(self, study: Study, store: Store, n_slots: int) -> None:
        self._study, self._store = study, store
        self._sizes = StackSizes(study.stack_size, n_slots)
        self._finished = store.finished_ids()
        self._scanned: list[StackColumns] = []
        self._searches: dict[str, tuple[SearchRounds, int]] = {}  # by cell key, with the trials proposed so far
        self.queue: deque[Calibration | Training] = deque()

    def begin_search(self, planned: PlannedCell) -> Phase:
        """Queues what is missing of the first round of a cell's search."""
        for plan in self._store.stack_plans.of(planned.cell.key):
            self._sizes.note(planned, plan.facts)
        search = SearchRounds(planned)
        return self._begin_round(planned, search, search.next({}), 0)

    def go_on(self, planned: PlannedCell) -> Phase | None:
        """Queues what is missing of what follows a round, now over: the next or the refit; None for nothing."""
        search, n_before = self._searches[planned.cell.key]
        trials = search.next(validation_results(planned, self._stacks())) if search.n_to_come else []
        if trials:
            return self._begin_round(planned, search, trials, n_before)
        return self._begin(planned, "refit", self._selected(planned)) if planned.refit else None

    def stand_ins(self, planned: PlannedCell) -> Stack | None:
        """For a cell that cannot be trained: one trial per split and seed; None where all are on record."""
        trials = planned.trials()
        first = {(t.split, t.seed): t for t in reversed(trials) if t.params == trials[0].params}
        if all(trial.id in self._finished for trial in first.values()):
            return None
        return Stack(tuple(first.values()))

    def divide(self, work: Calibration, facts: Mapping[str, Any]) -> None:
        """Divides a group by what measuring it gave, unless another run was first."""
        work.phase.open_groups -= 1
        self._sizes.note(work.phase.planned, facts)
        self._divide(work.phase, work.group, facts)

    def take_agreed(self, work: Calibration) -> bool:
        """Takes over the stack plan of a group that another run has made meanwhile, if there is one."""
        agreed = self._store.stack_plans.find(work.phase.planned.cell.key, [trial.id for trial in work.group])
        if agreed is None:
            return False
        work.phase.open_groups -= 1
        self._enqueue(work.phase, _stacks(agreed, work.group))
        return True

    def queue_singly(self, work: Calibration) -> None:
        """Queues the trials of a group one by one. Not kept as a stack plan: the next run measures again."""
        work.phase.open_groups -= 1
        self._enqueue(work.phase, divide(work.group, 1, 1))

    def note(self, result: StackResult) -> None:
        """Takes in how trials ended."""
        pairs = zip(result.trials, result.status, strict=True)
        self._finished.update(trial.id for trial, status in pairs if status in FINAL)

    def lost(self) -> int:
        """Trials that were finished when this run began, or since, and are not in the store any more."""
        return len(self._finished - self._store.finished_ids())

    def _begin_round(self, planned: PlannedCell, search: SearchRounds, trials: Sequence[Trial], n_before: int) -> Phase:
        n_now = n_before + len(trials)
        self._searches[planned.cell.key] = search, n_now
        phase = self._begin(planned, "search", trials, again=n_before > 0)
        phase.n_trials = n_now + search.n_to_come
        return phase

    def _begin(
        self, planned: PlannedCell, kind: Literal["search", "refit"], trials: Sequence[Trial], again: bool = True
    ) -> Phase:
        phase = Phase(planned, kind, len(trials))
        decided, rest = self._decided(planned, trials)
        phase.n_done = len(trials) - len(rest) - sum(len(stack.trials) for stack in decided)
        self._enqueue(phase, decided)
        shared = [name for name, h in describe(planned.method.Params).items() if h.shared]
        for group in groups(rest, planned.shapes, shared):
            size = self._sizes.known(planned, group, again, refit=kind == "refit")
            if size is not None:
                self._divide(phase, group, {"stack_size": size})
            else:
                phase.open_groups += 1
                self.queue.append(Calibration(phase, group))
        return phase

    def _decided(self, planned: PlannedCell, trials: Sequence[Trial]) -> tuple[list[Stack], list[Trial]]:
        """Unfinished stacks of earlier stack plans, and the missing trials that are in none."""
        by_id = {trial.id: trial for trial in trials}
        open_ids = by_id.keys() - self._finished
        stacks: list[Stack] = []
        for plan in self._store.stack_plans.of(planned.cell.key):
            for ids in plan.stacks:
                if open_ids.intersection(ids) and by_id.keys() >= set(ids):
                    stacks += _stacks([ids], trials)
                    self._sizes.note_memory(stacks[-1:], plan.facts)
                    open_ids.difference_update(ids)
        return stacks, [trial for trial in trials if trial.id in open_ids]

    def _divide(self, phase: Phase, group: Sequence[Trial], facts: Mapping[str, Any]) -> None:
        divided = self._sizes.divided(group, int(facts["stack_size"]))
        ids = [[trial.id for trial in stack.trials] for stack in divided]
        agreed = self._store.stack_plans.keep(phase.planned.cell.key, ids, facts, self._store.step)
        stacks = _stacks(agreed, group)
        self._sizes.note_memory(stacks, facts)
        self._enqueue(phase, stacks)

    def _enqueue(self, phase: Phase, stacks: Iterable[Stack]) -> None:
        for stack in stacks:
            phase.open_stacks += 1
            self.queue.append(Training(phase, stack, predicted_bytes=self._sizes.predicted_bytes(stack)))

    def _stacks(self) -> list[StackColumns]:
        """What is in the store now."""
        self._scanned = scan(self._store, self._scanned).stacks
        return self._scanned

    def _selected(self, planned: PlannedCell) -> list[Trial]:
        """The refit trials of a cell whose search is over."""
        mine = [columns for columns in self._stacks() if columns.cell_key == planned.cell.key]
        return [
            Trial(planned.cell, _typed(planned, setting.params), setting.split, seed, epochs=epoch)
            for setting in selected_trials(mine, self._study.selection)
            if setting.split in planned.splits
            for seed, epoch in zip(setting.seeds, setting.best_epochs, strict=True)
            if seed < planned.seeds
        ]


def _stacks(plan: Iterable[Sequence[str]], trials: Sequence[Trial]) -> list[Stack]:
    """The stacks of a stack plan, whose trials are among these."""
    by_id = {trial.id: trial for trial in trials}
    return [Stack(tuple(by_id[trial_id] for trial_id in ids)) for ids in plan]


def _typed(planned: PlannedCell, params: Mapping[str, Value]) -> dict[str, Any]:
    """A setting as this run would write it, in the order and with the types of its hyperparameters."""
    first = planned.settings[0]
    return {name: type(value)(params[name]) for name, value in first.items()}
