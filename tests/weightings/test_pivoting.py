"""Many quadratic programs of one matrix, against the conditions of a minimum and the interior point method."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mtbench.weighting import pivoting
from mtbench.weighting.pivoting import nonnegative_minima


def _cosines(n_trials: int, n_tasks: int, n_shared: int, common: float) -> Tensor:
    generator = torch.Generator().manual_seed(n_shared)
    J = torch.randn(n_trials, n_tasks, n_shared, dtype=torch.float64, generator=generator)
    J += common * torch.randn(n_trials, 1, n_shared, dtype=torch.float64, generator=generator)
    unit = J / J.norm(dim=-1, keepdim=True)
    return unit @ unit.mT


@pytest.mark.parametrize("common", [0.0, 2.0])
@pytest.mark.parametrize(("n_tasks", "n_shared"), [(12, 30), (40, 120), (40, 40), (40, 15)])
def test_solutions_meet_the_conditions_of_a_minimum(n_tasks: int, n_shared: int, common: float) -> None:
    Q = _cosines(2, n_tasks, n_shared, common)
    y = nonnegative_minima(Q, Q, torch.ones(2, n_tasks, dtype=torch.float64))
    slack = y @ Q + Q
    assert (y >= 0).all()
    assert (slack >= -1e-9).all()
    assert (torch.minimum(y, slack).abs() <= 1e-9).all()


def test_numbers_that_are_not_active_are_0_and_do_not_matter() -> None:
    Q = _cosines(1, 40, 60, 0.5)
    active = torch.ones(1, 40, dtype=torch.float64)
    active[:, 35:] = 0
    known = Q * active[..., None] * active[:, None]
    y = nonnegative_minima(known, known, active)
    assert (y[..., 35:] == 0).all()
    alone = nonnegative_minima(Q[:, :35, :35], Q[:, :35, :35], active[:, :35])
    torch.testing.assert_close(y[:, :35, :35], alone, rtol=1e-9, atol=1e-9)


def test_problems_that_pivoting_leaves_are_solved_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    Q = _cosines(1, 40, 60, 0.5)
    active = torch.ones(1, 40, dtype=torch.float64)
    known = nonnegative_minima(Q, Q, active)
    monkeypatch.setattr(pivoting, "_ROUNDS", 1)
    monkeypatch.setattr(pivoting, "_STEPS", 5)
    torch.testing.assert_close(nonnegative_minima(Q, Q, active), known, rtol=1e-9, atol=1e-9)


def test_a_matrix_is_solved_as_if_it_were_alone() -> None:
    Q = _cosines(3, 40, 60, 0.5)
    active = torch.ones(3, 40, dtype=torch.float64)
    together = nonnegative_minima(Q, Q, active)
    assert torch.equal(together[1:2], nonnegative_minima(Q[1:2], Q[1:2], active[1:2]))
