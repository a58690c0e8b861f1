"""Cross-stitch networks: eq. (1), its limiting cases, its learning rate, and the relatedness it finds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from mtbench_methods.cross_stitch import CrossStitch, mixed
from mtbench_methods.stl_deep import DeepSTL

from mtbench import Recipe
from mtbench.contracts.hyperparameters import describe
from mtbench.testing.problems import RECIPE, OwnImages, OwnMulticlass, OwnRegression, SharedImages, SharedRegression

METHOD = CrossStitch()


def recipe_for(backbone: Any) -> Recipe:
    return dataclasses.replace(RECIPE, backbone=backbone, hidden=6, layers=3)


def test_mixtures_are_those_of_equation_1() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, 4, 2, 2, generator=generator)
    alpha, per_channel = (torch.randn(*shape, generator=generator) for shape in ((3, 3), (3, 3, 4)))
    for t in range(3):
        expected = sum(alpha[t, u] * x[u] for u in range(3))
        torch.testing.assert_close(mixed(alpha, x)[t], expected)
        expected = sum(per_channel[t, u][:, None, None] * x[u] for u in range(3))
        torch.testing.assert_close(mixed(per_channel, x)[t], expected)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(
    ("miniature", "backbone", "per_task"),
    [(OwnMulticlass, "mlp", 0), (OwnMulticlass, "mlp", 6), (SharedRegression, "mlp", 0), (OwnImages, "lenet", 4),
     (OwnImages, "conv4", 0), (SharedImages, "conv4", 0)],
)  # fmt: skip
def test_the_identity_gives_the_objective_of_single_task_learning(
    deep: Any, miniature: Any, backbone: str, per_task: int, per_channel: bool
) -> None:
    problem, recipe = deep.problem(miniature), recipe_for(backbone)
    stitched, params = deep.build(METHOD, problem, recipe, per_channel=per_channel)
    alone, own_params = deep.build(DeepSTL(), problem, recipe)
    with torch.no_grad():
        for alpha in stitched.alpha:
            identity = torch.eye(problem.n_tasks, dtype=alpha.dtype)
            alpha.copy_(identity[:, :, None].expand_as(alpha) if per_channel else identity)
    alone.load_state_dict({name: value for name, value in stitched.state_dict().items() if "alpha" not in name})
    batch = deep.batch(problem, per_task)
    found = METHOD.objective(stitched, batch, params), DeepSTL().objective(alone, batch, own_params)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("per_channel", [False, True])
def test_rows_of_each_task_and_mixed_rows_have_the_same_outputs(deep: Any, per_channel: bool) -> None:
    problem = deep.problem(OwnImages)
    model, _ = deep.build(METHOD, problem, recipe_for("conv4"), per_channel=per_channel)
    rows = deep.batch(problem, per_task=5)
    mixed_rows = dataclasses.replace(rows, per_task=0)
    torch.testing.assert_close(rows.own_outputs(model(rows)), rows.own_outputs(model(mixed_rows)))


def test_tasks_take_from_all_towers_after_every_stage(deep: Any) -> None:
    problem = deep.problem(SharedRegression)
    batch, (model, _) = deep.batch(problem), deep.build(METHOD, problem, recipe_for("mlp"))
    x = batch.inputs.expand(4, *batch.inputs.shape)
    for i, alpha in enumerate(model.alpha):
        W, b = (model.towers.state()[f"layers.{i}.{name}"] for name in ("weight", "bias"))
        made = torch.relu(x @ W.mT + b[:, None])
        x = torch.stack([sum(alpha[t, u] * made[u] for u in range(4)) for t in range(4)])
    expected = torch.stack([x[t] @ model.heads.S[t, :, 0] + model.heads.b[t, 0] for t in range(4)], 1)
    torch.testing.assert_close(model(batch), expected)


def test_mixtures_start_as_convex_combinations(deep: Any) -> None:
    model, _ = deep.build(METHOD, deep.problem(OwnRegression), recipe_for("mlp"))
    assert len(model.alpha) == 3
    for alpha in model.alpha:
        torch.testing.assert_close(alpha.diagonal(), torch.full((4,), 0.9).double(), atol=1e-6, rtol=0)
        torch.testing.assert_close(alpha.sum(1), torch.ones(4).double(), atol=1e-6, rtol=0)
    by_channel, _ = deep.build(METHOD, deep.problem(OwnImages), recipe_for("conv4"), per_channel=True)
    assert [tuple(alpha.shape) for alpha in by_channel.alpha] == [(3, 3, n) for n in (6, 12, 24, 64, 512)]


def test_one_task_gives_single_task_learning(deep: Any) -> None:
    problem = deep.problem(OwnMulticlass, tasks=1)
    batch, recipe = deep.batch(problem), recipe_for("mlp")
    (stitched, params), (alone, own_params) = (deep.build(m, problem, recipe) for m in (METHOD, DeepSTL()))
    found = METHOD.objective(stitched, batch, params), DeepSTL().objective(alone, batch, own_params)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("rate", [1, 100])
def test_mixtures_learn_at_their_own_rate(deep: Any, rate: int) -> None:
    class OneStep(OwnRegression):
        recipe = dataclasses.replace(OwnRegression.recipe, max_epochs=1, batch_size=0, learning_rate=1e-4)

    result = deep.train(METHOD, OneStep, rate=rate)
    # The first step of Adam moves every number by its learning rate.
    moved = np.abs(result.learned["mixtures"][0, 0].diagonal() - 0.9)
    np.testing.assert_allclose(moved, rate * 1e-4, rtol=1e-3)


@pytest.mark.parametrize(("optimiser", "factor"), [("adam", 1.0), ("sgd", 100.0)])
def test_mixtures_learn_faster_by_default_only_where_a_step_is_as_long_as_its_gradient(
    deep: Any, optimiser: Any, factor: float
) -> None:
    recipe = dataclasses.replace(RECIPE, optimiser=optimiser)
    model, params = deep.build(METHOD, deep.problem(OwnRegression), recipe)
    assert METHOD.learning_rate_factors(model) == {"alpha": factor}
    faster, _ = deep.build(METHOD, deep.problem(OwnRegression), recipe, rate=10)
    assert METHOD.learning_rate_factors(faster) == {"alpha": 10.0}
    known = describe(type(params))["rate"]
    assert known.range is not None
    assert 1 in known.range.grid


def test_tasks_take_more_from_those_of_their_group(deep: Any) -> None:
    transfer = deep.train(METHOD, deep.opposite_groups, rate=1).learned["transfer"][0]
    within, across = deep.within_and_across(transfer)
    assert within.mean() > 1.8 * across.mean()
    assert (transfer.diagonal() > within.max()).all()


def test_transfer_says_what_the_row_gives_to_the_column(deep: Any) -> None:
    model, params = deep.build(METHOD, deep.problem(OwnRegression))
    with torch.no_grad():
        model.alpha[0][1, 3] = -0.5  # task 1 takes from task 3
    transfer = METHOD.learned(model, params)["transfer"].detach()
    assert transfer[3, 1] == 0.5
    assert transfer[1, 3] == pytest.approx(0.1 / 3)
