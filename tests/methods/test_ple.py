"""CGC and PLE: eqs. (2) to (7), their limiting cases, whose parameters are whose, and gates that tell groups apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from mtbench_methods.mmoe import MMoE
from mtbench_methods.ple import CGC, PLE

from mtbench.testing.ownership import moved, parameter_axes, task_gradients
from mtbench.testing.problems import RECIPE, OwnImages, OwnMulticlass, OwnRegression, SharedImages, SharedRegression

CONV4 = dataclasses.replace(RECIPE, backbone="conv4")
SMALL = {"shared_experts": 2, "task_experts": 2, "tower": 16}


def relu_layer(x: torch.Tensor, W: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.relu(x @ W.mT + b)


def candidates(level: Any, t: int, x: torch.Tensor, shared_x: torch.Tensor) -> list[torch.Tensor]:
    """S_t, eq. (4): the features of the task's own experts and of the shared ones, which are single layers."""
    own = [relu_layer(x, *(value[t] for value in experts.state().values())) for experts in level.own]
    return own + [relu_layer(shared_x, W, b) for W, b in zip(*level.shared.state().values(), strict=True)]


def mixture(gate: torch.Tensor, found: list[torch.Tensor]) -> torch.Tensor:
    return sum(gate[:, i : i + 1] * features for i, features in enumerate(found))  # type: ignore[return-value]


def assert_outputs(model: Any, batch: Any, g: list[torch.Tensor]) -> None:
    """Eqs. (5) and (7), for what every task's last gate gave."""
    outputs = model(batch)
    for t in range(batch.problem.n_tasks):
        hidden = torch.relu(g[t] @ model.towers.V[t] + model.towers.c[t])
        expected = hidden @ model.heads.S[t, :, 0] + model.heads.b[t, 0]
        rows = slice(None) if batch.task is None else batch.task == t
        torch.testing.assert_close(outputs[rows, t], expected[rows])


LAYOUTS = [(OwnRegression, 0), (OwnRegression, 3), (SharedRegression, 0)]


@pytest.mark.parametrize(("miniature", "per_task"), LAYOUTS)
def test_outputs_of_cgc_are_those_of_equations_2_to_5(deep: Any, miniature: Any, per_task: int) -> None:
    problem = deep.problem(miniature)
    batch, model = deep.batch(problem, per_task), moved(deep.build(CGC(), problem, RECIPE, **SMALL)[0])
    x, (level,) = batch.inputs, model.levels
    g = [mixture(torch.softmax(x @ level.G[t], 1), candidates(level, t, x, x)) for t in range(problem.n_tasks)]
    assert_outputs(model, batch, g)


@pytest.mark.parametrize(("miniature", "per_task"), LAYOUTS)
def test_outputs_of_ple_are_those_of_equations_6_and_7(deep: Any, miniature: Any, per_task: int) -> None:
    problem = deep.problem(miniature)
    batch, model = deep.batch(problem, per_task), moved(deep.build(PLE(), problem, RECIPE, levels=3, **SMALL)[0])
    tasks = range(problem.n_tasks)
    g, g_shared = [batch.inputs for _ in tasks], batch.inputs
    for level in model.levels:
        found = [candidates(level, t, g[t], g_shared) for t in tasks]
        if level.H is not None:
            # A gate over all experts of the level: every task's first, every task's second, the shared ones.
            every = [found[t][e] for e in range(2) for t in tasks] + found[0][2:]
            above = mixture(torch.softmax(g_shared @ level.H, 1), every)
        g = [mixture(torch.softmax(g[t] @ level.G[t], 1), found[t]) for t in tasks]
        g_shared = above
    assert [level.H is None for level in model.levels] == [False, False, True]
    assert_outputs(model, batch, g)


@pytest.mark.parametrize("backbone", ["lenet", "conv4"])
def test_one_shared_expert_alone_is_hard_sharing_with_towers_whatever_the_gates(deep: Any, backbone: Any) -> None:
    problem = deep.problem(SharedImages)
    recipe = dataclasses.replace(RECIPE, backbone=backbone)
    model = moved(deep.build(CGC(), problem, recipe, shared_experts=1, task_experts=0)[0])
    batch = deep.batch(problem)
    shared = model.levels[0].shared(batch.inputs)[0]
    hidden = torch.relu(shared @ model.towers.V + model.towers.c[:, None])
    torch.testing.assert_close(model(batch), model.heads(hidden, batch))


def test_shared_experts_alone_are_mmoe(deep: Any) -> None:
    problem = deep.problem(OwnRegression)
    cgc = moved(deep.build(CGC(), problem, shared_experts=4, task_experts=0, tower=16)[0])
    mmoe = deep.build(MMoE(), problem, experts=4, tower=16)[0]
    renamed = {
        name.replace("levels.0.shared", "experts").replace("levels.0.G", "G"): value
        for name, value in cgc.state_dict().items()
    }
    mmoe.load_state_dict(renamed)
    batch = deep.batch(problem)
    torch.testing.assert_close(cgc(batch), mmoe(batch))


def test_a_gate_shut_to_shared_experts_leaves_tasks_alone(deep: Any) -> None:
    problem = deep.problem(SharedRegression)
    model, batch = moved(deep.build(CGC(), problem, **SMALL)[0]), deep.batch(problem)
    inputs = torch.cat([batch.inputs[:, :-1], torch.ones_like(batch.inputs[:, :1])], 1)
    batch = dataclasses.replace(batch, inputs=inputs)
    with torch.no_grad():
        model.levels[0].G[:, -1, 2:] = -1e4  # through a feature that is 1 in every row
    before = model(batch)
    with torch.no_grad():
        for parameter in model.levels[0].shared.parameters():
            parameter.zero_()
    torch.testing.assert_close(model(batch), before)


@pytest.mark.parametrize("method", [CGC(), PLE()])
def test_rows_of_each_task_and_mixed_rows_have_the_same_outputs(deep: Any, method: Any) -> None:
    problem = deep.problem(OwnImages)
    model = moved(deep.build(method, problem, CONV4, tower=16)[0]).eval()
    rows = deep.batch(problem, per_task=5)
    mixed = dataclasses.replace(rows, per_task=0)
    torch.testing.assert_close(rows.own_outputs(model(rows)), rows.own_outputs(model(mixed)))


def test_experts_of_one_task_reach_the_others_in_ple_but_not_at_its_last_level(deep: Any) -> None:
    problem = deep.problem(OwnMulticlass)
    model, params = deep.build(PLE(), problem, levels=3, **SMALL)
    axes, gradients = parameter_axes(PLE(), model), task_gradients(PLE(), moved(model), deep.batch(problem), params)
    own = {name.split(".")[1] for name in axes if ".own." in name}
    gates = {name.split(".")[1] for name in axes if name.endswith(".G")}
    assert (own, gates) == ({"2"}, {"1", "2"})
    for name, rows in gradients.items():
        if ".own." in name:
            reached_by_another = bool((rows[1][0] != 0).any())
            assert reached_by_another == (name not in axes), name


def test_stacked_equals_alone_with_levels_and_without(deep: Any) -> None:
    settings = [{"lambda_": value, "tower": 16} for value in (1e-3, 1e-2)]
    deep.assert_stacked_equals_alone(CGC(), OwnRegression, *settings, rows_per_task=3, max_epochs=2)
    deep.assert_stacked_equals_alone(PLE(), SharedRegression, *settings, max_epochs=2)


@pytest.mark.parametrize("method", [CGC(), PLE()])
def test_mean_gates_of_the_last_level_are_kept(deep: Any, method: Any) -> None:
    gates = deep.train(method, deep.opposite_groups, shared_experts=4, tower=16).learned["gates"][0]
    assert gates.shape == (6, 5)
    assert abs(gates.sum(1) - 1).max() < 1e-6
    assert abs(gates - 0.2).max() > 0.01


PINNED = {"cgc": 158.89277733527445, "ple": 248.54341923144594}


@pytest.mark.parametrize("method", [CGC(), PLE()], ids=lambda method: method.name)
def test_the_objective_has_a_known_value(deep: Any, method: Any) -> None:
    problem = deep.problem(SharedRegression)
    model, params = deep.build(method, problem)
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.linspace(-0.5, 0.6, parameter.numel()).double().view(parameter.shape) / (1 + i % 3))
    assert method.objective(model, deep.batch(problem), params).item() == pytest.approx(PINNED[method.name], rel=1e-9)
