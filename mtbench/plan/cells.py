"""Trials as a report sees them: gathered from stack files, each trial once, grouped by variant of a cell.

Shapes: R trials of a stack, T tasks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mtbench.contracts.trials import Status
from mtbench.metrics import mean_over_tasks
from mtbench.plan.selection import Candidate, Setting
from mtbench.tasks import Array
from mtbench.tasks.weights import in_words

if TYPE_CHECKING:
    from mtbench.store.scan import StackColumns


@dataclass(frozen=True, slots=True, eq=False)
class TrialRow:
    """One trial, and where its metrics are: row `row` of the columns of `stack`."""

    candidate: Candidate
    phase: str
    epochs: int | None
    status: Status
    reason: str
    train_seconds: float
    n_parameters: int | None
    stack: StackColumns
    row: int

    def value(self, metric: str) -> float:
        """Headline of a test metric, "name" or "name@part": its mean over tasks; NaN where there is none."""
        return _headlines(self.values(metric)[None], 1, self.stack.provenance)[0]

    def values(self, metric: str) -> Array:
        """A test metric per task, [T], or [1] for a joint metric; empty where there is none."""
        name, _, part = metric.partition("@")
        column = self.stack.metrics.get(part or "test", {}).get(name)
        return np.empty(0) if column is None else np.atleast_1d(column[self.row])

    @property
    def residual(self) -> float:
        """How far from optimal its solver ended; NaN where it does not say."""
        return math.nan if self.stack.residual is None else float(self.stack.residual[self.row])

    @property
    def tolerance(self) -> float:
        """The residual at which its method calls a problem solved; NaN where it does not say."""
        tolerance = self.stack.provenance.get("tolerance")
        return tolerance if isinstance(tolerance, float) else math.nan

    @property
    def solved(self) -> bool:
        """Whether its solver got to where its method says that the problem is solved, or states no such place."""
        return not self.residual > self.tolerance


@dataclass(frozen=True, eq=False)
class CellResults:
    """All trials of one variant of a cell.

    Attributes:
        key: `mtbench.contracts.trials.Cell.key`: method, data set, versions, options, content and recipe.
        cell: The same, parsed.
        trials: Each trial once, in order of id.
        provenance: Of one of its stacks: metrics, task names and the like, equal for all of them.
    """

    key: str
    cell: Mapping[str, Any]
    trials: tuple[TrialRow, ...]
    provenance: Mapping[str, Any]

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.cell["method"])

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return str(self.cell["dataset"])

    @property
    def is_base(self) -> bool:
        """Whether its trials were trained for others to start from, not to be compared."""
        return self.cell.get("role") == "base"

    @cached_property
    def search(self) -> tuple[TrialRow, ...]:
        """Its search trials that had the whole budget, without those skipped."""
        return tuple(t for t in self.trials if t.phase == "search" and t.status is not Status.SKIPPED)

    @cached_property
    def rungs(self) -> tuple[TrialRow, ...]:
        """Those of its search that were to show whether they are worth going on with."""
        return tuple(t for t in self.trials if t.phase == "rung")

    @cached_property
    def refits(self) -> Mapping[tuple[Setting, int, int], tuple[TrialRow, ...]]:
        """Its refits by setting, split and seed."""
        found: dict[tuple[Setting, int, int], list[TrialRow]] = {}
        for trial in self.trials:
            if trial.phase == "refit":
                c = trial.candidate
                found.setdefault((c.setting, c.split, c.seed), []).append(trial)
        return {at: tuple(rows) for at, rows in found.items()}

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """What selection may see of the search."""
        return tuple(trial.candidate for trial in self.search)

    @cached_property
    def draws(self) -> Mapping[int, int]:
        """Settings the search tried in each split, failed ones and those that left at a rung included."""
        tried: dict[int, set[Setting]] = {}
        for candidate in (*self.candidates, *(trial.candidate for trial in self.rungs)):
            tried.setdefault(candidate.split, set()).add(candidate.setting)
        return {split: len(settings) for split, settings in sorted(tried.items())}

    @property
    def test_metrics(self) -> tuple[str, ...]:
        """The report metric, then those also reported; "" stands for one the store does not name."""
        return (self.provenance.get("report_metric", ""), *self.provenance.get("also_report", ()))

    @property
    def task_metrics(self) -> tuple[str, ...]:
        """The metrics of which there may be values per task: `test_metrics`, and those of single kinds of tasks."""
        of_kinds = self.provenance.get("metric_by_kind", {}).values()
        return tuple(dict.fromkeys((*self.test_metrics, *of_kinds)))

    def higher_is_better(self, metric: str) -> bool:
        """The direction of a metric; False where the store does not say."""
        return bool(_about(self.provenance, metric).get("higher_is_better", False))

    def title(self, metric: str) -> str:
        """A metric in words, with its unit."""
        part = metric.partition("@")[2]
        title = str(_about(self.provenance, metric).get("title", metric.partition("@")[0]))
        weights = self.provenance.get("weights", ())
        title += f", with {in_words(weights)} weights" if weights else ""
        return f"{title}, on {part}" if part else title

    def is_from_predictions(self, metric: str) -> bool:
        """Whether a report computed the metric itself, from predictions that trials kept."""
        return bool(_about(self.provenance, metric).get("from_predictions", False))


def gather(stacks: Iterable[StackColumns]) -> list[CellResults]:
    """Trials by variant of their cell, each trial once, in order of data set, method and key."""
    groups: dict[str, list[StackColumns]] = {}
    for stack in stacks:
        groups.setdefault(stack.cell_key, []).append(stack)
    spare = {
        stack.cell["dataset"]: stack.provenance
        for members in groups.values()
        for stack in members
        if "report_metric" in stack.provenance
    }
    cells = [_cell(key, members, spare) for key, members in groups.items()]
    return sorted(cells, key=lambda c: (c.dataset, c.method, c.key))


def _cell(key: str, stacks: Sequence[StackColumns], spare: Mapping[str, Mapping[str, Any]]) -> CellResults:
    """A cell; where none of its trials lived to write its provenance, that of another cell of the data set serves."""
    cell = stacks[0].cell
    full = [stack.provenance for stack in stacks if "report_metric" in stack.provenance]
    provenance = full[0] if full else spare.get(cell["dataset"], {})
    trials = [trial for stack in stacks for trial in _rows(stack, provenance.get("selection_metric", ""))]
    return CellResults(key, cell, tuple(sorted(trials, key=lambda t: t.candidate.id)), provenance)


def _rows(stack: StackColumns, selection_metric: str) -> Iterable[TrialRow]:
    n = len(stack.ids)
    validation = _headlines(stack.metrics.get("validation", {}).get(selection_metric), n, stack.provenance)
    best_epoch = [-1] * n if stack.best_epoch is None else stack.best_epoch.tolist()
    seconds = [math.nan] * n if stack.train_seconds is None else stack.train_seconds.tolist()
    sizes = [None] * n if stack.n_parameters is None else stack.n_parameters.tolist()
    epochs = stack.epochs.tolist()
    settings = _settings(stack.params, n)
    for row in np.flatnonzero(stack.counts).tolist():
        status = Status(stack.status[row])
        score = validation[row] if status is Status.FINISHED else math.nan
        yield TrialRow(
            Candidate(
                stack.ids[row], settings[row], int(stack.split[row]), int(stack.seed[row]), score, best_epoch[row]
            ),
            stack.phase[row],
            None if epochs[row] < 0 else epochs[row],
            status,
            stack.reason[row],
            seconds[row],
            sizes[row],
            stack,
            row,
        )


def _settings(params: Mapping[str, Array], n: int) -> list[Setting]:
    """The hyperparameters of each of a stack's n trials."""
    names = sorted(params)
    if not names:
        return [()] * n
    columns = [params[name].tolist() for name in names]
    return [tuple(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _headlines(values: Array | None, n: int, provenance: Mapping[str, Any]) -> list[float]:
    """Of a metric's column [R, T] or [R], one number per trial; NaN where it was not measured."""
    if values is None:
        return [math.nan] * n
    weights, columns = provenance.get("task_weights"), values.reshape(len(values), -1)
    weighted = weights is not None and len(weights) == columns.shape[1]
    means: list[float] = mean_over_tasks(columns, np.array(weights) if weighted else None).tolist()
    return means


def _about(provenance: Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    known = provenance.get("metrics", {})
    return known.get(metric) or known.get(metric.partition("@")[0]) or {}
