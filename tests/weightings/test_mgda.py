"""MGDA: the shortest weighted mean, by its optimality conditions, scipy and TorchJD."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mtbench_weightings.mgda import MGDA
from scipy.optimize import nnls
from torch import Tensor
from torchjd import aggregation

METHOD = MGDA()


def _shortest(J: Tensor) -> np.ndarray:
    """By scipy: the weights, up to their sum, solve a least-squares problem without negative numbers."""
    rows = J.numpy()
    scale = np.linalg.norm(rows, axis=1).min()
    if scale == 0:
        return np.zeros(rows.shape[1])
    norms = np.linalg.norm(rows, axis=1)
    system = np.vstack([(rows / norms[:, None]).T, scale / norms])
    y = nnls(system, np.append(np.zeros(rows.shape[1]), 1.0), maxiter=1000)[0] / norms
    return y / y.sum() @ rows


def test_the_shortest_mean_is_that_of_scipy(jacobians: Any, updates: Any) -> None:
    for batch in jacobians(1000):
        for J, found in zip(batch, updates(METHOD, batch), strict=True):
            smallest = J.norm(dim=1).min()  # the shortest mean is no longer than the shortest gradient
            assert torch.allclose(found, torch.from_numpy(_shortest(J)), rtol=0, atol=1e-6 * smallest)


def test_the_shortest_mean_is_that_of_torchjd(jacobians: Any, updates: Any) -> None:
    """Its Frank-Wolfe steps are many and stop early: it is never shorter by more than rounding."""
    theirs = aggregation.MGDA(epsilon=1e-10, max_iters=200)
    close = 0
    for batch in jacobians(60, ("plain", "alike"), n_trials=10):
        for J, found in zip(batch, updates(METHOD, batch), strict=True):
            expected = theirs(J)
            assert found.norm() <= expected.norm() + 1e-9
            close += bool(torch.allclose(found, expected, atol=1e-6))
    assert close > 20


def test_all_gradients_gain_at_least_the_length_of_the_shortest_mean(jacobians: Any, updates: Any) -> None:
    for batch in jacobians(200, ("plain", "scaled")):
        d = updates(METHOD, batch)
        gains, smallest = (batch @ d[..., None])[..., 0], batch.norm(dim=-1).amin(-1)
        assert (gains.amin(-1) >= (d * d).sum(-1) - 1e-7 * smallest**2).all()


def test_weights_sum_to_1(jacobians: Any, combine: Any) -> None:
    for batch in jacobians(60, n_trials=10):
        weights = combine(METHOD, batch[0])
        assert weights.sum().item() == pytest.approx(1)
        assert (weights >= 0).all()


def test_two_tasks_have_a_closed_form(combine: Any) -> None:
    g, h = torch.tensor([1.0, 0.0]).double(), torch.tensor([0.5, 2.0]).double()
    a = ((h - g) @ h / ((h - g) @ (h - g))).item()
    assert combine(METHOD, torch.stack([g, h])).tolist() == pytest.approx([a, 1 - a])


def test_normalised_gradients_have_the_weights_of_gradients_that_are_divided(combine: Any) -> None:
    J = torch.randn(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    J = J * torch.tensor([1.0, 10.0, 100.0, 0.1]).double()[:, None]
    losses = torch.tensor([0.5, 1.0, 2.0, 4.0]).double()
    norms = J.norm(dim=1)
    for word, divisors in {"l2": norms, "loss": losses, "loss_l2": losses * norms}.items():
        found = combine(METHOD, J, {"normalisation": word}, losses=losses)
        assert torch.allclose(found, combine(METHOD, J / divisors[:, None]))


def test_tasks_without_a_gradient_share_all_the_weight(combine: Any) -> None:
    J = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]).double()
    assert combine(METHOD, J).tolist() == [0.5, 0.0, 0.5]
