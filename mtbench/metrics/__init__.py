"""Metrics: arrays per task, from predictions of many trials at once. numpy only, so that reports stay light."""

from __future__ import annotations

from dataclasses import replace

from mtbench.errors import UnknownName
from mtbench.metrics.curves import auc, average_precision
from mtbench.metrics.decisions import balanced_error, macro_f1, micro_f1
from mtbench.metrics.metric import CLASSES, Metric, mean_over_tasks, prediction_width
from mtbench.metrics.probabilities import brier
from mtbench.metrics.ranking import RANKS, map_at_10, one_class_each, one_vs_all_error, one_vs_all_tasks
from mtbench.metrics.regression import mae, nrmse, r2, rrmse
from mtbench.metrics.relative import relative_loss
from mtbench.metrics.values import error, loss, pooled_rmse, rmse
from mtbench.tasks import TaskKind

__all__ = [
    "METRICS", "MIXED", "Metric", "RANKS", "mean_over_tasks", "metric", "prediction_width", "named_metric", "register"
]  # fmt: skip

_NUMBERS = (TaskKind.REGRESSION,)

METRICS = {
    m.name: replace(m, honours_weights=True)
    for m in (
        Metric("rmse", "root mean squared error, mean over tasks", False, True, rmse, kinds=_NUMBERS),
        Metric("pooled_rmse", "root mean squared error over the rows of all tasks", False, False, pooled_rmse,
               kinds=_NUMBERS),
        Metric("nrmse", "root mean squared error over the standard deviation of training labels, mean over tasks",
               False, True, nrmse, kinds=_NUMBERS),
        Metric("rrmse", "root mean squared error over that of predicting the training mean, mean over tasks (aRRMSE)",
               False, True, rrmse, kinds=_NUMBERS),
        Metric("mae", "mean absolute error, mean over tasks", False, True, mae, kinds=_NUMBERS),
        Metric("r2", "coefficient of determination R^2, mean over tasks", True, True, r2, kinds=_NUMBERS),
        Metric("error", "classification error in %, mean over tasks", False, True, error, kinds=CLASSES),
        Metric("balanced_error", "classification error in %, mean over classes, then tasks", False, True,
               balanced_error, kinds=CLASSES),
        Metric("macro_f1", "F1, mean over the classes or labels of a task, then tasks", True, True, macro_f1,
               kinds=CLASSES),
        Metric("micro_f1", "F1 of all decisions of a task, mean over tasks", True, True, micro_f1, kinds=CLASSES),
        Metric("auc", "area under the ROC curve, classes against the rest, mean over tasks", True, True, auc,
               kinds=CLASSES),
        Metric("average_precision", "average precision, classes against the rest, mean over tasks", True, True,
               average_precision, kinds=CLASSES),
        Metric("log_loss", "logistic loss or cross-entropy in nats, mean over tasks", False, True, loss, kinds=CLASSES),
        Metric("brier", "Brier score (multiclass: summed over classes), mean over tasks", False, True, brier,
               kinds=CLASSES),
        Metric("one_vs_all_error", "arg max over one-vs-all tasks, mean per-class error in %", False, True,
               one_vs_all_error, by_task=False, needs=one_vs_all_tasks, needs_of_rows=one_class_each,
               kinds=(TaskKind.BINARY,)),
        Metric("map_at_10", "mAP@10 in %: average precision of each row's first ten labels, mean over rows, then tasks",
               True, True, map_at_10, kinds=(TaskKind.MULTILABEL,)),
        Metric("relative_loss", "squared error or log loss over that of the best constant in training, mean over tasks",
               False, True, relative_loss),
        Metric("loss", "training loss on these rows, mean over tasks", False, True, loss),
    )
}  # fmt: skip

MIXED = "relative_loss"
"""The metric whose mean over tasks of different kinds means something."""

_OFFERED: dict[str, Metric] = {}  # metrics of plugins


def register(found: Metric) -> None:
    """Makes a plugin's metric known by its name in this process; of one name, the metric that came last is meant.

    The plugin host does this for what plugins offer, in the driver and in every worker.
    """
    _OFFERED[found.name] = found


def metric(name: str) -> Metric:
    """The metric of that name: a built-in one, or one that a loaded plugin offers.

    Raises:
        UnknownName: There is none.
    """
    found = METRICS.get(name) or _OFFERED.get(name)
    if found is None:
        raise UnknownName.among("metric", name, [*METRICS, *_OFFERED])
    return found


def named_metric(name: str) -> tuple[Metric, str]:
    """Takes "rmse" or "rmse@part" apart: the metric, and the test part it is read on ("test" unless named)."""
    base, _, part = name.partition("@")
    return metric(base), part or "test"
