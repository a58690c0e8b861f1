"""Predictions and metrics of R trials on the parts of their problems.

Shapes: R trials, n rows, O outputs, C the widest task's outputs, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mtbench.metrics import Metric
from mtbench.tasks import Array, Problem

_CHUNK = 2**22  # numbers an evaluation holds at once per layer: 16 MB in float32, which caches hold
_MOST = 2**25  # the same for wide models, which do more for every chunk, such as making weights of factors: 128 MB
_FEW = 256  # rows of a chunk below which that is worth it


@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows of a part that are evaluated at once.

    Attributes:
        rows: Which.
        per_task: As in `Batch`: not 0 where they are so many rows of each task, in the order of the tasks.
    """

    rows: slice | Array
    per_task: int = 0

    @property
    def n_rows(self) -> int:
        """How many."""
        return self.rows.stop - self.rows.start if isinstance(self.rows, slice) else len(self.rows)


Sweep = tuple[list[Chunk], Array | None]
"""Chunks that cover a part, and where in their predictions each of its rows is (None: in order)."""

Predictor = Callable[[Array, int, Chunk], Tensor]
"""(positions in the list of trials [r], position of their split, rows) -> predictions [r, rows, O or C]."""


class Evaluator:
    """Evaluates the trials of a stack, split by split.

    Args:
        problems: The U problems, one per split of the stack.
        split: Position of each trial's problem, int64 [R].
        width: Numbers the widest layer holds per row, which bounds how many rows go at once.
        by_task: Own layout: evaluate equally many rows of each task at a time, in the order of the tasks.
    """

    def __init__(self, problems: Sequence[Problem], split: Array, width: int, by_task: bool = False) -> None:
        self._problems, self._split, self._width = problems, split, max(width, 1)
        self._by_task = by_task
        self._sweeps: dict[tuple[int, str, int], Sweep] = {}

    def predictions(self, predict: Predictor, part: str, trials: Array) -> Array:
        """Predictions of some trials on a part, [len(trials), n, O or C]; splits must have equally many rows there."""
        result: Array | None = None
        for u in range(len(self._problems)):
            positions = np.flatnonzero(self._split[trials] == u)
            if not len(positions):
                continue
            chunks, place = self._sweep(u, part, self.rows_at_once(len(positions)))
            values = _swept(predict, positions, u, chunks).cpu().numpy()
            values = values if place is None else values[:, place]
            if result is None:
                result = np.empty((len(trials), *values.shape[1:]), values.dtype)
            result[positions] = values
            del values  # before the next split's are made
        assert result is not None, "there is at least one trial"
        return result

    def rows_at_once(self, n_trials: int) -> int:
        """The most rows that are predicted at once for so many trials of a split."""
        return _rows_at_once(self._width * n_trials)

    def swept_rows(self, part: str, n_trials: int) -> list[int]:
        """Rows of the chunks of a part, one after the other, for so many trials of a split."""
        return [chunk.n_rows for chunk in self._sweep(0, part, self.rows_at_once(n_trials))[0]]

    def metrics(self, metrics: Sequence[Metric], part: str, predictions: Array, trials: Array) -> dict[str, Array]:
        """Metrics of some trials on a part from their predictions, by name: [len(trials), T], or [len(trials)].

        A trial with a prediction that is not finite has NaN throughout: to leave out what it fails on would reward it.
        """
        values: dict[str, Array] = {}
        for metric in metrics:
            for u, problem in enumerate(self._problems):
                positions = np.flatnonzero(self._split[trials] == u)
                if len(positions):
                    found = metric.compute(problem, problem.parts[part], predictions[positions])
                    values.setdefault(metric.name, np.full((len(trials), *found.shape[1:]), np.nan))[positions] = found
        broken = ~finite_rows(predictions)
        for found in values.values():
            found[broken] = np.nan
        return values

    def _sweep(self, u: int, part: str, step: int) -> Sweep:
        if (u, part, step) not in self._sweeps:
            self._sweeps[u, part, step] = (_by_task if self._by_task else _in_order)(self._problems[u], part, step)
        return self._sweeps[u, part, step]


def _rows_at_once(width: int) -> int:
    """How many rows of so many numbers each go in one chunk."""
    return max(1, _CHUNK // width, min(_FEW, _MOST // width))


def _swept(predict: Predictor, positions: Array, u: int, chunks: Sequence[Chunk]) -> Tensor:
    """Predictions chunk by chunk: [r, rows of all chunks, O or C].

    Each is copied into its place at once. Kept apart, they would lie in memory between the large tensors that a chunk
    leaves free, and the next chunk would find no room there: of a LeNet's validation that takes gigabytes.
    """
    found, done = None, 0
    for chunk in chunks:
        values = predict(positions, u, chunk)
        if found is None:
            found = values.new_empty(len(positions), sum(c.n_rows for c in chunks), values.shape[2])
        found[:, done : done + chunk.n_rows] = values
        done += chunk.n_rows
        del values  # before the next chunk's are made
    assert found is not None, "a part has at least one row"
    return found


def _in_order(problem: Problem, part: str, step: int) -> Sweep:
    n_rows = problem.parts[part].n_rows
    return [Chunk(slice(a, min(a + step, n_rows))) for a in range(0, n_rows, step)], None


def _by_task(problem: Problem, part: str, step: int) -> Sweep:
    """Rows of all tasks side by side; the rows of short tasks are filled up with their own (or any) rows."""
    task = problem.parts[part].task
    if task is None:
        raise ValueError(f"{problem.dataset} has no rows that belong to one task.")
    own = [np.flatnonzero(task == t) for t in range(problem.n_tasks)]
    longest = max(len(rows) for rows in own)
    table = np.stack([np.resize(rows if len(rows) else np.zeros(1, np.int64), longest) for rows in own])
    width = max(1, step // len(own))
    chunks = [table[:, a : a + width] for a in range(0, longest, width)]
    places = np.empty(len(task), np.int64)
    before = 0
    for i, chunk in enumerate(chunks):
        t, column = np.nonzero(np.arange(chunk.shape[1]) + i * width < np.array([len(rows) for rows in own])[:, None])
        places[chunk[t, column]] = before + t * chunk.shape[1] + column
        before += chunk.size
    return [Chunk(chunk.reshape(-1), chunk.shape[1]) for chunk in chunks], places


def finite_rows(predictions: Array) -> Array:
    """Which trials have finite predictions only: [R, n, O] -> bool [R]."""
    return np.asarray(np.isfinite(predictions).all(axis=(1, 2)))
