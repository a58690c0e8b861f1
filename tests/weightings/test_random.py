"""Draws that follow from keys: their distributions, and that nothing but the key matters."""

from __future__ import annotations

import pytest
import torch

from mtbench.weighting.random import exponential, normal, permutations, uniform

KEY = torch.tensor(1234567)


def test_uniform_numbers_are_even_and_independent() -> None:
    u = uniform(KEY, 200_000)
    assert u.dtype == torch.float64
    assert 0 < u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    assert u.mean().item() == pytest.approx(0.5, abs=0.003)
    assert u.var().item() == pytest.approx(1 / 12, abs=0.001)
    assert torch.corrcoef(torch.stack([u[1:], u[:-1]]))[0, 1].abs() < 0.01


def test_keys_next_to_each_other_have_unrelated_numbers() -> None:
    u = torch.vmap(lambda key: uniform(key, 100))(torch.arange(2000))
    assert torch.corrcoef(torch.stack([u[1:].flatten(), u[:-1].flatten()]))[0, 1].abs() < 0.01


def test_other_distributions_have_their_moments() -> None:
    z, e = normal(KEY, 200_000), exponential(KEY, 200_000)
    assert (z.mean().item(), z.var().item()) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))
    assert (e.mean().item(), e.var().item()) == (pytest.approx(1, abs=0.01), pytest.approx(1, abs=0.03))


def test_permutations_are_of_all_numbers_and_all_as_likely() -> None:
    orders = permutations(KEY, 60_000, 3)
    assert (orders.sort(-1).values == torch.arange(3)).all()
    codes = (orders * torch.tensor([9, 3, 1])).sum(-1)
    counts = codes.unique(return_counts=True)[1]
    assert counts.tolist() == pytest.approx([10_000] * 6, rel=0.05)


def test_mapped_and_batched_keys_draw_as_each_alone() -> None:
    keys = torch.tensor([5, -7, 2**62])
    alone = torch.stack([uniform(key, 2, 3) for key in keys])
    assert torch.equal(uniform(keys, 2, 3), alone)
    assert torch.equal(torch.vmap(lambda key: uniform(key, 2, 3))(keys), alone)
