"""Training with weights of rows, classes and tasks: stacks, splits, early stopping, rows one by one, fit methods."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mtbench_methods.estimators.constant import Constant
from mtbench_methods.estimators.linear import RidgeCV, ridge
from mtbench_methods.estimators.neighbours import KNearestNeighbours
from mtbench_methods.estimators.trees import JointRandomForest
from mtbench_methods.hard_sharing import HardSharing
from mtbench_methods.stl import STL
from mtbench_weightings.mgda import MGDA
from torch import Tensor, nn

from mtbench import Batch, GradientMethod, PluginError, Problem, Recipe, Reference
from mtbench.contracts.refusal import refusal
from mtbench.contracts.trials import Status
from mtbench.contracts.weighted import weighted
from mtbench.plugins.checks import check_method
from mtbench.testing.methods import assert_same
from mtbench.testing.problems import (
    RECIPE,
    CompleteRegression,
    Miniature,
    OwnMulticlass,
    OwnRegression,
    SharedOneVsAll,
    SharedRegression,
    WeightedKinds,
    miniature_trials,
    with_weights,
)
from mtbench.testing.weightings import SharedTrunk
from mtbench.training import steps, train_stack
from mtbench.training.gradient import GradientStack


def problems_of(dataset: type[Miniature], weigh: Any = with_weights) -> dict[int, Problem]:
    return {split: weigh(dataset().load(Path(), split, None)) for split in (0, 1)}


@pytest.mark.parametrize("method", [HardSharing, weighted(SharedTrunk, MGDA)])
@pytest.mark.parametrize("dataset", [SharedOneVsAll, OwnMulticlass])
def test_every_trial_of_a_stack_equals_itself_trained_alone(dataset, method):
    problems = problems_of(dataset)
    trials = miniature_trials(method(), dataset(), [{}, {"learning_rate": 0.03}], splits=(0, 1))
    cell = dataclasses.replace(trials[0].cell, recipe=dataclasses.replace(RECIPE, max_epochs=3))
    trials = [dataclasses.replace(trial, cell=cell) for trial in trials]
    stacked = train_stack(method(), problems, trials, dataset())
    for r in (1, 2):
        alone = train_stack(method(), problems, [trials[r]], dataset())
        np.testing.assert_allclose(stacked.predictions["test"][r], alone.predictions["test"][0], 1e-6, 1e-6)
        np.testing.assert_allclose(stacked.history["loss"][r], alone.history["loss"][0], 1e-8)


def test_a_split_without_weights_counts_all_rows_the_same_beside_one_with_weights():
    method, dataset = HardSharing(), SharedRegression()
    split = problems_of(SharedRegression, lambda problem: with_weights(problem, ("task",)))
    plain = problems_of(SharedRegression, lambda problem: problem)
    trials = miniature_trials(method, dataset, splits=(0, 1), epochs=2)
    found = train_stack(method, {0: split[0], 1: plain[1]}, trials, dataset)
    expected = [train_stack(method, p, [trial], dataset) for p, trial in zip((split, plain), trials, strict=True)]
    for r, one in enumerate(expected):
        np.testing.assert_allclose(found.predictions["test"][r], one.predictions["test"][0], 1e-6, 1e-6)


def test_what_is_watched_is_the_mean_over_tasks_by_their_weights():
    problem = problems_of(OwnRegression)[0]
    trials = miniature_trials(HardSharing(), OwnRegression())
    result = train_stack(HardSharing(), {0: problem}, trials, OwnRegression())
    values = result.metrics["validation"]["rmse"][0]
    expected = np.average(values, weights=[task.weight for task in problem.tasks])
    assert result.history["rmse"][0].min() == pytest.approx(expected, rel=1e-9)
    assert expected != pytest.approx(values.mean(), rel=1e-3)


def test_gradients_are_taken_row_by_row_of_weighted_rows_too(monkeypatch):
    monkeypatch.setattr(steps, "_ROWS_FROM", 1)
    method = weighted(SharedTrunk, MGDA)
    for dataset in (OwnRegression, OwnMulticlass):
        trials = miniature_trials(method(), dataset())
        stack = GradientStack(method(), problems_of(dataset), trials, dataset(), torch.device("cpu"))
        stack.train_epoch(2)
        assert stack.steps.weighting is not None
        assert stack.steps.weighting.task_gradients.rows_fit is True


class Own(GradientMethod):
    """A method whose objective is its own business."""

    name, reference = "own", Reference("A test", "here")

    def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
        return nn.Linear(problem.n_features, problem.n_outputs)

    def objective(self, model: nn.Module, batch: Batch, params: Any) -> Tensor:
        return (model(batch.inputs) - batch.labels).square().sum()


def test_a_method_that_does_not_say_that_it_honours_weights_is_refused_with_the_reason():
    problem = problems_of(SharedRegression)[0]
    told = "miniature_missing_labels declares sample and task weights, and the method does not say that it honours them"
    for method in (Own, KNearestNeighbours):
        assert told in str(refusal(method(), problem, RECIPE))
        assert refusal(method(), problems_of(SharedRegression, lambda p: p)[0], RECIPE) is None
    for method in (HardSharing, weighted(HardSharing, MGDA), STL, RidgeCV, Constant):
        assert refusal(method(), problem, RECIPE) is None
    joint = problems_of(CompleteRegression)[0]
    assert str(refusal(JointRandomForest(), joint, RECIPE)).startswith(
        "miniature_complete_labels declares task weights"
    )
    assert refusal(JointRandomForest(), with_weights(joint, ("task",)), RECIPE) is None


def test_a_method_says_what_it_honours_by_names_that_are_known():
    class Loud(Own):
        honours_weights = ("sample", "volume")

    with pytest.raises(PluginError, match=r"Loud.honours_weights must be a tuple of 'sample', 'class' and 'task'"):
        check_method(Loud)


def test_the_constant_predictor_of_weighted_labels_has_a_relative_loss_of_1():
    problem = WeightedKinds().load(Path(), 0, None)
    train = dataclasses.replace(problem, parts={**problem.parts, "test": problem.parts["train"]})
    result = train_stack(Constant(), {0: train}, miniature_trials(Constant(), WeightedKinds()), WeightedKinds())
    assert result.status == [Status.FINISHED]
    np.testing.assert_allclose(result.metrics["test"]["relative_loss"][0], 1, 1e-6)
    assert list(result.metrics["test"]) == ["relative_loss", "rmse", "auc", "error"]


def test_an_estimator_is_fitted_with_sample_weight_as_scikit_learn_by_hand():
    problem = problems_of(CompleteRegression)[0]
    result = train_stack(
        RidgeCV(), {0: problem}, miniature_trials(RidgeCV(), CompleteRegression()), CompleteRegression()
    )
    train, test = problem.parts["train"], problem.parts["test"]
    there = train.sample_weight > 0
    weights = train.sample_weight[there] / train.sample_weight[there].mean()
    for t in range(problem.n_tasks):
        names = ("standardscaler__sample_weight", "ridgecv__sample_weight")
        by_hand = ridge().fit(
            train.inputs[there].astype(float), train.labels[there, t], **dict.fromkeys(names, weights)
        )
        expected = by_hand.predict(test.inputs.astype(float))
        np.testing.assert_allclose(result.predictions["test"][0, :, t], expected, 1e-4, 1e-5)


def test_training_with_weights_that_are_all_alike_is_training_without():
    plain, weighed = (
        problems_of(OwnMulticlass, weigh)[0]
        for weigh in (
            lambda p: p,
            lambda p: dataclasses.replace(
                p, parts={n: dataclasses.replace(o, sample_weight=np.full(o.n_rows, 3)) for n, o in p.parts.items()}
            ),
        )
    )
    trials = miniature_trials(HardSharing(), OwnMulticlass())
    found = [train_stack(HardSharing(), {0: one}, trials, OwnMulticlass()) for one in (plain, weighed)]
    assert_same(*found, tolerance=1e-9)
