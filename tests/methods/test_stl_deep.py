"""Deep single-task learning: as many networks as tasks, and nothing between them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from mtbench_methods.stl_deep import DeepSTL
from torch import Tensor
from torch.func import functional_call

from mtbench.nn.backbones import backbone
from mtbench.testing.problems import RECIPE, OwnImages, OwnMulticlass, SharedImages, SharedRegression

METHOD = DeepSTL()


@pytest.mark.parametrize("name", ["lenet", "conv4"])
@pytest.mark.parametrize(("miniature", "per_task"), [(OwnImages, 5), (SharedImages, 0)])
def test_the_networks_are_those_that_a_loop_over_tasks_runs(
    deep: Any, miniature: Any, per_task: int, name: str
) -> None:
    problem, recipe = deep.problem(miniature), dataclasses.replace(RECIPE, backbone=name)
    batch, (model, _) = deep.batch(problem, per_task), deep.build(METHOD, problem, recipe)
    outputs, alone = model(batch), backbone(problem, recipe).double()
    for t, columns in enumerate(problem.output_slices):
        own = slice(None) if batch.task is None else batch.task == t
        state = {name: value[t].clone() for name, value in model.towers.state().items()}
        features = functional_call(alone, state, (batch.inputs[own],))
        width = columns.stop - columns.start
        expected = features @ model.heads.S[t, :, :width] + model.heads.b[t, :width]
        torch.testing.assert_close(outputs[own][:, columns], expected)


def gradients(model: Any, batch: Any) -> dict[str, Tensor]:
    objective = METHOD.objective(model, batch, METHOD.Params(lambda_=0.0))
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(objective, parameters), strict=True))


@pytest.mark.parametrize("per_task", [0, 5])
def test_rows_of_one_task_move_its_own_network_only(deep: Any, per_task: int) -> None:
    problem = deep.problem(OwnMulticlass)
    batch, (model, _) = deep.batch(problem, per_task), deep.build(METHOD, problem)
    before = gradients(model, batch)
    moved = torch.where((batch.task == 1)[:, None], batch.inputs + 1.0, batch.inputs)
    after = gradients(model, dataclasses.replace(batch, inputs=moved))
    for name, gradient in before.items():
        changed = (gradient != after[name]).flatten(1).any(1)
        assert changed.tolist() == [False, True, False], name


def test_with_rows_of_each_task_batch_norm_sees_no_other_task(deep: Any) -> None:
    problem = deep.problem(OwnImages)
    batch = deep.batch(problem, per_task=5)
    model, _ = deep.build(METHOD, problem, dataclasses.replace(RECIPE, backbone="conv4"))
    before = model(batch)
    moved = torch.where((batch.task == 1)[:, None, None], 1 - batch.inputs, batch.inputs)
    changed = (before != model(dataclasses.replace(batch, inputs=moved))).any(1)
    assert torch.equal(changed, batch.task == 1)


@pytest.mark.parametrize(("miniature", "name"), [(OwnImages, "conv4"), (SharedRegression, "mlp")])
def test_every_parameter_and_buffer_belongs_to_one_task(deep: Any, miniature: Any, name: str) -> None:
    problem = deep.problem(miniature)
    model, _ = deep.build(METHOD, problem, dataclasses.replace(RECIPE, backbone=name))
    held = [*model.named_parameters(), *model.named_buffers()]
    assert [name for name, value in held if len(value) != problem.n_tasks] == []
    assert METHOD.separate
