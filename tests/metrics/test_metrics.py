"""Where metrics have no value, what they say of themselves, and what they are on edge cases."""

import subprocess
import sys

import numpy as np
import pytest

from mtbench import DataError, Part, Problem, Task
from mtbench.metrics import METRICS, metric

NAN = np.nan
BY_TASK = [name for name, m in METRICS.items() if m.per_task]


@pytest.mark.parametrize("name", ["auc", "balanced_error"])
@pytest.mark.parametrize("label", [0, 1])
def test_a_binary_task_of_one_class_has_no_value(small, name, label):
    assert np.isnan(small(name, "binary", [label] * 3, [1, -1, 2]))


@pytest.mark.parametrize("name", ["average_precision", "macro_f1", "micro_f1"])
@pytest.mark.parametrize("outputs", [[1, -1, 2], [-1, -1, -1]])
def test_without_positive_labels_there_is_no_value_whatever_is_predicted(small, name, outputs):
    assert np.isnan(small(name, "binary", [0, 0, 0], outputs))


def test_a_task_of_positive_labels_only_has_the_values_of_their_definitions(small):
    assert small("average_precision", "binary", [1, 1, 1], [1, -1, 2]) == 1
    assert small("macro_f1", "binary", [1, 1, 1], [1, -1, 2]) == pytest.approx(2 * 2 / (2 + 3))
    assert small("micro_f1", "binary", [1, 1, 1], [-1, -1, -1]) == 0
    assert small("log_loss", "binary", [1, 1], [0, 0]) == pytest.approx(np.log(2))


def test_columns_without_a_value_are_left_out_of_a_tasks_mean(small):
    labels = [[0, 1], [0, 0], [0, 1]]  # nobody has the first label
    outputs = [[1, 3], [-1, 1], [2, 2]]
    assert small("auc", "multilabel", labels, outputs) == 1
    assert small("average_precision", "multilabel", labels, outputs) == 1
    assert small("macro_f1", "multilabel", labels, outputs) == pytest.approx(2 * 2 / (3 + 2))
    assert small("balanced_error", "multilabel", labels, outputs) == pytest.approx(50)
    assert small("micro_f1", "multilabel", labels, outputs) == pytest.approx(2 * 2 / (5 + 2))


def test_classes_without_labels_are_left_out_of_a_tasks_mean(small):
    labels, outputs = [0, 1, 1, 0], np.eye(3)[[0, 1, 2, 0]]  # the third row is taken for class 2, which none has
    assert small("balanced_error", "multiclass", labels, outputs) == pytest.approx(25)
    assert small("macro_f1", "multiclass", labels, outputs) == pytest.approx((1 + 2 / 3) / 2)
    assert small("micro_f1", "multiclass", labels, outputs) == pytest.approx(3 / 4)
    assert small("auc", "multiclass", labels, outputs) == pytest.approx((1 + 0.75) / 2)
    assert np.isnan(small("balanced_error", "multiclass", [1, 1], np.eye(3)[:2]))
    assert np.isnan(small("auc", "multiclass", [1, 1], np.eye(3)[:2]))


@pytest.mark.parametrize("same", [0.1, 3.0, 1e6])
@pytest.mark.parametrize("n", [3, 7, 100])
def test_constant_labels_have_no_spread_to_be_relative_to(small, same, n):
    assert np.isnan(small("r2", "regression", [same] * n, np.zeros(n)))
    assert np.isnan(small("rrmse", "regression", [same] * n, np.zeros(n), trained=[same] * (n + 1)))
    assert np.isnan(small("nrmse", "regression", np.arange(n), np.zeros(n), trained=[same] * (n + 1)))
    assert small("mae", "regression", [1.0] * n, np.zeros(n)) == 1


def test_the_training_mean_has_an_rrmse_of_exactly_1(small):
    trained, labels = np.random.default_rng(0).normal(5, 2, (2, 101, 3)).astype(np.float32)
    mean = trained.astype(float).mean(0)
    assert small("rrmse", "regression", labels, np.tile(mean, (101, 1)), trained=trained) == 1


def test_average_precision_takes_ties_together_and_is_no_trapezoid(small):
    assert small("average_precision", "binary", [1, 0, 1, 0], [2, 1, 1, 0]) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


def test_ties_of_probabilities_are_ties_whatever_order_classes_have(small):
    outputs = [[0.3, 0.1, 0.7], [0.3, 0.7, 0.1]]
    assert small("auc", "multiclass", [0, 1], outputs) == pytest.approx((0.5 + 1) / 2)


def test_log_loss_is_not_clipped(small):
    assert small("log_loss", "binary", [1, 0], [-1000.0, -1000.0]) == 500


def test_the_brier_score_of_two_classes_is_twice_the_binary_one(small):
    binary = small("brier", "binary", [0, 1, 1], [0.3, -1, 2])
    assert small("brier", "multiclass", [0, 1, 1], [[0, 0.3], [0, -1], [0, 2]]) == pytest.approx(2 * binary)


@pytest.mark.parametrize("name", BY_TASK)
def test_a_task_without_labels_has_no_value_and_the_mean_leaves_it_out(name):
    if name == "one_vs_all_error":
        pytest.skip("its tasks are classes")
    kind = str(METRICS[name].kinds[0])
    labels = np.array([[0, NAN], [1, NAN], [1, NAN]])
    part = Part(np.zeros((3, 1)), labels)
    problem = Problem(
        "some", 0, (Task("a", kind), Task("b", kind)), dict.fromkeys(("train", "validation", "test"), part)
    )
    values = metric(name).compute(problem, problem.parts["test"], np.array([[[1.0, 1], [-1, 1], [0.5, 1]]]))
    assert np.isfinite(values[0, 0])
    assert np.isnan(values[0, 1])
    assert metric(name).headline(values)[0] == values[0, 0]


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_refused_on_kinds_that_it_is_not_of(name):
    part = Part(np.zeros((4, 1)), np.array([[0, 0], [1, 1], [0, 0], [1, 1.0]]))
    problem = Problem(
        "mixed", 0, (Task("a", "regression"), Task("b", "binary")), dict.fromkeys(("train", "validation", "test"), part)
    )
    if len(METRICS[name].kinds) == 4:
        metric(name).check(problem, part)
    else:
        with pytest.raises(DataError, match=f"^mixed: metric '{name}' needs .*tasks") as caught:
            metric(name).check(problem, part)
        assert "\n" not in str(caught.value)


def test_metrics_are_imported_without_scipy_and_scikit_learn():
    code = "import sys, mtbench.metrics; print({'scipy', 'sklearn', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
