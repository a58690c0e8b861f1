"""MMoE: eqs. (6) to (8), its limiting cases, the means of its gates, and the relatedness they show."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from mtbench_methods.mmoe import MMoE

from mtbench import Part, Task, TaskKind
from mtbench.testing.problems import (
    RECIPE,
    Miniature,
    OwnImages,
    OwnMulticlass,
    OwnRegression,
    SharedImages,
    SharedRegression,
)

METHOD = MMoE()
CONV4 = dataclasses.replace(RECIPE, backbone="conv4")


@pytest.fixture
def built(deep: Any) -> Any:
    """Makes a model whose gates are as if they had learned something."""

    def build(problem: Any, recipe: Any = RECIPE, **params: Any) -> Any:
        model, _ = deep.build(METHOD, problem, recipe, **{"experts": 4, "tower": 16, **params})
        torch.nn.init.normal_(model.G)
        return model

    return build


@pytest.mark.parametrize(("miniature", "per_task"), [(OwnRegression, 0), (OwnRegression, 3), (SharedRegression, 0)])
def test_outputs_are_those_of_equations_6_to_8(deep: Any, built: Any, miniature: Any, per_task: int) -> None:
    problem = deep.problem(miniature)
    batch, model = deep.batch(problem, per_task), built(problem)
    outputs, x = model(batch), batch.inputs
    experts = [torch.relu(x @ W.mT + b) for W, b in zip(*model.experts.state().values(), strict=True)]
    for t in range(problem.n_tasks):
        gate = torch.softmax(x @ model.G[t], 1)
        features = sum(gate[:, i : i + 1] * expert for i, expert in enumerate(experts))
        hidden = torch.relu(features @ model.towers.V[t] + model.towers.c[t])
        expected = hidden @ model.heads.S[t, :, 0] + model.heads.b[t, 0]
        own = slice(None) if batch.task is None else batch.task == t
        torch.testing.assert_close(outputs[own, t], expected[own])


@pytest.mark.parametrize("backbone", ["lenet", "conv4"])
def test_one_expert_is_hard_sharing_with_towers_whatever_the_gates(deep: Any, built: Any, backbone: Any) -> None:
    problem = deep.problem(SharedImages)
    batch, model = deep.batch(problem), built(problem, dataclasses.replace(RECIPE, backbone=backbone), experts=1)
    shared = model.experts(batch.inputs)[0]
    hidden = torch.relu(shared @ model.towers.V + model.towers.c[:, None])
    torch.testing.assert_close(model(batch), model.heads(hidden, batch))


def test_rows_of_each_task_and_mixed_rows_have_the_same_outputs(deep: Any, built: Any) -> None:
    problem = deep.problem(OwnImages)
    rows, model = deep.batch(problem, per_task=5), built(problem, CONV4)
    mixed = dataclasses.replace(rows, per_task=0)
    torch.testing.assert_close(rows.own_outputs(model(rows)), rows.own_outputs(model(mixed)))


def test_one_task_has_one_gate_over_the_experts(deep: Any, built: Any) -> None:
    problem = deep.problem(OwnMulticlass, tasks=1)
    batch, model = deep.batch(problem), built(problem)
    mixture = torch.einsum("be,ebk->bk", torch.softmax(batch.inputs @ model.G[0], 1), model.experts(batch.inputs))
    expected = torch.relu(mixture @ model.towers.V[0] + model.towers.c[0]) @ model.heads.S[0] + model.heads.b[0]
    torch.testing.assert_close(model(batch), expected)


@pytest.mark.parametrize("per_task", [0, 3])
def test_mean_gates_follow_the_rows_of_each_task_in_training_only(deep: Any, built: Any, per_task: int) -> None:
    problem = deep.problem(OwnRegression)
    batch, model = deep.batch(problem, per_task), built(problem)
    gates = torch.softmax(batch.inputs @ model.G, 2)
    means = torch.stack([gates[t, batch.task == t].mean(0) for t in range(4)])
    model.eval()(batch)
    assert (model.gate_means == 0.25).all()
    model.train()(batch)
    torch.testing.assert_close(model.gate_means, 0.99 * torch.full((4, 4), 0.25).double() + 0.01 * means)


def test_a_task_without_rows_keeps_its_mean_gates(deep: Any, built: Any) -> None:
    problem = deep.problem(OwnRegression)
    batch, model = deep.batch(problem), built(problem)
    keep = batch.task != 2
    model(dataclasses.replace(batch, inputs=batch.inputs[keep], labels=batch.labels[keep], task=batch.task[keep]))
    changed = (model.gate_means != 0.25).any(1)
    assert changed.tolist() == [True, True, False, True]


class OtherInputs(Miniature):
    """Six regressions of shared rows, in two groups: tasks of a group are one function, groups look at other inputs."""

    name = "other_inputs"
    title = "Two groups that look at other inputs"
    selection_metric = report_metric = "rmse"
    recipe = dataclasses.replace(RECIPE, hidden=4, batch_size=50, learning_rate=0.03, max_epochs=40)
    tasks = tuple(Task(f"{group}_{i}", TaskKind.REGRESSION) for group in "ab" for i in range(3))

    def generate(self, rng: np.random.Generator) -> Mapping[str, Part]:
        directions = rng.normal(size=(2, 4, 3))

        def part(n: int) -> Part:
            x = rng.normal(size=(n, 8))
            hidden = np.maximum(0, np.einsum("ngd,gdk->ngk", x.reshape(n, 2, 4), directions)).sum(2)
            y = np.repeat((hidden - hidden.mean(0)) / hidden.std(0), 3, axis=1) + 0.1 * rng.normal(size=(n, 6))
            return Part(x.astype(np.float32), y.astype(np.float32))

        return {"train": part(100), "validation": part(100), "test": part(20)}


def test_tasks_of_a_group_have_gates_more_alike(deep: Any) -> None:
    gates = deep.train(METHOD, OtherInputs, experts=4, tower=16).learned["gates"][0]
    np.testing.assert_allclose(gates.sum(1), 1.0, atol=1e-9)
    within, across = deep.within_and_across(np.linalg.norm(gates[:, None] - gates, axis=-1))
    assert across.mean() > 2 * within.mean()
