"""Random problems of every kind and layout, and rows of one task by a metric."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mtbench import Part, Problem, Task, TaskKind
from mtbench.metrics import metric, prediction_width

N_TRIALS = 3


class Case:
    """A random problem with predictions of its test part, [R, n, O or C].

    Args:
        tasks: Its tasks.
        own: Whether each row belongs to one task.
        missing: The share of labels that are missing.
        n: Rows of a part.
        step: Outputs are multiples of it, so that some are equal.
        weighted: Whether rows and classes are.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        own: bool,
        missing: float,
        n: int = 120,
        step: float = 0.5,
        weighted: bool = False,
    ) -> None:
        self.weighted = weighted
        self.rng = np.random.default_rng(len(tasks) + 10 * own + int(100 * missing))
        self.tasks, self.own, self.missing, self.n = tuple(tasks), own, missing, n
        parts = {name: self._part() for name in ("train", "validation", "test")}
        self.problem = Problem("random", 0, self.tasks, parts)
        self.part = self.problem.parts["test"]
        width = prediction_width(self.problem, self.part)
        self.predictions = step * np.round(2 * self.rng.normal(size=(N_TRIALS, n, width)) / step)

    def _part(self) -> Part:
        inputs = np.zeros((self.n, 1), np.float32)
        columns = [self._labels(task) for task in self.tasks]
        if not self.own:
            labels = np.concatenate(columns, 1)
            labels[self.rng.random(labels.shape) < self.missing] = np.nan
            return Part(inputs, labels, None, self._weights())
        task = self.rng.integers(len(self.tasks), size=self.n)
        labels = np.full((self.n, max(c.shape[1] for c in columns)), np.nan)
        for t, values in enumerate(columns):
            labels[task == t, : values.shape[1]] = values[task == t]
        labels[self.rng.random(labels.shape) < self.missing] = np.nan
        return Part(inputs, labels, task, self._weights())

    def _weights(self) -> np.ndarray | None:
        """Weights of rows, a tenth of them 0."""
        if not self.weighted:
            return None
        return np.where(self.rng.random(self.n) < 0.1, 0.0, self.rng.integers(1, 6, self.n) / 2)

    def weights_of(self, t: int, part: Part | None = None) -> np.ndarray:
        """What each row of a task counts for, row by row as in `of_task`, by the data set's words: [n_t]."""
        part = self.part if part is None else part
        weights = np.ones(self.n) if part.sample_weight is None else part.sample_weight
        weights = weights[part.task == t] if self.own else weights
        if self.tasks[t].class_weights is None:
            return weights
        labels = self._labels_of(part, t)[:, 0]
        return weights * np.array(self.tasks[t].class_weights)[np.nan_to_num(labels).astype(int)]

    def _labels(self, task: Task) -> np.ndarray:
        if task.kind is TaskKind.REGRESSION:
            spread = 10.0 ** np.arange(task.n_outputs)
            return 3 + spread * self.rng.normal(size=(self.n, task.n_outputs))
        if task.kind is TaskKind.MULTICLASS:
            return self.rng.integers(task.n_outputs, size=(self.n, 1)).astype(float)
        return (self.rng.random((self.n, task.n_labels)) < 0.3).astype(float)

    def values(self, name: str) -> np.ndarray:
        """What a metric gives: [R, T]."""
        found = metric(name).compute(self.problem, self.part, self.predictions)
        assert found.dtype == np.float64
        return found

    def of_task(self, r: int, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Outputs [n_t, C_t], labels [n_t, D_t] and training labels of a task, row by row; NaN where one is missing."""
        outputs = self.predictions[r]
        start = 0 if self.own else self.problem.output_slices[t].start
        outputs = outputs[:, start : start + self.tasks[t].n_outputs]
        rows = np.flatnonzero(self.part.task == t) if self.own else np.arange(self.n)
        return outputs[rows], self._labels_of(self.part, t), self._labels_of(self.problem.parts["train"], t)

    def _labels_of(self, part: Part, t: int) -> np.ndarray:
        if not self.own:
            return part.labels[:, self.problem.label_slices[t]].astype(float)
        return part.labels[part.task == t, : self.tasks[t].n_labels].astype(float)

    def each(self):
        """(trial, task, outputs, labels, training labels) of every trial and task."""
        for r in range(N_TRIALS):
            for t in range(len(self.tasks)):
                yield r, t, *self.of_task(r, t)


REGRESSION = (Task("a", "regression"), Task("b", "regression", 3), Task("c", "regression"))
BINARY = (Task("d", "binary"), Task("e", "binary"))
MULTICLASS = (Task("f", "multiclass", 3), Task("g", "multiclass", 5))
MULTILABEL = (Task("h", "multilabel", 4), Task("i", "multilabel", 2))

LAYOUTS = [(own, missing) for own in (False, True) for missing in (0.0, 0.3)]


@pytest.fixture(params=LAYOUTS, ids=lambda p: f"{'own' if p[0] else 'shared'}-{p[1]}-missing")
def layout(request):
    return request.param


@pytest.fixture
def regression(layout):
    return Case(REGRESSION, *layout)


@pytest.fixture
def classes(layout):
    return Case(BINARY + MULTICLASS + MULTILABEL, *layout, n=300)


@pytest.fixture
def small():
    """Makes what a metric gives on a few rows of one task, by hand: [T]."""

    def run(name, kind, labels, outputs, trained=None, n_outputs=None):
        labels, outputs = np.array(labels, float), np.array(outputs, float)
        labels, outputs = (a.reshape(len(a), -1) for a in (labels, outputs))
        trained = labels if trained is None else np.array(trained, float).reshape(-1, labels.shape[1])
        task = Task("a", kind, n_outputs or outputs.shape[1])
        part, train = (Part(np.zeros((len(y), 1)), y) for y in (labels, trained))
        problem = Problem("small", 0, (task,), {"train": train, "validation": part, "test": part})
        return metric(name).compute(problem, problem.parts["test"], outputs[None])[0, 0]

    return run


@pytest.fixture
def case_of():
    """Makes a `Case`."""
    return Case
