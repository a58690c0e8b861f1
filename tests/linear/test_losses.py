"""Losses of linear predictors, against a slow loop over trials, tasks and rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtbench import LinearData, Part, Problem, Task, TaskKind
from mtbench.linear.problems import linear_data, linear_support
from mtbench.testing.problems import OwnMulticlass, OwnRegression

TRIALS = [1, 0, 1]


def weights_for(data: LinearData, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(data.n_trials, data.n_rows, data.n_tasks, generator=generator, dtype=torch.float64)


def slow_losses(problems: list[Problem], predictors: Tensor) -> Tensor:
    """L_t of complete predictors [R, d or d + 1, T], row by row."""
    found = torch.zeros(len(TRIALS), problems[0].n_tasks, dtype=torch.float64)
    for r, split in enumerate(TRIALS):
        part, tasks = problems[split].parts["train"], problems[split].tasks
        for t, task in enumerate(tasks):
            column = part.labels[:, 0] if part.task is not None else part.labels[:, t]
            rows = part.task == t if part.task is not None else ~np.isnan(column)
            x = torch.as_tensor(part.inputs[rows], dtype=torch.float64)
            y = torch.as_tensor(column[rows], dtype=torch.float64)
            w = predictors[r, :, t]
            out = x @ w[: x.shape[1]] + (w[-1] if len(w) > x.shape[1] else 0.0)
            logistic = task.kind is TaskKind.BINARY
            loss = nn.functional.binary_cross_entropy_with_logits if logistic else nn.functional.mse_loss
            found[r, t] = loss(out, y)
    return found


def test_losses_are_those_of_the_completed_predictors(problems: list[Problem], data: LinearData) -> None:
    weights = weights_for(data)
    torch.testing.assert_close(data.losses(weights), slow_losses(problems, data.with_intercept(weights)))


def test_gradients_are_those_of_the_losses(problems: list[Problem], data: LinearData) -> None:
    weights = weights_for(data).requires_grad_()
    (expected,) = torch.autograd.grad(slow_losses(problems, data.with_intercept(weights)).sum(), weights)
    losses, gradient = data.losses_and_gradient(weights.detach())
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(losses, data.losses(weights.detach()))


def test_hessians_are_the_change_of_the_gradients(data: LinearData) -> None:
    weights, direction = weights_for(data), weights_for(data, 1)
    ahead, behind = (data.losses_and_gradient(weights + step * direction)[1] for step in (1e-5, -1e-5))
    torch.testing.assert_close(data.hessian(weights)(direction), (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-8)


def test_curvature_is_never_below_the_hessian(data: LinearData) -> None:
    bend = data.hessian(weights_for(data))
    for seed in range(20):
        v = weights_for(data, seed)
        assert ((v * (data.curvature_product(v) - bend(v))).sum(1) > -1e-10).all()


def test_the_linear_term_is_minus_the_gradient_at_zero(data: LinearData) -> None:
    zero = torch.zeros_like(weights_for(data))
    torch.testing.assert_close(data.linear_term()[data.stream].mT, -data.losses_and_gradient(zero)[1])


def test_curvature_operations_agree_with_the_matrices(data: LinearData) -> None:
    curvature, v = data.curvature()[data.stream], weights_for(data)
    torch.testing.assert_close(data.curvature_product(v), torch.einsum("rtpq,rqt->rpt", curvature, v))
    within = torch.einsum("rpk,rtpq,rql->rtkl", v, curvature, v)
    torch.testing.assert_close(data.curvature_within(v).expand_as(within), within)
    sets = weights_for(data, 2)
    torch.testing.assert_close(data.curvature_sum(sets), torch.einsum("rmt,rtpq->rmpq", sets, curvature))
    scale, shift = sets[:, 0].abs() + 0.1, sets[:, 1].abs() + 0.1
    x = data.curvature_solve(scale, shift, v)
    torch.testing.assert_close(scale[:, None] * data.curvature_product(x) + shift[:, None] * x, v)


def test_some_of_the_trials_have_the_losses_they_have_among_all(data: LinearData) -> None:
    weights, some = weights_for(data), torch.tensor([2, 1])
    torch.testing.assert_close(data.select(some).losses(weights[some]), data.losses(weights)[some])
    assert data.select(some).n_trials == 2


def test_tasks_that_share_all_rows_share_one_matrix(problems: list[Problem], data: LinearData) -> None:
    # Of 85 tasks with 500 features the matrices would otherwise take 170 MB a split.
    part = problems[0].parts["train"]
    shared = part.task is None and not np.isnan(part.labels).any()
    assert data.n_curvatures == (1 if shared else data.n_tasks)


@pytest.mark.parametrize("dataset", [OwnRegression, OwnMulticlass])
def test_support_names_what_is_missing(dataset: type) -> None:
    reason = linear_support(dataset().load(Path(), 0, None))
    assert (reason is None) == (dataset is OwnRegression)
    assert reason is None or "binary" in reason


def test_turned_into_the_axes_of_the_mean_curvature_losses_stay_what_they_are(data: LinearData) -> None:
    turned, axes = data.in_mean_axes()
    v = weights_for(data)
    torch.testing.assert_close(turned.losses(v), data.losses(axes @ v))
    torch.testing.assert_close(turned.losses_and_gradient(v)[1], axes.mT @ data.losses_and_gradient(axes @ v)[1])
    offset, expected = (
        turned.with_intercept(v)[:, data.n_features :],
        data.with_intercept(axes @ v)[:, data.n_features :],
    )
    torch.testing.assert_close(offset, expected)
    d = data.n_features
    mean = turned.curvature()[data.stream].mean(1)[:, :d, :d]
    torch.testing.assert_close(mean, torch.diag_embed(data.mean_curvature_eigen()[0]), rtol=1e-9, atol=1e-9)


def test_a_direction_in_which_no_row_extends_is_flat_to_the_last_bit() -> None:
    problem = OwnRegression().load(Path(), 0, None)
    doubled = {
        name: replace(part, inputs=np.concatenate([part.inputs, 100 * part.inputs[:, :1]], 1))
        for name, part in problem.parts.items()
    }
    data = linear_data([replace(problem, parts=doubled)], [0], False, torch.device("cpu"))
    turned, axes = data.in_mean_axes()
    assert (axes[..., 0] == 0).all()
    assert (turned.curvature()[:, :, 0] == 0).all()
    assert (turned.linear_term()[..., 0] == 0).all()
    assert (turned.curvature()[:, :, 1, 1] > 0).all()


def test_rows_of_very_many_features_are_left_to_networks():
    parts = {name: Part(np.zeros((2, 5000), np.float32), np.zeros((2, 1))) for name in ("train", "validation", "test")}
    reason = linear_support(Problem("wide", 0, (Task("t", TaskKind.BINARY),), parts))
    assert reason is not None
    assert "at most 4,096" in reason
    assert "rows of wide have 5,000" in reason


@pytest.mark.parametrize("kind", [TaskKind.BINARY, TaskKind.REGRESSION])
def test_tasks_with_labels_for_few_of_their_shared_rows_get_rows_of_their_own(kind):
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(60, 3)).astype(np.float32), np.full((60, 2), np.nan, np.float32)
    for t, n in ((0, 12), (1, 7)):
        labels[rng.choice(60, n, replace=False), t] = rng.integers(0, 2, n)
    tasks = (Task("a", kind), Task("b", kind))
    few = Problem("few", 0, tasks, {name: Part(inputs, labels) for name in ("train", "validation", "test")})
    # One task with labels for most rows keeps the rows shared; masked out again, the losses are the same.
    filled = np.concatenate([labels, np.zeros((60, 1), np.float32)], 1)
    wide = (*tasks, Task("c", kind))
    shared = Problem("wide", 0, wide, {name: Part(inputs, filled) for name in ("train", "validation", "test")})
    own, all_rows = (linear_data([problem], [0], True, torch.device("cpu")) for problem in (few, shared))
    for data, n_inputs in ((own, 2), (all_rows, 1)):
        if not data.quadratic:
            assert data._inputs.shape[1] == n_inputs
    v = torch.from_numpy(rng.normal(size=(1, own.n_rows, 3)))
    torch.testing.assert_close(own.losses(v[..., :2]), all_rows.losses(v)[:, :2])
    torch.testing.assert_close(
        own.losses_and_gradient(v[..., :2])[1], all_rows.losses_and_gradient(v)[1][..., :2], rtol=1e-9, atol=1e-12
    )
    assert own.n_train.tolist() == [[12, 7]]
