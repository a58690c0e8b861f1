"""GO-MTL: descent, its limiting cases, and the bases of generated data."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from mtbench_methods import go_mtl
from mtbench_methods.go_mtl import GOMTL, penalty
from mtbench_methods.go_mtl.latent_bases import initial_bases
from mtbench_methods.stl import STL

from mtbench import Part, Problem, Task, TaskKind
from mtbench.testing.problems import OwnRegression


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> GOMTL:
    """Solves more exactly than the method promises, from one start."""
    monkeypatch.setattr(GOMTL, "tolerance", 1e-9)
    monkeypatch.setattr(GOMTL, "newton_rounds", 3000)
    monkeypatch.setattr(GOMTL, "n_starts", 1)
    return GOMTL()


def objective(data, solution, params):
    L, S = solution.learned["bases"], solution.learned["coefficients"]
    bare = torch.zeros(data.n_trials, data.n_rows, params.k + data.n_rows - data.n_features, dtype=torch.float64)
    bare[:, : data.n_features, : params.k] = L
    padded = torch.nn.functional.pad(S, (0, 0, 0, data.n_rows - data.n_features))
    return data.losses(solution.weights).sum(1) + penalty(data, bare, padded, params.mu, params.lambda_)


def test_the_objective_falls_with_every_round(mini_data, solving, monkeypatch) -> None:
    params = solving.params(GOMTL(), 2, k=2, mu=[0.01, 0.1], lambda_=0.05)
    values = []
    monkeypatch.setattr(GOMTL, "n_starts", 1)
    monkeypatch.setattr(GOMTL, "trial_rounds", 0)
    monkeypatch.setattr(GOMTL, "near_rounds", 0)
    # Its undamped steps may lead from an early state further down than from a later one.
    monkeypatch.setattr(go_mtl, "_settled", lambda data, bases, coefficients, mu, _: ((bases, coefficients), mu))
    for rounds in (1, 2, 3, 5, 8, 20, 60):
        monkeypatch.setattr(GOMTL, "newton_rounds", rounds)
        values.append(objective(mini_data, GOMTL().solve(mini_data, params), params))
    assert all((later <= earlier + 1e-12).all() for earlier, later in pairwise(values))


def test_bases_and_coefficients_meet_the_optimality_conditions(mini_data, solving, patient) -> None:
    mu, lambda_ = torch.tensor([0.02, 0.1], dtype=torch.float64), 0.03
    found = solving.fit(patient, mini_data, k=2, mu=mu, lambda_=lambda_)
    L, S = found.learned["bases"], found.learned["coefficients"]
    gradient = mini_data.losses_and_gradient(found.weights)[1]
    of_features = gradient[:, : mini_data.n_features]
    torch.testing.assert_close(of_features @ S.mT, -2 * lambda_ * L, rtol=0, atol=1e-4)
    slope, width = L.mT @ of_features, mu[:, None, None].expand_as(S)
    used = S.abs() > 1e-8
    torch.testing.assert_close(slope[used], (-width * S.sign())[used], rtol=0, atol=1e-4)
    assert (slope.abs() <= width + 1e-4)[~used].all()
    assert gradient[:, mini_data.n_features :].abs().sum() < 1e-4


def test_it_ends_at_the_tolerance(mini_data, solving) -> None:
    found = solving.fit(GOMTL(), mini_data, k=2, mu=[0.01, 0.1], lambda_=[0.05, 0.01])
    assert (found.residual <= GOMTL.tolerance).all()


def test_no_start_of_many_is_better_by_a_thousandth(solving, monkeypatch) -> None:
    problem, _ = solving.related_tasks(12, noise=1.0)
    data = solving.data([problem], [0, 0])
    params = solving.params(GOMTL(), 2, k=3, mu=[0.01, 0.1], lambda_=[0.05, 0.01])
    found = objective(data, GOMTL().solve(data, params), params)
    monkeypatch.setattr(GOMTL, "n_starts", 24)
    monkeypatch.setattr(GOMTL, "n_finalists", 24)
    best = objective(data, GOMTL().solve(data, params), params)
    assert (found <= 1.001 * best).all()


def test_stacked_equals_alone(miniature, solving) -> None:
    solving.assert_stacked_equals_alone(
        GOMTL(), miniature, k=2, mu=[1e-3, 1e-2, 0.1, 1.0], lambda_=[0.1, 0.01, 0.01, 0.1]
    )


def test_features_that_depend_on_each_other_do_not_amplify_rounding(solving) -> None:
    # As in School: codes that add up to a constant column, and percentages beside them.
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(12), 30)
    codes = np.eye(4)[rng.integers(4, size=len(task))]
    x = np.concatenate([codes, codes.sum(1, keepdims=True), rng.uniform(0, 90, size=(len(task), 2))], 1)
    y = 20 + x @ rng.normal(size=7) + 0.3 * task * codes[:, 0] + 10 * rng.normal(size=len(task))
    part = Part(x.astype(np.float32), y[:, None].astype(np.float32), task)
    tasks = tuple(Task(f"school_{t}", TaskKind.REGRESSION) for t in range(12))
    problem = Problem("codes", 0, tasks, dict.fromkeys(("train", "validation", "test"), part))
    mu, lambda_ = [1e-3, 1e-2, 1e-4, 3e-4, 1e-3], [1e-4, 1e-3, 1e-2, 1e-4, 3e-4]
    together = solving.fit(GOMTL(), solving.data([problem], [0] * 5, False), k=3, mu=mu, lambda_=lambda_)
    for r in range(5):
        alone = solving.fit(GOMTL(), solving.data([problem], [0], False), k=3, mu=mu[r], lambda_=lambda_[r])
        torch.testing.assert_close(together.weights[r], alone.weights[0], rtol=2e-10, atol=2e-10)


def test_as_many_bases_as_tasks_without_penalty_are_single_task_learning(solving, patient) -> None:
    problem, _ = solving.related_tasks(30)
    data = solving.data([problem], [0])
    free = solving.fit(patient, data, k=9, mu=0.0, lambda_=0.0).weights
    torch.testing.assert_close(free, solving.fit(STL(), data, lambda_=0.0).weights, rtol=0, atol=1e-4)


def test_a_great_l1_weight_leaves_nothing_but_intercepts(mini_data, solving) -> None:
    found = solving.fit(GOMTL(), mini_data, k=2, mu=1e4, lambda_=1.0)
    assert found.weights[:, : mini_data.n_features].abs().max() < 1e-8
    # Bases that no task uses are 0 to the last digit, and so solved.
    assert (found.learned["bases"] == 0).all()
    assert (found.residual <= GOMTL.tolerance).all()


def test_the_bases_that_made_the_data_are_found(solving) -> None:
    # Six rows for eight features: no task could find its predictor alone.
    problem, W = solving.related_tasks(6, noise=0.01)
    data = solving.data([problem], [0], intercept=False)
    found = solving.fit(GOMTL(), data, k=2, mu=1e-3, lambda_=1e-3)
    alone = solving.fit(STL(), data, lambda_=1e-3).weights[0].numpy()
    error = np.linalg.norm(found.weights[0].numpy() - W)
    assert error < 0.15 * np.linalg.norm(alone - W)
    assert found.n_parameters == 2 * (8 + 9)


def test_a_pinned_value(solving) -> None:
    data = solving.data([OwnRegression().load(Path(), 0, None)], [0])
    found = solving.fit(GOMTL(), data, k=2, mu=0.1, lambda_=0.1)
    assert found.weights.norm().item() == pytest.approx(6.401812, rel=1e-4)


def test_signs_of_the_starts_do_not_matter(mini_data, solving, monkeypatch) -> None:
    # Singular vectors have none of their own: another device's library gives others.
    monkeypatch.setattr(GOMTL, "n_starts", 1)
    found = solving.fit(GOMTL(), mini_data, k=2, mu=0.02, lambda_=0.03).learned
    monkeypatch.setattr(go_mtl, "initial_bases", lambda *given: tuple(-tensor for tensor in initial_bases(*given)))
    again = solving.fit(GOMTL(), mini_data, k=2, mu=0.02, lambda_=0.03).learned
    for name in ("bases", "coefficients"):
        torch.testing.assert_close(again[name], found[name], rtol=0, atol=1e-8)
