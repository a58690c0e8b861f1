"""Metrics: arrays per task, from predictions of many trials at once. numpy only, so that reports stay light.

Shapes: R trials, n rows, O outputs of all tasks, C the widest task's outputs, T tasks. Predictions are [R, n, O] in the
shared layout and [R, n, C] (each row the outputs of its own task) in the own layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mtbench.errors import DataError, UnknownName
from mtbench.tasks import Array, Layout, Part, Problem, TaskKind


@dataclass(frozen=True)
class Metric:
    """How good predictions are.

    Attributes:
        name: As in reports and stores.
        title: In words, with the unit.
        higher_is_better: Its direction.
        per_task: Whether it gives [R, T] (its headline is the mean over tasks) or one number a trial, [R].
        by_task: Whether a task's value depends on that task's predictions alone.
        compute: (problem, part, predictions) -> [R, T] or [R], float64; NaN for a task without labelled rows.
    """

    name: str
    title: str
    higher_is_better: bool
    per_task: bool
    compute: Callable[[Problem, Part, Array], Array]
    by_task: bool = True

    def improves(self, values: Array, best: Array) -> Array:
        """Whether values are better than the best so far, elementwise; any number is better than none (NaN)."""
        sign = 1.0 if self.higher_is_better else -1.0
        return np.asarray(np.isnan(best) | (sign * values > sign * best))

    def headline(self, values: Array) -> Array:
        """One number per trial: the mean over tasks [R, T] -> [R] that have a value, or the values as they are."""
        return mean_over_tasks(values) if self.per_task else values


def mean_over_tasks(values: Array) -> Array:
    """The mean over the tasks that have a value: [R, T] -> [R]; NaN where none has."""
    counted = (~np.isnan(values)).sum(-1)
    total = np.nansum(values, -1)
    return np.asarray(np.divide(total, counted, out=np.full(total.shape, np.nan), where=counted > 0))


def _task_blocks(problem: Problem, part: Part, predictions: Array) -> list[tuple[Array, Array]]:
    """Labelled rows of each task: predictions [R, n_t, C_t] and labels [n_t, D_t]."""
    blocks = []
    for t, task in enumerate(problem.tasks):
        if part.task is None:
            labels = part.labels[:, problem.label_slices[t]]
            rows, own = ~np.isnan(labels[:, 0]), predictions[:, :, problem.output_slices[t]]
            full = bool(rows.all())
            blocks.append((own if full else own[:, rows], labels if full else labels[rows]))
        else:
            rows = part.task == t
            blocks.append((predictions[:, rows, : task.n_outputs], part.labels[rows, : task.n_labels]))
    return blocks


def _squared_error_sums(problem: Problem, part: Part, predictions: Array) -> tuple[Array, Array]:
    """Sum of squared errors [R, T] and number of labelled values [T]."""
    if not problem.only(TaskKind.REGRESSION):
        raise DataError(f"{problem.dataset}: this metric needs regression tasks only.")
    if part.task is not None and predictions.shape[2] == 1:
        # All tasks have one output: one pass over the rows, not one per task.
        squared = (predictions[:, :, 0].astype(np.float64) - part.labels[:, 0]) ** 2
        order = np.argsort(part.task, kind="stable")
        counts = np.bincount(part.task, minlength=problem.n_tasks)
        cumulative = np.concatenate([np.zeros((len(squared), 1)), np.cumsum(squared[:, order], 1)], 1)
        ends = np.cumsum(counts)
        return cumulative[:, ends] - cumulative[:, ends - counts], counts
    blocks = _task_blocks(problem, part, predictions)
    sums = np.stack([((p.astype(np.float64) - y) ** 2).sum((1, 2)) for p, y in blocks], 1)
    return sums, np.array([y.size for _, y in blocks])


def _rmse(problem: Problem, part: Part, predictions: Array) -> Array:
    sums, counts = _squared_error_sums(problem, part, predictions)
    mean = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return np.asarray(np.sqrt(mean))


def _pooled_rmse(problem: Problem, part: Part, predictions: Array) -> Array:
    sums, counts = _squared_error_sums(problem, part, predictions)
    return np.asarray(np.sqrt(sums.sum(1) / max(counts.sum(), 1)))


def _error(problem: Problem, part: Part, predictions: Array) -> Array:
    """Share of wrong decisions in percent: sign for binary and multilabel outputs, arg max for multiclass."""
    columns = []
    for task, (p, y) in zip(problem.tasks, _task_blocks(problem, part, predictions), strict=True):
        if task.kind is TaskKind.REGRESSION:
            raise DataError(f"{problem.dataset}: metric 'error' needs classification tasks; '{task.name}' is not one.")
        wrong = p.argmax(2) != y[:, 0] if task.kind is TaskKind.MULTICLASS else ((p > 0) != (y > 0.5)).mean(2)
        columns.append(100.0 * wrong.mean(1) if y.size else np.full(len(p), np.nan))
    return np.stack(columns, 1)


def _one_vs_all_error(problem: Problem, part: Part, predictions: Array) -> Array:
    """Per class, in percent: rows of the class whose largest output is another task's."""
    if problem.layout is not Layout.SHARED or not problem.only(TaskKind.BINARY):
        raise DataError(f"{problem.dataset}: metric 'one_vs_all_error' needs binary tasks that share their rows.")
    classes = np.nan_to_num(part.labels).argmax(1)
    wrong = predictions.argmax(2) != classes
    shares = [wrong[:, classes == t] for t in range(problem.n_tasks)]
    return np.stack([100.0 * w.mean(1) if w.shape[1] else np.full(len(wrong), np.nan) for w in shares], 1)


RANKS = 10  # of "map_at_10"


def _map_at_10(problem: Problem, part: Part, predictions: Array) -> Array:
    """Mean over rows of the average precision of their ten highest ranked labels, in percent; multilabel tasks.

    A row with P labels has a precision, the share of its labels among the first r, at each of the ranks r up to ten
    that hold one of them; their sum over min(P, 10) is its average precision. Equal outputs rank in the order of the
    labels. Rows without a label do not count. The mean is over rows, not labels, because the other measures of
    YouTube-8M with a cut-off (Hit@1, PERR, GAP@20) cut the ranking of each video's labels too.
    """
    columns = []
    for task, (p, y) in zip(problem.tasks, _task_blocks(problem, part, predictions), strict=True):
        if task.kind is not TaskKind.MULTILABEL:
            raise DataError(f"{problem.dataset}: metric 'map_at_10' needs multilabel tasks; '{task.name}' is not one.")
        labelled = (y > 0.5).any(1)
        if not labelled.any():
            columns.append(np.full(len(p), np.nan))
            continue
        y = y[labelled] > 0.5
        # One trial at a time: a ranking takes twice the memory of the outputs that it ranks.
        columns.append(np.array([100.0 * _average_precision(outputs[labelled], y).mean() for outputs in p]))
    return np.stack(columns, 1)


def _average_precision(outputs: Array, labels: Array) -> Array:
    """Of the first ten ranks of each row: outputs and labels (bool, at least one a row) [n, C] -> [n]."""
    ranked = np.argsort(-outputs, axis=1, kind="stable")[:, :RANKS]
    hits = np.take_along_axis(labels, ranked, 1)
    precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
    return np.asarray((precision * hits).sum(1) / np.minimum(labels.sum(1), RANKS))


def _loss(problem: Problem, part: Part, predictions: Array) -> Array:
    """Mean loss of each task: logistic, cross-entropy or squared, as in `Batch.task_losses`."""
    columns = []
    for task, (p, y) in zip(problem.tasks, _task_blocks(problem, part, predictions), strict=True):
        p = p.astype(np.float64)
        if task.kind is TaskKind.MULTICLASS:
            from scipy.special import logsumexp  # as long to import as a small network takes to train

            picked = np.take_along_axis(p, np.broadcast_to(y[None, :, :1].astype(int), (len(p), len(y), 1)), 2)
            loss = logsumexp(p, axis=2, keepdims=True) - picked
        elif task.kind is TaskKind.REGRESSION:
            loss = (p - y) ** 2
        else:
            loss = np.logaddexp(0.0, p) - p * y
        columns.append(loss.mean((1, 2)) if y.size else np.full(len(p), np.nan))
    return np.stack(columns, 1)


METRICS = {
    m.name: m
    for m in (
        Metric("rmse", "root mean squared error, mean over tasks", False, True, _rmse),
        Metric("pooled_rmse", "root mean squared error over the rows of all tasks", False, False, _pooled_rmse),
        Metric("error", "classification error in %, mean over tasks", False, True, _error),
        Metric("one_vs_all_error", "arg max over one-vs-all tasks, mean per-class error in %", False, True,
               _one_vs_all_error, by_task=False),
        Metric("map_at_10", "mAP@10 in %: average precision of each row's first ten labels, mean over rows, then tasks",
               True, True, _map_at_10),
        Metric("loss", "training loss on these rows, mean over tasks", False, True, _loss),
    )
}  # fmt: skip


def metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        UnknownName: There is none.
    """
    if name not in METRICS:
        raise UnknownName.among("metric", name, METRICS)
    return METRICS[name]


def split_name(name: str) -> tuple[Metric, str]:
    """Takes "rmse" or "rmse@part" apart: the metric, and the test part it is read on ("test" unless named)."""
    base, _, part = name.partition("@")
    return metric(base), part or "test"
