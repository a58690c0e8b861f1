"""TAAN: its inner products against Monte Carlo, its regularisers, limiting cases, and known groups."""

import dataclasses

import numpy as np
import pytest
import torch
from mtbench_methods.taan import TAAN, TAANCosine, TAANDistance, TAANTraceNorm
from mtbench_methods.taan.task_activation import TaskActivation, gram, with_relu
from torch import nn

from mtbench.nn.backbones import backbone
from mtbench.testing.problems import (
    RECIPE,
    OwnImages,
    OwnMulticlass,
    OwnRegression,
    SharedImages,
    SharedOneVsAll,
    SharedRegression,
)

REGULARISED = (TAANDistance, TAANCosine, TAANTraceNorm)
B = torch.tensor([-0.4, 0.0, 0.3, 1.2], dtype=torch.float64)


def layer(n_tasks: int = 3, scale: float = 1.0) -> TaskActivation:
    torch.manual_seed(0)
    made = TaskActivation(n_tasks, 4).double()
    with torch.no_grad():
        made.alpha.copy_(scale * torch.randn(n_tasks, 4))
        made.b.copy_(B)
    return made


def without_alpha(model: nn.Module) -> nn.Module:
    for activation in model.activations().values():
        nn.init.zeros_(activation.alpha)
    return model


def test_inner_products_equal_monte_carlo() -> None:
    z = torch.from_numpy(np.random.default_rng(0).normal(size=1_000_000))
    basis = torch.relu(B[:, None] - z)
    torch.testing.assert_close(gram(B), basis @ basis.T / len(z), atol=5e-3, rtol=0)
    torch.testing.assert_close(with_relu(B), basis @ torch.relu(z) / len(z), atol=2e-3, rtol=0)


def test_inner_products_are_symmetric_and_positive_definite() -> None:
    K = gram(B)
    torch.testing.assert_close(K, K.T)
    assert (torch.linalg.eigvalsh(K) > 0).all()
    assert (with_relu(B)[:2] == 0).all()


def test_distances_and_cosines_compare_the_functions_themselves() -> None:
    z = torch.from_numpy(np.random.default_rng(1).normal(size=1_000_000))
    activation = layer()
    functions = torch.stack([torch.relu(z) + a @ torch.relu(B[:, None] - z) for a in activation.alpha.detach()])
    squares = (functions[:, None] - functions).square().mean(-1)
    torch.testing.assert_close(activation.distances().detach(), squares, atol=0.0, rtol=0.01)
    inner = functions @ functions.T / len(z)
    cosines = inner / inner.diagonal().outer(inner.diagonal()).sqrt()
    torch.testing.assert_close(activation.cosines().detach(), cosines, atol=5e-3, rtol=0)


def test_every_row_goes_through_its_own_tasks_function() -> None:
    activation = layer()
    rows, task = torch.randn(5, 2, 3, dtype=torch.float64), torch.tensor([2, 0, 0, 1, 2])
    found = torch.func.functional_call(activation, {"alpha": activation.alpha[task]}, (rows,))
    for i, t in enumerate(task):
        expected = torch.relu(rows[i])
        for m in range(4):
            expected = expected + activation.alpha[t, m] * torch.relu(B[m] - rows[i])
        torch.testing.assert_close(found[i], expected)


@pytest.mark.parametrize("shape", [(7,), (2, 5, 5)])
def test_rows_that_are_the_same_for_all_tasks_part_as_if_they_had_been_repeated(shape) -> None:
    activation = layer()
    rows = torch.randn(4, *shape, dtype=torch.float64)
    own = {"alpha": activation.alpha.repeat_interleave(4, dim=0)}
    found = torch.func.functional_call(activation, own, (rows,))
    repeated = torch.func.functional_call(activation, own, (rows.repeat(3, *[1] * len(shape)),))
    torch.testing.assert_close(found, repeated)


def test_regularisers_are_means_over_pairs_and_the_nuclear_norm() -> None:
    activation = layer()
    pairs = [(0, 1), (0, 2), (1, 2)]
    distances, cosines = activation.distances(), activation.cosines()
    torch.testing.assert_close(TAANDistance().regulariser(activation), sum(distances[p] for p in pairs) / 3)
    torch.testing.assert_close(TAANCosine().regulariser(activation), -sum(cosines[p] for p in pairs) / 3)
    nuclear = torch.linalg.matrix_norm(activation.alpha, "nuc")
    torch.testing.assert_close(TAANTraceNorm().regulariser(activation), nuclear)
    assert nuclear < activation.alpha.norm(dim=1).sum()


@pytest.mark.parametrize("method", REGULARISED)
@pytest.mark.parametrize("alpha", ["zero", "equal rows", "orthogonal"])
def test_gradients_are_finite_where_singular_values_are_zero_or_repeated_stacked_too(method, alpha) -> None:
    values = {"zero": torch.zeros(4, 4), "equal rows": torch.ones(4, 4), "orthogonal": torch.eye(4)}[alpha].double()
    activation = layer(4)

    def regulariser(alphas: torch.Tensor) -> torch.Tensor:
        class Call(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = activation

            def forward(self) -> torch.Tensor:
                return method().regulariser(self.layer)

        return torch.func.functional_call(Call(), {"layer.alpha": alphas}, ())

    stacked = torch.stack([values, values + 0.1])
    gradient = torch.func.vmap(torch.func.grad(regulariser))(stacked)
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(gradient[1], torch.func.grad(regulariser)(stacked[1]))


@pytest.mark.parametrize("miniature", [SharedOneVsAll, SharedRegression, OwnRegression, OwnMulticlass])
@pytest.mark.parametrize("per_task", [0, 4])
def test_with_alpha_zero_it_is_hard_sharing(deep, miniature, per_task) -> None:
    problem = deep.problem(miniature)
    if per_task and problem.parts["train"].task is None:
        pytest.skip("rows of each task need the own layout")
    model, params = deep.build(TAAN(), problem, lambda_=0.01)
    shared = backbone(problem, RECIPE).double()
    shared.load_state_dict(without_alpha(model).backbone.state_dict(), strict=False)
    batch = deep.batch(problem, per_task)
    losses = batch.task_losses(model.heads(shared(batch.inputs), batch))
    torch.testing.assert_close(batch.task_losses(model(batch)), losses)
    decay = sum(p.square().sum() for p in [*shared.parameters(), model.heads.S]) / 2
    torch.testing.assert_close(TAAN().objective(model, batch, params), losses.sum() + 0.01 * decay)


@pytest.mark.parametrize(("miniature", "per_task"), [(SharedImages, 0), (OwnImages, 0), (OwnImages, 4)])
def test_with_alpha_zero_batch_norm_sees_what_it_sees_under_hard_sharing(deep, miniature, per_task) -> None:
    problem = deep.problem(miniature)
    model, _ = deep.build(TAAN(), problem, miniature.recipe)
    shared = backbone(problem, miniature.recipe).double()
    shared.load_state_dict(without_alpha(model).backbone.state_dict(), strict=False)
    batch = deep.batch(problem, per_task)
    expected = model.heads(shared(batch.inputs), dataclasses.replace(batch, per_task=0))
    torch.testing.assert_close(batch.own_outputs(model(batch)), batch.own_outputs(expected))
    means = [net.norms[1].running_mean for net in (shared, model.backbone)]
    assert means[0].abs().sum() > 0
    torch.testing.assert_close(*means)


@pytest.mark.parametrize("method", [TAAN, *REGULARISED])
def test_one_task_is_single_task_learning(deep, method) -> None:
    problem = deep.problem(OwnRegression, tasks=1)
    changes = {} if method is TAAN else {"c": 0.5}
    model, params = deep.build(method(), problem, lambda_=0.0, **changes)
    batch = deep.batch(problem)
    loss = batch.task_losses(model(batch)).sum()
    # There are no pairs of functions, and the nuclear norm of one row is its norm.
    norm = model.backbone.activations[0].alpha.norm() if method is TAANTraceNorm else 0.0
    torch.testing.assert_close(method().objective(model, batch, params), loss + 0.5 * norm)


@pytest.mark.parametrize(("miniature", "per_task"), [(OwnRegression, 0), (OwnRegression, 4), (SharedRegression, 0)])
def test_up_to_the_first_activation_it_costs_what_one_network_costs(deep, miniature, per_task) -> None:
    problem = deep.problem(miniature)
    model, _ = deep.build(TAAN(), problem)
    seen = []
    model.backbone.layers[0].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    batch = deep.batch(problem, per_task)
    model(batch)
    assert seen == [len(batch.inputs)]


def test_a_base_network_becomes_the_shared_weights(deep) -> None:
    problem = deep.problem(OwnRegression)
    model, _ = deep.build(TAAN(), problem)
    base = backbone(problem, RECIPE).double()
    alpha = model.backbone.activations[0].alpha.clone()
    TAAN().start_from(model, dict(base.state_dict()))
    torch.testing.assert_close(model.backbone.layers[0].weight, base.layers[0].weight)
    torch.testing.assert_close(model.backbone.activations[0].alpha, alpha)


@pytest.mark.parametrize("miniature", [OwnRegression, SharedRegression])
def test_a_linear_backbone_has_no_activations_and_no_regulariser(deep, miniature) -> None:
    problem = deep.problem(miniature)
    model, params = deep.build(TAANDistance(), problem, dataclasses.replace(RECIPE, activation="identity"))
    batch = deep.batch(problem)
    expected = TAAN().objective(model, batch, params)
    torch.testing.assert_close(TAANDistance().objective(model, batch, params), expected)
    assert TAANDistance().learned(model, params) == {}


@pytest.mark.parametrize("method", [TAAN, *REGULARISED])
def test_functions_are_alike_within_groups_of_tasks(deep, method) -> None:
    distances = deep.train(method(), deep.two_groups, **({} if method is TAAN else {"c": 0.01})).learned[
        "task_distance"
    ]
    within, across = deep.within_and_across(distances[0])
    assert 3 * within.max() < across.min()


def test_more_weight_on_the_distance_draws_functions_together(deep) -> None:
    means = [
        deep.within_and_across(deep.train(TAANDistance(), deep.two_groups, c=c).learned["task_distance"][0])[1].mean()
        for c in (0.01, 1.0)
    ]
    assert means[1] < 0.5 * means[0]


def test_the_trace_norm_couples_tasks_where_the_released_sum_of_row_norms_does_not() -> None:
    activation = layer()
    same = activation.alpha.detach()[:1].repeat(3, 1)
    with torch.no_grad():
        activation.alpha.copy_(same)
    released = activation.alpha.norm(dim=1).sum()
    # One function for all tasks: rank one, whose nuclear norm is the length of all rows together.
    torch.testing.assert_close(TAANTraceNorm().regulariser(activation), same.norm())
    torch.testing.assert_close(released.detach(), 3**0.5 * same.norm())


@pytest.mark.parametrize(("method", "own"), [(TAANDistance(), 0.0), (TAANCosine(), -1.0)])
def test_regularisers_are_means_over_pairs_of_different_tasks(method, own) -> None:
    activation = layer()
    pairs = activation.distances() if isinstance(method, TAANDistance) else -activation.cosines()
    torch.testing.assert_close(pairs.diagonal(), torch.full((3,), own).double(), atol=1e-12, rtol=0)
    different = [pairs[s, t] for s in range(3) for t in range(3) if s != t]
    torch.testing.assert_close(method.regulariser(activation), sum(different) / 6)
    # The released code takes all nine.
    torch.testing.assert_close(pairs.mean(), (6 * method.regulariser(activation) + 3 * own) / 9)


@pytest.mark.parametrize("method", [TAANDistance(), TAANCosine()])
def test_the_gradient_is_that_of_the_regulariser_also_by_the_bases(method) -> None:
    activation = layer()
    parameters = (activation.alpha, activation.b)

    def value(alpha: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        moved = layer()
        for name, parameter in (("alpha", alpha), ("b", b)):
            delattr(moved, name)
            setattr(moved, name, parameter)
        return method.regulariser(moved)

    # Away from b = 0, where u has a kink.
    at = (parameters[0].detach().requires_grad_(), torch.tensor([-0.4, 0.1, 0.3, 1.2]).double().requires_grad_())
    assert torch.autograd.gradcheck(value, at)
    assert torch.autograd.grad(value(*at), at[1])[0].abs().max() > 0


def test_functions_of_tasks_are_not_decayed(deep) -> None:
    model, _ = deep.build(TAAN(), deep.problem(OwnRegression))
    model.decay().backward()
    for activation in model.activations().values():
        assert activation.alpha.grad is None
        assert activation.b.grad is None
