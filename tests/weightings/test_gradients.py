"""GradDrop, DB-MTL, ExcessMTL and GradNorm: their formulas, step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mtbench_weightings.db_mtl import DBMTL
from mtbench_weightings.excess_mtl import ExcessMTL
from mtbench_weightings.graddrop import GradDrop
from mtbench_weightings.gradnorm import GradNorm
from torch import Tensor


def _gradients(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_graddrop_keeps_one_sign_with_the_paper_s_probability(combine: Any) -> None:
    J = torch.tensor([[3.0], [-1.0], [2.0]]).double().expand(3, 20_000)
    found = combine(GradDrop(), J)
    assert set(found.tolist()) == {5.0, -1.0}
    assert (found > 0).double().mean().item() == pytest.approx((1 + 4 / 6) / 2, abs=0.01)


def test_graddrop_without_conflict_or_with_a_whole_leak_is_the_sum(combine: Any) -> None:
    J = _gradients(4, 50)
    assert torch.allclose(combine(GradDrop(), J.abs()), J.abs().sum(0))
    assert torch.allclose(combine(GradDrop(), J, {"leak": 1.0}), J.sum(0))
    half, none = combine(GradDrop(), J, {"leak": 0.25}), combine(GradDrop(), J)
    assert torch.allclose(half, 0.25 * J.sum(0) + 0.75 * none)


def test_db_mtl_is_its_formula_over_steps(step: Any, params: Any) -> None:
    method, settings = DBMTL(), params(DBMTL(), beta=0.5)
    state, average = dict(method.start(3, 5, settings)), None
    for k in range(3):
        J, losses = _gradients(3, 5, seed=k), torch.rand(3).double() + 0.5
        logs = J / losses[:, None]
        average = logs if average is None else (average + logs) / 2
        norms = average.norm(dim=1)
        found, state = method.combine(step(J, losses, state=state), settings)
        assert torch.allclose(found, norms.max() * (average / norms[:, None]).sum(0), rtol=1e-5)


def test_db_mtl_does_not_feel_the_scale_of_losses(combine: Any) -> None:
    J, scales = _gradients(3, 6), torch.tensor([1e-3, 1.0, 1e3]).double()
    found = combine(DBMTL(), scales[:, None] * J, losses=scales)
    assert torch.allclose(found, combine(DBMTL(), J), rtol=1e-4)


def test_excess_mtl_is_its_formula_over_steps(step: Any, params: Any) -> None:
    method, settings = ExcessMTL(), params(ExcessMTL(), eta=0.5)
    state, squares = dict(method.start(3, 5, settings)), torch.zeros(3, 5).double()
    w, first = torch.full((3,), 1 / 3).double(), None
    for k in range(3):
        J = _gradients(3, 5, seed=k)
        squares = squares + J**2
        excess = (J**2 / squares.sqrt()).sum(1)
        first = excess if first is None else first
        w = w * (0.5 * excess / first).exp()
        w = w / w.sum()
        found, state = method.combine(step(J, state=state), settings)
        assert torch.allclose(found, w @ J, rtol=1e-5)
    assert w.std() > 0.001


def test_gradnorm_evens_out_norms_where_tasks_learn_alike(step: Any, params: Any) -> None:
    method, settings = GradNorm(), params(GradNorm(), rate=0.01)
    J = _gradients(3, 40) * torch.tensor([1.0, 2.0, 0.5]).double()[:, None]
    state = dict(method.start(3, 40, settings))
    for _ in range(600):
        weights, state = method.combine(step(J, state=state), settings)
    assert weights.sum().item() == pytest.approx(3)
    norms = weights * J.norm(dim=1)
    assert torch.allclose(norms / norms.mean(), torch.ones(3).double(), atol=0.05)


def test_gradnorm_favours_the_task_that_learns_most_slowly(step: Any, params: Any) -> None:
    method, settings = GradNorm(), params(GradNorm(), rate=0.01, alpha=1.0)
    J = torch.eye(2, 6, dtype=torch.float64)
    state = dict(method.start(2, 6, settings))
    for losses in [[1.0, 1.0]] + [[0.5, 0.9]] * 600:
        weights, state = method.combine(step(J, losses, state=state), settings)
    assert (weights[1] / weights[0]).item() == pytest.approx(0.9 / 0.5, abs=0.15)


def test_the_weight_of_an_absent_task_only_follows_the_common_scale(step: Any, params: Any) -> None:
    method, settings = GradNorm(), params(GradNorm())
    J = _gradients(3, 8)
    _, state = method.combine(step(J, present=[1.0, 1.0, 0.0], state=dict(method.start(3, 8, settings))), settings)
    assert state["first"][2] == 0
    assert state["adam_steps"].tolist() == [1, 1, 0]
