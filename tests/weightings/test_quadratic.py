"""Quadratic programs over vectors without negative numbers, against scipy's active sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor

from mtbench.weighting.quadratic import nonnegative_minimum


def _gradient(J: Tensor, task: int) -> np.ndarray:
    """The projection of a unit gradient onto the vectors that oppose none, by scipy."""
    unit = J.numpy() / np.linalg.norm(J.numpy(), axis=1, keepdims=True)
    return unit[task] + unit.T @ nnls(unit.T, -unit[task], maxiter=1000)[0]


@pytest.mark.parametrize("shape", [(2, 5), (3, 3), (12, 40), (12, 12), (12, 5), (139, 300), (139, 40)], ids=str)
def test_projections_are_those_of_scipy(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    J = torch.randn(40 if shape[0] < 100 else 2, *shape, dtype=torch.float64, generator=generator)
    unit = J / J.norm(dim=-1, keepdim=True)
    C = unit @ unit.mT
    y = nonnegative_minimum(C, C[..., 0], torch.ones_like(C[..., 0]))
    assert (y >= 0).all()
    found = unit[:, 0] + (y[:, None] @ unit)[:, 0]
    expected = torch.from_numpy(np.stack([_gradient(one, 0) for one in J]))
    assert torch.allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize(
    "unit",
    [
        torch.eye(4, dtype=torch.float64),
        torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64),
        torch.ones(5, 1, dtype=torch.float64),
        torch.tensor([[1.0], [-1.0]], dtype=torch.float64),
        torch.tensor([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]], dtype=torch.float64),
    ],
    ids=["orthogonal", "twins and an opposite", "all equal", "opposite", "star"],
)
def test_degenerate_problems_are_solved_too(unit: Tensor) -> None:
    C = unit @ unit.mT
    y = nonnegative_minimum(C, C[..., 0], torch.ones(len(C), dtype=torch.float64))
    found = unit[0] + y @ unit
    assert torch.allclose(found, torch.from_numpy(_gradient(unit, 0)), atol=1e-6)


def test_a_bad_problem_leaves_the_others_as_they_are() -> None:
    generator = torch.Generator().manual_seed(1)
    J: Any = torch.randn(7, 4, 6, dtype=torch.float64, generator=generator)
    C = J @ J.mT
    active = torch.ones(7, 4, dtype=torch.float64)
    before = nonnegative_minimum(C, C[..., 0], active)
    for bad in (torch.nan, torch.inf, 0.0):
        broken = C.clone()
        broken[3] = bad
        after = nonnegative_minimum(broken, broken[..., 0], active)
        assert torch.equal(before[:3], after[:3])
        assert torch.equal(before[4:], after[4:])
