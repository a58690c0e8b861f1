"""What every metric must keep, as tests. The built-in metrics are held to the same suite.

class TestMine(MetricContract):
    metric = mtbench_metrics()[0]
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest

from mtbench.errors import DataError
from mtbench.metrics import METRICS, Metric
from mtbench.plugins.checks import check_metric
from mtbench.tasks import Array, Problem, TaskKind
from mtbench.testing.scored import GAPS, Scored, of_kinds, one_class_each

_N_TRIALS = 3
_CLOSE = 1e-9


class MetricContract:
    """Base class of a metric's tests, run on random rows of both layouts, with and without missing labels.

    Problems that the metric refuses are left out, but one at least must be taken.

    Attributes:
        metric: The metric.
        problems: Problems with what it needs, where generated ones have not.
    """

    metric: ClassVar[Metric]
    problems: ClassVar[Sequence[Problem]] = ()

    def test_it_can_be_registered(self) -> None:
        built_in = METRICS.get(self.metric.name) is self.metric
        check_metric(dataclasses.replace(self.metric, name="of_mtbench") if built_in else self.metric)

    def test_it_takes_at_least_one_problem(self) -> None:
        assert self._cases(), (
            f"'{self.metric.name}' refuses every generated problem: name one in `problems` that it takes"
        )

    def test_tasks_of_other_kinds_are_refused(self) -> None:
        for kind in set(TaskKind) - set(self.metric.kinds):
            case = of_kinds((kind,), own=False, missing=0.0)
            with pytest.raises(DataError, match="needs"):
                self.metric.check(case.problem, case.part)

    def test_it_gives_a_value_for_each_task_or_one_for_each_trial(self) -> None:
        for case in self._cases():
            values = self._values(case, case.random(_N_TRIALS))
            expected = (_N_TRIALS, case.problem.n_tasks) if self.metric.per_task else (_N_TRIALS,)
            assert values.shape == expected, (
                f"{case.name}: per_task={self.metric.per_task} needs values of shape {expected}; found {values.shape}"
            )
            assert values.dtype == np.float64, f"{case.name}: values must be float64; found {values.dtype}"

    def test_values_are_finite_or_nan_whatever_is_predicted(self) -> None:
        for case in self._cases():
            values = self._values(case, case.random(_N_TRIALS))
            assert not np.isinf(values).any(), f"{case.name}: infinite values; where there is none, it is NaN"
            there = np.isfinite(values)
            assert there.any(), f"{case.name}: no task has a value"
            assert (there == there[0]).all(), f"{case.name}: whether there is a value depends on the predictions"

    def test_perfect_predictions_are_at_least_as_good_as_random_ones(self) -> None:
        for case in self._cases():
            perfect, random = self._values(case, case.perfect()), self._values(case, case.random(_N_TRIALS))
            there = np.isfinite(perfect)
            assert there.any(), f"{case.name}: perfect predictions have no value"
            worse = (perfect < random if self.metric.higher_is_better else perfect > random) & there
            assert not worse.any(), (
                f"{case.name}: higher_is_better={self.metric.higher_is_better}, but perfect predictions have "
                f"{perfect}, random ones {random}"
            )

    def test_the_order_of_rows_makes_no_difference(self) -> None:
        for case in self._cases():
            predictions = case.random(_N_TRIALS)
            other, order = case.shuffled()
            self._assert_same(self._values(other, predictions[:, order]), self._values(case, predictions), case)

    def test_what_is_predicted_where_no_label_is_makes_no_difference(self) -> None:
        for case in self._cases():
            predictions = case.random(_N_TRIALS)
            changed = np.where(case.read, predictions, predictions + 7.5)
            self._assert_same(self._values(case, changed), self._values(case, predictions), case)

    def test_a_task_depends_on_its_own_predictions_alone_if_it_says_so(self) -> None:
        if not (self.metric.by_task and self.metric.per_task):
            pytest.skip("it does not say so")
        for case in self._cases():
            predictions = case.random(_N_TRIALS)
            for t in (0, case.problem.n_tasks - 1):
                changed = np.where(case.of_task(t), predictions, -predictions - 7.5)
                self._assert_same(self._values(case, changed)[:, t], self._values(case, predictions)[:, t], case)

    def test_where_nothing_is_labelled_there_is_no_value(self) -> None:
        for case in self._cases():
            without = case.without_labels(range(case.problem.n_tasks))
            assert np.isnan(self._values(without, case.random(_N_TRIALS))).all(), case.name

    def test_a_task_without_labels_has_no_value_and_leaves_the_others_theirs(self) -> None:
        for case in self._cases():
            without = case.without_labels([0])
            if not self.metric.per_task or not self._takes(without):
                continue
            predictions = case.random(_N_TRIALS)
            values = self._values(without, predictions)
            assert np.isnan(values[:, 0]).all(), f"{case.name}: a value without a label"
            if self.metric.by_task:
                self._assert_same(values[:, 1:], self._values(case, predictions)[:, 1:], case)

    def test_a_trial_does_not_depend_on_others_not_even_on_broken_ones(self) -> None:
        for case in self._cases():
            predictions = case.random(_N_TRIALS)
            values = self._values(case, predictions)
            for bad in (np.nan, np.inf, -np.inf):
                broken = predictions.copy()
                broken[0, ::2] = bad
                self._assert_same(self._values(case, broken)[1:], values[1:], case)
            self._assert_same(self._values(case, predictions[1:2])[0], values[1], case)

    def test_it_honours_weights_of_rows_if_it_says_so(self) -> None:
        if not self.metric.honours_weights:
            pytest.skip("it does not say so")
        for case in self._cases():
            predictions, n = case.random(_N_TRIALS), case.part.n_rows
            values = self._values(case, predictions)
            self._assert_same(self._values(case.weighted(np.full(n, 2.5)), predictions), values, case)
            weights = np.arange(n) % 2
            changed = np.where(weights[:, None] > 0, predictions, -predictions - 7.5)
            found = self._values(case.weighted(weights), predictions)
            self._assert_same(self._values(case.weighted(weights), changed), found, case)
            assert not np.array_equal(found, values, equal_nan=True), f"{case.name}: weights make no difference"

    def test_predictions_may_be_of_single_precision(self) -> None:
        for case in self._cases():
            predictions = case.random(_N_TRIALS)
            found = self._values(case, predictions.astype(np.float32))
            np.testing.assert_allclose(found, self._values(case, predictions), rtol=1e-4, err_msg=case.name)

    def test_it_repeats_itself_and_changes_nothing_that_it_is_handed(self) -> None:
        for case in self._cases():
            predictions = case.random(_N_TRIALS)
            handed = predictions.copy()
            first, again = (self._values(case, handed) for _ in range(2))
            assert np.array_equal(handed, predictions), f"{case.name}: it has written to the predictions"
            assert np.array_equal(first, again, equal_nan=True), f"{case.name}: it does not repeat itself"

    def _cases(self) -> list[Scored]:
        """What the metric takes."""
        kinds = tuple(self.metric.kinds)
        made = [of_kinds(kinds, own, missing) for own in (False, True) for missing in (0.0, GAPS)]
        given = [Scored(problem.dataset, problem) for problem in self.problems]
        return [case for case in (*made, one_class_each(), *given) if self._takes(case)]

    def _takes(self, case: Scored) -> bool:
        try:
            self.metric.check(case.problem, case.part)
        except DataError:
            return False
        return True

    def _values(self, case: Scored, predictions: Array) -> Array:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return self.metric.compute(case.problem, case.part, predictions)

    def _assert_same(self, found: Array, expected: Array, case: Scored) -> None:
        np.testing.assert_allclose(
            found, expected, rtol=_CLOSE, atol=_CLOSE, err_msg=f"{self.metric.name}, {case.name}"
        )
