"""The selected trials of a cell, their refits, and their test scores: the only place where test results are read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mtbench.contracts.trials import Status
from mtbench.contracts.values import Value
from mtbench.plan.cells import CellResults, TrialRow, gather
from mtbench.plan.selection import RULES, rule_named

if TYPE_CHECKING:
    from mtbench.store.scan import StackColumns


@dataclass(frozen=True)
class ChosenSetting:
    """The setting selected for one split of one cell: what a refit trains again.

    Attributes:
        key: `mtbench.contracts.trials.Cell.key`.
        split: The split.
        params: The hyperparameters as stored, switches as 0 and 1; the trials' ids lead to them as planned.
        trial_ids: The S search trials that finished with them.
        seeds: Their seeds, ascending.
        best_epochs: The epoch at which each one's validation result was best.
    """

    key: str
    split: int
    params: Mapping[str, Value]
    trial_ids: tuple[str, ...]
    seeds: tuple[int, ...]
    best_epochs: tuple[int, ...]


def selected_trials(stacks: Iterable[StackColumns], rule: str = "per_split") -> list[ChosenSetting]:
    """The setting selected for each cell and split that has one.

    Args:
        stacks: All stacks of a store.
        rule: Name of the selection rule.

    Returns:
        In order of data set, method and split. Trials that did not finish are never among them.

    Raises:
        UnknownName: There is no such rule.
    """
    chosen = []
    for cell in gather(stacks):
        by_split: dict[int, list[TrialRow]] = {}
        for trial in select(cell, rule).searched:
            by_split.setdefault(trial.candidate.split, []).append(trial)
        for split, trials in by_split.items():
            found = [t.candidate for t in trials]
            chosen.append(
                ChosenSetting(
                    cell.key,
                    split,
                    dict(found[0].setting),
                    tuple(c.id for c in found),
                    tuple(c.seed for c in found),
                    tuple(c.best_epoch for c in found),
                )
            )
    return chosen


def shown_trials(stacks: Iterable[StackColumns]) -> set[str]:
    """Ids of the trials whose predictions, histories and matrices somebody may ask for.

    These are the selected ones by whatever rule, their refits, and the bases from which others start.

    Args:
        stacks: All stacks of a store.
    """
    shown: set[str] = set()
    for cell in gather(stacks):
        if cell.is_base:
            shown.update(trial.candidate.id for trial in cell.trials)
        for rule in RULES:
            chosen = select(cell, rule)
            some = (*chosen.searched, *chosen.refitted)
            shown.update(trial.candidate.id for trial in some if trial is not None)
    return shown


@dataclass(frozen=True, eq=False)
class Selected:
    """What a rule selected in one cell, ready to be scored.

    Attributes:
        cell: The cell.
        searched: The selected trials of the search, by split and seed.
        refitted: Of each, the finished refit, or None.
    """

    cell: CellResults
    searched: tuple[TrialRow, ...]
    refitted: tuple[TrialRow | None, ...]

    @cached_property
    def missing_refits(self) -> int:
        """Selected trials that ought to have a finished refit and have none."""
        asked = bool(self.cell.refits) or bool(self.cell.provenance.get("refit"))
        return self.refitted.count(None) if asked else 0

    @cached_property
    def refit(self) -> bool:
        """Whether scores are the refits'. They are where all refits finished: a mean never mixes the two."""
        return bool(self.refitted) and None not in self.refitted

    @property
    def final(self) -> tuple[TrialRow, ...]:
        """The trials whose test results are the cell's score."""
        return tuple(t for t in self.refitted if t is not None) if self.refit else self.searched

    def by_split(self, metric: str) -> dict[int, float]:
        """Test headline of each split, mean over seeds."""
        return _by_split(self.final, metric)

    def by_split_without_refit(self, metric: str) -> dict[int, float]:
        """The same for the search's own trials, which have not seen the validation rows."""
        return _by_split(self.searched, metric)

    def by_task(self, metric: str) -> dict[tuple[int, str], float]:
        """Test values by split and task, mean over seeds; empty for joint metrics."""
        found: dict[tuple[int, str], list[float]] = {}
        for trial in self.final:
            values, names = trial.values(metric), trial.stack.provenance.get("task_names", ())
            if len(values) != len(names):
                continue
            for name, value in zip(names, values.tolist(), strict=True):
                if not math.isnan(value):
                    found.setdefault((trial.candidate.split, name), []).append(value)
        return {at: math.fsum(values) / len(values) for at, values in found.items()}


def select(cell: CellResults, rule: str) -> Selected:
    """Applies a selection rule to one cell.

    Raises:
        UnknownName: There is no such rule.
    """
    metric = cell.provenance.get("selection_metric", "")
    settings = rule_named(rule)(cell.candidates, cell.higher_is_better(metric))
    searched = [
        trial
        for trial in cell.search
        if settings.get(trial.candidate.split) == trial.candidate.setting and math.isfinite(trial.candidate.validation)
    ]
    searched.sort(key=lambda t: (t.candidate.split, t.candidate.seed))
    return Selected(cell, tuple(searched), tuple(_refit_of(cell, trial) for trial in searched))


def _refit_of(cell: CellResults, trial: TrialRow) -> TrialRow | None:
    c = trial.candidate
    finished = [t for t in cell.refits.get((c.setting, c.split, c.seed), ()) if t.status is Status.FINISHED]
    # Refits for another number of epochs may be left from a search that ended elsewhere.
    finished.sort(key=lambda t: (t.epochs != c.best_epoch, t.candidate.id))
    return finished[0] if finished else None


def _by_split(trials: Sequence[TrialRow], metric: str) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for trial in trials:
        value = trial.value(metric)
        if math.isfinite(value):
            found.setdefault(trial.candidate.split, []).append(value)
    return {split: math.fsum(values) / len(values) for split, values in sorted(found.items())}


def replaced_trials(stacks: Iterable[StackColumns]) -> set[str]:
    """Trials of versions of a method that a later one has replaced, on the same version of the same data set.

    Args:
        stacks: All stacks of a store.

    Returns:
        Their ids. Of two versions that are whole numbers the larger is the later; other versions are left alone.
    """
    stacks = list(stacks)
    latest: dict[tuple[str, ...], int] = {}
    for stack in stacks:
        if (version := _version(stack)) is not None:
            latest[_named(stack)] = max(version, latest.get(_named(stack), version))
    older = (stack for stack in stacks if (version := _version(stack)) is not None and version < latest[_named(stack)])
    return {trial for stack in older for trial in stack.ids}


def _version(stack: StackColumns) -> int | None:
    text = str(stack.cell.get("method_version", ""))
    return int(text) if text.isdecimal() else None


def _named(stack: StackColumns) -> tuple[str, ...]:
    return tuple(str(stack.cell.get(name, "")) for name in ("method", "dataset", "dataset_version"))
