"""A data set with weights and a metric for each kind of task, from the command line to its tables."""

from __future__ import annotations

import json

from mtbench.testing.engines import InlineEngine

PLUGIN = """
from mtbench import hookimpl
from mtbench.testing.problems import WeightedKinds


@hookimpl
def mtbench_datasets():
    return [WeightedKinds]
"""


class InThisProcess(InlineEngine):
    """Stands for the local engine: a worker process would spend seconds on importing torch."""

    name = "local"

    def __init__(self, devices):
        super().__init__()


def test_a_run_on_weighted_tasks_of_several_kinds_says_so_in_its_tables(mtbench, tmp_path, monkeypatch):
    monkeypatch.setattr("mtbench.engines.LocalEngine", InThisProcess)
    plugin, store = tmp_path / "kinds.py", tmp_path / "store"
    plugin.write_text(PLUGIN)
    words = ("--methods", "constant,k_nearest_neighbours", "--datasets", "miniature_weighted", "--stack-size", "2")
    done = mtbench("run", *words, "--plugin", plugin, "--out", store)
    assert done.exit_code == 0, done.output
    skipped = "miniature_weighted declares sample, class and task weights, and the method does not say"
    assert skipped in done.output
    found = json.loads(mtbench("report", store, "--format", "json", "--per-task").stdout)
    (best, other) = found["leaderboard"]
    assert (best["method"], best["metric"]) == ("constant", "relative_loss")
    assert other["reason"].startswith(f"skipped: {skipped}")
    assert found["warnings"] == []
    tasks = {}
    for row in found["per_task"]:
        tasks.setdefault(row["metric"], {})[row["task"]] = row["mean"]
    kinds = {"rmse": ["value_0", "value_1"], "auc": ["sign_0", "sign_1"], "error": ["largest"]}
    assert {name: sorted(values) for name, values in tasks.items() if name != "relative_loss"} == kinds
    # The tasks weigh 1 to 5.
    by_weight = [
        t * tasks["relative_loss"][name]
        for t, name in enumerate(("value_0", "sign_0", "largest", "value_1", "sign_1"), start=1)
    ]
    assert abs(best["mean"] - sum(by_weight) / 15) < 1e-12
    table = mtbench("report", store, "--per-task").stdout
    assert "mean over tasks, with sample, class and task weights; lower is better" in table
    assert "by task: auc (area under the ROC curve, classes against the rest, with sample, class and task" in table


def test_show_says_which_metric_each_kind_has_and_who_honours_weights(mtbench, tmp_path):
    plugin = tmp_path / "kinds.py"
    plugin.write_text(PLUGIN)
    shown = mtbench("show", "miniature_weighted", "--plugin", plugin).stdout
    assert "metric by kind    rmse of regression tasks, auc of binary tasks, error of multiclass tasks" in shown
    assert "relative_loss" in shown
    assert "honours sample, class and task weights" in mtbench("show", "ridge_cv", "--plugin", plugin).stdout
    assert "honours none" in mtbench("show", "k_nearest_neighbours", "--plugin", plugin).stdout
