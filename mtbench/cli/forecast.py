"""How long a run will take yet, from what its stacks have taken so far. Refits to come are counted from the plan.

Trials are counted in full trainings: one that is trained for a part of its epochs only is that part of a trial.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mtbench.cli.costs import SEARCH, Costs, Work

_SURE_FROM = 0.05  # share of a stack's epochs from which its own pace is believed
_NOTHING = 1e-9  # trials that rounding leaves
_LONG = 5.0  # seconds of a stack from which its last progress tells how far it trained


@dataclass
class _Running:
    """A stack that a worker has."""

    key: str
    phase: str
    n_trials: float
    since: float


class Forecast:
    """The time that a run has left."""

    def __init__(self) -> None:
        self._cells: dict[str, Work] = {}
        self._running: dict[str, _Running] = {}
        self._shares: list[float] = []  # of their epochs, that ended search stacks trained
        self._most_at_once = 1

    def add(self, key: str, method: str, dataset: str, kind: str) -> None:
        """A cell of the run. `kind` is that of its method: of two kinds, costs say little of each other."""
        self._cells.setdefault(key, Work(method, dataset, kind))

    def expect(self, key: str, phase: str, n_trials: float) -> None:
        """So many trials of a cell's phase are to be trained yet."""
        self._cells[key].open[phase] = n_trials

    def measured(self, key: str, seconds: float) -> None:
        """A trial of a cell takes so long for as many steps as were measured of the others."""
        if math.isfinite(seconds) and seconds > 0:
            self._cells[key].steps = seconds

    def started(self, stack_id: str, key: str, phase: str, n_trials: float, now: float) -> None:
        """A worker has a stack from now on."""
        self._running[stack_id] = _Running(key, phase, n_trials, now)
        self._most_at_once = max(self._most_at_once, len(self._running))

    def ended(
        self, stack_id: str, key: str, phase: str, n_trials: float, now: float, share: float | None = None
    ) -> None:
        """A stack is over, whoever trained it; it had trained this share of its epochs."""
        work = self._cells[key]
        work.open[phase] = max(work.open[phase] - n_trials, 0)
        running = self._running.pop(stack_id, None)
        if running is None:
            return
        seconds, spent = now - running.since, work.spent[phase]
        spent.seconds += seconds
        spent.n_trials += n_trials
        spent.n_stacks += 1
        if phase == SEARCH and share is not None and seconds > _LONG:
            self._shares.append(min(share, 1.0))

    def seconds_left(self, now: float, shares: Mapping[str, float]) -> float | None:
        """Seconds until all is over; None while nothing can be told.

        Args:
            now: The time.
            shares: How far running stacks are, by id: the share of the epochs that they train at most.
        """
        costs = Costs(self._cells, self._pace(now, shares))
        if not costs.known:
            return None
        running = [self._rest(stack, now, shares.get(stack_id), costs) for stack_id, stack in self._running.items()]
        total, longest = sum(running), max(running, default=0.0)
        for key, phase, n_trials in self._queued():
            cost = costs.of(key, phase)
            total += n_trials * cost
            longest = max(longest, min(n_trials, costs.usual_size(key, phase, n_trials)) * cost)
        return max(total / self._most_at_once, longest)

    def _queued(self) -> Iterable[tuple[str, str, float]]:
        """Trials that no worker has yet."""
        held: dict[tuple[str, str], float] = {}
        for stack in self._running.values():
            held[stack.key, stack.phase] = held.get((stack.key, stack.phase), 0) + stack.n_trials
        for key, work in self._cells.items():
            for phase, n_open in work.open.items():
                n_trials = n_open - held.get((key, phase), 0)
                if n_trials > _NOTHING:
                    yield key, phase, n_trials

    def _pace(self, now: float, shares: Mapping[str, float]) -> dict[tuple[str, str], tuple[float, float]]:
        """Worker-seconds and trials of running stacks, as their progress lets one expect, by cell and phase."""
        found: dict[tuple[str, str], tuple[float, float]] = {}
        for stack_id, stack in self._running.items():
            total = self._projected(stack, now, shares.get(stack_id))
            if total is not None:
                seconds, n_trials = found.get((stack.key, stack.phase), (0.0, 0))
                found[stack.key, stack.phase] = (seconds + total, n_trials + stack.n_trials)
        return found

    def _projected(self, stack: _Running, now: float, share: float | None) -> float | None:
        if share is None or share < _SURE_FROM:
            return None
        # Searches stop early, as far as those that ended did; refits train all their epochs.
        usual = sum(self._shares) / len(self._shares) if self._shares and stack.phase == SEARCH else 1.0
        return (now - stack.since) * max(usual, share) / share

    def _rest(self, stack: _Running, now: float, share: float | None, costs: Costs) -> float:
        elapsed = now - stack.since
        projected = self._projected(stack, now, share)
        spent = self._cells[stack.key].spent[stack.phase]
        totals = [projected] if projected is not None else []
        if spent.n_trials or not totals:
            totals.append(costs.of(stack.key, stack.phase) * stack.n_trials)
        return max(sum(totals) / len(totals) - elapsed, 0.0)


def in_words(seconds: float) -> str:
    """A length of time for people: "45 s", "49 min", "1 h 20 min", "2 d 3 h"."""
    if round(seconds) < 60:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
