"""W close to W B: both steps at their optimality conditions."""

import pytest
import torch
from mtbench_methods.amtl.reconstruction import reconstructed_weights, sparse_combinations
from torch import Tensor

from mtbench import LinearData
from mtbench.linear.ridge import features_only, ridge

GAMMA = torch.tensor([0.3, 1.0, 10.0], dtype=torch.float64)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("nonnegative", [True, False])
def test_combinations_meet_the_subgradient_conditions(nonnegative: bool) -> None:
    W, costs = random(3, 8, 5), random(3, 5, seed=1).abs() + 0.1
    others = 1.0 - torch.eye(5, dtype=torch.float64)
    B = sparse_combinations(W, W, GAMMA, costs, others, torch.zeros(3, 5, 5, dtype=torch.float64), nonnegative)
    slope = 2.0 * GAMMA[:, None, None] * W.mT @ (W @ B - W)
    width = costs[:, :, None].expand_as(B)
    used, free = B != 0, (B == 0) & (others > 0)
    assert used.any()
    torch.testing.assert_close(slope[used], (-width * B.sign())[used], rtol=0, atol=1e-9)
    assert (slope[free] >= -width[free] - 1e-9).all()
    assert (B.diagonal(dim1=1, dim2=2) == 0).all()
    if nonnegative:
        assert (B >= 0).all()
    else:
        assert (B < 0).any()
        assert (slope[free] <= width[free] + 1e-9).all()


def test_predictors_that_are_zero_are_combined_of_nothing() -> None:
    zero, none = torch.zeros(3, 8, 5, dtype=torch.float64), torch.zeros(3, 5, 5, dtype=torch.float64)
    costs = torch.ones(3, 5, dtype=torch.float64)
    assert (sparse_combinations(zero, zero, GAMMA, costs, torch.ones_like(none), none, True) == 0).all()


@pytest.mark.parametrize("mu", [0.0, 0.05])
def test_weights_given_the_transfer_are_optimal(mini_data: LinearData, mu: float) -> None:
    data, n = mini_data, mini_data.n_trials
    gamma = GAMMA[-n:]
    B = 0.2 * random(n, data.n_tasks, data.n_tasks).abs() * (1.0 - torch.eye(data.n_tasks))
    scale, width = random(n, data.n_tasks, seed=2).abs() + 1.0, torch.full((n,), mu, dtype=torch.float64)
    W = ridge(data, gamma)
    for _ in range(8):
        W = reconstructed_weights(data, scale, gamma, width, B, W, 2000)
    touched = features_only(data, W)
    apart = torch.eye(data.n_tasks, dtype=torch.float64) - B
    slope = scale[:, None] * data.losses_and_gradient(W)[1]
    slope = slope + 2.0 * gamma[:, None, None] * touched * (W @ apart @ apart.mT)
    zero = (W == 0) & (touched > 0)
    torch.testing.assert_close(slope[~zero], (-mu * touched * W.sign())[~zero], rtol=0, atol=1e-5)
    assert (slope[zero].abs() <= mu + 1e-5).all()
