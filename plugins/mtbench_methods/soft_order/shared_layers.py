"""Layers of equal shape that can be applied in any order, all at once, and the encoders that lead tasks to them.

Shapes: T tasks, D layers of `width` units or channels, B rows of a batch, N rows of the network, each on behalf of one
task (`mtbench.nn.task_rows`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtbench.contracts.batch import Batch
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.terms import PerTask
from mtbench.nn.backbones import as_images, backbone, backbone_name
from mtbench.nn.heads import by_task
from mtbench.nn.task_rows import row_tasks, task_rows
from mtbench.tasks import Problem


class OrderableLayers(PerTask, ABC):
    """D layers of equal shape, and encoders that lead to them.

    Attributes:
        n: D.
        n_features: Of what the last depth gives, laid flat.
        encoders: What the tasks' encoders are made of; empty where they have none.
        W: Weights of the shared layers, [D, ...].
        b: Their biases, [D, width].
    """

    task_axes: Mapping[str, int] = {"encoders": 0}
    n: int
    n_features: int
    encoders: nn.ParameterList
    W: nn.Parameter
    b: nn.Parameter

    @abstractmethod
    def encode(self, batch: Batch) -> Tensor:
        """Rows of the batch as what the first depth takes: [N, width, ...]."""

    @abstractmethod
    def apply_all(self, y: Tensor) -> Tensor:
        """Every layer's affine part: [N, width, ...] -> [N, width, D, ...]."""

    @abstractmethod
    def mix(self, z: Tensor, scale: Tensor) -> Tensor:
        """The end of a depth: [N, width, D, ...] with scales [N, width, D] of the layers' units -> [N, width, ...]."""


class DenseLayers(OrderableLayers):
    """Dense layers k -> k, on a task's dense encoder of the inputs or on the features of a shared trunk."""

    def __init__(self, problem: Problem, recipe: Recipe, n: int) -> None:
        super().__init__()
        self.trunk = None if backbone_name(problem.input_shape, recipe) == "mlp" else backbone(problem, recipe)
        k = recipe.hidden if self.trunk is None else self.trunk.n_features
        self.n, self.n_features = n, k
        self.W, self.b = _glorot(n, k, k, gain=_gain(recipe)), nn.Parameter(torch.zeros(n, k))
        self.encoders = nn.ParameterList()
        if self.trunk is None:
            n_tasks = problem.n_tasks
            self.encoders.extend([_glorot(n_tasks, problem.n_features, k), nn.Parameter(torch.zeros(n_tasks, k))])
        else:
            self.task_axes = {}

    def encode(self, batch: Batch) -> Tensor:
        """A dense layer of each task; or features of the trunk, the same for all tasks."""
        if self.trunk is not None:
            return task_rows(self.trunk(batch.inputs), batch)
        E, e = self.encoders
        x = batch.inputs.flatten(1)
        y: Tensor = (by_task(x, batch) if batch.per_task else x) @ E + e[:, None]
        if batch.task is None or batch.per_task:
            return y.flatten(0, 1)
        # Batches that mix tasks: [T, B, k], and of each row what its own task's encoder made of it.
        return y.gather(0, batch.task[None, :, None].expand(1, *y.shape[1:]))[0]

    def apply_all(self, y: Tensor) -> Tensor:
        """[N, k] -> [N, k, D]."""
        return F.linear(y, _interleaved(self.W), _interleaved(self.b)).reshape(len(y), -1, self.n)

    def mix(self, z: Tensor, scale: Tensor) -> Tensor:
        """A weighted sum."""
        return (z * scale).sum(2)


class ConvolutionalLayers(OrderableLayers):
    """3 x 3 convolutions of equal width, on a task's 1 x 1 encoder of the images."""

    def __init__(self, problem: Problem, recipe: Recipe, n: int, width: int) -> None:
        super().__init__()
        self.n = n
        n_channels = 1 if len(problem.input_shape) == 2 else problem.input_shape[0]
        self.W, self.b = _glorot(n, width, width, 3, 3, gain=_gain(recipe)), nn.Parameter(torch.zeros(n, width))
        n_tasks = problem.n_tasks
        encoders = [_glorot(n_tasks, width, n_channels), nn.Parameter(torch.zeros(n_tasks, width))]
        self.encoders = nn.ParameterList(encoders)
        height, length = (-(-side // 2**n) for side in problem.input_shape[-2:])
        self.n_features = width * height * length

    def encode(self, batch: Batch) -> Tensor:
        """A 1 x 1 convolution of each task: [N, width, H, W]."""
        E, e = (parameter[row_tasks(batch)] for parameter in self.encoders)
        x = task_rows(as_images(batch.inputs), batch)
        y: Tensor = torch.einsum("nchw,nkc->nkhw", x, E) + e[:, :, None, None]
        return y

    def apply_all(self, y: Tensor) -> Tensor:
        """[N, width, H, W] -> [N, width, D, H, W], as one convolution."""
        z = F.conv2d(y, _interleaved(self.W), _interleaved(self.b), padding=1)
        return z.reshape(len(y), -1, self.n, *y.shape[2:])

    def mix(self, z: Tensor, scale: Tensor) -> Tensor:
        """A weighted sum, and 2 x 2 max-pooling, which rounds up."""
        # As a product of matrices, which reads z once.
        y = (scale[:, :, None] @ z.flatten(3)).reshape(*z.shape[:2], *z.shape[3:])
        return F.max_pool2d(y, 2, ceil_mode=True)


def _glorot(n: int, *shape: int, gain: float = 1.0) -> nn.Parameter:
    """So many weights of a shape, Glorot-uniform each."""
    return nn.Parameter(torch.stack([nn.init.xavier_uniform_(torch.empty(*shape), gain) for _ in range(n)]))


def _gain(recipe: Recipe) -> float:
    """The shared layers' gain; with a ReLU's, and as many inputs as outputs, Glorot's weights are He's.

    No normalisation stands between depths, and averaging layers takes variance away as a ReLU does: without this gain
    what rows differ in fades from depth to depth, and training stays where it began.
    """
    return nn.init.calculate_gain("linear" if recipe.activation == "identity" else "relu")


def _interleaved(parameter: Tensor) -> Tensor:
    """Units of D layers side by side, unit by unit: [D, width, ...] -> [width D, ...]."""
    return parameter.transpose(0, 1).flatten(0, 1)
