"""Batched solvers: optimality, and independence of what else is in the batch."""

from itertools import pairwise

import torch
from torch import Tensor

from mtbench.linear.descent import descend
from mtbench.linear.solvers import conjugate_gradients, fista, lasso, newton, soft_threshold


def systems(n: int = 4, size: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(n, size, size + 2, generator=generator, dtype=torch.float64)
    return root @ root.mT, torch.randn(n, size, generator=generator, dtype=torch.float64)


def times(matrices: Tensor, x: Tensor) -> Tensor:
    return (matrices @ x[..., None])[..., 0]


def assert_lasso_optimal(G: Tensor, c: Tensor, width: Tensor, x: Tensor) -> None:
    slope = times(G, x) - c
    torch.testing.assert_close(slope[x != 0], (-width * x.sign())[x != 0], rtol=0, atol=1e-6)
    assert (slope.abs() <= width + 1e-6)[x == 0].all()


def test_conjugate_gradients_solve_each_system() -> None:
    G, c = systems()
    found = conjugate_gradients(lambda x: times(G, x), c, torch.zeros_like(c), lambda x: x, (1,), 1e-12)
    torch.testing.assert_close(found, torch.linalg.solve(G, c))


def test_a_solved_system_does_not_change_beside_a_hard_one() -> None:
    G, c = systems()
    start = torch.cat([torch.linalg.solve(G, c)[:1], torch.zeros_like(c)[1:]])
    found = conjugate_gradients(lambda x: times(G, x), c, start, lambda x: x, (1,), 1e-10)
    assert torch.equal(found[0], start[0])


def test_fista_and_coordinate_descent_solve_the_lasso() -> None:
    G, c = systems()
    width = torch.full_like(c, 0.3)
    step = 1.0 / torch.linalg.eigvalsh(G)[:, -1:]
    by_gradient = fista(
        torch.zeros_like(c),
        lambda x: times(G, x) - c,
        lambda x, length: soft_threshold(x, length * width),
        step,
        (1,),
        1e-12,
        5000,
    )
    by_coordinate = lasso(G, c, width, torch.zeros_like(c), 400)
    assert_lasso_optimal(G, c, width, by_gradient)
    assert_lasso_optimal(G, c, width, by_coordinate)
    torch.testing.assert_close(by_gradient, by_coordinate, rtol=1e-6, atol=1e-6)


def test_a_coordinate_without_curvature_is_zero() -> None:
    G, c = systems()
    G[:, 2], G[:, :, 2] = 0.0, 0.0
    found = lasso(G, c, torch.full_like(c, 0.1), torch.ones_like(c), 10)
    assert (found[:, 2] == 0).all()
    assert torch.isfinite(found).all()


def test_newton_minimises_what_full_steps_would_overshoot() -> None:
    # The sum of log cosh: from far out, full Newton steps diverge.
    start = torch.tensor([[0.5, -1.0], [8.0, 3.0]], dtype=torch.float64)

    def value_and_gradient(x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.log(torch.cosh(x)).sum(1, keepdim=True), torch.tanh(x)

    def hessian(x: Tensor):
        return lambda v: v / torch.cosh(x).square()

    enough = torch.full((2, 1), 1e-10, dtype=torch.float64)
    found = newton(value_and_gradient, hessian, lambda v: v, start, (1,), enough)
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-9)


def test_objectives_never_rise_and_trials_do_not_meet() -> None:
    G, c = systems()
    steps = 0.5 / torch.linalg.eigvalsh(G)[:, -1:]
    seen: dict[int, list[float]] = {r: [] for r in range(4)}

    def value(trials: Tensor, x: Tensor) -> Tensor:
        return (0.5 * x * times(G[trials], x) - c[trials] * x).sum(1)

    def step(trials: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        (x,) = state
        x = x - steps[trials] * (times(G[trials], x) - c[trials])
        return (x,), value(trials, x), (times(G[trials], x) - c[trials]).norm(dim=1)

    for rounds in range(1, 60):
        (x,), residual = descend(step, (torch.zeros_like(c),), 0.0, rounds)
        for r, v in enumerate(value(torch.arange(4), x).tolist()):
            seen[r].append(v)
    assert all(
        later <= earlier + 1e-13 * abs(earlier) for values in seen.values() for earlier, later in pairwise(values)
    )
    torch.testing.assert_close(residual, (times(G, x) - c).norm(dim=1))
    (alone,), _ = descend(lambda _, state: step(torch.tensor([2]), state), (torch.zeros_like(c[:1]),), 0.0, 59)
    torch.testing.assert_close(alone[0], x[2], rtol=0, atol=1e-12)


def test_a_trial_that_is_not_a_number_stops_alone() -> None:
    def step(trials: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        (x,) = state
        return (0.5 * x,), torch.where(trials == 0, torch.nan, x.square()[:, 0]), 0.5 * x[:, 0]

    (x,), residual = descend(step, (torch.ones(2, 1, dtype=torch.float64),), 1e-3, 40)
    assert x[0, 0] == 1.0
    assert torch.isinf(residual[0])
    assert x[1, 0] == residual[1] <= 1e-3
