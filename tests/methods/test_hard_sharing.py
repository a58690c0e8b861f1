"""Hard sharing: equal weights, one shared network, and what becomes of one task."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from mtbench_methods.hard_sharing import HardSharing
from mtbench_methods.stl_deep import DeepSTL
from torch.nn import functional as F

from mtbench.testing.problems import OwnImages, OwnMulticlass, OwnRegression, SharedOneVsAll

METHOD = HardSharing()


def test_every_task_counts_the_same_however_many_rows_it_has(deep: Any) -> None:
    problem = deep.problem(OwnRegression)
    batch, (model, _) = deep.batch(problem), deep.build(METHOD, problem)
    outputs, expected = model(batch), torch.zeros(()).double()
    for t in range(problem.n_tasks):
        own = batch.task == t
        expected = expected + F.mse_loss(outputs[own, t], batch.labels[own, 0])
    assert len(set(problem.task_sizes().tolist())) == 4
    torch.testing.assert_close(METHOD.objective(model, batch, METHOD.Params(lambda_=0.0)), expected)


def test_weight_decay_is_on_all_layers_but_the_biases_of_the_heads(deep: Any) -> None:
    problem = deep.problem(SharedOneVsAll)
    batch, (model, _) = deep.batch(problem), deep.build(METHOD, problem)
    torch.nn.init.normal_(model.heads.b)
    without, strong = (METHOD.objective(model, batch, METHOD.Params(lambda_=value)) for value in (0.0, 0.5))
    decayed = sum(p.square().sum() for name, p in model.named_parameters() if name != "heads.b")
    torch.testing.assert_close(strong - without, 0.25 * decayed)


@pytest.mark.parametrize("miniature", [OwnMulticlass, OwnImages])
def test_rows_of_each_task_give_what_mixed_rows_give(deep: Any, miniature: Any) -> None:
    problem = deep.problem(miniature)
    model, params = deep.build(METHOD, problem)
    rows = deep.batch(problem, per_task=6)
    found = [METHOD.objective(model, b, params) for b in (rows, dataclasses.replace(rows, per_task=0))]
    torch.testing.assert_close(*found)


def test_one_task_gives_single_task_learning(deep: Any) -> None:
    problem = deep.problem(OwnMulticlass, tasks=1)
    (shared, params), (alone, own_params) = (deep.build(method, problem) for method in (METHOD, DeepSTL()))
    with torch.no_grad():
        for name, value in alone.towers.state().items():
            value[0].copy_(shared.backbone.state_dict()[name])
        alone.heads.load_state_dict(shared.heads.state_dict())
    batch = deep.batch(problem)
    found = METHOD.objective(shared, batch, params), DeepSTL().objective(alone, batch, own_params)
    torch.testing.assert_close(*found)
