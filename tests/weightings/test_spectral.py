"""IMTL-G, ConFIG and Aligned-MTL: pseudo-inverses and eigenvalues, against TorchJD."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mtbench_weightings.aligned_mtl import AlignedMTL
from mtbench_weightings.config import ConFIG
from mtbench_weightings.imtl_g import IMTLG
from torchjd import aggregation


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(IMTLG(), aggregation.IMTLG()), (ConFIG(), aggregation.ConFIG()), (AlignedMTL(), aggregation.AlignedMTL())],
    ids=["imtl_g", "config", "aligned_mtl"],
)
def test_all_are_those_of_torchjd(ours: Any, theirs: Any, jacobians: Any, updates: Any) -> None:
    """On gradients that are independent: where they are not, the two count different eigenvalues as 0."""
    for batch in jacobians(1000, ("plain", "alike")):
        if batch.shape[2] > batch.shape[1]:
            for J, found in zip(batch, updates(ours, batch), strict=True):
                expected = theirs(J)
                assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6 * expected.norm())


def test_imtl_g_has_equal_projections_and_may_have_negative_weights(jacobians: Any, combine: Any) -> None:
    negative = 0
    for batch in jacobians(100, ("plain", "unequal")):
        if batch.shape[2] > batch.shape[1]:
            J = batch[0]
            weights = combine(IMTLG(), J)
            projections = J / J.norm(dim=1, keepdim=True) @ (weights @ J)
            assert torch.allclose(projections, projections[:1].expand_as(projections), rtol=1e-5, atol=1e-12)
            assert weights.sum().item() == pytest.approx(1)
            negative += bool((weights < 0).any())
    assert negative


def test_config_has_equal_cosines_that_are_not_negative_and_the_length_of_the_projections(combine: Any) -> None:
    J = torch.randn(5, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    d = combine(ConFIG(), J) @ J
    cosines = J / J.norm(dim=1, keepdim=True) @ d / d.norm()
    assert cosines.tolist() == pytest.approx([cosines[0].item()] * 5)
    assert (J @ d).sum().item() / d.norm().item() == pytest.approx(d.norm().item())


def test_aligned_gradients_are_orthogonal_and_as_long_as_the_weakest_direction(combine: Any) -> None:
    J = torch.randn(4, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weakest = torch.linalg.svdvals(J)[-1]
    assert (combine(AlignedMTL(), J) @ J).norm().item() == pytest.approx(weakest.item() / 2)


def test_exact_duplicates_do_not_shrink_the_update_of_aligned_mtl(combine: Any) -> None:
    J = torch.randn(3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    twins = torch.cat([J, J[:1]])
    assert (combine(AlignedMTL(), twins) @ twins).norm() > 0.5 * (combine(AlignedMTL(), J) @ J).norm()


def test_singular_gradients_give_finite_weights_of_all_three(combine: Any) -> None:
    J = torch.tensor([[1.0, 2.0], [1.0, 2.0], [-1.0, 0.5], [0.0, 0.0]]).double()
    for method in (IMTLG(), ConFIG(), AlignedMTL()):
        assert combine(method, J).isfinite().all()
