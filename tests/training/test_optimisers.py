"""Stacked optimisers against torch.optim, row by row."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mtbench.recipe import Recipe
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
