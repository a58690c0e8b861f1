"""Weight decay in one pass: the value and the gradient of the plain formula, and mapped over copies and trials."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import vmap

from mtbench.nn.decay import half_squares


@pytest.mark.parametrize("size", [0, 1, 7, 4096, 4097, 10_000])
def test_value_and_gradient_are_those_of_the_formula(size: int) -> None:
    x = torch.randn(size, dtype=torch.float64, requires_grad=True)
    found, expected = half_squares(x), x.square().sum() / 2
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(3 * found, x), torch.autograd.grad(3 * expected, x))


def test_modules_and_tensors_count_alike() -> None:
    module, tensor = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), torch.randn(2, 5)
    expected = sum(p.square().sum() for p in [*module.parameters(), tensor]) / 2
    torch.testing.assert_close(half_squares(module, tensor), expected)


def test_it_is_as_precise_as_the_formula() -> None:
    x = torch.rand(2**22)
    exact = x.double().square().sum().item() / 2
    assert half_squares(x).item() == pytest.approx(exact, rel=1e-6)


def test_it_maps_over_copies_and_trials() -> None:
    x = torch.randn(3, 4, 5000, dtype=torch.float64, requires_grad=True)
    found = vmap(vmap(half_squares, in_dims=1), in_dims=0)(x.mT)
    expected = x.square().sum(2) / 2
    torch.testing.assert_close(found, expected)
    weights = torch.randn(3, 4, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad((weights * one).sum(), x) for one in (found, expected))
    torch.testing.assert_close(ours, theirs)
