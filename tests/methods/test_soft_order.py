"""Soft ordering: eq. (7) written out over every kind of backbone, limiting cases, dropout, and orders that it finds."""

import dataclasses

import pytest
import torch
from mtbench_methods.soft_order import SoftOrder, SoftOrderNet
from torch import Tensor, nn
from torch.nn import functional as F

from mtbench import Batch
from mtbench.nn.backbones import as_images, backbone
from mtbench.testing.problems import RECIPE, OwnImages, OwnMulticlass, OwnRegression, SharedImages, SharedRegression


def disordered(model: SoftOrderNet) -> SoftOrderNet:
    """With proportions and biases that differ everywhere."""
    for parameter in (model.s, model.layers.b, *model.layers.encoders):
        nn.init.normal_(parameter)
    return model


def written_out(model: SoftOrderNet, rows: Tensor, t: int) -> Tensor:
    """Outputs [B, C] of task t by a loop over depths and layers."""
    layers, proportions = model.layers, model.s[t].softmax(-1)
    E, e = (encoder[t] for encoder in layers.encoders)
    images = layers.W.ndim > 3
    y = F.conv2d(as_images(rows), E[:, :, None, None], e) if images else rows.flatten(1) @ E + e
    for depth in range(layers.n):
        mixture = 0.0
        for j in range(layers.n):
            W, b = layers.W[j], layers.b[j]
            z = F.conv2d(y, W, b, padding=1) if images else y @ W.T + b
            mixture = mixture + proportions[depth, j] * torch.relu(z)
        y = F.max_pool2d(mixture, 2, ceil_mode=True) if images else mixture
    return y.flatten(1) @ model.heads.S[t] + model.heads.b[t]


def assert_outputs_are(model: SoftOrderNet, batch: Batch) -> None:
    problem = batch.problem
    outputs = model(batch)
    for t, columns in enumerate(problem.output_slices):
        rows = slice(None) if batch.task is None else batch.task == t
        expected = written_out(model, batch.inputs[rows], t)[:, : problem.tasks[t].n_outputs]
        torch.testing.assert_close(outputs[rows, columns], expected)


@pytest.mark.parametrize("network", ["mlp", "lenet", "conv4"])
@pytest.mark.parametrize(("miniature", "per_task"), [(SharedImages, 0), (OwnImages, 0), (OwnImages, 4)])
def test_outputs_are_those_of_equation_7(deep, miniature, per_task, network) -> None:
    problem = deep.problem(miniature)
    recipe = dataclasses.replace(miniature.recipe, backbone=network)
    model, _ = deep.build(SoftOrder(), problem, recipe, channels=5)
    assert model.layers.n == {"mlp": 3, "lenet": 2, "conv4": 4}[network]
    assert_outputs_are(disordered(model), deep.batch(problem, per_task))


@pytest.mark.parametrize("depth", [2, 4])
@pytest.mark.parametrize(("miniature", "per_task"), [(SharedRegression, 0), (OwnMulticlass, 0), (OwnMulticlass, 5)])
def test_dense_layers_are_as_many_as_asked_for(deep, miniature, per_task, depth) -> None:
    problem = deep.problem(miniature)
    model, _ = deep.build(SoftOrder(), problem, depth=depth)
    assert model.s.shape == (problem.n_tasks, depth, depth)
    assert_outputs_are(disordered(model), deep.batch(problem, per_task))


@pytest.mark.parametrize("miniature", [SharedImages, OwnImages])
def test_residual_networks_are_a_trunk_that_rows_go_through_once_and_that_takes_a_base(deep, miniature) -> None:
    problem = deep.problem(miniature)
    recipe = dataclasses.replace(miniature.recipe, backbone="resnet18")
    model, _ = deep.build(SoftOrder(), problem, recipe, depth=2)
    torch.manual_seed(5)
    base = backbone(problem, recipe).double()
    SoftOrder().start_from(model, dict(base.state_dict()))
    model.eval(), base.eval()
    seen = []
    model.layers.trunk.conv1.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    batch = deep.batch(problem)
    y = base(batch.inputs)
    outputs = batch.own_outputs(model(batch))
    assert seen == [len(batch.inputs)]
    for _ in range(2):
        y = sum(torch.relu(y @ model.layers.W[j].T + model.layers.b[j]) for j in range(2)) / 2
    task = torch.zeros(len(y), dtype=torch.int64) if batch.task is None else batch.task
    expected = torch.einsum("nk,nkc->nc", y, model.heads.S[task]) + model.heads.b[task]
    torch.testing.assert_close(outputs[:, 0], expected[:, 0])


@pytest.mark.parametrize(("miniature", "network", "fan_in"), [(OwnRegression, "mlp", 64), (OwnImages, "conv4", 9 * 64)])
@pytest.mark.parametrize(("activation", "gain"), [("relu", 2.0), ("identity", 1.0)])
def test_shared_layers_start_with_the_variance_that_keeps_what_goes_through(
    deep, miniature, network, fan_in, activation, gain
) -> None:
    # He et al. 2015, eq. (10): a ReLU halves the second moment.
    recipe = dataclasses.replace(miniature.recipe, backbone=network, activation=activation, hidden=64)
    model, _ = deep.build(SoftOrder(), deep.problem(miniature), recipe, channels=64)
    for layer in model.layers.W:
        assert float(layer.detach().var()) == pytest.approx(gain / fan_in, rel=0.1)


def test_every_layer_counts_the_same_at_first(deep) -> None:
    model, params = deep.build(SoftOrder(), deep.problem(OwnRegression))
    weights = SoftOrder().learned(model, params)["layer_weights"]
    torch.testing.assert_close(weights, torch.full((4, 3, 3), 1 / 3, dtype=torch.float64))


def test_one_task_in_a_fixed_order_is_a_plain_network(deep) -> None:
    problem = deep.problem(OwnRegression, tasks=1)
    model, params = deep.build(SoftOrder(), problem, lambda_=0.02, dropout=0.0)
    with torch.no_grad():
        model.s.copy_(1e3 * torch.eye(3))
    (E, e), layers, batch = model.layers.encoders, model.layers, deep.batch(problem)
    y = batch.inputs @ E[0] + e[0]
    for j in range(3):
        y = torch.relu(y @ layers.W[j].T + layers.b[j])
    error = (y @ model.heads.S[0] + model.heads.b[0] - batch.labels).square().mean()
    decay = sum(p.square().sum() for p in [*layers.parameters(), model.heads.S]) / 2
    torch.testing.assert_close(SoftOrder().objective(model, batch, params), error + 0.02 * decay)


@pytest.mark.parametrize("miniature", [OwnRegression, OwnImages])
def test_dropout_is_for_training_and_drawn_by_the_steps_key(deep, miniature) -> None:
    problem = deep.problem(miniature)
    model, _ = deep.build(SoftOrder(), problem, miniature.recipe, depth=2, channels=4)
    without = model(deep.batch(problem))
    torch.testing.assert_close(model(deep.batch(problem), 0.5), without)
    torch.testing.assert_close(model(deep.batch(problem, key=3), 0.0), without)
    first, again, other = (model(deep.batch(problem, key=key), 0.5) for key in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_dropout_of_the_last_depth_changes_nothing_on_average(deep) -> None:
    problem = deep.problem(OwnRegression)
    model, _ = deep.build(SoftOrder(), problem, dataclasses.replace(RECIPE, activation="identity"), depth=2)
    # Without activations outputs are linear in what is dropped.
    dropped = torch.stack([model(deep.batch(problem, key=key), 0.5) for key in range(400)])
    error = dropped.std(0) / len(dropped) ** 0.5
    assert ((dropped.mean(0) - model(deep.batch(problem))).abs() < 5 * error).all()


def test_tasks_that_need_the_layers_in_an_order_of_their_own_find_it(deep) -> None:
    # Layers and encoders are known; one group of tasks is F_1 after F_2, the other F_2 after F_1.
    problem = deep.problem(deep.two_groups)
    recipe = dataclasses.replace(RECIPE, hidden=32)
    model, params = deep.build(SoftOrder(), problem, recipe, depth=2, dropout=0.0, lambda_=0.0)
    batch = deep.batch(problem)
    truth = torch.zeros(6, 2, 2, dtype=torch.float64)
    truth[:3, 0, 1] = truth[:3, 1, 0] = truth[3:, 0, 0] = truth[3:, 1, 1] = 1e3
    with torch.no_grad():
        for encoder in model.layers.encoders:
            encoder.copy_(torch.randn(encoder.shape[1:]).double().expand_as(encoder))
        nn.init.normal_(model.heads.S)
        start = model.s.clone()
        model.s.copy_(truth)
        labels = batch.own_outputs(model(batch))
        model.s.copy_(start)
    batch = dataclasses.replace(batch, labels=labels)
    optimiser = torch.optim.Adam([model.s], 0.1)
    for _ in range(200):
        optimiser.zero_grad()
        SoftOrder().objective(model, batch, params).backward()
        optimiser.step()
    found = SoftOrder().learned(model, params)["layer_weights"]
    assert (found - truth.softmax(-1)).abs().max() < 0.1


def test_the_identity_makes_every_layer_linear(deep) -> None:
    problem = deep.problem(OwnRegression)
    model, _ = deep.build(SoftOrder(), problem, dataclasses.replace(RECIPE, activation="identity"))
    batch = deep.batch(problem)
    doubled = dataclasses.replace(batch, inputs=2 * batch.inputs)
    torch.testing.assert_close(model(doubled), 2 * model(batch))
