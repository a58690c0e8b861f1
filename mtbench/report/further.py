"""Further metrics of selected trials, computed from the test predictions that they kept.

Selection has happened before, by validation results: nothing here can change it.

Shapes: R trials of a stack, T tasks, n rows of a part, O or C outputs of a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mtbench.contracts.dataset import Dataset
from mtbench.contracts.trials import StackResult, canonical
from mtbench.errors import DataError, MtbenchError
from mtbench.metrics import Metric
from mtbench.report.entries import Entry
from mtbench.report.kept import results_of
from mtbench.report.problems import ByTrial, problems_of, values_of
from mtbench.store.scan import StackColumns
from mtbench.store.store import Store
from mtbench.tasks import Array


@dataclass(frozen=True, eq=False)
class Further:
    """The metrics that a report is to show beside those of its store, and what they are computed with.

    Attributes:
        metrics: By what they are asked for as: "name", or "name@part" for a further test part.
        dataset: From a name to the data set.
        root: The data root.
    """

    metrics: Mapping[str, Metric]
    dataset: Callable[[str], type[Dataset]]
    root: Path


@dataclass(eq=False)
class _Computed:
    """What cells have further metrics, and what these are.

    Attributes:
        shown: By the key of a cell, its further metrics, and whether each was computed here.
        values: By metric, those computed here: each trial's are [T], or [] of a joint metric.
        lacks: Sentences on what has no value.
    """

    shown: dict[str, dict[str, bool]] = field(default_factory=dict)
    values: dict[str, ByTrial] = field(default_factory=dict)
    lacks: list[str] = field(default_factory=list)


def with_further(
    stacks: Iterable[StackColumns], found: Sequence[Entry], further: Further, store: Store
) -> tuple[list[StackColumns], list[str]]:
    """The stacks of a store, with further metrics of the trials that are selected in some cells.

    A cell has a metric of all of its selected trials or of none: means over different splits would not compare.

    Args:
        stacks: All that is in the store.
        found: Cells, with what was selected in them.
        further: The metrics.
        store: Where the trials' predictions are.

    Returns:
        The stacks, ready to be gathered again, and a sentence for each thing that has no value.

    Raises:
        StoreError: A file cannot be read.
    """
    computed = _Computed()
    for members in _on_the_same_data(found):
        predictions = {name: _kept(members, name, store, computed) for name in further.metrics}
        try:
            _compute(members, predictions, further, computed)
        except MtbenchError as error:
            computed.lacks.append(f"{members[0].dataset}: nothing further can be computed: {error}")
    return [_extended(stack, further, computed) for stack in stacks], computed.lacks


def _on_the_same_data(found: Sequence[Entry]) -> list[list[Entry]]:
    groups: dict[str, list[Entry]] = {}
    for entry in found:
        cell = entry.cell.cell
        data = [cell.get(name) for name in ("dataset", "dataset_version", "options", "content")]
        groups.setdefault(canonical(data), []).append(entry)
    return list(groups.values())


def _kept(members: Sequence[Entry], name: str, store: Store, computed: _Computed) -> ByTrial:
    """Predictions, [n, O or C], of the selected trials of those cells in which all of them kept theirs.

    Cells that have the metric in the store are left out: it was measured when their trials were trained.
    """
    part = _part(name)
    found: ByTrial = {}
    without = []
    for entry in members:
        trials = entry.selected.final
        if name in entry.cell.test_metrics or not trials:
            continue
        if all(trial.values(name).size for trial in trials):
            computed.shown.setdefault(entry.cell.key, {})[name] = False
            continue
        results = results_of(store, trials)
        own = {t.candidate.id: _predictions(results[t.stack.path], t.row, part) for t in trials}
        if any(predictions is None for predictions in own.values()):
            without.append(entry.method)
        else:
            found |= {trial: predictions for trial, predictions in own.items() if predictions is not None}
    if without:
        computed.lacks.append(
            f"{members[0].dataset}: '{name}' has no value for {', '.join(without)}, whose selected trials kept no "
            f"predictions of the part '{part}'. Refits keep theirs (`run --refit`), and so do searches of one setting; "
            f"others do in a new store with `run --recipe {members[0].cell.dataset}.keep=all`."
        )
    return found


def _predictions(result: StackResult, row: int, part: str) -> Array | None:
    """Those of a trial, [n, O or C]; None where they were not kept, or were dropped by `mtbench store slim`."""
    rows = result.predictions.get(part)
    return None if rows is None or np.isnan(rows[row]).all() else rows[row]


def _compute(
    members: Sequence[Entry], predictions: Mapping[str, ByTrial], further: Further, computed: _Computed
) -> None:
    """Computes the metrics of cells on the same data.

    Raises:
        MtbenchError: There is no such data set, or it is not what trials were trained on.
    """
    wanted = {trial for own in predictions.values() for trial in own}
    trials = [t for entry in members for t in entry.selected.final if t.candidate.id in wanted]
    if not trials:
        return
    refused: set[str] = set()
    dataset = further.dataset(members[0].cell.dataset)()
    for problem in problems_of(trials, members[0].cell, dataset, further.root):
        here = {t.candidate.id for t in trials if t.candidate.split == problem.split}
        for name in (name for name in predictions if name not in refused):
            own = {trial: values for trial, values in predictions[name].items() if trial in here}
            try:
                computed.values.setdefault(name, {}).update(values_of(further.metrics[name], problem, _part(name), own))
            except DataError as error:
                refused.add(name)
                computed.lacks.append(str(error))
    for entry in members:
        mine = {t.candidate.id for t in entry.selected.final}
        for name in (name for name in predictions if name not in refused):
            if mine and mine <= predictions[name].keys():
                computed.shown.setdefault(entry.cell.key, {})[name] = True


def _extended(stack: StackColumns, further: Further, computed: _Computed) -> StackColumns:
    """A stack with the further metrics of its cell."""
    shown = computed.shown.get(stack.cell_key, {})
    if not shown or "report_metric" not in stack.provenance:
        return stack
    metrics = {part: dict(columns) for part, columns in stack.metrics.items()}
    for name in (name for name, is_computed in shown.items() if is_computed):
        values = [computed.values[name].get(trial) for trial in stack.ids]
        some = next((value for value in values if value is not None), None)
        if some is not None:
            blank = np.full(some.shape, math.nan)
            column = np.stack([blank if value is None else value for value in values])
            metrics.setdefault(_part(name), {})[name.partition("@")[0]] = column
    extended = replace(stack, metrics=metrics, provenance=_told(stack.provenance, shown, further))
    extended.counts = stack.counts
    return extended


def _told(provenance: Mapping[str, Any], shown: Mapping[str, bool], further: Further) -> dict[str, Any]:
    """A provenance that names further metrics."""
    about = dict(provenance.get("metrics", {}))
    for name, is_computed in shown.items():
        metric = further.metrics[name]
        about[name] = {"higher_is_better": metric.higher_is_better, "per_task": metric.per_task, "title": metric.title}
        about[name]["from_predictions"] = is_computed
    return {**provenance, "also_report": [*provenance.get("also_report", ()), *shown], "metrics": about}


def _part(name: str) -> str:
    """The test part that a metric is asked for on."""
    return name.partition("@")[2] or "test"
