"""Predictions and metrics of R trials on the parts of their problems.

Shapes: R trials, n rows, O outputs, C the widest task's outputs, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mtbench.dataset import Dataset
from mtbench.metrics import metric, split_name
from mtbench.tasks import Array, Problem

_CHUNK = 2**23  # numbers an evaluation holds at once per layer, about 32 MB in float32

Predictor = Callable[[Array, int, slice], Tensor]
"""(positions in the list of trials [r], position of their split, rows) -> predictions [r, rows, O or C]."""


class Evaluator:
    """Evaluates the trials of a stack, split by split.

    Args:
        problems: The U problems, one per split of the stack.
        split: Position of each trial's problem, int64 [R].
        width: Numbers the widest layer holds per row, which bounds how many rows go at once.
    """

    def __init__(self, problems: Sequence[Problem], split: Array, width: int) -> None:
        self._problems, self._split, self._width = problems, split, max(width, 1)

    def predictions(self, predict: Predictor, part: str, trials: Array) -> Array:
        """Predictions of some trials on a part, [len(trials), n, O or C]; splits must have equally many rows there."""
        found: list[tuple[Array, Array]] = []
        for u, problem in enumerate(self._problems):
            positions = np.flatnonzero(self._split[trials] == u)
            if not len(positions):
                continue
            n_rows = problem.parts[part].n_rows
            step = max(1, min(n_rows, _CHUNK // (self._width * len(positions))))
            chunks = [predict(positions, u, slice(a, min(a + step, n_rows))) for a in range(0, n_rows, step)]
            found.append((positions, torch.cat(chunks, 1).cpu().numpy()))
        result = np.empty((len(trials), *found[0][1].shape[1:]), found[0][1].dtype)
        for positions, values in found:
            result[positions] = values
        return result

    def metrics(self, names: Sequence[str], part: str, predictions: Array, trials: Array) -> dict[str, Array]:
        """Metrics of some trials on a part from their predictions, by name: [len(trials), T], or [len(trials)].

        A trial with a prediction that is not finite has NaN throughout: to leave out what it fails on would reward it.
        """
        values: dict[str, Array] = {}
        broken = ~finite_rows(predictions)
        for name in names:
            compute = metric(name).compute
            for u, problem in enumerate(self._problems):
                positions = np.flatnonzero(self._split[trials] == u)
                if len(positions):
                    found = compute(problem, problem.parts[part], predictions[positions])
                    values.setdefault(name, np.full((len(trials), *found.shape[1:]), np.nan))[positions] = found
            values[name][broken] = np.nan
        return values


def finite_rows(predictions: Array) -> Array:
    """Which trials have finite predictions only: [R, n, O] -> bool [R]."""
    return np.asarray(np.isfinite(predictions).all(axis=(1, 2)))


def metrics_by_part(dataset: Dataset, problem: Problem) -> Mapping[str, list[str]]:
    """Which metrics are computed on which part of a data set's problems."""
    wanted: dict[str, list[str]] = {"validation": [dataset.selection_metric]}
    for name in (dataset.report_metric, dataset.selection_metric, *dataset.also_report):
        found, part = split_name(name)
        for where in {"validation", part} if part == "test" else {part}:
            names = wanted.setdefault(where, [])
            if found.name not in names:
                names.append(found.name)
    unknown = set(wanted) - set(problem.parts)
    if unknown:
        raise ValueError(f"{dataset.name} reports on parts {sorted(unknown)} that its problems do not have.")
    return wanted
