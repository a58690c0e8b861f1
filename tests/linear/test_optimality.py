"""The smallest subgradient, and residuals without a unit."""

import torch

from mtbench.linear.optimality import relative, smallest_subgradient


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_kinks_absorb_what_they_can() -> None:
    slope, x, l1 = numbers(-2, 0.5, -3, 3, 1), numbers(1, 0, 0, 0, -1), numbers(2, 1, 1, 1, 2)
    assert smallest_subgradient(slope, x, l1).tolist() == [0, 0, -2, 2, -1]


def test_what_may_not_be_negative_rests_under_any_pull_down() -> None:
    slope, x, l1 = numbers(-3, 3, -2), numbers(0, 0, 1), numbers(1, 1, 1)
    assert smallest_subgradient(slope, x, l1, nonnegative=True).tolist() == [-2, 0, -1]


def test_residuals_have_no_unit_and_nothing_is_solved() -> None:
    slope, scale = torch.rand(3, 4, dtype=torch.float64), torch.rand(3, 4, dtype=torch.float64)
    torch.testing.assert_close(relative(7 * slope, 7 * scale, (1,)), relative(slope, scale, (1,)))
    assert (relative(0 * slope, 0 * scale, (1,)) == 0).all()
