"""AMTL: both solvers, descent, limiting cases, and transfer on generated data."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from mtbench_methods.amtl import AMTL, objective
from mtbench_methods.stl import STL

from mtbench.testing.problems import OwnRegression

SOLVERS = ("alternating", "curriculum")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> AMTL:
    """Solves more exactly than the method promises."""
    monkeypatch.setattr(AMTL, "tolerance", 1e-9)
    return AMTL()


def test_the_objective_falls_with_every_round(mini_data, solving, monkeypatch) -> None:
    params = solving.params(AMTL(), 2, alpha=[0.01, 0.5], gamma=[1.0, 0.1], delta=0.1, mu=[0.0, 0.01])
    values = []
    for rounds in (1, 2, 3, 5, 8, 20, 60):
        monkeypatch.setattr(AMTL, "max_rounds", rounds)
        found = AMTL().solve(mini_data, params)
        values.append(objective(mini_data, found.weights, found.learned["transfer"], params))
    assert all((later <= earlier + 1e-12).all() for earlier, later in pairwise(values))


def test_weights_and_transfer_meet_the_optimality_conditions(mini_data, solving, patient) -> None:
    params = solving.params(patient, 2, alpha=[0.05, 0.3], gamma=[0.5, 2.0], delta=0.1)
    found = patient.solve(mini_data, params)
    W, B = found.weights, found.learned["transfer"]
    V, n_tasks = W[:, : mini_data.n_features], mini_data.n_tasks
    losses, gradient = mini_data.losses_and_gradient(W)
    apart = torch.eye(n_tasks, dtype=torch.float64) - B
    twice = 2.0 * params.gamma[:, None, None]
    slope = (1.0 + params.alpha[:, None] * B.sum(2))[:, None] * gradient
    slope[:, : mini_data.n_features] += twice * V @ apart @ apart.mT
    assert slope.abs().max() < 1e-6
    nothing, sizes = mini_data.losses(torch.zeros_like(W)).mean(1, keepdim=True), mini_data.n_train
    offset = 0.1 * nothing * (sizes.mean(1, keepdim=True) / sizes).sqrt()
    pull = twice * V.mT @ (V @ B - V) + (params.alpha[:, None] * (losses + offset))[:, :, None]
    used, others = B > 1e-6, (1 - torch.eye(n_tasks)).bool().expand_as(B)
    assert (pull[used].abs() < 1e-6).all()
    assert (pull[others] > -1e-6).all()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("nonnegative", [True, False])
def test_both_solvers_end_at_the_tolerance(mini_data, solving, solver, nonnegative) -> None:
    found = solving.fit(
        AMTL(), mini_data, alpha=[0.05, 0.3], gamma=[10.0, 0.5], mu=[0.0, 0.01], solver=solver, nonnegative=nonnegative
    )
    assert (found.residual <= AMTL.tolerance).all()


def test_what_ran_out_of_rounds_says_how_far_it_is(mini_data, solving, monkeypatch) -> None:
    monkeypatch.setattr(AMTL, "max_rounds", 2)
    found = solving.fit(AMTL(), mini_data, alpha=0.05, gamma=1.0)
    assert (found.residual > AMTL.tolerance).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_stacked_equals_alone(miniature, solving, solver) -> None:
    settings = {"alpha": [0.01, 0.1, 1.0, 0.3], "gamma": [1.0, 10.0, 0.1, 1.0], "mu": [0.0, 0.0, 0.05, 0.0]}
    solving.assert_stacked_equals_alone(AMTL(), miniature, solver=solver, delta=0.2, **settings)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("nonnegative", [True, False])
def test_no_task_gives_to_itself_and_signs_are_as_asked(mini_data, solving, solver, nonnegative) -> None:
    B = solving.fit(AMTL(), mini_data, alpha=1e-3, delta=0.0, solver=solver, nonnegative=nonnegative).learned[
        "transfer"
    ]
    assert (B.diagonal(dim1=1, dim2=2) == 0).all()
    assert (B >= 0).all() if nonnegative else (B < 0).any() or solver == "curriculum"
    # One class against the rest: such predictors are combinations of each other with negative signs only.
    assert (B > 0).any() or not (nonnegative and mini_data.quadratic)


def test_tasks_of_a_curriculum_take_from_those_before_them_only(mini_data, solving) -> None:
    B = solving.fit(AMTL(), mini_data, alpha=1e-3, gamma=1.0, solver="curriculum").learned["transfer"]
    # Without cycles the powers of a T x T matrix end.
    assert (torch.linalg.matrix_power((B > 0).double(), mini_data.n_tasks) == 0).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_without_transfer_or_penalty_tasks_are_learned_alone(solving, patient, solver) -> None:
    problem, _ = solving.related_tasks(30)
    data = solving.data([problem], [0])
    found = solving.fit(patient, data, alpha=0.0, gamma=0.0, solver=solver)
    alone = solving.fit(STL(), data, lambda_=0.0)
    torch.testing.assert_close(found.weights, alone.weights, rtol=0, atol=1e-6)
    assert (found.learned["transfer"] == 0).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_where_transfer_is_too_dear_the_coupling_is_a_ridge(mini_data, solving, patient, solver) -> None:
    if solver == "curriculum" and len(mini_data.n_train[0]) == 3:
        pytest.skip("one-vs-all: the curriculum takes half a minute; it is held on regressions")
    found = solving.fit(patient, mini_data, alpha=1e6, gamma=0.1, solver=solver)
    assert (found.learned["transfer"] == 0).all()
    torch.testing.assert_close(found.weights, solving.fit(STL(), mini_data, lambda_=0.1).weights, rtol=0, atol=1e-5)


@pytest.mark.parametrize("option", [{"delta": 0.3}, {"delta": 0.0, "imbalance": True}])
def test_both_offset_and_imbalance_make_small_tasks_give_less(solving, option) -> None:
    data = solving.data([OwnRegression().load(Path(), 0, None)], [0])
    assert data.n_train[0].tolist() == sorted(data.n_train[0].tolist(), reverse=True)
    share = []
    # The balance divides costs by a few: as much transfer as without it needs an alpha as many times as large.
    for changes in ({"alpha": 0.02, "delta": 0.0}, {"alpha": 0.06 if "imbalance" in option else 0.02, **option}):
        given = solving.fit(AMTL(), data, gamma=1.0, **changes)
        out = given.learned["transfer"][0].sum(1)
        share.append((out[2:].sum() / out.sum()).item())
    assert share[1] < share[0]


def test_hard_tasks_gain_from_easy_ones(solving) -> None:
    # Six rows for eight features: no task could find its predictor alone.
    problem, W = solving.related_tasks(6, noise=0.01)
    data = solving.data([problem], [0], intercept=False)
    alone = np.linalg.norm(solving.fit(STL(), data, lambda_=1e-3).weights[0].numpy() - W)
    found = solving.fit(AMTL(), data, alpha=0.1, gamma=1.0)
    assert np.linalg.norm(found.weights[0].numpy() - W) < 0.5 * alone
    given = found.learned["transfer"][0].numpy()
    within = given[:4, :4].sum() + given[4:8, 4:8].sum()
    assert within > 3 * (given[:4, 4:8].sum() + given[4:8, :4].sum())


@pytest.mark.parametrize(("solver", "expected"), [("alternating", 6.468251), ("curriculum", 5.609550)])
def test_a_pinned_value(solving, solver, expected) -> None:
    data = solving.data([OwnRegression().load(Path(), 0, None)], [0])
    found = solving.fit(AMTL(), data, alpha=0.1, gamma=1.0, solver=solver)
    assert found.weights.norm().item() == pytest.approx(expected, rel=1e-4)
