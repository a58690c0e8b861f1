"""The contract of metrics finds what it is there to find."""

import dataclasses

import numpy as np
import pytest

from mtbench import Metric, TaskKind
from mtbench.errors import PluginError
from mtbench.metrics import METRICS
from mtbench.testing import MetricContract as Contract
from mtbench.testing.scored import one_class_each

mae = METRICS["mae"].values


def contract(values=mae, **changes):
    """The suite of a metric that is the mean absolute error but for what is changed."""
    fields = {"title": "an error", "higher_is_better": False, "per_task": True, "kinds": (TaskKind.REGRESSION,)}
    fields["honours_weights"] = True
    return type("Suite", (Contract,), {"metric": Metric("mine", values=values, **(fields | changes))})()


def test_a_good_metric_keeps_it():
    suite = contract()
    for name in (name for name in dir(suite) if name.startswith("test_")):
        getattr(suite, name)()


def mean_of_all(problem, part, predictions):
    return mae(problem, part, predictions) + 1e-3 * np.abs(predictions).mean((1, 2))[:, None]


def first_row(problem, part, predictions):
    return mae(problem, part, predictions) + np.abs(predictions[:, 0, :1] - 3)


def zero_for_nothing(problem, part, predictions):
    return np.nan_to_num(mae(problem, part, predictions))


def over_the_trials_mean(problem, part, predictions):
    values = mae(problem, part, predictions)
    return values / values.mean(0)


def overwriting(problem, part, predictions):
    values = mae(problem, part, predictions)
    predictions *= 2
    return values


def single(problem, part, predictions):
    return mae(problem, part, predictions).astype(np.float32)


def infinite(problem, part, predictions):
    return mae(problem, part, predictions) + np.inf


def warning(problem, part, predictions):
    return mae(problem, part, predictions) + np.nanmean(np.full(1, np.nan))


def of_the_better_trials(problem, part, predictions):
    values = mae(problem, part, predictions)
    return np.where(values > values.mean(0), np.nan, values)


def of_rows_alike(problem, part, predictions):
    return mae(problem, dataclasses.replace(part, sample_weight=None), predictions)


@pytest.mark.parametrize(
    ("suite", "test"),
    [
        (contract(higher_is_better=True), "perfect_predictions_are_at_least_as_good_as_random_ones"),
        (contract(per_task=False), "it_gives_a_value_for_each_task_or_one_for_each_trial"),
        (contract(single), "it_gives_a_value_for_each_task_or_one_for_each_trial"),
        (contract(mean_of_all), "what_is_predicted_where_no_label_is_makes_no_difference"),
        (contract(mean_of_all), "a_task_depends_on_its_own_predictions_alone_if_it_says_so"),
        (contract(first_row), "the_order_of_rows_makes_no_difference"),
        (contract(zero_for_nothing), "where_nothing_is_labelled_there_is_no_value"),
        (contract(zero_for_nothing), "a_task_without_labels_has_no_value_and_leaves_the_others_theirs"),
        (contract(over_the_trials_mean), "a_trial_does_not_depend_on_others_not_even_on_broken_ones"),
        (contract(overwriting), "it_repeats_itself_and_changes_nothing_that_it_is_handed"),
        (contract(infinite), "values_are_finite_or_nan_whatever_is_predicted"),
        (contract(of_the_better_trials), "values_are_finite_or_nan_whatever_is_predicted"),
        (contract(of_rows_alike), "it_honours_weights_of_rows_if_it_says_so"),
        (contract(warning), "values_are_finite_or_nan_whatever_is_predicted"),
        (contract(needs=lambda problem: "something else"), "it_takes_at_least_one_problem"),
        (contract(title=""), "it_can_be_registered"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.metric.values.__name__,
)
def test_each_fault_is_found_by_the_test_that_names_it(suite, test):
    with pytest.raises((AssertionError, PluginError, RuntimeWarning)):
        getattr(suite, f"test_{test}")()


def test_a_metric_that_needs_other_problems_names_them():
    picky = contract(needs=lambda problem: None if problem.dataset == "mine" else "mine")
    assert picky._cases() == []
    case = one_class_each()
    type(picky).problems = [type(case.problem)("mine", 0, case.problem.tasks, case.problem.parts)]
    type(picky).metric = Metric("mine", "an error", False, True, METRICS["brier"].values, needs=picky.metric.needs)
    assert [case.name for case in picky._cases()] == ["mine"]
    picky.test_the_order_of_rows_makes_no_difference()
