"""DSelect-k: the smooth step, selectors and gates, their limiting cases, and the entropy in the objective."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from mtbench_methods.dselect_k import DSelectK, entropy, selected, smooth_step

from mtbench.testing.ownership import moved
from mtbench.testing.problems import OwnRegression, SharedOneVsAll, SharedRegression

METHOD = DSelectK()
SMALL = {"experts": 8, "tower": 16}


def slow_gate(alpha: Any, Z: Any, gamma: float, n_experts: int) -> list[float]:
    """q(alpha, Z), number by number."""

    def S(t: float) -> float:
        if t <= -gamma / 2:
            return 0.0
        return 1.0 if t >= gamma / 2 else -2 * t**3 / gamma**3 + 3 * t / (2 * gamma) + 0.5

    weights = [math.exp(a) for a in alpha]
    found = [0.0] * n_experts
    for weight, z in zip(weights, Z, strict=True):
        for e in range(n_experts):
            product = 1.0
            for digit, t in zip(f"{e:0{len(z)}b}", z, strict=True):
                product *= S(t) if digit == "1" else 1 - S(t)
            found[e] += weight / sum(weights) * product
    return found


@pytest.mark.parametrize("gamma", [0.5, 1.0, 3.0])
def test_the_smooth_step_is_flat_at_its_ends_and_rises_between(gamma: float) -> None:
    t = torch.linspace(-gamma, gamma, 201, dtype=torch.float64, requires_grad=True)
    values = smooth_step(t, gamma)
    (slopes,) = torch.autograd.grad(values.sum(), t)
    outside = t.detach().abs() >= gamma / 2
    assert set(values[outside].tolist()) == {0.0, 1.0}
    assert (slopes[outside] == 0).all()
    assert (slopes[~outside] > 0).all()
    assert slopes.max().item() == pytest.approx(1.5 / gamma)
    torch.testing.assert_close(values + values.flip(0), torch.ones_like(values))


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize(("miniature", "per_task"), [(OwnRegression, 0), (OwnRegression, 3), (SharedRegression, 0)])
def test_outputs_are_those_of_a_loop_over_rows_and_experts(
    deep: Any, per_example: bool, miniature: Any, per_task: int
) -> None:
    problem = deep.problem(miniature)
    model = moved(deep.build(METHOD, problem, per_example=per_example, k=3, gamma=0.7, **SMALL)[0])
    batch = deep.batch(problem, per_task)
    outputs, x = model(batch), batch.inputs
    experts = [torch.relu(x @ W.mT + b) for W, b in zip(*model.experts.state().values(), strict=True)]
    for i in range(len(x)):
        for t in range(problem.n_tasks) if batch.task is None else [int(batch.task[i])]:
            alpha, Z = model.gates.alpha[t], model.gates.Z[t]
            if per_example:
                alpha, Z = x[i] @ alpha, (x[i] @ Z).view(3, 3)
            gate = slow_gate(alpha.tolist(), Z.tolist(), 0.7, 8)
            features = sum(q * expert[i] for q, expert in zip(gate, experts, strict=True))
            hidden = torch.relu(features @ model.towers.V[t] + model.towers.c[t])
            expected = hidden @ model.heads.S[t, :, 0] + model.heads.b[t, 0]
            torch.testing.assert_close(outputs[i, t], expected)


def test_gates_are_shares_of_experts() -> None:
    codes = torch.tensor([[e >> j & 1 for j in (2, 1, 0)] for e in range(8)], dtype=torch.bool)
    digits = torch.rand(5, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(selected(digits, codes).sum(-1), torch.ones(5, 4, dtype=torch.float64))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_gate_selects_exactly_k_experts_once_the_smooth_steps_saturate(deep: Any, k: int) -> None:
    model = deep.build(METHOD, deep.problem(OwnRegression), k=k, **SMALL)[0]
    numbers = torch.tensor([[0, 5, 3, 6], [7, 1, 2, 4], [6, 0, 1, 5], [3, 4, 7, 0]])[:, :k]
    with torch.no_grad():
        model.gates.Z.copy_(torch.where(model.gates.codes[numbers], 0.5, -0.5))
    q, r = model.gates(torch.zeros(1, 5).double())
    assert ((q[:, 0] > 0).sum(1) == k).all()
    for t, chosen in enumerate(numbers):
        assert q[t, 0].nonzero()[:, 0].tolist() == sorted(chosen.tolist())
        torch.testing.assert_close(q[t, 0, chosen], torch.softmax(model.gates.alpha[t], 0))
    torch.testing.assert_close(entropy(r), torch.zeros(4, 1).double(), rtol=0, atol=1e-5)
    (gradient,) = torch.autograd.grad((q * torch.randn_like(q)).sum() + entropy(r).sum(), [model.gates.Z])
    assert (gradient == 0).all()


def test_the_entropy_of_selectors_that_know_nothing_is_that_of_even_odds(deep: Any) -> None:
    model = deep.build(METHOD, deep.problem(OwnRegression), k=2, **SMALL)[0]
    with torch.no_grad():
        model.gates.Z.zero_()
    _, r = model.gates(torch.zeros(1, 5).double())
    assert entropy(r).flatten().tolist() == pytest.approx([2 * math.log(8)] * 4, rel=1e-4)


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize("per_task", [0, 3])
def test_the_entropy_of_every_task_is_in_the_penalty_once(deep: Any, per_example: bool, per_task: int) -> None:
    problem = deep.problem(OwnRegression)
    model = moved(deep.build(METHOD, problem, per_example=per_example, **SMALL)[0])
    batch = deep.batch(problem, per_task)

    def terms(weight: float) -> Any:
        return METHOD.terms(model, batch, METHOD.Params(entropy=weight, per_example=per_example, **SMALL))

    without, some = terms(0.0), terms(0.3)
    torch.testing.assert_close(some.tasks, without.tasks)
    expected = torch.zeros(()).double()
    for t in range(problem.n_tasks):
        _, r = model.gates(batch.inputs[batch.task == t])
        expected = expected + entropy(r)[t].mean()
    torch.testing.assert_close(some.penalty - without.penalty, 0.3 * expected)
    (gradient,) = torch.autograd.grad(some.penalty - without.penalty, [model.gates.Z])
    assert (gradient.flatten(1) != 0).any(1).all()


def test_entropy_drives_selectors_to_single_experts(deep: Any) -> None:
    even = deep.train(METHOD, deep.two_groups, entropy=0.0, **SMALL).learned["gates"][0]
    sharp = deep.train(METHOD, deep.two_groups, entropy=1.0, **SMALL).learned["gates"][0]
    assert np.sort(sharp, 1)[:, :-2].sum(1).mean() < np.sort(even, 1)[:, :-2].sum(1).mean()


@pytest.mark.parametrize("per_example", [False, True])
def test_stacked_equals_alone_whatever_the_widths_of_the_steps(deep: Any, per_example: bool) -> None:
    settings = [{"gamma": gamma, "per_example": per_example, **SMALL} for gamma in (0.5, 2.0)]
    deep.assert_stacked_equals_alone(METHOD, SharedOneVsAll, *settings, max_epochs=3)


def test_the_objective_has_a_known_value(deep: Any) -> None:
    problem = deep.problem(SharedRegression)
    model, params = deep.build(METHOD, problem)
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.linspace(-0.5, 0.6, parameter.numel()).double().view(parameter.shape) / (1 + i % 3))
    assert METHOD.objective(model, deep.batch(problem), params).item() == pytest.approx(1833.1097855566763, rel=1e-9)
