"""The leaderboard: one row per method and data set, from the selected trials' test results."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mtbench.contracts.trials import WITH, Status
from mtbench.errors import UnknownName
from mtbench.plan.cells import CellResults
from mtbench.report.cautions import cautions
from mtbench.report.entries import Entry, called, dataset_names, method_names
from mtbench.report.intervals import mean_and_interval, paired
from mtbench.report.searches import in_words

BASELINES = ("stl", "stl_deep")
"""Single-task methods that gains are measured against: on each data set the first of them that has results there."""


@dataclass(frozen=True)
class Gain:
    """A paired difference to the baseline.

    Attributes:
        baseline: The baseline's label.
        mean: Ours minus the baseline's, mean over the splits both have.
        ci95: Half-width of its 95 % interval; None for one split.
    """

    baseline: str
    mean: float
    ci95: float | None


@dataclass(frozen=True)
class Row:
    """One method on one data set, by one metric.

    Attributes:
        method: Its label.
        dataset: Its label.
        metric: "name", or "name@part" for a further test part.
        mean: Mean over splits of the selected trials' test metric (mean over seeds in a split); None where no split
            has any.
        ci95: Half-width of the 95 % interval of that mean over splits; None for fewer than two.
        n_splits: Splits in the mean.
        n_trials: Trials in the store, search with its rungs and refits, without those skipped.
        n_failed: Those of them that did not finish.
        selection: Name of the selection rule.
        train_seconds: Training time per finished search trial of the whole budget.
        n_parameters: Numbers learned, mean over the selected trials that say; None where none does.
        draws: Settings tried in each split (the fewest, where splits differ).
        refit: Whether `mean` is that of trials refitted on training and validation rows.
        mean_without_refit: The same mean of the search's own trials.
        gain: Paired difference to the baseline on the same data set.
        reason: Why there is no score.
        by_split: The values behind `mean`.
        higher_is_better: The metric's direction.
        title: The metric in words, with its unit.
        search: How its settings were searched for, in words; "" where the store does not say.
        weighting: Name of the method's weighting; None for a method without one.
        from_predictions: Whether the report computed the metric itself, from predictions that the trials kept.
    """

    method: str
    dataset: str
    metric: str
    mean: float | None
    ci95: float | None
    n_splits: int
    n_trials: int
    n_failed: int
    selection: str
    train_seconds: float | None
    n_parameters: int | None
    draws: int
    refit: bool
    mean_without_refit: float | None
    gain: Gain | None
    reason: str | None
    by_split: Mapping[int, float] = field(repr=False)
    higher_is_better: bool
    title: str
    search: str
    weighting: str | None
    from_predictions: bool

    @property
    def method_alone(self) -> str:
        """The method's label without the weighting."""
        before, sign, after = self.method.partition(WITH)
        return self.method if self.weighting is None else before + (sign + after).removeprefix(WITH + self.weighting)


@dataclass(frozen=True)
class TaskRow:
    """One task of one row: the mean over splits of its test metric.

    Attributes:
        method: Label of the method.
        dataset: Label of the data set.
        metric: "name", or "name@part" for a further test part.
        task: Name of the task.
        mean: The mean.
        n_splits: Splits in the mean.
        title: The metric in words.
    """

    method: str
    dataset: str
    metric: str
    task: str
    mean: float
    n_splits: int
    title: str


@dataclass(frozen=True)
class Leaderboard:
    """All that a report says.

    Attributes:
        rows: By the data sets' report metrics; data sets in order of name, the best method first.
        other_metrics: The same methods by the data sets' further metrics, and by those that were asked for.
        per_task: By task, for metrics that have values per task.
        warnings: What a reader must know before believing the rows.
    """

    rows: tuple[Row, ...]
    other_metrics: tuple[Row, ...]
    per_task: tuple[TaskRow, ...]
    warnings: tuple[str, ...]

    def with_warning(self, text: str) -> Leaderboard:
        """The same with one more warning, the first of all; as it is for no text."""
        return replace(self, warnings=(text, *self.warnings)) if text else self


def leaderboard(
    found: Sequence[Entry],
    rule: str,
    methods: Sequence[str] = (),
    datasets: Sequence[str] = (),
    baseline: str | None = None,
) -> Leaderboard:
    """The leaderboard of cells in which a rule has selected.

    Args:
        found: The cells.
        rule: The rule's name, for the rows.
        methods: Show only these, by name or label; empty shows all. The baseline need not be among them.
        datasets: Likewise.
        baseline: What gains are measured against, by name or label; None for the first of `BASELINES` that a data set
            has.

    Raises:
        UnknownName: One of these is not in the store.
    """
    if baseline is not None:
        _only(found, [baseline], "method", method_names)
    found = _only(found, datasets, "data set", dataset_names)
    shown = _only(found, methods, "method", method_names)
    rows: list[Row] = []
    others: list[Row] = []
    rivals = {entry.dataset: _baselines(found, entry.dataset, [baseline] if baseline else BASELINES) for entry in shown}
    for entry in shown:
        rival = rivals[entry.dataset]
        against = rival[0] if len(rival) == 1 and rival[0] is not entry else None
        first, *more = entry.cell.test_metrics
        rows.append(_row(entry, first, rule, against))
        others += [_row(entry, metric, rule, against) for metric in more]
    rows.sort(key=_best_first)
    order = {(r.method, r.dataset): i for i, r in enumerate(rows)}
    return Leaderboard(
        tuple(rows),
        tuple(sorted(others, key=lambda r: (r.dataset, r.metric, order[r.method, r.dataset]))),
        tuple(row for entry in shown for metric in entry.cell.task_metrics for row in _task_rows(entry, metric)),
        (*cautions(shown), *_without_gains(rivals)),
    )


def _only(found: Sequence[Entry], wanted: Sequence[str], kind: str, names: Any) -> list[Entry]:
    known = {name for entry in found for name in names(entry)}
    for name in wanted:
        if name not in known:
            raise UnknownName.among(kind, name, known, where="in this store")
    return [entry for entry in found if not wanted or set(names(entry)) & set(wanted)]


def _baselines(found: Sequence[Entry], dataset: str, names: Sequence[str]) -> list[Entry]:
    """The cells on a data set of the first of these methods that has any: by its label, else by its name."""
    there = [e for e in found if e.dataset == dataset]
    return next(filter(None, (called(there, name, method_names) for name in names)), [])


def _without_gains(rivals: Mapping[str, Sequence[Entry]]) -> list[str]:
    """One sentence for each data set whose baseline could be any of several cells."""
    listed = {dataset: ", ".join(f"'{e.method}'" for e in found) for dataset, found in rivals.items() if len(found) > 1}
    return [
        f"{dataset}: gains could be over any of {cells}; --baseline names one." for dataset, cells in listed.items()
    ]


def _best_first(row: Row) -> tuple[str, bool, float, str]:
    score = 0.0 if row.mean is None else -row.mean if row.higher_is_better else row.mean
    return row.dataset, row.mean is None, score, row.method


def _row(entry: Entry, metric: str, rule: str, baseline: Entry | None) -> Row:
    cell, selected = entry.cell, entry.selected
    by_split = selected.by_split(metric)
    mean, ci95 = mean_and_interval(list(by_split.values())) if by_split else (None, None)
    without = selected.by_split_without_refit(metric) if selected.refit else by_split
    gain = paired(by_split, baseline.selected.by_split(metric)) if baseline else None
    counted = [t for t in cell.trials if t.status is not Status.SKIPPED]
    seconds = [t.train_seconds for t in cell.search if t.status is Status.FINISHED]
    sizes = [t.n_parameters for t in selected.final if t.n_parameters is not None]
    return Row(
        method=entry.method,
        dataset=entry.dataset,
        metric=metric,
        mean=mean,
        ci95=ci95,
        n_splits=len(by_split),
        n_trials=len(counted),
        n_failed=sum(t.status is not Status.FINISHED for t in counted),
        selection=rule,
        train_seconds=math.fsum(seconds) / len(seconds) if seconds else None,
        n_parameters=round(sum(sizes) / len(sizes)) if sizes else None,
        draws=min(cell.draws.values(), default=0),
        refit=selected.refit,
        mean_without_refit=mean_and_interval(list(without.values()))[0] if without else None,
        gain=Gain(baseline.method, *gain) if baseline and gain else None,
        reason=None if by_split else _no_score(cell, metric),
        by_split=by_split,
        higher_is_better=cell.higher_is_better(metric),
        title=cell.title(metric),
        search=in_words(cell),
        weighting=entry.weighting,
        from_predictions=cell.is_from_predictions(metric),
    )


def _no_score(cell: CellResults, metric: str) -> str:
    """Why a cell has no score by a metric: the commonest end of its trials, with its reason."""
    ends = Counter((t.status, t.reason) for t in cell.trials if t.status is not Status.FINISHED)
    finished = sum(t.status is Status.FINISHED for t in cell.search)
    if finished or not ends:
        return f"no finished trial has '{metric}' on the test part and a finite selection metric on the validation part"
    (status, reason), _ = min(ends.items(), key=lambda item: (-item[1], item[0]))
    # An exception's message may have line breaks, and a foreign store anything.
    plain = " ".join("".join(c if c.isprintable() else " " for c in reason).split())
    return f"{status}: {plain}" if plain else str(status)


def _task_rows(entry: Entry, metric: str) -> list[TaskRow]:
    by_task: dict[str, list[float]] = {}
    title = entry.cell.title(metric)
    for (_, task), value in entry.selected.by_task(metric).items():
        by_task.setdefault(task, []).append(value)
    return [
        TaskRow(entry.method, entry.dataset, metric, task, math.fsum(values) / len(values), len(values), title)
        for task, values in by_task.items()
    ]
