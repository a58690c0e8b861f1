"""UPGrad and DualProj: projections onto what harms no task, by scipy and against TorchJD.

TorchJD adds 1e-4 to the diagonal of a normalised Gram matrix, which leaves conflict with tasks of small gradients, and
takes the mean where the matrix's trace is below 1e-4; its own projector with a smaller addition is what is compared
with, on gradients of ordinary scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mtbench_weightings.dualproj import DualProj
from mtbench_weightings.upgrad import UPGrad
from scipy.optimize import nnls
from torch import Tensor
from torchjd import aggregation
from torchjd.linalg import QuadprogProjector


def _projected(J: Tensor, vector: Tensor) -> Tensor:
    """The nearest vector that opposes no gradient, by scipy."""
    norms = J.norm(dim=1)
    unit = (J[norms > 0] / norms[norms > 0, None]).numpy()
    length = vector.norm().item()
    if length == 0:
        return vector
    return vector + length * torch.from_numpy(unit.T @ nnls(unit.T, -vector.numpy() / length, maxiter=1000)[0])


def test_upgrad_is_the_mean_of_the_projections_of_scipy(jacobians: Any, updates: Any) -> None:
    for batch in jacobians(1000):
        for J, found in zip(batch, updates(UPGrad(), batch), strict=True):
            expected = torch.stack([_projected(J, g) for g in J]).mean(0)
            assert torch.allclose(found, expected, rtol=0, atol=1e-6 * J.norm(dim=1).max())


def test_dualproj_is_the_projection_of_the_mean_of_scipy(jacobians: Any, updates: Any) -> None:
    for batch in jacobians(1000):
        for J, found in zip(batch, updates(DualProj(), batch), strict=True):
            assert torch.allclose(found, _projected(J, J.mean(0)), rtol=0, atol=1e-6 * J.norm(dim=1).max())


@pytest.mark.parametrize(("ours", "theirs"), [(UPGrad(), "UPGrad"), (DualProj(), "DualProj")])
def test_both_are_those_of_torchjd(ours: Any, theirs: str, jacobians: Any, updates: Any) -> None:
    aggregator = getattr(aggregation, theirs)(projector=QuadprogProjector(norm_eps=0.0, reg_eps=1e-10))
    for batch in jacobians(300, ("alike", "plain")):
        if batch.shape[2] > batch.shape[1]:
            for J, found in zip(batch, updates(ours, batch), strict=True):
                assert torch.allclose(found, aggregator(J), atol=1e-6)


@pytest.mark.parametrize("method", [UPGrad(), DualProj()], ids=lambda m: m.name)
def test_no_task_is_harmed_however_small_its_gradient(method: Any, jacobians: Any, updates: Any) -> None:
    for batch in jacobians(200, ("unequal", "scaled")):
        norms = batch.norm(dim=-1)
        gains = (batch @ updates(method, batch)[..., None])[..., 0] / norms
        assert (gains.amin(-1) >= -1e-9 * norms.amax(-1)).all()


@pytest.mark.parametrize("method", [UPGrad(), DualProj()], ids=lambda m: m.name)
@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, 1e6])
def test_without_conflict_both_are_the_mean(method: Any, scale: float, combine: Any) -> None:
    J = scale * torch.rand(5, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(combine(method, J), torch.full((5,), 0.2, dtype=torch.float64))


def test_tiny_gradients_in_conflict_are_projected_all_the_same(combine: Any) -> None:
    J = 1e-9 * torch.tensor([[1.0, 0.0], [-1.0, 1.0]]).double()
    for method in (UPGrad(), DualProj()):
        assert np.min((J @ (combine(method, J) @ J)).numpy()) >= -1e-30
