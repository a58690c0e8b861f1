"""Miniature data sets: every layout and kind of task, small enough to train on in a blink, easy enough to learn.

They are data sets like any other, so tests can hand them to whatever takes one. Their recipe computes in float64 and
keeps everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mtbench.contracts.dataset import Dataset
from mtbench.contracts.method import Method
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.reference import Reference
from mtbench.contracts.seeds import seed_from
from mtbench.contracts.trials import Cell, Trial
from mtbench.contracts.values import Value
from mtbench.data.splits import draw_by_group
from mtbench.plan.grid import hyperparameters
from mtbench.tasks import Array, Part, Problem, Rows, Task, TaskKind, Weight

N_FEATURES = 5
RECIPE = Recipe(hidden=8, learning_rate=0.02, batch_size=16, max_epochs=15, keep="all", dtype="float64")

_PART_ROWS = {"train": 40, "validation": 20, "test": 20}


class Miniature(Dataset):
    """A generated data set of few rows; subclasses say what they generate."""

    licence = "generated"
    citation = Reference("Miniature data sets for contract tests", "mtbench")
    self_contained = True
    recipe = RECIPE
    n_splits = 3
    default_splits = 2
    tasks: ClassVar[tuple[Task, ...]]

    def load(self, root: Path, split: int, options: Any) -> Problem:
        """One split; `root` is not looked at."""
        self.check_split(split)
        rng = np.random.default_rng(seed_from(self.name, split))
        return Problem(self.name, split, self.tasks, self.generate(rng))

    def generate(self, rng: np.random.Generator) -> Mapping[str, Part]:
        """The parts of one split."""
        raise NotImplementedError


class SharedOneVsAll(Miniature):
    """Shared inputs, three binary tasks: which of three clusters a row belongs to."""

    name = "miniature_one_vs_all"
    title = "Three clusters, one-vs-all"
    selection_metric = report_metric = "one_vs_all_error"
    tasks = tuple(Task(f"is_{c}", TaskKind.BINARY) for c in "abc")

    def generate(self, rng: np.random.Generator) -> Mapping[str, Part]:
        """Rows around three centres."""
        centres = 2.0 * np.eye(3, N_FEATURES)

        def part(n: int) -> Part:
            classes = np.arange(n) % 3
            inputs = centres[classes] + 0.5 * rng.normal(size=(n, N_FEATURES))
            return Part(inputs.astype(np.float32), np.eye(3, dtype=np.float32)[classes])

        return {name: part(n) for name, n in _PART_ROWS.items()}


class SharedRegression(Miniature):
    """Shared inputs, four related regression tasks, a fifth of the labels missing."""

    name = "miniature_missing_labels"
    title = "Related regression tasks with missing labels"
    selection_metric = report_metric = "rmse"
    tasks = tuple(Task(f"target_{t}", TaskKind.REGRESSION) for t in range(4))
    missing: ClassVar[float] = 0.2

    def generate(self, rng: np.random.Generator) -> Mapping[str, Part]:
        """Rows, labels of all tasks, and gaps in them."""
        W = _related_weights(rng, len(self.tasks))

        def part(n: int) -> Part:
            inputs = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
            labels = (inputs @ W + 0.1 * rng.normal(size=(n, len(self.tasks)))).astype(np.float32)
            labels[rng.uniform(size=labels.shape) < self.missing] = np.nan
            return Part(inputs, labels)

        return {name: part(n) for name, n in _PART_ROWS.items()}


class CompleteRegression(SharedRegression):
    """The same with all labels, for methods that cannot do without."""

    name = "miniature_complete_labels"
    title = "Related regression tasks"
    missing = 0.0


class OwnRegression(Miniature):
    """Own inputs, four related regression tasks of very unequal size."""

    name = "miniature_ragged"
    title = "Related regression tasks of unequal size"
    selection_metric = report_metric = "rmse"
    tasks = tuple(Task(f"group_{t}", TaskKind.REGRESSION) for t in range(4))

    def generate(self, rng: np.random.Generator) -> Mapping[str, Part]:
        """Rows of each task, one task after the other."""
        W = _related_weights(rng, len(self.tasks))

        def labels(inputs: Array, task: Array) -> Array:
            return np.asarray(np.einsum("nd,dn->n", inputs, W[:, task]) + 0.1 * rng.normal(size=len(task)))

        return {name: _own_part(rng, n, (0.5, 0.25, 0.15, 0.1), labels) for name, n in _PART_ROWS.items()}


class OwnMulticlass(Miniature):
    """Own inputs, three multiclass tasks of two, three and four classes."""

    name = "miniature_multiclass"
    title = "Multiclass tasks of unequal width"
    selection_metric = report_metric = "error"
    tasks = tuple(Task(f"alphabet_{c}", TaskKind.MULTICLASS, c) for c in (2, 3, 4))

    def generate(self, rng: np.random.Generator) -> Mapping[str, Part]:
        """Rows of each task, their class the largest of the first C_t features."""
        widths = np.array([task.n_outputs for task in self.tasks])

        def labels(inputs: Array, task: Array) -> Array:
            real = np.arange(N_FEATURES) < widths[task][:, None]
            return np.asarray(np.where(real, inputs, -np.inf).argmax(1))

        return {name: _own_part(rng, n, (0.4, 0.35, 0.25), labels) for name, n in _PART_ROWS.items()}


class MixedKinds(Miniature):
    """Shared inputs, two regressions, two binary tasks and a multiclass task, with a metric for each kind."""

    name = "miniature_mixed"
    title = "Tasks of three kinds on the same rows"
    metric_by_kind: ClassVar[Mapping[str, str]] = {"regression": "rmse", "binary": "auc", "multiclass": "error"}
    tasks = (
        Task("value_0", TaskKind.REGRESSION),
        Task("sign_0", TaskKind.BINARY),
        Task("largest", TaskKind.MULTICLASS, 3),
        Task("value_1", TaskKind.REGRESSION),
        Task("sign_1", TaskKind.BINARY),
    )

    def generate(self, rng: np.random.Generator) -> Mapping[str, Part]:
        """Rows, noisy linear values of them, and the signs and the largest of such values."""
        W = _related_weights(rng, 5)

        def part(n: int) -> Part:
            inputs = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
            values = inputs @ W + 0.1 * rng.normal(size=(n, 5))
            labels = [values[:, 0], values[:, 1] > 0, inputs[:, :3].argmax(1), values[:, 3], values[:, 4] > 0]
            return Part(inputs, np.stack(labels, 1).astype(np.float32))

        return {name: part(n) for name, n in _PART_ROWS.items()}


class WeightedKinds(MixedKinds):
    """The same, with weights of rows, of classes and of tasks."""

    name = "miniature_weighted"
    title = "Weighted tasks of three kinds on the same rows"

    def load(self, root: Path, split: int, options: Any) -> Problem:
        """One split; `root` is not looked at."""
        return with_weights(super().load(root, split, options))


class SharedImages(Miniature):
    """Shared inputs, three binary tasks on colour images: which of three patterns an image shows."""

    name = "miniature_images"
    title = "Three patterns in colour, one-vs-all"
    recipe = replace(RECIPE, backbone="conv4", max_epochs=8)
    selection_metric = report_metric = "one_vs_all_error"
    tasks = tuple(Task(f"shows_{c}", TaskKind.BINARY) for c in "abc")

    def generate(self, rng: np.random.Generator) -> Mapping[str, Part]:
        """Rows [3, 16, 16] of an array that all splits share."""
        images, classes = _images(self.name, 3, (3,))
        drawn = _drawn_images(rng, classes)
        return {name: Part(Rows(images, rows), np.eye(3, dtype=np.float32)[classes[rows]]) for name, rows in drawn}


class OwnImages(Miniature):
    """Own inputs, three multiclass tasks of two, three and four patterns each, on grey images."""

    name = "miniature_alphabets"
    title = "Alphabets of few patterns"
    recipe = replace(RECIPE, backbone="conv4", max_epochs=8)
    selection_metric = report_metric = "error"
    tasks = tuple(Task(f"alphabet_{c}", TaskKind.MULTICLASS, c) for c in (2, 3, 4))

    def generate(self, rng: np.random.Generator) -> Mapping[str, Part]:
        """Rows [16, 16] of an array that all splits share."""
        widths = np.array([task.n_outputs for task in self.tasks])
        images, patterns = _images(self.name, int(widths.sum()), ())
        task = np.repeat(np.arange(len(widths)), widths)[patterns]
        labels = (patterns - (np.cumsum(widths) - widths)[task])[:, None].astype(np.float32)
        drawn = _drawn_images(rng, patterns)
        return {name: Part(Rows(images, rows), labels[rows], task[rows]) for name, rows in drawn}


MINIATURES: tuple[type[Miniature], ...] = (SharedOneVsAll, SharedRegression, OwnRegression, OwnMulticlass)


def with_weights(problem: Problem, unweighted: Sequence[Weight] = ()) -> Problem:
    """The problem with weights of rows, of classes and of tasks.

    Args:
        problem: The problem.
        unweighted: Weights that it is not to have.
    """

    def weighed(t: int, task: Task) -> Task:
        n = {TaskKind.BINARY: 2, TaskKind.MULTICLASS: task.n_outputs}.get(task.kind, 0)
        classes = None if Weight.CLASS in unweighted or not n else tuple(1.0 + (t + c) % 3 for c in range(n))
        return replace(task, class_weights=classes, weight=1.0 if Weight.TASK in unweighted else 1.0 + t)

    def part(one: Part) -> Part:
        return replace(one, sample_weight=None if Weight.SAMPLE in unweighted else (7 * np.arange(one.n_rows) % 5) / 2)

    tasks = tuple(weighed(t, task) for t, task in enumerate(problem.tasks))
    return replace(problem, tasks=tasks, parts={name: part(one) for name, one in problem.parts.items()})


def miniature_trials(
    method: Method,
    dataset: Dataset,
    settings: Sequence[Mapping[str, Value]] = ({},),
    splits: Sequence[int] = (0,),
    epochs: int | None = None,
) -> list[Trial]:
    """Trials of a method on a data set, split by split.

    Args:
        method: The method.
        dataset: The data set, with its default options.
        settings: Hyperparameters that differ from their defaults, one mapping per setting.
        splits: Splits to train on.
        epochs: As in `Trial`; a number makes them refits.
    """
    defaults = {name: h.default for name, h in hyperparameters(type(method), dataset.recipe).items()}
    content = dataset.content_hash(Path(), dataset.Options())
    cell = Cell(method.name, method.version, "test", dataset.name, dataset.version, {}, content, dataset.recipe)
    if epochs is not None and not method.in_epochs:
        epochs = 0  # nothing to repeat
    return [Trial(cell, {**defaults, **changed}, split, 0, epochs) for split in splits for changed in settings]


@cache
def _images(name: str, n_patterns: int, channels: tuple[int, ...]) -> tuple[Array, Array]:
    """Sixteen noisy images [N, *channels, 16, 16] of each pattern, and the pattern of each [N]."""
    rng = np.random.default_rng(seed_from(name, "images"))
    coarse = rng.integers(0, 2, (n_patterns, *channels, 4, 4))
    patterns = np.repeat(np.arange(n_patterns), 16)
    bright = coarse.repeat(4, axis=-2).repeat(4, axis=-1)[patterns]
    images = np.clip(40 + 160 * bright + 20 * rng.normal(size=bright.shape), 0, 255).astype(np.uint8)
    return images, patterns


def _drawn_images(rng: np.random.Generator, patterns: Array) -> list[tuple[str, Array]]:
    """The rows of each part: of every pattern eight train, four validate, four test."""
    return list(zip(_PART_ROWS, draw_by_group(patterns, (8, 4), rng), strict=True))


def _related_weights(rng: np.random.Generator, n_tasks: int) -> Array:
    """Weights [d, T] around one that all tasks share."""
    return np.asarray(rng.normal(size=(N_FEATURES, 1)) + 0.3 * rng.normal(size=(N_FEATURES, n_tasks)))


def _own_part(
    rng: np.random.Generator, n_rows: int, shares: Sequence[float], labels: Callable[[Array, Array], Array]
) -> Part:
    """Rows of tasks that hold these shares of them: inputs are normal, labels [n] a function of inputs and task."""
    sizes = np.round(n_rows * np.array(shares)).astype(int)
    task = np.repeat(np.arange(len(shares)), sizes)
    inputs = rng.normal(size=(len(task), N_FEATURES)).astype(np.float32)
    return Part(inputs, labels(inputs, task)[:, None].astype(np.float32), task)
