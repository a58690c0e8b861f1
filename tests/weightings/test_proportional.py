"""Nash-MTL and FairGrad: the equations they solve, at all scales, and TorchJD where it solved them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mtbench_weightings.fairgrad import FairGrad
from mtbench_weightings.nash_mtl import NashMTL
from torch import Tensor
from torchjd.aggregation import FairGrad as TorchJDsFairGrad
from torchjd.aggregation import NashMTL as TorchJDsNashMTL


def _weights(method: Any, J: Tensor, combine: Any, settings: Any = None) -> Tensor:
    return torch.vmap(lambda one: combine(method, one, settings))(J)


def _solvable(J: Tensor) -> bool:
    return J.shape[2] >= J.shape[1]


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e6])
def test_nash_mtl_solves_its_equation_at_every_scale(scale: float, jacobians: Any, combine: Any) -> None:
    for J in jacobians(250, ("plain", "alike", "unequal", "scaled")):
        if _solvable(J):
            w = _weights(NashMTL(), scale * J, combine)
            gains = (w[:, None] @ J @ J.mT)[:, 0] * scale**2
            assert (w > 0).all()
            # Rounding of the Gram matrix alone is felt where gradients nearly cancel.
            assert torch.allclose(w * gains, torch.ones_like(w), atol=1e-5)
            assert torch.median((w * gains - 1).abs()) < 1e-9


def test_the_update_of_nash_mtl_is_as_long_as_the_root_of_the_number_of_tasks(jacobians: Any, updates: Any) -> None:
    for J in jacobians(100, ("alike", "scaled")):
        if _solvable(J):
            length = updates(NashMTL(), J).norm(dim=-1)
            assert torch.allclose(length, torch.full_like(length, J.shape[1] ** 0.5), rtol=1e-5)


def test_losses_of_scales_from_a_thousandth_to_a_thousand_do_not_matter(combine: Any) -> None:
    J = torch.randn(7, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scales = torch.logspace(-3, 3, 7, dtype=torch.float64)
    expected = combine(NashMTL(), J) @ J
    assert torch.allclose(combine(NashMTL(), scales[:, None] * J) @ (scales[:, None] * J), expected, rtol=1e-8)


def test_without_a_solution_nash_mtl_stays_finite_and_its_update_bounded(combine: Any) -> None:
    J = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).double()
    for gradients in (J, opposite):
        weights = combine(NashMTL(), gradients)
        assert weights.isfinite().all()
        assert (weights @ gradients).norm() <= len(gradients) ** 0.5 + 1e-3


@pytest.mark.filterwarnings("ignore")
def test_nash_mtl_is_torchjds_where_that_solves_the_equation(jacobians: Any, combine: Any) -> None:
    """It keeps the last weights where its solver fails: only what satisfies the equation is compared."""
    compared = 0
    for J in jacobians(20, ("plain", "alike"), n_trials=2):
        if not _solvable(J):
            continue
        theirs = TorchJDsNashMTL(n_tasks=J.shape[1], max_norm=0.0, optim_niter=100)
        for one in J:
            theirs.reset()
            update = theirs(one)
            expected = torch.linalg.lstsq(one.mT, update[:, None]).solution[:, 0]
            if torch.allclose(expected * (one @ update), torch.ones_like(expected), atol=1e-6):
                compared += 1
                assert torch.allclose(combine(NashMTL(), one) @ one, update, atol=1e-6 * update.norm())
    assert compared > 2


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_fairgrad_solves_its_equation(alpha: float, scale: float, jacobians: Any, combine: Any) -> None:
    for J in jacobians(100, ("plain", "alike")):
        if _solvable(J):
            w = _weights(FairGrad(), scale * J, combine, {"alpha": alpha})
            gains = (w[:, None] @ J @ J.mT)[:, 0] * scale**2
            error = (w.log() + alpha * gains.clamp(min=1e-300).log()).abs()
            assert error.median() < 1e-8
            assert error.amax() < 1e-4


def test_fairgrad_is_torchjds(jacobians: Any, updates: Any) -> None:
    for J in jacobians(60, ("alike",), n_trials=10):
        if _solvable(J):
            found = updates(FairGrad(), J, {"alpha": 2.0})
            for one, update in zip(J, found, strict=True):
                assert torch.allclose(update, TorchJDsFairGrad(alpha=2.0)(one), atol=1e-6 * update.norm())


def test_fairgrad_is_nash_mtl_at_1_and_equal_weights_near_0(combine: Any) -> None:
    J = torch.randn(4, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(combine(FairGrad(), J, {"alpha": 1.0}), combine(NashMTL(), J))
    assert torch.allclose(combine(FairGrad(), J, {"alpha": 1e-3}), torch.ones(4).double(), atol=0.02)
