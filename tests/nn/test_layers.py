"""The layers of backbones: torch's own where nothing is mapped, and a loop's results where copies or trials are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from mtbench.nn.backbones import MLP, Backbone, BasicBlock, Conv4, LeNet, ResNet
from mtbench.nn.copies import Copies
from mtbench.nn.layers import BatchNorm2d, Conv2d, Linear, MaxPool2d

IMAGES = (6, 4, 9, 8)
LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense": (lambda: Linear(5, 3), lambda: nn.Linear(5, 3), (6, 5)),
    "convolution": (lambda: Conv2d(4, 3, 3, padding=1), lambda: nn.Conv2d(4, 3, 3, padding=1), IMAGES),
    "convolution with strides": (
        lambda: Conv2d(4, 6, (3, 2), 2, (1, 0), bias=False),
        lambda: nn.Conv2d(4, 6, (3, 2), 2, (1, 0), bias=False),
        IMAGES,
    ),
    "convolution of one channel": (lambda: Conv2d(1, 3, 3), lambda: nn.Conv2d(1, 3, 3), (6, 1, 9, 8)),
    "grouped convolution": (lambda: Conv2d(4, 6, 3, groups=2), lambda: nn.Conv2d(4, 6, 3, groups=2), IMAGES),
    "batch norm": (lambda: BatchNorm2d(4), lambda: nn.BatchNorm2d(4), IMAGES),
    "pooling": (lambda: MaxPool2d(2), lambda: nn.MaxPool2d(2), IMAGES),
    "pooling that rounds up": (lambda: MaxPool2d(2, ceil_mode=True), lambda: nn.MaxPool2d(2, ceil_mode=True), IMAGES),
    "pooling that overlaps": (lambda: MaxPool2d(3, 2, 1), lambda: nn.MaxPool2d(3, 2, 1), IMAGES),
}
BATCH_NORM = "batch norm"


@pytest.fixture(params=LAYERS)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(module: nn.Module, seed: int) -> nn.Module:
    """With values that no initialisation gives."""
    for i, value in enumerate([*module.parameters(), *module.buffers()]):
        if value.is_floating_point():
            with torch.no_grad():
                value.copy_(drawn(*value.shape, seed=100 * seed + i).abs() + 0.1)
    return module


def backward(outputs: Tensor, of: list[Tensor]) -> tuple[Tensor, ...]:
    weights = torch.linspace(-1, 2, outputs.numel(), dtype=outputs.dtype).view(outputs.shape)
    return torch.autograd.grad((weights * outputs.square()).sum(), of)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [True, False])
def test_unmapped_layers_give_the_bits_that_those_of_torch_give(
    case: str, dtype: Any, order: Any, training: bool
) -> None:
    make, make_plain, shape = LAYERS[case]
    x = drawn(*shape).to(dtype)
    x = x.contiguous(memory_format=order) if x.ndim == 4 else x
    found = []
    for layer in (make(), make_plain()):
        layer = filled(layer.to(dtype), 1).train(training)
        rows = x.clone(memory_format=torch.preserve_format).requires_grad_()
        outputs = layer(rows)
        found.append([outputs, *backward(outputs, [rows, *layer.parameters()]), *layer.buffers()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


WITH_WEIGHTS = [name for name in LAYERS if "pooling" not in name and name != BATCH_NORM]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("case", "own"), [*((c, True) for c in LAYERS), *((c, False) for c in WITH_WEIGHTS)])
def test_mapped_layers_give_what_a_loop_gives(case: str, own: bool, training: bool) -> None:
    make, make_plain, shape = LAYERS[case]
    copies = [filled(make().double(), seed).train(training) for seed in range(3)]
    alone = [filled(make_plain().double(), seed).train(training) for seed in range(3)]
    x = (drawn(3, *shape) if own else drawn(*shape)).requires_grad_()
    parameters, buffers = stack_module_state(copies)

    def run(parameters: dict[str, Tensor], buffers: dict[str, Tensor], rows: Tensor) -> Tensor:
        outputs: Tensor = functional_call(copies[0], (parameters, buffers), (rows,))
        return outputs

    found = vmap(run, (0, 0, 0 if own else None))(parameters, buffers, x)
    expected = torch.stack([layer(rows) for layer, rows in zip(alone, x if own else [x] * 3, strict=True)])
    torch.testing.assert_close(found, expected)
    mine = backward(found, [x, *parameters.values()])
    theirs = backward(expected, [x, *(p for layer in alone for p in layer.parameters())])
    torch.testing.assert_close(mine[0], theirs[0])
    for i, gradient in enumerate(mine[1:], 1):
        torch.testing.assert_close(gradient, torch.stack(theirs[i :: len(parameters)]))
    for name, value in buffers.items():
        torch.testing.assert_close(value, torch.stack([layer.get_buffer(name) for layer in alone]))


@pytest.mark.parametrize("case", [name for name in LAYERS if name != BATCH_NORM])
def test_a_shared_layer_takes_mapped_rows(case: str) -> None:
    make, make_plain, shape = LAYERS[case]
    layer, plain = filled(make().double(), 1), filled(make_plain().double(), 1)
    x = drawn(3, *shape)
    torch.testing.assert_close(vmap(layer)(x), torch.stack([plain(rows) for rows in x]))


BACKBONES: dict[str, tuple[Callable[[], Backbone], int]] = {
    "mlp": (lambda: MLP(64, 7, 2), 8),
    "lenet": (lambda: LeNet(1, (16, 16)), 16),
    "conv4": (lambda: Conv4(1, (12, 12)), 12),
    "resnet": (lambda: ResNet(BasicBlock, (1, 1, 1, 1), 1, nn.ReLU), 32),
}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", BACKBONES)
def test_copies_mapped_over_trials_equal_a_loop_over_both(name: str, shared: bool) -> None:
    make, side = BACKBONES[name]
    torch.manual_seed(0)
    trials = [Copies(make, 3).double() for _ in range(2)]
    alone = [make().double() for _ in range(6)]
    for i, network in enumerate(alone):
        network.load_state_dict({n: value[i % 3] for n, value in trials[i // 3].state().items()})
    x = drawn(5, side, side) if shared else drawn(2, 3, 5, side, side)
    parameters, buffers = stack_module_state(trials)

    def run(parameters: dict[str, Tensor], buffers: dict[str, Tensor], rows: Tensor) -> Tensor:
        outputs: Tensor = functional_call(trials[0], (parameters, buffers), (rows, not shared))
        return outputs

    found = vmap(run, (0, 0, None if shared else 0))(parameters, buffers, x).flatten(0, 1)
    rows = [x] * 6 if shared else x.flatten(0, 1)
    expected = torch.stack([network(own) for network, own in zip(alone, rows, strict=True)])
    torch.testing.assert_close(found, expected)
    mine = backward(found, list(parameters.values()))
    theirs = backward(expected, [p for network in alone for p in network.parameters()])
    for i, gradient in enumerate(mine):
        torch.testing.assert_close(gradient.flatten(0, 1), torch.stack(theirs[i :: len(parameters)]))


@pytest.mark.parametrize("mapped", [True, False])
def test_layers_compute_in_bfloat16_where_torch_is_told_to(mapped: bool) -> None:
    make, side = BACKBONES["conv4"]
    torch.manual_seed(0)
    network: nn.Module = Copies(make, 3) if mapped else make()
    x = drawn(5, side, side).float()
    exact = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(x)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, rtol=0.1, atol=0.1)
    for gradient in torch.autograd.grad(rough.float().square().sum(), list(network.parameters())):
        assert torch.isfinite(gradient).all()
        assert gradient.dtype == torch.float32
