"""Soft ordering: shared layers that every task uses at every depth, in proportions of its own.

Paper: Meyerson and Miikkulainen, Beyond Shared Hierarchies: Deep Multitask Learning through Soft Layer Ordering, ICLR
2018, eq. (7).

Shapes: T tasks, D shared layers F_j and as many depths, N rows, each on behalf of one task t. From the task's encoder
y_0, with s [T, D, D]:

    y_l = sum_j softmax_j(s[t, l, j]) F_j(y_{l-1}),  l = 1 .. D,

and the task's head takes y_D. s starts at 0: every layer counts the same at every depth. F_j is a dense layer k -> k or
a 3 x 3 convolution of `channels` channels, with its activation and dropout; its weights start He-uniform (He et al.
2015), as a ReLU follows.

The recipe's backbone says what the layers are. Over "mlp" each task's encoder is a dense layer d -> k, and there are
`depth` dense layers. Over "lenet" and "conv4" each task's encoder is a 1 x 1 convolution, there are as many shared
convolutions as the backbone has (2, 4), and every depth ends in 2 x 2 max-pooling. Over residual networks the whole
trunk is shared, and `depth` dense layers are in soft order on its features.

Departures: dropout of convolutions drops whole channels. Only a residual trunk starts from a base network, where a
recipe names one: the shared layers of the other backbones have no counterpart in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, Terms, hookimpl, tunable
from mtbench.contracts.terms import PerTask
from mtbench.nn.backbones import backbone_name, backbone_support
from mtbench.nn.decay import half_squares
from mtbench.nn.dropout import dropout
from mtbench.nn.heads import Heads
from mtbench.nn.task_rows import for_heads, row_tasks
from mtbench_methods.soft_order.shared_layers import ConvolutionalLayers, DenseLayers, OrderableLayers

_CONVOLUTIONS = {"lenet": 2, "conv4": 4}


@dataclass(frozen=True, kw_only=True)
class SoftOrderParams:
    """Hyperparameters of soft ordering.

    Attributes:
        depth: D, over backbones that are not convolutional throughout.
        channels: Of the shared convolutions.
        dropout: Probability of dropping a unit (or channel) after a shared layer.
        lambda_: Weight of half the squared norms of all layers.
    """

    depth: int = tunable(3, choices=(2, 3, 4), help="shared layers over mlp and residual networks")
    channels: int = tunable(16, minimum=1, help="channels of shared convolutions")
    dropout: float = tunable(0.2, grid=(0.0, 0.2, 0.5), maximum=0.9, help="dropout after every shared layer")
    lambda_: float = tunable(1e-4, low=1e-6, high=1e-2, per="loss", help="l2 on all layers")


class SoftOrderNet(PerTask):
    """Encoders, shared layers in soft order, and heads.

    Attributes:
        layers: Shared layers and encoders.
        s: [T, D, D], at 0: task, depth, layer.
        heads: One for each task.
    """

    task_axes: Mapping[str, int] = {"s": 0}

    def __init__(self, problem: Problem, recipe: Recipe, params: SoftOrderParams) -> None:
        super().__init__()
        n = _CONVOLUTIONS.get(backbone_name(problem.input_shape, recipe))
        if n is None:
            self.layers: OrderableLayers = DenseLayers(problem, recipe, params.depth)
        else:
            self.layers = ConvolutionalLayers(problem, recipe, n, params.channels)
        self.s = nn.Parameter(torch.zeros(problem.n_tasks, self.layers.n, self.layers.n))
        self.heads = Heads(problem, self.layers.n_features)
        self._linear = recipe.activation == "identity"

    def forward(self, batch: Batch, p: Tensor | float = 0.0) -> Tensor:
        """Outputs [B, O].

        Args:
            batch: Rows.
            p: Probability of dropping a unit or channel.
        """
        own = self.s.softmax(-1)[row_tasks(batch)]
        y = self.layers.encode(batch)
        for depth in range(self.layers.n):
            z = self.layers.apply_all(y)
            z = z if self._linear else torch.relu(z)
            # Dropout and mixture are both a factor of each layer's units.
            scale = own[:, depth, None].expand(z.shape[:3])
            y = self.layers.mix(z, dropout(scale, p, batch, salt=depth))
        return self.heads(for_heads(y.flatten(1), batch), batch)

    def decay(self) -> Tensor:
        """Half the sum of squares of all weights, and of the biases below the heads."""
        return half_squares(self.layers) + self.heads.S.square().sum() / 2


class SoftOrder(GradientMethod):
    """Every task combines the same layers at every depth in proportions of its own."""

    name = "soft_order"
    version = "2"
    reference = Reference(
        "Beyond Shared Hierarchies: Deep Multitask Learning through Soft Layer Ordering",
        "ICLR 2018",
        arxiv="1711.00108",
    )
    Params = SoftOrderParams

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Rows that the recipe's backbone takes."""
        return backbone_support(problem, recipe)

    def build(self, problem: Problem, params: SoftOrderParams, recipe: Recipe) -> nn.Module:
        """Shared layers that the recipe's backbone gives the kind of."""
        return SoftOrderNet(problem, recipe, params)

    def terms(self, model: SoftOrderNet, batch: Batch, params: SoftOrderParams) -> Terms:
        """L_t, and lambda / 2 |weights|^2."""
        return Terms(batch.task_losses(model(batch, params.dropout)), params.lambda_ * model.decay())

    def learned(self, model: SoftOrderNet, params: SoftOrderParams) -> Mapping[str, Tensor]:
        """The proportions [T, D, D]: task, depth, layer."""
        return {"layer_weights": model.s.softmax(-1)}


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The method of this file."""
    return [SoftOrder]
