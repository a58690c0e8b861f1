"""Dropout by hashing: the right share, independent places, nothing outside of training, the same alone and stacked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch.func import vmap

from mtbench.nn.dropout import dropout, uniform_16


def training(key: Any) -> Any:
    return SimpleNamespace(key=torch.as_tensor(key))


def test_numbers_are_uniform_and_uncorrelated_between_places_keys_and_salts() -> None:
    draws = torch.stack([uniform_16(torch.Size([20_000]), torch.tensor(key)) for key in range(20)]) / 2**16
    assert 0 <= draws.min() < 1e-4
    assert 1 - 1e-4 < draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.003
    assert abs(draws.var() - 1 / 12) < 0.002
    centred = draws - 0.5
    assert (centred @ centred.T / 20_000 - torch.eye(20) / 12).abs().max() < 0.004
    for apart in (1, 2, 3, 4):
        assert (centred[:, apart:] * centred[:, :-apart]).mean().abs() < 0.001


def test_it_drops_the_share_it_should_and_keeps_the_mean() -> None:
    x = torch.ones(100_000)
    for p in (0.1, 0.5, torch.tensor(0.8)):
        dropped = dropout(x, p, training(7))
        assert abs(float((dropped == 0).float().mean()) - float(p)) < 0.01
        assert abs(float(dropped.mean()) - 1) < 0.02


def test_any_shape_is_filled() -> None:
    numbers = uniform_16(torch.Size([3, 7]), torch.tensor(1))
    assert numbers.shape == (3, 7)
    assert len(numbers.unique()) > 19
    assert uniform_16(torch.Size([0, 7]), torch.tensor(1)).shape == (0, 7)


def test_salts_and_keys_give_other_masks() -> None:
    x = torch.ones(1000)
    masks = [dropout(x, 0.5, training(key), salt) for key in (1, 2) for salt in (0, 1)]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert 300 < int((one != other).sum()) < 700


def test_nothing_is_dropped_outside_of_training() -> None:
    x = torch.randn(10)
    assert torch.equal(dropout(x, 0.9, SimpleNamespace(key=None)), x)  # type: ignore[arg-type]


def test_mapped_over_trials_each_gets_its_own_mask() -> None:
    x, keys, p = torch.ones(3, 50), torch.tensor([5, 6, 7]), torch.tensor([0.2, 0.4, 0.6])
    mapped = vmap(lambda x, key, p: dropout(x, p, training(key)))(x, keys, p)
    alone = torch.stack([dropout(x[r], p[r], training(keys[r])) for r in range(3)])
    assert torch.equal(mapped, alone)
