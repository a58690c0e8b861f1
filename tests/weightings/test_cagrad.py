"""CAGrad: its primal and dual values agree, which only the solution's do; and TorchJD, whose solver is less exact."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mtbench_weightings.cagrad import CAGrad
from torch import Tensor
from torchjd.aggregation import CAGrad as TorchJDs

METHOD = CAGrad()


def _measured(J: Tensor, d: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """How far updates are from the mean gradient g_0, over c |g_0|; and what the task that gains least gains."""
    mean = J.mean(-2)
    return (d - mean).norm(dim=-1) / (c * mean.norm(dim=-1)), (J @ d[..., None])[..., 0].amin(-1)


@pytest.mark.parametrize("c", [0.1, 0.5, 0.9])
def test_the_worst_gain_is_what_weak_duality_allows_at_most(c: float, jacobians: Any, updates: Any) -> None:
    """g_w'd for the weights w of the step bounds min_t g_t'd from above, with equality at the solution alone."""
    for J in jacobians(450, ("plain", "alike", "ill-conditioned")):
        d = updates(METHOD, J, {"c": c})
        away, worst = _measured(J, d, c)
        assert torch.allclose(away, torch.ones_like(away), atol=1e-8)
        weights = torch.linalg.lstsq(J.mT, (d - J.mean(-2))[..., None]).solution[..., 0]
        if J.shape[2] > J.shape[1] and c == 0.5:  # independent gradients: the weights are unique
            assert (weights.amin(-1) >= -1e-7 * weights.amax(-1)).all()
            w = weights / weights.sum(-1, keepdim=True)
            bound = ((w[:, None] @ J)[:, 0] * d).sum(-1)
            assert torch.allclose(worst, bound, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_it_is_torchjds_at_ordinary_scale_and_the_same_at_others(scale: float, jacobians: Any, updates: Any) -> None:
    """TorchJD's solver is good to about 1e-4, and gives 0 below a trace of 1e-4."""
    theirs = TorchJDs(c=0.5)
    for J in jacobians(30, ("plain", "alike"), n_trials=3):
        found = updates(METHOD, scale * J, {"c": 0.5}) / scale
        for one, d in zip(J, found, strict=True):
            expected = theirs(one)
            assert torch.allclose(d, expected, atol=1e-3 * expected.norm())
            if scale == 1:
                assert (one @ d).min() >= (one @ expected).min() - 1e-3 * expected.norm() ** 2


def test_scaled_gradients_have_the_scaled_update(jacobians: Any, updates: Any) -> None:
    for J in jacobians(50, ("plain", "unequal")):
        expected = updates(METHOD, J)
        for scale in (1e-9, 1e6):
            found = updates(METHOD, scale * J) / scale
            assert torch.allclose(found, expected, rtol=1e-6, atol=1e-7 * J.norm(dim=-1).amax())


def test_without_distance_it_is_the_mean(combine: Any) -> None:
    J = torch.randn(5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(combine(METHOD, J, {"c": 0.0}), torch.full((5,), 0.2).double())


def test_many_tasks_are_no_problem(updates: Any) -> None:
    J = torch.randn(1, 139, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    d = updates(METHOD, J, {"c": 0.9})
    away, worst = _measured(J, d, 0.9)
    assert away.item() == pytest.approx(1)
    other = J.mean(-2) + 0.9 * J.mean(-2).norm() * torch.nn.functional.normalize(torch.randn(1000, 60).double(), dim=1)
    assert (worst >= (J[0] @ other.mT).amin(0)).all()
