"""Metrics: arrays per task, from predictions of many trials at once. numpy only, so that reports stay light."""

from __future__ import annotations

from mtbench.errors import UnknownName
from mtbench.metrics.blocks import classes_only, multilabel_only, regressions_only
from mtbench.metrics.metric import Metric, mean_over_tasks, prediction_width
from mtbench.metrics.ranking import RANKS, map_at_10, one_class_each, one_vs_all_error, one_vs_all_tasks
from mtbench.metrics.values import error, loss, pooled_rmse, rmse

__all__ = ["METRICS", "Metric", "RANKS", "mean_over_tasks", "metric", "prediction_width", "named_metric"]

METRICS = {
    m.name: m
    for m in (
        Metric("rmse", "root mean squared error, mean over tasks", False, True, rmse, needs=regressions_only),
        Metric("pooled_rmse", "root mean squared error over the rows of all tasks", False, False, pooled_rmse,
               needs=regressions_only),
        Metric("error", "classification error in %, mean over tasks", False, True, error, needs=classes_only),
        Metric("one_vs_all_error", "arg max over one-vs-all tasks, mean per-class error in %", False, True,
               one_vs_all_error, by_task=False, needs=one_vs_all_tasks, needs_of_rows=one_class_each),
        Metric("map_at_10", "mAP@10 in %: average precision of each row's first ten labels, mean over rows, then tasks",
               True, True, map_at_10, needs=multilabel_only),
        Metric("loss", "training loss on these rows, mean over tasks", False, True, loss),
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


def named_metric(name: str) -> tuple[Metric, str]:
    """Takes "rmse" or "rmse@part" apart: the metric, and the test part it is read on ("test" unless named)."""
    base, _, part = name.partition("@")
    return metric(base), part or "test"
