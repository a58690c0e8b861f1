"""The trials of a cell's search, round by round: what is proposed where results are compared, as trials."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from mtbench.contracts.trials import Trial
from mtbench.plan.cells import gather
from mtbench.plan.grid import PlannedCell
from mtbench.plan.search import Round, Setting

if TYPE_CHECKING:
    from mtbench.store.scan import StackColumns


class SearchRounds:
    """The search of one cell, a round of all its places at a time.

    A place is where results are compared: a split, or all splits together where one setting is selected for all. A
    setting's result there is the mean over its splits of the means over its seeds, as selection has it, and it failed
    where one of its trials did.

    Args:
        planned: The cell.
    """

    def __init__(self, planned: PlannedCell) -> None:
        self._places = [_Place(planned, name, splits) for name, splits in planned.places.items()]

    @property
    def n_to_come(self) -> int:
        """Trials of rounds that are not proposed yet, as planned."""
        return sum(place.n_to_come for place in self._places)

    def next(self, results: Mapping[str, float]) -> list[Trial]:
        """The trials of the next round; none where the search is over.

        Args:
            results: By trial, the validation results of all rounds so far, the lower the better; NaN, or nothing, where
                a trial failed.

        Returns:
            In order of split and seed, and of proposal.
        """
        found = [trial for place in self._places for trial in place.next(results)]
        return sorted(found, key=lambda trial: (trial.split, trial.seed))

    def missing(self, finished: Container[str], results: Mapping[str, float]) -> int:
        """Trials to be trained yet, with those of rounds to come; asked of a search that has not begun."""
        return sum(place.missing(finished, results) for place in self._places)


class _Place:
    """The search in one place.

    Args:
        planned: The cell.
        name: Of the place.
        splits: Its splits.
    """

    def __init__(self, planned: PlannedCell, name: str, splits: Sequence[int]) -> None:
        self._planned, self._splits = planned, splits
        self._rounds = planned.search.rounds(name)
        self._to_come = [size.n_settings for size in planned.search.sizes]
        self._last: Round | None = None

    @property
    def n_to_come(self) -> int:
        """Trials of rounds that are not proposed yet, as planned."""
        return len(self._splits) * self._planned.seeds * sum(self._to_come)

    def next(self, results: Mapping[str, float]) -> list[Trial]:
        """The trials of the next round."""
        try:
            if self._last is None:
                self._last = next(self._rounds)
            else:
                self._last = self._rounds.send([self._result(setting, results) for setting in self._last.settings])
        except StopIteration:
            self._to_come = []
            return []
        self._to_come = self._to_come[1:]
        return [trial for setting in self._last.settings for trial in self._trials(setting)]

    def missing(self, finished: Container[str], results: Mapping[str, float]) -> int:
        """Trials that are to be trained yet, with those of rounds to come."""
        while trials := self.next(results):
            if n_open := sum(trial.id not in finished for trial in trials):
                return n_open + self.n_to_come
        return 0

    def _trials(self, setting: Setting) -> list[Trial]:
        """A setting's trials of the last round, in order of split and seed."""
        assert self._last is not None
        cell, epochs = self._planned.cell, self._last.epochs
        places = [(split, seed) for split in self._splits for seed in range(self._planned.seeds)]
        return [Trial(cell, setting, split, seed, epochs, epochs is not None) for split, seed in places]

    def _result(self, setting: Setting, results: Mapping[str, float]) -> float:
        """Mean over splits of the means over seeds; NaN where a trial failed."""
        found = [results.get(trial.id, math.nan) for trial in self._trials(setting)]
        seeds = self._planned.seeds
        means = [math.fsum(found[i : i + seeds]) / seeds for i in range(0, len(found), seeds)]
        return math.fsum(means) / len(means) if all(map(math.isfinite, found)) else math.nan


def validation_results(planned: PlannedCell, stacks: Iterable[StackColumns]) -> dict[str, float]:
    """By trial of a cell that finished, its validation result by the selection metric, the lower the better.

    Args:
        planned: The cell.
        stacks: What is in a store.
    """
    found: dict[str, float] = {}
    for cell in gather(stack for stack in stacks if stack.cell_key == planned.cell.key):
        sign = -1.0 if cell.higher_is_better(cell.provenance.get("selection_metric", "")) else 1.0
        found.update((t.candidate.id, sign * t.candidate.validation) for t in cell.trials)
    return found
