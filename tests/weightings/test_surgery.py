"""PCGrad and GradVac: the same as projecting the gradients themselves, one after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mtbench_weightings.gradvac import GradVac
from mtbench_weightings.pcgrad import PCGrad
from torch import Tensor
from torchjd.aggregation import PCGrad as TorchJDs

from mtbench.weighting.random import permutations


def _projected(J: Tensor, orders: Tensor) -> Tensor:
    total = torch.zeros_like(J[0])
    for t in range(len(J)):
        h = J[t].clone()
        for j in orders[t].tolist():
            if j != t and h @ J[j] < 0:
                h -= h @ J[j] / (J[j] @ J[j]) * J[j]
        total += h
    return total


def _vaccinated(J: Tensor, orders: Tensor, usual: Tensor, beta: float) -> Tensor:
    """The update; changes the usual cosines."""
    total = torch.zeros_like(J[0])
    for t in range(len(J)):
        h = J[t].clone()
        for j in orders[t].tolist():
            if j == t:
                continue
            q, p = h @ J[j] / h.norm() / J[j].norm(), usual[t, j].clone()
            if q < p:
                turn = p * (1 - q**2).sqrt() - q * (1 - p**2).sqrt()
                h = h + h.norm() * turn / (J[j].norm() * (1 - p**2).sqrt()) * J[j]
            usual[t, j] = (1 - beta) * p + beta * q
        total += h
    return total


def test_pcgrad_is_projection_by_projection(jacobians: Any, combine: Any) -> None:
    for i, batch in enumerate(jacobians(1000, ("plain", "alike", "unequal", "scaled", "ill-conditioned"))):
        n_tasks, keys = batch.shape[1], torch.arange(len(batch)) + 100 * i
        weights = torch.vmap(lambda J, key: combine(PCGrad(), J, key=key))(batch, keys)
        found = (weights[:, None] @ batch)[:, 0]
        for J, key, update in zip(batch, keys, found, strict=True):
            expected = _projected(J, permutations(key, n_tasks, n_tasks))
            assert torch.allclose(update, expected, rtol=0, atol=1e-9 * J.norm(dim=1).max())


def test_pcgrad_of_two_tasks_is_torchjds(jacobians: Any, combine: Any) -> None:
    """With two there is one order only."""
    for batch in jacobians(100, ("plain", "unequal")):
        J = batch[0, :2]
        assert torch.allclose(combine(PCGrad(), J) @ J, TorchJDs()(J), rtol=1e-6)


def test_the_orders_of_pcgrad_differ_between_tasks_and_steps(combine: Any) -> None:
    J = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert len({tuple(combine(PCGrad(), J, key=k).tolist()) for k in range(20)}) > 10
    orders = permutations(torch.tensor(0), 5, 5)
    assert len({tuple(row) for row in orders.tolist()}) > 1


def test_gradvac_is_turn_by_turn_and_remembers_cosines_with_and_without_conflict(step: Any, params: Any) -> None:
    method, beta = GradVac(), 0.3
    settings = params(method, beta=beta)
    generator = torch.Generator().manual_seed(0)
    state, usual = dict(method.start(4, 9, settings)), torch.zeros(4, 4, dtype=torch.float64)
    for key in range(6):
        J = torch.randn(4, 9, dtype=torch.float64, generator=generator) + 0.5
        weights, state = method.combine(step(J, key=key, state=state), settings)
        expected = _vaccinated(J, permutations(torch.tensor(key), 4, 4), usual, beta)
        assert torch.allclose(weights @ J, expected, rtol=1e-9, atol=1e-9)
        assert torch.allclose(state["usual"], usual)
    assert usual.mean() > 0.05  # they rise where gradients agree


def test_gradvac_turns_a_gradient_to_the_usual_cosine(combine: Any) -> None:
    J = torch.tensor([[1.0, 0.0], [0.6, 0.8]]).double()
    weights = combine(GradVac(), J, state={"usual": torch.full((2, 2), 0.9).double()})
    h = J[0] + (weights[1] - 1) * J[1]
    assert (h @ J[1] / h.norm()).item() == pytest.approx(0.9)


def test_gradvac_starts_as_pcgrad(combine: Any) -> None:
    J = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    settings = {"beta": 0.0}
    assert torch.allclose(combine(GradVac(), J, settings, key=3), combine(PCGrad(), J, key=3))
