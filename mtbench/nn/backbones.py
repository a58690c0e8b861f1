"""Backbones: the networks below the heads, the same for all methods of a data set.

A backbone is a row of stages, so that methods can work between them (cross-stitch) or replace what they hold
(task-adaptive activations). Weights are named as in the published networks; initialisation follows their papers.

Shapes: B batch rows, k features.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from mtbench.contracts.pretrained import Pretrainable
from mtbench.contracts.recipe import Recipe
from mtbench.errors import DataError
from mtbench.nn.layers import BatchNorm2d, Conv2d, Linear, MaxPool2d
from mtbench.tasks import Problem

Activation = Callable[[], nn.Module]
"""Makes the module that is applied after an affine layer."""


class Backbone(Pretrainable):
    """Inputs [B, ...] -> features [B, k], stage by stage.

    Attributes:
        smallest: Smallest shorter side of an image that it takes, in pixels.
        n_stages: Number of stages.
        n_features: k, the number of features it gives.
    """

    smallest: ClassVar[int] = 1
    n_stages: int
    n_features: int

    @abstractmethod
    def stage(self, i: int, x: Tensor) -> Tensor:
        """Applies one stage.

        Args:
            i: Number of the stage, 0 to `n_stages` - 1.
            x: What stage i - 1 gave; of stage 0 the inputs [B, ...].

        Returns:
            Rows [B, ...]; of the last stage the features [B, k].
        """

    def forward(self, x: Tensor, only: int | None = None) -> Tensor:
        """Applies all stages, or one.

        Args:
            x: Inputs [B, ...]; with `only` what the stage before it gave.
            only: Number of the one stage to apply; None for all.

        Returns:
            Features [B, k]; with `only` what that stage gives.
        """
        if only is not None:
            return self.stage(only, x)
        for i in range(self.n_stages):
            x = self.stage(i, x)
        return x

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Takes over the parameters and buffers of a backbone of the same kind.

        Args:
            weights: By the backbone's own names; names that it does not have are left out.
        """
        self.load_state_dict(dict(weights), strict=False)


def backbone(problem: Problem, recipe: Recipe, activation: Activation = nn.ReLU) -> Backbone:
    """The backbone that a recipe asks for, freshly initialised.

    Args:
        problem: Gives the shape of a row.
        recipe: Names the backbone, and its widths.
        activation: Makes the activation module; called once for each place that has one.

    Returns:
        A module that gives features [B, k] for inputs [B, ...], with k its `n_features`.

    Raises:
        DataError: It does not take the problem's rows; `backbone_support` says why.
    """
    if (reason := backbone_support(problem, recipe)) is not None:
        raise DataError(f"{problem.dataset}: {reason}. `--recipe {problem.dataset}.backbone=mlp` takes any.")
    name = backbone_name(problem.input_shape, recipe)
    if name == "mlp":
        identity = recipe.activation == "identity"
        return MLP(problem.n_features, recipe.hidden, recipe.layers, nn.Identity if identity else activation)
    channels = 1 if len(problem.input_shape) == 2 else problem.input_shape[0]
    sides = (problem.input_shape[-2], problem.input_shape[-1])
    if name == "lenet":
        return LeNet(channels, sides, activation)
    if name == "conv4":
        return Conv4(channels, sides, activation)
    return _RESNETS[name](channels, activation)


def backbone_support(problem: Problem, recipe: Recipe) -> str | None:
    """Why a recipe's backbone does not take a problem's rows, or None where it does.

    A method that builds the recipe's backbone returns this from `supports`.

    Args:
        problem: Gives the shape of a row.
        recipe: Names the backbone.
    """
    name = backbone_name(problem.input_shape, recipe)
    if name == "mlp":
        return None
    shape = problem.input_shape
    if len(shape) not in (2, 3):
        return f"backbone '{name}' takes images [H, W] or [C, H, W]; a row has shape {shape}"
    smallest = _IMAGE_BACKBONES[name].smallest
    if min(shape[-2:]) < smallest:
        return f"backbone '{name}' takes images of {smallest} x {smallest} pixels or more; a row has shape {shape}"
    return None


def backbone_name(input_shape: tuple[int, ...], recipe: Recipe) -> str:
    """The name of a recipe's backbone, "auto" resolved by the shape of a row.

    Args:
        input_shape: Shape of one row.
        recipe: Names the backbone, or says "auto".
    """
    if recipe.backbone != "auto":
        return recipe.backbone
    if len(input_shape) not in (2, 3):
        return "mlp"
    side = min(input_shape[-2:])
    if side <= 32:
        return "lenet" if side >= LeNet.smallest else "mlp"
    return "conv4" if side < 64 else "resnet18"


class MLP(Backbone):
    """Dense layers on rows laid flat, Glorot-uniform with zero biases."""

    def __init__(self, n_inputs: int, width: int, n_layers: int, activation: Activation = nn.ReLU) -> None:
        super().__init__()
        self.n_stages, self.n_features = n_layers, width
        sizes = [n_inputs] + [width] * n_layers
        self.layers = nn.ModuleList(Linear(a, b) for a, b in pairwise(sizes))
        self.activations = nn.ModuleList(activation() for _ in range(n_layers))
        _glorot(self)

    def stage(self, i: int, x: Tensor) -> Tensor:
        """One dense layer."""
        hidden: Tensor = self.activations[i](self.layers[i](x.flatten(1)))
        return hidden


class LeNet(Backbone):
    """Two 5 x 5 convolutions with pooling, and a dense layer of 500.

    The network of MNIST-Imbalanced in "Deep Asymmetric Multi-task Feature Learning": Glorot-uniform weights, zero
    biases, no padding, no dropout.
    """

    smallest = 16

    def __init__(self, channels: int, sides: tuple[int, int], activation: Activation = nn.ReLU) -> None:
        super().__init__()
        self.n_stages, self.n_features = 3, 500
        self.conv1, self.conv2 = Conv2d(channels, 20, 5), Conv2d(20, 50, 5)
        height, width = (((side - 4) // 2 - 4) // 2 for side in sides)
        self.fc = Linear(50 * height * width, self.n_features)
        self.act1, self.act2, self.act3 = activation(), activation(), activation()
        self.pool = MaxPool2d(2)
        _glorot(self)

    def stage(self, i: int, x: Tensor) -> Tensor:
        """A convolution with pooling, another, and the dense layer."""
        if i == 0:
            out = _pooled(self.pool, self.act1, self.conv1(as_images(x)))
        elif i == 1:
            out = _pooled(self.pool, self.act2, self.conv2(x))
        else:
            out = self.act3(self.fc(x.flatten(1)))
        return out


class Conv4(Backbone):
    """Four 3 x 3 convolutions of 6, 12, 24 and 64 channels with batch norm and pooling, and a dense layer of 512.

    The network of the TAAN repository's Omniglot experiments; pooling rounds up, so that images of any size fit from
    which each convolution still sees more than one pixel.
    """

    smallest = 9
    channels = (6, 12, 24, 64)

    def __init__(self, channels: int, sides: tuple[int, int], activation: Activation = nn.ReLU) -> None:
        super().__init__()
        self.n_stages, self.n_features = len(self.channels) + 1, 512
        widths = (channels, *self.channels)
        pairs = list(pairwise(widths))
        # Without biases, which batch norm takes out again: their gradients would be rounding, blown up by Adam.
        self.convs = nn.ModuleList(Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairs)
        self.norms = nn.ModuleList(BatchNorm2d(b) for _, b in pairs)
        self.activations = nn.ModuleList(activation() for _ in range(self.n_stages))
        self.pool = MaxPool2d(2, ceil_mode=True)
        height, width = (-(-side // 16) for side in sides)
        self.fc = Linear(widths[-1] * height * width, self.n_features)
        _glorot(self)

    def stage(self, i: int, x: Tensor) -> Tensor:
        """A convolution with pooling; the dense layer last."""
        if i == len(self.convs):
            out = self.activations[i](self.fc(x.flatten(1)))
        else:
            x = as_images(x) if i == 0 else x
            out = _pooled(self.pool, self.activations[i], self.norms[i](self.convs[i](x)))
        return out  # type: ignore[no-any-return]


class _Block(nn.Module):
    """What basic and bottleneck blocks share: a residual around `n` convolutions with batch norm."""

    expansion: int

    def __init__(self, activation: Activation, n: int) -> None:
        super().__init__()
        self.n = n
        self.activations = nn.ModuleList(activation() for _ in range(n))
        self.downsample: nn.Sequential | None = None

    def _shortcut(self, inputs: int, outputs: int, stride: int) -> None:
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(Conv2d(inputs, outputs, 1, stride, bias=False), BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H / stride, W / stride]."""
        out = x
        for i in range(1, self.n + 1):
            out = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(out))
            if i < self.n:
                out = self.activations[i - 1](out)
        out = out + (x if self.downsample is None else self.downsample(x))
        return self.activations[-1](out)  # type: ignore[no-any-return]


class BasicBlock(_Block):
    """Two 3 x 3 convolutions (He et al. 2016, figure 5, left)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, activation: Activation) -> None:
        super().__init__(activation, 2)
        self.conv1, self.bn1 = Conv2d(inputs, width, 3, stride, 1, bias=False), BatchNorm2d(width)
        self.conv2, self.bn2 = Conv2d(width, width, 3, 1, 1, bias=False), BatchNorm2d(width)
        self._shortcut(inputs, width, stride)


class Bottleneck(_Block):
    """1 x 1, 3 x 3 and 1 x 1 convolutions (He et al. 2016, figure 5, right), the stride on the 3 x 3 one."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, activation: Activation) -> None:
        super().__init__(activation, 3)
        outputs = 4 * width
        self.conv1, self.bn1 = Conv2d(inputs, width, 1, bias=False), BatchNorm2d(width)
        self.conv2, self.bn2 = Conv2d(width, width, 3, stride, 1, bias=False), BatchNorm2d(width)
        self.conv3, self.bn3 = Conv2d(width, outputs, 1, bias=False), BatchNorm2d(outputs)
        self._shortcut(inputs, outputs, stride)


class ResNet(Backbone):
    """A residual network (He et al. 2016) without its last dense layer; k is the width of the last block.

    Parameters and buffers are named as in torchvision, so that `load_state_dict(weights, strict=False)` takes its
    published weights ("fc.weight" and "fc.bias" are left over).
    """

    smallest = 8  # of which the stem, that halves them twice, leaves more than one pixel

    def __init__(
        self, block: type[BasicBlock | Bottleneck], depths: tuple[int, ...], channels: int, activation: Activation
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = Conv2d(channels, 64, 7, 2, 3, bias=False), BatchNorm2d(64)
        self.act, self.maxpool = activation(), MaxPool2d(3, 2, 1)
        inputs = 64
        for i, depth in enumerate(depths):
            width = 64 * 2**i
            blocks = []
            for j in range(depth):
                blocks.append(block(inputs, width, 2 if i and not j else 1, activation))
                inputs = width * block.expansion
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.n_stages, self.n_features = len(depths) + 1, inputs
        for module in self.modules():
            if isinstance(module, Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stage(self, i: int, x: Tensor) -> Tensor:
        """The stem; then one group of blocks a stage, the last with the mean over pixels."""
        if i == 0:
            return _pooled(self.maxpool, self.act, self.bn1(self.conv1(as_images(x))))
        out: Tensor = getattr(self, f"layer{i}")(x)
        return out.mean((-2, -1)) if i == self.n_stages - 1 else out


_RESNETS: Mapping[str, Callable[[int, Activation], ResNet]] = {
    "resnet18": lambda channels, activation: ResNet(BasicBlock, (2, 2, 2, 2), channels, activation),
    "resnet50": lambda channels, activation: ResNet(Bottleneck, (3, 4, 6, 3), channels, activation),
}

_IMAGE_BACKBONES: Mapping[str, type[Backbone]] = {
    "lenet": LeNet,
    "conv4": Conv4,
    **dict.fromkeys(_RESNETS, ResNet),
}


def as_images(x: Tensor) -> Tensor:
    """Rows [B, H, W] or [B, C, H, W] as [B, C, H, W]."""
    # A channel added last and moved, not added first: torch then knows that grey images lie in memory channels last.
    return x[..., None].movedim(-1, 1) if x.ndim == 3 else x


def _glorot(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, Linear | Conv2d):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def _pooled(pool: nn.Module, activation: nn.Module, x: Tensor) -> Tensor:
    """The largest activations; where they grow with x, the activations of the largest x, which are fewer."""
    pooled: Tensor = activation(pool(x)) if isinstance(activation, nn.ReLU) else pool(activation(x))
    return pooled
