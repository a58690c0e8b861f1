"""DMTRL: what its factors start from, its ranks, limiting cases, and known groups."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from mtbench_methods import dmtrl
from mtbench_methods.dmtrl import DMTRLLAF, DMTRLTT, DMTRLTucker, inputs_first, outputs_first

from mtbench.contracts.hyperparameters import describe
from mtbench.contracts.trials import Status
from mtbench.nn.backbones import backbone
from mtbench.plan.settings import settings
from mtbench.testing.problems import (
    RECIPE,
    OwnImages,
    OwnMulticlass,
    OwnRegression,
    SharedImages,
    SharedOneVsAll,
    SharedRegression,
)

METHODS = (DMTRLLAF, DMTRLTucker, DMTRLTT)
MINIATURES = (SharedOneVsAll, SharedRegression, OwnRegression, OwnMulticlass)


def factorised(deep, method, problem, recipe=RECIPE, **changes):
    """A model whose tasks differ, after what is between its stages; its hyperparameters; the weights before."""
    model, params = deep.build(method, problem, recipe, **changes)
    with torch.no_grad():
        for factors in model.factors.values():
            factors.apart.add_(0.3 * torch.randn_like(factors.apart))
    alone = {name: value.detach().clone() for name, value in model.weights(alone=True).items()}
    model.load_state_dict(model.state_dict() | method.between(model, "alone", "factorised", params))
    return model, params, alone


@pytest.fixture(params=METHODS, ids=lambda method: method.name)
def method(request: pytest.FixtureRequest):
    return request.param()


@pytest.mark.parametrize("miniature", MINIATURES)
def test_the_rank_of_tasks_is_below_their_number_before_and_after_training(deep, method, miniature) -> None:
    problem = deep.problem(miniature)
    model, *_ = factorised(deep, method, problem)
    assert all(1 <= factors.task_rank < problem.n_tasks for factors in model.factors.values())
    for value in model.weights().values():
        assert torch.linalg.matrix_rank(value.flatten(1), rtol=1e-5) < problem.n_tasks
    result = deep.train(method, miniature)
    ranks = result.learned["task_ranks"][0]
    assert (ranks >= 1).all()
    assert (ranks < problem.n_tasks).all()


@pytest.mark.parametrize("miniature", MINIATURES)
def test_factors_start_close_to_what_single_tasks_learned(deep, method, miniature) -> None:
    problem = deep.problem(miniature)
    model, _, alone = factorised(deep, method, problem)
    for name, found in model.weights().items():
        if model.factors[name].task_rank < problem.n_tasks - 1:
            assert (found - alone[name]).norm() <= 0.1001 * alone[name].norm()
        error = (found - alone[name]).norm() / alone[name].norm()
        torch.testing.assert_close(model.factors[name].relative_error, error.detach())


def test_factors_are_the_given_networks_until_they_are_truncated(deep, method) -> None:
    problem = deep.problem(OwnRegression)
    model, params = deep.build(method, problem)
    with torch.no_grad():
        for factors in model.factors.values():
            factors.apart.add_(torch.randn_like(factors.apart))
    for name, alone in model.weights(alone=True).items():
        torch.testing.assert_close(model.weights()[name], alone)
    batch = deep.batch(problem)
    torch.testing.assert_close(method.alone_objective(model, batch, params), method.objective(model, batch, params))


def test_while_tasks_learn_alone_no_task_moves_another(deep, method) -> None:
    problem = deep.problem(OwnRegression)
    model, _ = deep.build(method, problem)
    batch = deep.batch(problem)
    losses = batch.task_losses(model.outputs(batch, model.weights(alone=True)))
    held = [factors.apart for factors in model.factors.values()]
    reached = [torch.autograd.grad(loss, held, retain_graph=True) for loss in losses]
    for t, gradients in enumerate(reached):
        for factors, gradient in zip(model.factors.values(), gradients, strict=True):
            factors.apart.data = gradient
            moved = factors.apart_weights().flatten(1).abs().sum(1)
            assert moved.nonzero().flatten().tolist() == [t]


def test_what_lies_beyond_the_ranks_is_0_and_stays_so_whatever_is_learned(deep, method) -> None:
    problem = deep.problem(OwnRegression)
    model, params, _ = factorised(deep, method, problem)
    optimiser = torch.optim.Adam(model.parameters(), 0.05)
    beyond = {name: value == 0 for name, value in model.factors.named_parameters()}
    assert sum(int(zero.sum()) for zero in beyond.values()) > 0
    for _ in range(5):
        optimiser.zero_grad()
        method.objective(model, deep.batch(problem), params).backward()
        optimiser.step()
    for name, value in model.factors.named_parameters():
        assert (value[beyond[name]] == 0).all()
        assert (value[~beyond[name]] != 0).all()


def test_parameters_within_the_ranks_are_counted(deep, method) -> None:
    model, params, _ = factorised(deep, method, deep.problem(OwnMulticlass))
    within = sum(int((value != 0).sum()) for value in model.factors.parameters())
    own = sum(value.numel() for value in [*model.copies.parameters(), model.b, model.S])
    assert method.n_parameters(model, params) == within + own


def test_the_cap_can_be_turned_off_and_its_price_is_told(deep, method) -> None:
    problem = deep.problem(OwnRegression, tasks=2)
    errors = {}
    for capped in (True, False):
        model, params, _ = factorised(deep, method, problem, capped=capped)
        learned = method.learned(model, params)
        errors[capped] = learned["relative_errors"]
        assert (learned["task_ranks"] == 1).all() if capped else (learned["task_ranks"] == 2).any()
    assert errors[True].max() > 0.1 >= errors[False].max()


def test_the_cap_is_no_part_of_a_setting_unless_it_is_given() -> None:
    known = describe(dmtrl.DMTRLParams)
    rng = np.random.default_rng
    plain, given = (settings(known, "random", 3, rng(0), fixed) for fixed in ({}, {"capped": [False]}))
    assert all("capped" not in setting for setting in plain)
    assert given == [{**setting, "capped": False} for setting in plain]
    assert settings(known, "grid", 1, rng(0), {}) == settings(known, "default", 1, rng(0), {})


def test_trains_are_chained_by_inputs_outputs_and_tasks_with_pixels_first(deep) -> None:
    dense = torch.randn(4, 3, 5)  # torch's order: outputs, inputs
    assert inputs_first(dense).shape == (4, 5, 3)
    filters = torch.randn(4, 6, 2, 3, 1)
    assert inputs_first(filters).shape == (4, 3, 1, 2, 6)
    assert inputs_first(filters)[2, 1, 0, 1, 4] == filters[2, 4, 1, 1, 0]
    for weights in (dense, filters):
        assert torch.equal(outputs_first(inputs_first(weights)), weights)
    model, *_ = factorised(deep, DMTRLTT(), deep.problem(OwnRegression))
    sizes = {name: [core.shape[1] for core in factors.cores] for name, factors in model.factors.items()}
    assert sizes == {"layers__0__weight": [5, 8, 4], "heads": [8, 1, 4]}
    assert model.weights()["layers__0__weight"].shape == (4, 8, 5)


def test_heads_are_a_layer_like_others_where_tasks_have_equally_many_outputs(deep, method) -> None:
    equal, _ = deep.build(method, deep.problem(OwnRegression))
    unequal, _ = deep.build(method, deep.problem(OwnMulticlass))
    assert set(equal.factors) == {"layers__0__weight", "heads"}
    assert set(unequal.factors) == {"layers__0__weight"}
    assert equal.S is None
    assert unequal.S.shape == (3, 8, 4)


@pytest.mark.parametrize("miniature", [OwnRegression, OwnMulticlass])
def test_outputs_are_those_of_networks_with_the_products_as_weights(deep, method, miniature) -> None:
    problem = deep.problem(miniature)
    model, *_ = factorised(deep, method, problem)
    batch, mixed = deep.batch(problem, per_task=4), deep.batch(problem)
    weights = model.weights()
    S = weights.get("heads", model.S)
    for rows in (batch, mixed):
        outputs = rows.own_outputs(model(rows))
        for i, t in enumerate(rows.task):
            z = torch.relu(weights["layers__0__weight"][t] @ rows.inputs[i] + model.copies.layers__0__bias[t])
            own = problem.tasks[t].n_outputs
            torch.testing.assert_close(outputs[i, :own], (z @ S[t] + model.b[t])[:own])


def test_one_task_is_single_task_learning(deep) -> None:
    problem = deep.problem(OwnRegression, tasks=1)
    model, params = deep.build(DMTRLLAF(), problem, lambda_=0.01)
    batch, weights = deep.batch(problem), model.weights()
    # One network, whose weights have a factor more.
    W, c = weights["layers__0__weight"][0], model.copies.layers__0__bias[0]
    outputs = torch.relu(batch.inputs @ W.T + c) @ weights["heads"][0] + model.b[0]
    loss = (outputs - batch.labels).square().mean()
    decay = sum(value.square().sum() for value in (W, c, weights["heads"])) / 2
    torch.testing.assert_close(DMTRLLAF().objective(model, batch, params), loss + 0.01 * decay)
    assert [factors.task_rank for factors in model.factors.values()] == [1, 1]


def test_tasks_are_learned_from_the_base_where_there_is_one(deep, method) -> None:
    problem = deep.problem(OwnRegression)
    recipe = dataclasses.replace(RECIPE, base="cnn")
    model, _ = deep.build(method, problem, recipe)
    torch.manual_seed(7)
    base = backbone(problem, recipe).double()
    method.start_from(model, dict(base.state_dict()))
    for weights in (model.weights(alone=True), model.weights()):
        for t in range(problem.n_tasks):
            torch.testing.assert_close(weights["layers__0__weight"][t], base.layers[0].weight)
    for t in range(problem.n_tasks):
        assert torch.equal(model.copies.layers__0__bias[t], base.layers[0].bias)


def test_the_start_is_part_of_the_epochs_that_every_method_has(deep, method) -> None:
    result = deep.train(method, OwnRegression, alone=0.4)
    assert result.history["epoch"][0].tolist() == [*range(1, RECIPE.max_epochs + 1)]
    assert result.history["stage"][0].tolist() == [0.0] * 6 + [1.0] * 9
    assert result.provenance["stages"] == [["alone", 6], ["factorised", 15]]
    assert result.best_epoch[0] > 6


def test_trials_of_different_ranks_share_a_stack(deep, method) -> None:
    settings = {"lambda_": 1e-4}, {"lambda_": 3.0, "learning_rate": 0.05}
    deep.assert_stacked_equals_alone(method, OwnMulticlass, *settings, max_epochs=4)


def test_building_twice_gives_the_same_and_leaves_the_generator_alone(deep, method) -> None:
    problem = deep.problem(SharedRegression)
    first, second = (deep.build(method, problem)[0].state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_batch_norm_and_its_statistics_belong_to_a_task(deep, method) -> None:
    problem = deep.problem(OwnImages)
    model, params = deep.build(method, problem, dataclasses.replace(OwnImages.recipe, max_epochs=2))
    before = copy.deepcopy(dict(model.copies.named_buffers()))
    method.objective(model, deep.batch(problem, per_task=4), params).backward()
    for name, buffer in model.copies.named_buffers():
        assert buffer.shape[0] == 3
        assert not torch.equal(buffer, before[name])
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(("miniature", "per_task"), [(SharedImages, 0), (OwnImages, 0), (OwnImages, 4)])
def test_it_trains_on_images_in_both_layouts_and_repeats_itself(deep, method, miniature, per_task, monkeypatch) -> None:
    recipe = dataclasses.replace(miniature.recipe, rows_per_task=per_task, max_epochs=3, learning_rate=0.003)
    monkeypatch.setattr(miniature, "recipe", recipe)
    first, second = (deep.train(method, miniature) for _ in range(2))
    assert first.status == [Status.FINISHED]
    np.testing.assert_array_equal(first.history["loss"], second.history["loss"])
    assert first.history["loss"][0, -1] < first.history["loss"][0, 0]


def test_weights_are_alike_within_groups_of_tasks(deep, method) -> None:
    similarity = deep.train(method, deep.opposite_groups).learned["task_similarity"][0]
    within, across = deep.within_and_across(similarity)
    assert within.min() > 0.5 > 0.2 > across.max()
    np.testing.assert_allclose(similarity.diagonal(), 1)
