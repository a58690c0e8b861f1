"""What a run has done and does now, counted from its events; whoever shows it gets a copy.

Events come from the thread of the run, copies are asked for by that of the display: one lock stands between them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mtbench.cli.costs import REFIT, SEARCH
from mtbench.cli.forecast import Forecast, in_words
from mtbench.contracts.trials import Stack, Status
from mtbench.plan.grid import PlannedCell


@dataclass
class _Active:
    """A stack that a worker has.

    Attributes:
        n_epochs: Epochs it trains at most; 0 where its method has none.
        epoch: The last that it was heard to reach; 0 before the first.
    """

    n_epochs: int
    epoch: int = 0

    @property
    def share(self) -> float | None:
        """How far it is, as the share of its epochs; None where nothing was heard of it."""
        return self.epoch / self.n_epochs if self.epoch and self.n_epochs else None

    @classmethod
    def of(cls, stack: Stack, in_epochs: bool) -> _Active:
        """A stack that was just handed out, of a method that trains in epochs or does not."""
        # At a rung a trial trains for its epochs, in a refit for those that its search found best.
        epochs = [trial.most_epochs for trial in stack.trials]
        return cls(max(epochs) if in_epochs else 0)


@dataclass
class _Cell:
    """A cell as it is counted.

    Attributes:
        label: Its name.
        in_epochs: Whether its method trains in epochs.
        phase: That of the last event.
        planned: Trials by phase: as planned until the phase begins, then as found.
        rounds: Rounds of its search: settings, and the share of a full training that a trial is trained for.
        n_rounds: Rounds that have begun.
        over: Trials that came to an end by phase, in full trainings.
        n_done: Trials that came to an end, before this run or in it.
        n_failed: Trials that did not.
        n_measured: Groups of trials whose stack size is being measured.
        skipped: Whether the method cannot train here.
        active: Stacks that workers have, by id.
    """

    label: str
    in_epochs: bool = True
    phase: str = "waiting"
    planned: dict[str, int] = field(default_factory=dict)
    rounds: list[tuple[int, float]] = field(default_factory=list)
    n_rounds: int = 0
    over: dict[str, float] = field(default_factory=lambda: {SEARCH: 0.0, REFIT: 0.0})
    n_done: int = 0
    n_failed: int = 0
    n_measured: int = 0
    skipped: bool = False
    active: dict[str, _Active] = field(default_factory=dict)

    def begin(self, phase: str, n_trials: int, n_done: int) -> float:
        """Takes in that a round of the search, or the refit, begins; what is left of the phase, in full trainings.

        Args:
            phase: Which of the two.
            n_trials: Trials of the phase, with rounds to come.
            n_done: Trials of this round that are over already.
        """
        share = mean = 1.0
        if phase == SEARCH and self.rounds:
            share = self.rounds[min(self.n_rounds, len(self.rounds) - 1)][1]
            mean = sum(n * part for n, part in self.rounds) / sum(n for n, _ in self.rounds)
            self.n_rounds += 1
        self.phase, self.planned[phase] = phase, n_trials
        self.n_done += n_done
        self.over[phase] += n_done * share
        return n_trials * mean - self.over[phase]


@dataclass(frozen=True)
class Line:
    """A cell as it is shown.

    Attributes:
        label: Its name.
        n_done: Trials that came to an end.
        n_failed: Trials that did not.
        n_trials: Trials in all, refits to come included.
        state: "running", "waiting", "done" or "skipped".
        notes: Where it is: in full, and ever shorter.
    """

    label: str
    n_done: int
    n_failed: int
    n_trials: int
    state: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class View:
    """A run at one moment.

    Attributes:
        lines: Its cells, in their order.
        totals: Trials done and failed, time, and time left, as parts of one sentence.
    """

    lines: tuple[Line, ...]
    totals: tuple[str, ...]


class Counts:
    """Counts what happens in a run; a `RunListener` of the runner.

    Args:
        cells: The grid.
        clock: Tells seconds.
    """

    def __init__(self, cells: Sequence[PlannedCell], clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.RLock()
        self._clock, self._started = clock, clock()
        self._cells: dict[str, _Cell] = {}
        self._forecast = Forecast()
        for cell in cells:
            if cell.base is not None and cell.skipped is None:
                self._expect(cell.base)
            self._expect(cell)

    def planned(self, cell: PlannedCell, phase: str, n_trials: int, n_done: int) -> None:
        """A round of a cell's search, or its refit, begins; see `RunListener`."""
        with self._lock:
            mine = self._cells.get(cell.cell.key) or self._expect(cell)
            mine.skipped = cell.skipped is not None
            self._forecast.expect(cell.cell.key, phase, mine.begin(phase, n_trials, n_done))

    def measuring(self, cell: PlannedCell, under_way: bool) -> None:
        """Stack sizes of a cell begin to be measured, or have been."""
        with self._lock:
            self._cells[cell.cell.key].n_measured += 1 if under_way else -1

    def measured(self, cell: PlannedCell, facts: Mapping[str, Any]) -> None:
        """What measuring stack sizes gave: seconds per trial of a few steps, as many for all methods of a kind."""
        seconds = facts.get("seconds_per_trial", {}).get(str(facts.get("stack_size")))
        if isinstance(seconds, int | float):
            with self._lock:
                self._forecast.measured(cell.cell.key, seconds)

    def started(self, stack: Stack) -> None:
        """A stack was handed to a worker."""
        with self._lock:
            mine = self._cells[stack.cell.key]
            mine.active[stack.id] = _Active.of(stack, mine.in_epochs)
            self._forecast.started(stack.id, stack.cell.key, _phase(stack), _trainings(stack), self._clock())

    def reached(self, stack: Stack, epoch: int, n_active: int) -> None:
        """A stack reached an epoch."""
        with self._lock:
            active = self._cells[stack.cell.key].active.get(stack.id)
            if active is not None:
                active.epoch = epoch

    def ended(self, stack: Stack, statuses: Sequence[Status], reasons: Sequence[str]) -> None:
        """A stack's result is in the store."""
        with self._lock:
            mine = self._cells[stack.cell.key]
            active = mine.active.pop(stack.id, None)
            share = active.share if active is not None else None
            key, now = stack.cell.key, self._clock()
            mine.over[_phase(stack)] += _trainings(stack)
            self._forecast.ended(stack.id, key, _phase(stack), _trainings(stack), now, share)
            n_failed = sum(status not in (Status.FINISHED, Status.SKIPPED) for status in statuses)
            if not mine.skipped:
                mine.n_done += len(statuses) - n_failed
                mine.n_failed += n_failed

    def tick(self) -> None:
        """Called a few times a second."""

    def view(self) -> View:
        """A copy of all that is to be shown."""
        with self._lock:
            active = (item for mine in self._cells.values() for item in mine.active.items())
            shares = {i: share for i, stack in active if (share := stack.share) is not None}
            lines = tuple(_line(mine) for mine in self._cells.values())
            now = self._clock()
            left = self._forecast.seconds_left(now, shares)
        return View(lines, tuple(_totals(lines, now - self._started, left)))

    def totals(self) -> str:
        """Trials done and failed, time, and time left, in one line."""
        return ", ".join(self.view().totals)

    def _expect(self, cell: PlannedCell) -> _Cell:
        """Counts a cell's trials, and its refits to come, from the plan."""
        key = cell.cell.key
        if key not in self._cells:
            self._cells[key] = mine = _Cell(cell.cell.label, cell.method.in_epochs, skipped=cell.skipped is not None)
            self._forecast.add(key, cell.cell.method, cell.cell.dataset, cell.method.kind)
            if cell.skipped is None:
                n_places = len(cell.splits) * cell.seeds
                most = cell.cell.recipe.max_epochs
                mine.rounds = [(size.n_settings, (size.epochs or most) / most) for size in cell.search.sizes]
                mine.planned = {SEARCH: cell.n_trials, REFIT: n_places if cell.refit else 0}
                self._forecast.expect(key, SEARCH, n_places * sum(n * share for n, share in mine.rounds))
                self._forecast.expect(key, REFIT, mine.planned[REFIT])
        return self._cells[key]


def _phase(stack: Stack) -> str:
    return REFIT if stack.trials[0].phase == "refit" else SEARCH


def _trainings(stack: Stack) -> float:
    """A stack's trials, in full trainings: at a rung of a search each is a part of one."""
    most = stack.cell.recipe.max_epochs
    return sum((t.epochs or most) / most if t.rung else 1.0 for t in stack.trials)


def _line(mine: _Cell) -> Line:
    n_trials = sum(mine.planned.values())
    over = bool(n_trials) and mine.n_done + mine.n_failed >= n_trials
    notes: tuple[str, ...]
    if mine.skipped:
        state, notes = "skipped", ("skipped",)
    elif mine.active:
        state, notes = "running", _reached(mine)
    elif mine.n_measured:
        state, notes = "running", ("measuring stack sizes", "measuring")
    else:
        state = "done" if over else "waiting"
        notes = (state,)
    return Line(mine.label, mine.n_done, mine.n_failed, n_trials, state, notes)


def _reached(mine: _Cell) -> tuple[str, ...]:
    """A cell's phase and the epochs that its running stacks have reached, of how many at most."""
    found = [(active.epoch, active.n_epochs) for active in mine.active.values() if active.share is not None]
    if not found:
        return (mine.phase,)
    first, last = min(epoch for epoch, _ in found), max(epoch for epoch, _ in found)
    text = f"{mine.phase}, " + (f"epoch {last}" if first == last else f"epochs {first} to {last}")
    limits = {n for _, n in found}
    most = f" of {limits.pop()}" if len(limits) == 1 else ""
    percent = f"{100 * sum(epoch for epoch, _ in found) // sum(n for _, n in found)} %"
    return f"{text}{most} ({percent})", f"{mine.phase} {percent}", percent


def _totals(lines: Iterable[Line], seconds: float, left: float | None) -> Iterable[str]:
    n_trials, n_done, n_failed = (sum(getattr(x, name) for x in lines) for name in ("n_trials", "n_done", "n_failed"))
    yield f"{n_done} of {n_trials} trials done"
    yield f"{n_failed} failed"
    yield in_words(seconds)
    if left is not None and n_done + n_failed < n_trials:
        yield f"about {in_words(left)} left"
