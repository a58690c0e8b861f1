"""Losses of linear predictors on weighted rows and tasks are those of batches; ridge regression is scikit-learn's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mtbench_methods.stl import STL
from sklearn.linear_model import Ridge
from torch import Tensor

from mtbench import NoOptions, Part, Problem, Task
from mtbench.contracts.batch import TaskColumns
from mtbench.linear.problems import linear_data
from mtbench.testing.problems import OwnRegression, SharedOneVsAll, SharedRegression, miniature_trials, with_weights
from mtbench.training import train_stack
from mtbench.training.data import PartData, batch_of

CPU = torch.device("cpu")


def loaded(dataset: type) -> Problem:
    return with_weights(dataset().load(Path(), 0, NoOptions()))


def sparse() -> Problem:
    """Shared rows of which each has a label for one of eight tasks: solvers take rows of its own for each."""
    rng = np.random.default_rng(0)
    labels = np.full((64, 8), np.nan)
    labels[np.arange(64), rng.permutation(64) % 8] = rng.integers(2, size=64)
    part = Part(rng.normal(size=(64, 3)), labels)
    tasks = tuple(Task(f"t{t}", "binary") for t in range(8))
    return with_weights(Problem("sparse", 0, tasks, dict.fromkeys(("train", "validation", "test"), part)))


PROBLEMS = [
    pytest.param(problem, id=problem.dataset)
    for problem in (loaded(SharedRegression), loaded(OwnRegression), loaded(SharedOneVsAll), sparse())
]


def batch_losses(problem: Problem, predictor: Tensor) -> Tensor:
    """Of a complete predictor, [d or d + 1, T]."""
    batch = batch_of(
        PartData([problem], "train", CPU, torch.float64).rows(0, slice(None)), TaskColumns.of(problem, CPU)
    )
    d = problem.n_features
    return batch.task_losses(batch.inputs @ predictor[:d] + (predictor[d:] if len(predictor) > d else 0))


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_weighted_losses_gradients_and_curvatures_are_those_of_a_batch_of_all_rows(problem, intercept):
    data = linear_data([problem], [0, 0], intercept, CPU)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, data.n_rows, data.n_tasks, generator=generator, dtype=torch.float64, requires_grad=True)
    expected = torch.stack([batch_losses(problem, one) for one in data.with_intercept(weights)])
    (slope,) = torch.autograd.grad(expected.sum(), weights)
    losses, gradient = data.losses_and_gradient(weights.detach())
    torch.testing.assert_close(losses, expected.detach())
    torch.testing.assert_close(gradient, slope)
    torch.testing.assert_close(data.gradient_at_zero(), data.losses_and_gradient(torch.zeros_like(weights))[1])
    if data.quadratic:
        bent = gradient - data.gradient_at_zero()
        torch.testing.assert_close(data.curvature_product(weights.detach()), bent)


def test_ridge_regression_of_weighted_rows_is_scikit_learns():
    problem, lambda_ = loaded(OwnRegression), 0.3
    recipe = replace(OwnRegression.recipe, intercept=True)
    trials = miniature_trials(STL(), OwnRegression(), [{"lambda_": lambda_, "mu": 0.0}])
    cell = replace(trials[0].cell, recipe=recipe)
    result = train_stack(STL(), {0: problem}, [replace(trials[0], cell=cell)], OwnRegression())
    train, test = problem.parts["train"], problem.parts["test"]
    for t, weight in enumerate(problem.task_weights):
        own = train.task == t
        alpha = lambda_ * train.sample_weight[own].sum() / weight
        ridge = Ridge(alpha).fit(train.inputs[own], train.labels[own, 0], train.sample_weight[own])
        expected = ridge.predict(test.inputs[test.task == t])
        np.testing.assert_allclose(result.predictions["test"][0, test.task == t, 0], expected, 1e-4, 1e-5)
