"""MTAN: eqs. (1) and (2), its limiting cases, and what batch norm keeps apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from mtbench_methods.mtan import MTAN, averaging
from torch.nn import functional as F

from mtbench.testing.ownership import moved
from mtbench.testing.problems import RECIPE, OwnImages, OwnRegression, SharedImages, SharedRegression

METHOD = MTAN()
TWO_LAYERS = dataclasses.replace(RECIPE, layers=2)


@pytest.mark.parametrize("squeeze", [1, 4])
@pytest.mark.parametrize(("miniature", "per_task"), [(OwnRegression, 0), (OwnRegression, 3), (SharedRegression, 0)])
def test_outputs_on_vectors_are_those_of_equations_1_and_2(
    deep: Any, squeeze: int, miniature: Any, per_task: int
) -> None:
    problem = deep.problem(miniature)
    model = moved(deep.build(METHOD, problem, TWO_LAYERS, squeeze=squeeze)[0])
    batch = deep.batch(problem, per_task)
    outputs = model(batch)
    p1 = model.backbone.stage(0, batch.inputs)
    p2 = model.backbone.stage(1, p1)
    passing = model.passing[0].layer
    for t in range(problem.n_tasks):
        one, two = ({name: value[t] for name, value in copies.state().items()} for copies in model.attention)

        def mask(own: Any, x: torch.Tensor) -> torch.Tensor:
            inside = torch.relu(x @ own["g.0.weight"].mT + own["g.0.bias"])
            return torch.sigmoid(inside @ own["h.0.weight"].mT + own["h.0.bias"])

        first = mask(one, p1) * p1
        seen = torch.cat([p2, torch.relu(first @ passing.weight.mT + passing.bias)], 1)
        second = mask(two, seen) * p2
        expected = second @ model.heads.S[t, :, 0] + model.heads.b[t, 0]
        rows = slice(None) if batch.task is None else batch.task == t
        torch.testing.assert_close(outputs[rows, t], expected[rows])


@pytest.mark.parametrize("backbone", ["mlp", "lenet", "conv4"])
def test_open_masks_are_hard_sharing_and_closed_ones_leave_the_biases(deep: Any, backbone: Any) -> None:
    problem = deep.problem(SharedImages)
    recipe = dataclasses.replace(RECIPE, backbone=backbone, layers=2)
    model, batch = moved(deep.build(METHOD, problem, recipe)[0]), deep.batch(problem)
    shared = model.heads(model.backbone(batch.inputs), batch)
    for bias, expected in ((1e3, shared), (-1e3, model.heads.b[:, 0].expand_as(shared))):
        with torch.no_grad():
            for name, parameter in model.attention.named_parameters():
                if ".h__" in name and parameter.ndim == 2:  # the last bias of a module, or batch norm's
                    parameter.fill_(bias if name.endswith("bias") else 0.0)
        torch.testing.assert_close(model(batch), expected)


def test_a_mask_is_the_same_as_none_where_there_is_one_task_and_one_stage(deep: Any) -> None:
    problem = deep.problem(OwnRegression, tasks=1)
    model, batch = moved(deep.build(METHOD, problem)[0]), deep.batch(problem)
    p = model.backbone(batch.inputs)
    expected = (model.attention[0](p)[0] * p) @ model.heads.S[0] + model.heads.b[0]
    torch.testing.assert_close(model(batch), expected)


@pytest.mark.parametrize("backbone", ["lenet", "conv4"])
def test_rows_of_each_task_and_mixed_rows_have_the_same_outputs(deep: Any, backbone: Any) -> None:
    problem = deep.problem(OwnImages)
    model = moved(deep.build(METHOD, problem, dataclasses.replace(RECIPE, backbone=backbone))[0]).eval()
    rows = deep.batch(problem, per_task=5)
    mixed = dataclasses.replace(rows, per_task=0)
    torch.testing.assert_close(rows.own_outputs(model(rows)), rows.own_outputs(model(mixed)))


def test_batch_norm_between_stages_keeps_statistics_of_each_task(deep: Any) -> None:
    problem = deep.problem(SharedImages)
    model = moved(deep.build(METHOD, problem, dataclasses.replace(RECIPE, backbone="conv4"))[0])
    model(deep.batch(problem))
    norms = model.passing[0].norms
    assert norms.running_mean.shape == (3, 12)
    assert (norms.running_mean[0] != norms.running_mean[1]).any()
    assert model.passing[0].scale.shape == (12, 1, 1)


@pytest.mark.parametrize(("n", "into"), [(6, 1), (6, 2), (7, 3), (5, 4), (3, 3)])
def test_means_over_parts_are_those_of_adaptive_pooling(n: int, into: int) -> None:
    x = torch.randn(2, 1, n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = averaging(n, into)
    torch.testing.assert_close(matrix @ x @ matrix.mT, F.adaptive_avg_pool2d(x, into))


def test_stacked_equals_alone(deep: Any) -> None:
    settings = [{"lambda_": value} for value in (1e-3, 1e-2)]
    deep.assert_stacked_equals_alone(METHOD, OwnRegression, *settings, rows_per_task=3, layers=2, max_epochs=2)


def test_the_objective_has_a_known_value(deep: Any) -> None:
    problem = deep.problem(SharedRegression)
    model, params = deep.build(METHOD, problem, TWO_LAYERS)
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.linspace(-0.5, 0.6, parameter.numel()).double().view(parameter.shape) / (1 + i % 3))
    assert METHOD.objective(model, deep.batch(problem), params).item() == pytest.approx(19.59060668067509, rel=1e-9)
