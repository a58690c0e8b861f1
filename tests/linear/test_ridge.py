"""Ridge solutions against scikit-learn's and against their optimality conditions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from mtbench import LinearData, Problem
from mtbench.linear.problems import linear_data
from mtbench.linear.ridge import features_only, light_ridge, ridge, sparse_ridge
from mtbench.testing.problems import OwnRegression, SharedOneVsAll

CPU = torch.device("cpu")


def constant(value: float, n: int = 3) -> torch.Tensor:
    return torch.full((n,), value, dtype=torch.float64)


def test_the_gradient_is_zero_at_a_ridge_solution(data: LinearData) -> None:
    weights = ridge(data, constant(0.05))
    gradient = data.losses_and_gradient(weights)[1] + 0.1 * features_only(data, weights) * weights
    assert gradient.abs().max() < 1e-9


def test_a_ridge_about_a_centre_of_great_weight_is_that_centre(data: LinearData) -> None:
    centre = torch.ones(3, data.n_rows, data.n_tasks, dtype=torch.float64)
    weights = ridge(data, constant(1e7), centre)
    torch.testing.assert_close(weights[:, : data.n_features], centre[:, : data.n_features], rtol=0, atol=1e-5)


def test_sparse_ridge_meets_the_subgradient_conditions(data: LinearData) -> None:
    mu = torch.tensor([0.0, 0.05, 2.0], dtype=torch.float64)
    start = ridge(data, constant(0.02))
    weights = sparse_ridge(data, constant(0.02), mu, start)
    touched = features_only(data, weights)
    slope = data.losses_and_gradient(weights)[1] + 0.04 * touched * weights
    width = (mu[:, None, None] * touched).expand_as(weights)
    zero = weights == 0
    torch.testing.assert_close(slope[~zero], (-width * weights.sign())[~zero], rtol=0, atol=1e-6)
    assert (slope.abs() <= width + 1e-6)[zero].all()
    assert torch.equal(weights[0], start[0])
    assert zero[2].any()


@pytest.mark.parametrize("intercept", [False, True])
def test_ridge_is_that_of_scikit_learn(intercept: bool) -> None:
    problem = OwnRegression().load(Path(), 0, None)
    data = linear_data([problem], [0], intercept, CPU)
    found = data.with_intercept(ridge(data, constant(0.1, 1)))[0].numpy()
    part = problem.parts["train"]
    for t in range(problem.n_tasks):
        x, y = part.inputs[part.task == t].astype(float), part.labels[part.task == t, 0].astype(float)
        model = Ridge(alpha=0.1 * len(x), fit_intercept=intercept).fit(x, y)
        expected = np.append(model.coef_, model.intercept_) if intercept else model.coef_
        np.testing.assert_allclose(found[:, t], expected, atol=1e-9)


def test_logistic_ridge_is_that_of_scikit_learn() -> None:
    problem: Problem = SharedOneVsAll().load(Path(), 0, None)
    data = linear_data([problem], [0], True, CPU)
    found = data.with_intercept(ridge(data, constant(0.01, 1)))[0].numpy()
    part = problem.parts["train"]
    for t in range(problem.n_tasks):
        model = LogisticRegression(C=1 / (2 * 0.01 * part.n_rows), tol=1e-10, max_iter=5000)
        model.fit(part.inputs.astype(float), part.labels[:, t])
        np.testing.assert_allclose(found[:, t], np.append(model.coef_, model.intercept_), atol=1e-5)


def test_without_penalty_and_with_too_few_rows_ridge_is_of_least_norm() -> None:
    problem = OwnRegression().load(Path(), 0, None)
    data = linear_data([problem], [0], False, CPU)
    found = ridge(data, constant(0.0, 1))[0].numpy()
    part = problem.parts["train"]
    x, y = part.inputs[part.task == 3].astype(float), part.labels[part.task == 3, 0].astype(float)
    assert len(x) < x.shape[1]
    np.testing.assert_allclose(found[:, 3], np.linalg.pinv(x) @ y, atol=1e-8)


def test_the_start_depends_on_the_training_set_alone(data: LinearData) -> None:
    weights = light_ridge(data)
    assert torch.isfinite(weights).all()
    torch.testing.assert_close(weights[0], weights[2], rtol=0, atol=1e-12)
