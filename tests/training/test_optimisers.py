"""Stacked optimisers against torch.optim, row by row."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mtbench.contracts.recipe import Recipe
from mtbench.training.optimisers import clip_, optimiser_for


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_each_row_moves_as_torch_would_move_it(name: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(3, 5, dtype=torch.float64, generator=generator)
    rates = torch.tensor([0.1, 0.01, 0.003], dtype=torch.float64)
    singles = [row.clone().requires_grad_() for row in theta]
    ours = optimiser_for(Recipe(optimiser=name), theta, rates)
    theirs = [
        torch.optim.Adam([row], lr=float(rate)) if name == "adam" else torch.optim.SGD([row], float(rate), momentum=0.9)
        for row, rate in zip(singles, rates, strict=True)
    ]
    for _ in range(20):
        gradient = torch.randn(3, 5, dtype=torch.float64, generator=generator)
        for row, g, optimiser in zip(singles, gradient, theirs, strict=True):
            row.grad = g.clone()
            optimiser.step()
        ours.step(theta, gradient.clone())
    torch.testing.assert_close(theta, torch.stack([row.detach() for row in singles]), rtol=0, atol=1e-12)


LARGE = 2**20 + 3  # Adam goes another way from a million parameters on


@pytest.mark.parametrize("size", [5, LARGE])
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_factors_are_the_parameter_groups_of_torch(name: Any, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(2, size, dtype=torch.float64, generator=generator)
    factors = torch.ones(size, dtype=torch.float64)
    factors[1:3], factors[3] = 100.0, 0.5
    rates = torch.tensor([0.01, 0.003], dtype=torch.float64)
    ours = optimiser_for(Recipe(optimiser=name), theta, rates, factors)
    theirs, singles = [], []
    for row, rate in zip(theta, rates.tolist(), strict=True):
        single = [
            row[span].clone().requires_grad_() for span in (slice(0, 1), slice(1, 3), slice(3, 4), slice(4, None))
        ]
        groups = [{"params": [p], "lr": f * rate} for p, f in zip(single, (1.0, 100.0, 0.5, 1.0), strict=True)]
        theirs.append(torch.optim.Adam(groups) if name == "adam" else torch.optim.SGD(groups, momentum=0.9))
        singles.append(single)
    for step in range(6):
        gradient = torch.randn(2, size, dtype=torch.float64, generator=generator)
        scale = 0.1 if step >= 4 else 1.0
        for single, g, optimiser in zip(singles, gradient, theirs, strict=True):
            for p, part in zip(single, g.split([1, 2, 1, size - 4]), strict=True):
                p.grad = part.clone()
            for group in optimiser.param_groups:
                group["lr"] *= 0.1 if step == 4 else 1.0
            optimiser.step()
        ours.step(theta, gradient.clone(), scale)
    expected = torch.stack([torch.cat([p.detach() for p in single]) for single in singles])
    torch.testing.assert_close(theta, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_factors_of_one_change_no_bit(name: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    start, rates = torch.randn(3, 7, generator=generator), torch.tensor([0.1, 0.01, 0.003])
    ends = []
    for factors in (None, torch.ones(7)):
        theta, gradients = start.clone(), torch.Generator().manual_seed(1)
        optimiser = optimiser_for(Recipe(optimiser=name), theta, rates, factors)
        for _ in range(5):
            optimiser.step(theta, torch.randn(3, 7, generator=gradients))
        ends.append(theta)
    assert torch.equal(*ends)


def test_a_large_model_does_not_depend_on_its_stack() -> None:
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(2, LARGE, generator=generator)
    together, alone = torch.zeros(2, LARGE), torch.zeros(1, LARGE)
    rates = torch.tensor([0.1, 0.2])
    for theta, rows in ((together, slice(0, 2)), (alone, slice(1, 2))):
        optimiser = optimiser_for(Recipe(), theta, rates[rows])
        optimiser.step(theta, gradient[rows].clone())
        optimiser.step(theta, gradient[rows].clone())
    torch.testing.assert_close(together[1], alone[0], rtol=0, atol=1e-7)


def test_rows_that_stay_keep_their_state() -> None:
    theta = torch.zeros(3, 2, dtype=torch.float64)
    optimiser = optimiser_for(Recipe(), theta, torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))
    optimiser.step(theta, torch.ones(3, 2, dtype=torch.float64))
    keep = torch.tensor([0, 2])
    whole, kept = theta.clone(), theta[keep]
    optimiser.select(keep)
    optimiser.step(kept, torch.ones(2, 2, dtype=torch.float64))
    torch.testing.assert_close(kept, whole[keep] - torch.tensor([[0.1], [0.3]], dtype=torch.float64))


def test_clipping_is_per_trial() -> None:
    gradient = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    clip_(gradient, 1.0)
    torch.testing.assert_close(gradient, torch.tensor([[0.6, 0.8], [0.3, 0.4]]), atol=1e-5, rtol=0)
