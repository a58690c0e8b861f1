"""What a trial of each cell costs, in seconds of one worker: as measured, or as other cells let one expect.

Of a cell that has not begun, the cost is taken from those that have: from the same data set, in proportion to what
measuring stack sizes told of both; else in proportion to other data sets on which both methods ran; else their mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

SEARCH, REFIT = "search", "refit"
_DEAREST_REFIT = 5.0  # a refit at most so many times the cost of a search trial, before one was seen


@dataclass
class Spent:
    """What ended stacks of a cell's phase have taken."""

    seconds: float = 0.0
    n_trials: float = 0.0
    n_stacks: int = 0


@dataclass
class Work:
    """A cell: what it is, what is left of it, and what it has taken."""

    method: str
    dataset: str
    kind: str
    open: dict[str, float] = field(default_factory=lambda: {SEARCH: 0, REFIT: 0})
    spent: dict[str, Spent] = field(default_factory=lambda: {SEARCH: Spent(), REFIT: Spent()})
    steps: float | None = None


class Costs:
    """Worker-seconds per trial, by cell and phase.

    Args:
        cells: The cells, with what their ended stacks took.
        running: By cell and phase, worker-seconds and trials of running stacks as expected: told where none ended.
    """

    def __init__(self, cells: Mapping[str, Work], running: Mapping[tuple[str, str], tuple[float, float]]) -> None:
        self._cells = cells
        self._known: dict[tuple[str, str], float] = {}
        for key, work in cells.items():
            for phase, spent in work.spent.items():
                seconds, n_trials = spent.seconds, spent.n_trials
                if not n_trials:
                    seconds, n_trials = running.get((key, phase), (0.0, 0.0))
                if n_trials:
                    self._known[key, phase] = max(seconds / n_trials, 1e-9)

    @property
    def known(self) -> bool:
        """Whether anything is."""
        return bool(self._known)

    def of(self, key: str, phase: str) -> float:
        """A trial's cost: its own cell's, else what others let one expect."""
        own = self._known.get((key, phase))
        if own is not None:
            return own
        if phase == SEARCH:
            borrowed = self._borrowed(key, SEARCH)
            return borrowed if borrowed is not None else self._mean(self._known.values())
        search = self._known.get((key, SEARCH))
        if search is None:
            borrowed = self._borrowed(key, REFIT)
            if borrowed is not None:
                return borrowed
            search = self.of(key, SEARCH)
        return search * self._refit_factor(key)

    def usual_size(self, key: str, phase: str, n_trials: float) -> float:
        """Trials per stack of a cell's phase; all that are open where none was trained."""
        spent = self._cells[key].spent[phase]
        return spent.n_trials / spent.n_stacks if spent.n_stacks else float(n_trials)

    def _borrowed(self, key: str, phase: str) -> float | None:
        mine = self._cells[key]
        here = {k: c for k, c in self._of(phase).items() if self._cells[k].dataset == mine.dataset}
        alike = {k: c for k, c in here.items() if self._cells[k].kind == mine.kind}
        steps = {k: s for k in alike if (s := self._cells[k].steps) is not None}
        if mine.steps is not None and steps:
            return mine.steps * sum(alike[k] for k in steps) / sum(steps.values())
        found = self._by_proportion(mine, phase)
        if found is None and here:
            found = self._mean((alike or here).values())
        return found

    def _by_proportion(self, mine: Work, phase: str) -> float | None:
        """The method's cost on other data sets, times how the costs of other methods compare on the two."""
        costs: dict[str, dict[str, float]] = {}
        for k, cost in self._of(phase).items():
            costs.setdefault(self._cells[k].dataset, {})[self._cells[k].method] = cost
        here, found = costs.get(mine.dataset, {}), []
        for dataset, there in costs.items():
            if dataset != mine.dataset and mine.method in there:
                ratios = [math.log(here[m] / there[m]) for m in here.keys() & there.keys()]
                if ratios:
                    found.append(there[mine.method] * math.exp(sum(ratios) / len(ratios)))
                elif not here:
                    found.append(there[mine.method])
        return self._mean(found) if found else None

    def _refit_factor(self, key: str) -> float:
        """How many times a search trial's cost a refit costs."""
        both = [
            math.log(self._known[k, REFIT] / self._known[k, SEARCH])
            for k in self._cells
            if (k, REFIT) in self._known and (k, SEARCH) in self._known
        ]
        if both:
            return math.exp(sum(both) / len(both))
        # Refits are few, so that their stacks are small, and small stacks cost more per trial.
        spent, n_refits = self._cells[key].spent[SEARCH], self._cells[key].open[REFIT]
        if not (spent.n_stacks and n_refits):
            return 1.0
        return min(max(math.sqrt(spent.n_trials / spent.n_stacks / n_refits), 1.0), _DEAREST_REFIT)

    def _of(self, phase: str) -> dict[str, float]:
        return {k: cost for (k, p), cost in self._known.items() if p == phase}

    @staticmethod
    def _mean(values: Iterable[float]) -> float:
        known = list(values)
        return sum(known) / len(known)
