"""Which metrics a data set is scored by: those it names, or one for each kind of task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from mtbench import DataError, NoOptions, Part, PluginError, Problem, Task
from mtbench.contracts.scoring import Scoring, check_scoring, metrics_by_part, scoring_of
from mtbench.metrics import metric, prediction_width
from mtbench.plugins.checks import check_dataset
from mtbench.testing.problems import MixedKinds, SharedRegression

BY_KIND = MixedKinds.metric_by_kind


def loaded(dataset=MixedKinds):
    return dataset().load(Path(), 0, NoOptions())


def own_rows():
    """The mixed problem, each row of which belongs to one task; none of the test part to a multiclass one."""
    shared, rng = loaded(), np.random.default_rng(0)
    parts = {}
    for name, part in shared.parts.items():
        task = rng.choice([0, 1, 3, 4] if name == "test" else 5, size=part.n_rows)
        parts[name] = Part(part.inputs, part.labels[np.arange(part.n_rows), task][:, None], task)
    return replace(shared, parts=parts)


def test_a_data_set_that_names_metrics_is_scored_by_them():
    assert scoring_of(SharedRegression(), loaded(SharedRegression).tasks) == Scoring("rmse", "rmse", (), {})


def test_tasks_of_several_kinds_are_selected_and_headed_by_relative_loss():
    found = scoring_of(MixedKinds(), MixedKinds.tasks)
    assert found == Scoring("relative_loss", "relative_loss", (), dict(BY_KIND))
    assert found.names == ["relative_loss", "rmse", "auc", "error"]


def test_tasks_of_one_kind_are_selected_and_headed_by_its_metric():
    assert scoring_of(MixedKinds(), MixedKinds.tasks[1::3]) == Scoring("auc", "auc", (), {})


def test_metrics_that_are_named_beside_those_of_kinds_come_first():
    class Named(MixedKinds):
        report_metric = "loss"
        also_report = ("relative_loss",)

    assert scoring_of(Named(), MixedKinds.tasks) == Scoring("relative_loss", "loss", ("relative_loss",), dict(BY_KIND))
    check_dataset(Named)


@pytest.mark.parametrize("make", [loaded, own_rows])
def test_a_metric_of_one_kind_has_the_value_that_tasks_of_that_kind_have_alone(make):
    problem, rng = make(), np.random.default_rng(1)
    part = problem.parts["test"]
    predictions = rng.normal(size=(2, part.n_rows, prediction_width(problem, part)))
    measures = {m.name: m for m in metrics_by_part(MixedKinds(), problem)["test"]}
    assert list(measures) == ["relative_loss", "rmse", "auc", "error"]
    for kind, name in BY_KIND.items():
        found = measures[name].compute(problem, part, predictions)
        for t, task in enumerate(problem.tasks):
            if task.kind != kind or (part.task is not None and t not in part.task):
                assert np.isnan(found[:, t]).all()
                continue
            rows = slice(None) if part.task is None else part.task == t
            columns = problem.output_slices[t] if part.task is None else slice(task.n_outputs)
            labels = part.labels[rows, problem.label_slices[t] if part.task is None else slice(1)]
            alone = Part(part.inputs[rows], labels)
            small = Problem("alone", 0, (task,), dict.fromkeys(problem.parts, alone))
            expected = metric(name).compute(small, small.parts["test"], predictions[:, rows][:, :, columns])
            np.testing.assert_allclose(found[:, [t]], expected, 1e-12)


def test_a_metric_without_values_per_task_is_none_of_a_kind():
    class Pooled(MixedKinds):
        metric_by_kind = MappingProxyType({**BY_KIND, "regression": "pooled_rmse"})

    with pytest.raises(DataError, match="metric_by_kind must name metrics that have values per task; 'pooled_rmse'"):
        check_scoring(Pooled(), loaded())


def test_a_kind_of_task_without_a_metric_is_refused():
    tasks = (*MixedKinds.tasks, Task("tags", "multilabel", 2))
    with pytest.raises(DataError, match="must name a metric for each kind of task; found none for multilabel"):
        scoring_of(MixedKinds(), tasks)


def test_a_metric_of_another_kind_is_refused():
    class Swapped(MixedKinds):
        metric_by_kind = MappingProxyType({**BY_KIND, "regression": "auc"})

    with pytest.raises(DataError, match="metric 'auc' needs classification tasks; 'value_0' is not one"):
        check_scoring(Swapped(), loaded())


@pytest.mark.parametrize("by_kind", [{"numbers": "rmse"}, {"binary": 3}, ["rmse"]])
def test_metrics_are_named_by_kinds_that_there_are(by_kind):
    class Strange(MixedKinds):
        metric_by_kind = by_kind

    with pytest.raises(PluginError, match=r"Strange.metric_by_kind must name metrics by kind of task, of 'binary', "):
        check_dataset(Strange)


def test_a_data_set_without_metrics_by_kind_names_those_that_select_and_head():
    class Silent(MixedKinds):
        metric_by_kind = MappingProxyType({})

    with pytest.raises(PluginError, match=r"Silent.selection_metric must be a str; found none"):
        check_dataset(Silent)
