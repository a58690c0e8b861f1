"""MTAN: a shared network, of whose features every task's attention keeps, stage by stage, what the task needs.

Paper: Liu, Johns and Davison, End-to-End Multi-Task Learning with Attention, CVPR 2019, eqs. (1) and (2).

Shapes: B rows, T tasks, L stages of the backbone, C_j channels (or features) of stage j, H x W pixels. With p_j what
stage j of the shared network gives, the features of task t at stage j are

    a^_tj = a_tj * p_j                                   (1)
    a_t1  = h_t1(g_t1(p_1))
    a_tj  = h_tj(g_tj([p_j; f_j(a^_t,j-1)]))   j >= 2    (2)

number by number. g_tj and h_tj belong to task t: 1 x 1 convolutions to C_j / `squeeze` and to C_j channels, a ReLU
after the one and a sigmoid after the other, so that the mask a_tj is between 0 and 1. f_j is shared: a 3 x 3
convolution to C_j channels with a ReLU, and a mean over pixels that gives it the size of p_j. The head of task t takes
a^_tL. Where stages give vectors, convolutions are dense layers. Where batches come in rows of each task, of a row only
the masks of its own task are made.

Departures: a stage of the harness's backbones is one layer, or one group of residual blocks, so that u_j, the features
in the middle of a block that the paper's masks also see, is p_j. Attention has batch norm after its convolutions, as in
the paper, where the backbone has it. Batch norm after f_j, which tasks share, keeps statistics of each task's own
features and one scale and shift for all: otherwise the masks of one task would reach the losses of others. Layers are
Glorot-uniform with zero biases.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, Terms, hookimpl, tunable
from mtbench.contracts.terms import PerTask
from mtbench.nn.backbones import Backbone, backbone, backbone_support
from mtbench.nn.copies import Copies
from mtbench.nn.decay import half_squares
from mtbench.nn.heads import Heads, by_task
from mtbench.nn.layers import BatchNorm2d, Conv2d, Linear

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class MTANParams:
    """Hyperparameters of MTAN.

    Attributes:
        squeeze: How many times fewer channels there are inside an attention module.
        lambda_: Weight of half the squared norms of all layers.
    """

    squeeze: int = tunable(1, choices=(1, 2, 4), help="how many times fewer channels are inside an attention module")
    lambda_: float = tunable(
        1e-4, grid=(1e-2, 1e-3, 1e-4, 1e-5), low=1e-6, high=1e-2, per="loss", help="l2 on all layers"
    )


class Attention(nn.Module):
    """The mask of one task at one stage: h(g(x)).

    Attributes:
        g: A 1 x 1 convolution or a dense layer, and its batch norm.
        h: Likewise.
    """

    def __init__(self, n_inputs: int, n_inside: int, n_outputs: int, image: bool, norm: bool, linear: bool) -> None:
        super().__init__()
        self.g, self.h = (
            nn.Sequential(*_affine(a, b, 1, image, norm)) for a, b in ((n_inputs, n_inside), (n_inside, n_outputs))
        )
        self._linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, ...] -> a mask [B, C', ...]."""
        z: Tensor = self.g(x)
        return torch.sigmoid(self.h(z if self._linear else torch.relu(z)))


class Passing(nn.Module):
    """f_j: what tasks' features become on their way to the next stage, the same for all tasks.

    Attributes:
        layer: A 3 x 3 convolution or a dense layer.
        norms: Of images, statistics of each task; None without batch norm.
        scale: [C'], 1; with `norms` only.
        shift: [C'], 0; likewise.
        rows, columns: Of images, what means over pixels are made with, [H', H] and [W', W].
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, before: Shape, after: Shape, n_tasks: int, norm: bool, linear: bool) -> None:
        super().__init__()
        self._image, self._linear, n = len(before) == 3, linear, after[0]
        self.layer, *norms = _affine(before[0], n, 3, self._image, norm)
        self.norms = Copies(lambda: BatchNorm2d(n, affine=False), n_tasks) if norms else None
        self.scale = nn.Parameter(torch.ones(n, 1, 1)) if norms else None
        self.shift = nn.Parameter(torch.zeros(n, 1, 1)) if norms else None
        self._after = after
        if self._image:
            height, width = after[1:] or (1, 1)
            self.register_buffer("rows", averaging(before[1], height), persistent=False)
            self.register_buffer("columns", averaging(before[2], width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[T, n, C, ...] -> [T, n, C', ...]."""
        z = self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        if self.norms is not None:
            z = self.norms(z, own=True) * self.scale + self.shift
        z = z if self._linear else torch.relu(z)
        if not self._image:
            return z
        return (self.rows @ z @ self.columns.mT).reshape(*z.shape[:2], *self._after)


def averaging(n: int, into: int) -> Tensor:
    """Means over so many equal parts of n places, which overlap where n is no multiple: float64 [into, n]."""
    found = torch.zeros(into, n, dtype=torch.float64)
    for i in range(into):
        part = slice(i * n // into, math.ceil((i + 1) * n / into))
        found[i, part] = 1 / (part.stop - part.start)
    return found


class AttentionNet(PerTask):
    """A shared backbone, the tasks' attention at each of its stages, and heads.

    Attributes:
        backbone: The recipe's.
        attention: For each stage a module for each task.
        passing: For each stage but the first one module for all tasks.
        heads: One for each task.
    """

    task_axes: Mapping[str, int] = {"attention": 0}

    def __init__(self, problem: Problem, recipe: Recipe, squeeze: int) -> None:
        super().__init__()
        n_tasks, linear = problem.n_tasks, recipe.activation == "identity"
        self.backbone = backbone(problem, recipe)
        shapes = stage_shapes(self.backbone, problem.input_shape)
        norm = any(isinstance(module, BatchNorm2d) for module in self.backbone.modules())
        self.passing = nn.ModuleList(Passing(a, b, n_tasks, norm, linear) for a, b in pairwise(shapes))

        def module(i: int) -> Attention:
            n = shapes[i][0]
            image = len(shapes[i]) == 3
            return Attention(n * (2 if i else 1), max(1, n // squeeze), n, image, norm and image, linear)

        self.attention = nn.ModuleList(Copies(lambda i=i: module(i), n_tasks) for i in range(len(shapes)))
        self.heads = Heads(problem, shapes[-1][0])

    def forward(self, batch: Batch) -> Tensor:
        """Outputs [B, O]."""
        first, *later = self.attention
        p = self.backbone.stage(0, batch.inputs)
        rows = by_task(p, batch) if batch.per_task else p
        seen = first(rows, own=batch.per_task > 0) * rows
        for i, (attention, passing) in enumerate(zip(later, self.passing, strict=True), 1):
            p = self.backbone.stage(i, p)
            rows = by_task(p, batch) if batch.per_task else p.expand(batch.problem.n_tasks, *p.shape)
            seen = attention(torch.cat([rows, passing(seen)], 2), own=True) * rows
        return self.heads(seen, batch)


def stage_shapes(network: Backbone, input_shape: Shape) -> list[Shape]:
    """Shapes of a row after each stage of a backbone."""
    network, x, shapes = copy.deepcopy(network).to("meta"), torch.empty(2, *input_shape, device="meta"), []
    for i in range(network.n_stages):
        x = network.stage(i, x)
        shapes.append(tuple(x.shape[1:]))
    return shapes


def _affine(n_inputs: int, n_outputs: int, side: int, image: bool, norm: bool) -> list[nn.Module]:
    """A convolution with as many pixels a side, or a dense layer; with batch norm where it is asked for."""
    layer: nn.Module = Linear(n_inputs, n_outputs)
    if image:
        layer = Conv2d(n_inputs, n_outputs, side, padding=side // 2, bias=not norm)
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return [layer, BatchNorm2d(n_outputs)] if norm else [layer]


class MTAN(GradientMethod):
    """Tasks share a network, and each attends to its features by masks of its own, stage by stage."""

    name = "mtan"
    reference = Reference("End-to-End Multi-Task Learning with Attention", "CVPR 2019", arxiv="1803.10704")
    Params = MTANParams

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Rows that the recipe's backbone takes."""
        return backbone_support(problem, recipe)

    def build(self, problem: Problem, params: MTANParams, recipe: Recipe) -> nn.Module:
        """The recipe's backbone, attention modules, and heads."""
        return AttentionNet(problem, recipe, params.squeeze)

    def terms(self, model: AttentionNet, batch: Batch, params: MTANParams) -> Terms:
        """L_t, and lambda / 2 |backbone, attention, f, S|^2."""
        decay = half_squares(model.backbone, model.attention, model.passing, model.heads.S)
        return Terms(batch.task_losses(model(batch)), params.lambda_ * decay)


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The method of this file."""
    return [MTAN]
