"""The problems that stored trials were trained on, loaded again, and metrics of the trials' predictions on them.

Shapes: T tasks, n rows of a part, O or C outputs of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtbench.contracts.dataset import Dataset
from mtbench.errors import DataError, MtbenchError
from mtbench.metrics import Metric
from mtbench.plan.cells import CellResults, TrialRow
from mtbench.plugins.loading import is_known_by_content, load_split
from mtbench.plugins.sources import describe_fault
from mtbench.tasks import Array, Problem
from mtbench.tasks.fingerprint import fingerprint

ByTrial = dict[str, Array]
"""Arrays by id of a trial."""


def problems_of(trials: Sequence[TrialRow], cell: CellResults, dataset: Dataset, root: Path) -> Iterator[Problem]:
    """The splits of trials, one by one, each the same as what they were trained on.

    Args:
        trials: Trials on the same data.
        cell: One of their cells, which says by which options.
        dataset: The data set.
        root: The data root.

    Raises:
        DataError: The data set cannot be loaded, or gives something else.
    """
    try:
        options = dataset.Options(**cell.cell["options"])
    except TypeError:
        raise DataError(f"{dataset.name} must have the options {', '.join(cell.cell['options'])}.") from None
    for split in sorted({trial.candidate.split for trial in trials}):
        problem = load_split(dataset, root, split, options)
        recorded = [trial.stack.content.get(split) for trial in trials if trial.candidate.split == split]
        found = fingerprint(problem)
        same = all(content is None or found.is_like(content) for content in recorded)
        if None in recorded:
            same = same and _declares(dataset, options, cell.cell, root)
        if not same:
            raise DataError(f"split {split} of {dataset.name} is not what the trials of this store were trained on.")
        yield problem


def _declares(dataset: Dataset, options: Any, cell: Mapping[str, Any], root: Path) -> bool:
    """Whether a data set says that it is the one of a cell, of which no trial tells what it was trained on."""
    same = dataset.version == cell["dataset_version"] and not is_known_by_content(dataset)
    return same and dataset.content_hash(root, options) == cell["content"]


def values_of(metric: Metric, problem: Problem, part: str, predictions: ByTrial) -> ByTrial:
    """What a metric gives for each trial.

    Args:
        metric: The metric.
        problem: The problem that the trials predict.
        part: Name of the part.
        predictions: By trial, [n, O or C].

    Returns:
        By trial: [T], or [] of a joint metric.

    Raises:
        DataError: The metric needs other tasks or labels, or is at fault.
    """
    shape = (1, problem.n_tasks) if metric.per_task else (1,)
    where = f"{problem.dataset}: metric '{metric.name}'"
    found: ByTrial = {}
    for trial, own in predictions.items():
        try:
            values = metric.compute(problem, problem.parts[part], own[None])
        except MtbenchError:
            raise
        except Exception as error:  # of a plugin
            raise DataError(f"{where} failed: {describe_fault(error)}") from error
        if np.shape(values) != shape:
            raise DataError(f"{where} must give values of shape {list(shape)}; found {list(np.shape(values))}.")
        found[trial] = values[0]
    return found
