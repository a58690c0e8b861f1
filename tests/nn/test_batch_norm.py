"""Batch norm on any batch: as torch's where that takes it, by its running statistics where a channel has one value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference
from mtbench.contracts.trials import StackResult, Status
from mtbench.nn.batch_norm import take_any_batch
from mtbench.nn.copies import Copies
from mtbench.nn.layers import BatchNorm2d
from mtbench.testing.problems import SharedRegression, miniature_trials
from mtbench.training import train_stack

LAYERS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "one": (nn.BatchNorm1d, ()),
    "one, long": (nn.BatchNorm1d, (5,)),
    "two": (nn.BatchNorm2d, (1, 1)),
    "three": (nn.BatchNorm3d, (1, 1, 1)),
    "ours": (BatchNorm2d, (1, 1)),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "without running statistics": {"track_running_stats": False},
    "cumulative": {"momentum": None},
    "without a scale": {"affine": False},
    "bare": {"affine": False, "track_running_stats": False},
}


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=OPTIONS)
def options(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(layer: str, options: str) -> tuple[nn.Module, tuple[int, ...]]:
    make, rest = LAYERS[layer]
    norm = make(3, **OPTIONS[options]).double()
    take_any_batch(norm)
    with torch.no_grad():
        for i, parameter in enumerate(norm.parameters()):
            parameter.copy_(torch.tensor([0.5, -1.0, 2.0]) + i)
    return norm, rest


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_what_torch_takes_gives_what_torch_gives(layer: str, options: str) -> None:
    norm, rest = made(layer, options)
    plain = {"ours": nn.BatchNorm2d}.get(layer, LAYERS[layer][0])(3, **OPTIONS[options]).double()
    plain.load_state_dict(norm.state_dict())
    for seed in range(3):
        x = (drawn(4, 3, *rest) + seed).requires_grad_()
        ours, theirs = norm(x), plain(x)
        torch.testing.assert_close(ours, theirs)
        weights = drawn(*x.shape)
        torch.testing.assert_close(*(torch.autograd.grad((weights * y).sum(), x)[0] for y in (ours, theirs)))
    for (name, value), other in zip(norm.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other, msg=name)
    for module in (norm, plain):
        module.eval()
    torch.testing.assert_close(norm(x), plain(x))


@pytest.mark.parametrize("layer", ["one", "two", "three", "ours"], indirect=True)
def test_one_value_per_channel_is_scaled_by_running_statistics_and_leaves_them(layer: str, options: str) -> None:
    norm, rest = made(layer, options)
    norm(drawn(4, 3, *rest))
    before = {name: value.clone() for name, value in norm.named_buffers()}
    x = drawn(1, 3, *rest).requires_grad_()
    y = norm(x)
    if before:
        wanted = (x.flatten() - before["running_mean"]) / (before["running_var"] + 1e-5).sqrt()
        if norm.weight is not None:
            wanted = wanted * norm.weight + norm.bias
        assert torch.autograd.grad(y.sum(), x)[0].abs().min() > 0
    else:
        wanted = torch.zeros(3).double() if norm.bias is None else norm.bias
    torch.testing.assert_close(y.flatten(), wanted)
    assert all(torch.equal(value, before[name]) for name, value in norm.named_buffers())


def test_a_wrong_shape_is_refused_as_torch_refuses_it() -> None:
    norm, _ = made("one", "plain")
    with pytest.raises(ValueError, match="expected 2D or 3D input"):
        norm(drawn(1, 3, 1, 1))


def test_subclasses_with_code_of_their_own_are_left_alone() -> None:
    class Mine(nn.BatchNorm1d):
        def forward(self, x: Tensor) -> Tensor:
            return 7 * x

    model = nn.Sequential(Mine(3))
    take_any_batch(model)
    x = drawn(1, 3)
    assert torch.equal(model(x), 7 * x)


class Network(nn.Module):
    def __init__(self, problem: Problem, layer: str, options: str, copies: bool) -> None:
        super().__init__()
        make, self.rest = LAYERS[layer]
        # No bias below the norm: it would change nothing, and rounding would be all of its gradient.
        self.below = nn.Linear(problem.n_features, 8, bias=False)
        self.norm = Copies(lambda: make(8, **OPTIONS[options]), 2) if copies else make(8, **OPTIONS[options])
        self.above = nn.Linear(8, problem.n_outputs)

    def forward(self, batch: Batch) -> Tensor:
        x = self.below(batch.inputs)
        y = self.norm(x.view(*x.shape, *self.rest))
        y = y.mean(0) if isinstance(self.norm, Copies) else y
        return self.above(torch.relu(y.view(x.shape)))


def trained(layer: str, options: str, copies: bool, n_trials: int, **recipe: Any) -> list[StackResult]:
    """A stack of trials, and the first of them alone, on 40 rows in batches of 13: the last has one."""

    class Normalised(GradientMethod):
        name = "normalised"
        reference = Reference("A test", "here")

        def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
            return Network(problem, layer, options, copies)

        def objective(self, model: nn.Module, batch: Batch, params: Any) -> Tensor:
            return batch.task_losses(model(batch)).sum()

    dataset = SharedRegression()
    dataset.recipe = dataclasses.replace(dataset.recipe, batch_size=13, max_epochs=3, **recipe)
    problems = {0: dataset.load(Path(), 0, None)}
    settings = [{"learning_rate": 0.01 * (i + 1)} for i in range(n_trials)]
    trials = miniature_trials(Normalised(), dataset, settings)
    return [train_stack(Normalised(), problems, some, dataset) for some in (trials, trials[:1])]


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("layer", ["one", "two", "ours"], indirect=True)
def test_a_last_batch_of_one_row_trains_alone_and_stacked_alike(layer: str, options: str, copies: bool) -> None:
    if copies and options == "bare":
        return  # copies of a layer without numbers are one layer
    stacked, alone = trained(layer, options, copies, 3)
    assert stacked.status == [Status.FINISHED] * 3, stacked.reason
    found, wanted = (result.metrics["validation"]["rmse"][0] for result in (stacked, alone))
    np.testing.assert_allclose(found, wanted, 1e-8)
    assert stacked.history["loss"][0, -1] < stacked.history["loss"][0, 0]


@pytest.mark.parametrize("layer", ["one", "two", "ours"], indirect=True)
def test_it_trains_in_float32_and_under_autocast(layer: str, options: str) -> None:
    for result in trained(layer, options, False, 2, dtype="float32", autocast="bfloat16"):
        assert all(status is Status.FINISHED for status in result.status), result.reason
        assert (result.history["loss"][:, -1] < result.history["loss"][:, 0]).all()
