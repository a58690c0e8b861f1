"""Non-negative lasso problems by active sets, against scipy, and where they have no curvature."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from mtbench.linear.active_set import nonnegative_least


def problems(n: int, rank: int, size: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return torch.as_tensor(rng.normal(size=(n, rank, size))), torch.as_tensor(rng.normal(size=(n, rank, width)))


def solved(A, y, l1=0.0, start=None):
    free = torch.ones(len(A), A.shape[2], y.shape[2], dtype=torch.bool)
    begin = torch.zeros(free.shape, dtype=A.dtype) if start is None else start
    return nonnegative_least(A.mT @ A, A.mT @ y - l1, free, begin)


@pytest.mark.parametrize(("rank", "size"), [(9, 6), (4, 12)], ids=["more rows", "more coordinates"])
def test_least_squares_agree_with_scipy(rank: int, size: int) -> None:
    A, y = problems(3, rank, size, 5)
    found = solved(A, y)
    for r in range(3):
        for c in range(5):
            _, distance = nnls(A[r].numpy(), y[r, :, c].numpy())
            assert torch.linalg.vector_norm(A[r] @ found[r, :, c] - y[r, :, c]) == pytest.approx(
                distance, rel=1e-9, abs=1e-9
            )


def test_any_start_leads_to_the_same_minimum() -> None:
    A, y = problems(2, 8, 6, 4)
    x = solved(A, y, 0.3)
    again = solved(A, y, 0.3, start=torch.ones_like(x))
    torch.testing.assert_close(again, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(solved(A[1:], y[1:], 0.3), x[1:], rtol=0, atol=1e-12)


def test_conditions_hold_to_rounding() -> None:
    A, y = problems(3, 5, 20, 20)
    x = solved(A, y, 0.2)
    slope = A.mT @ (A @ x - y) + 0.2
    assert (x >= 0).all()
    assert slope[x > 0].abs().max() < 1e-9
    assert slope.min() > -1e-9


def test_without_curvature_or_leave_coordinates_stay_zero() -> None:
    zero = torch.zeros(1, 3, 3, dtype=torch.float64)
    none = torch.zeros(1, 3, 2, dtype=torch.float64)
    assert (nonnegative_least(zero, none - 1.0, none == 0, none) == 0).all()
    A, y = problems(1, 6, 3, 2)
    assert (nonnegative_least(A.mT @ A, A.mT @ y, none != 0, none + 1.0) == 0).all()
