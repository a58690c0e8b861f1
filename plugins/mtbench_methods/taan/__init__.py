"""TAAN: tasks share every weight of a network, and each has its own activation functions.

Paper: Liu et al., Adaptive Activation Network and Functional Regularization for Efficient and Flexible Deep Multi-Task
Learning, AAAI 2020.

Shapes: T tasks, M basis functions. Affine layers z = W x + c are shared. Task t sees z through its own function
f_t(z) = relu(z) + sum_m alpha[t, m] relu(b_m - z), with alpha [T, M] and b [M] in every layer
(`task_activation.py`); alpha and the heads are all that belongs to a task. Regularisers are summed over layers.

Departures from the paper: the b_m are learned with the weights, as in the released code; they and alpha carry no weight
decay, which there all parameters do. In the own layout a row goes through the network once; in the shared layout once
up to the first activation, and from there on once for every task. All rows share the statistics of batch norm as they
share its weights, so TAAN with alpha = 0 is hard sharing.

Where the released code (github.com/yingrliu/TAAN-MTL, Layers/TAL_pytorch.py) differs from the paper, this follows the
paper. There the trace norm is the sum of the norms of alpha's rows, which couples no tasks; here it is the nuclear
norm. There u_i is multiplied by b_i where b_i > 0, and the density at 0 is 0.4; here they are what the integrals are.
There cosines and distances are averaged over all T^2 pairs, a task with itself among them, here over pairs of different
tasks: for distances a factor of T / (T - 1) in c. There K, u and the norms in the cosines are constants to the
gradient; here the gradient is that of the regulariser. There task losses are averaged, here summed: a factor of T in c
and lambda. Its Omniglot experiment also lets heads learn 50 times as fast; here all methods of a data set have one
learning rate.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, Terms, hookimpl, tunable
from mtbench.contracts.terms import PerTask
from mtbench.nn.backbones import Backbone, backbone, backbone_support
from mtbench.nn.heads import Heads
from mtbench.nn.task_rows import for_heads, row_tasks
from mtbench_methods.taan.task_activation import TaskActivation


@dataclass(frozen=True, kw_only=True)
class TAANParams:
    """Hyperparameters of TAAN.

    Attributes:
        n_basis: M, basis functions in every layer.
        lambda_: Weight of half the squared norms of all layers.
    """

    n_basis: int = tunable(4, choices=(2, 4, 8), help="basis functions of every activation")
    lambda_: float = tunable(1e-4, low=1e-6, high=1e-2, per="loss", help="l2 on all layers")


@dataclass(frozen=True, kw_only=True)
class RegularisedTAANParams(TAANParams):
    """Hyperparameters of TAAN with a functional regulariser.

    Attributes:
        c: Weight of the regulariser.
    """

    c: float = tunable(
        0.1, grid=(1.0, 0.1, 0.01, 0.001), low=1e-4, high=10.0, per="loss", help="weight of the regulariser"
    )


class TAANNet(PerTask):
    """A backbone whose activations are the tasks' own, and heads.

    Attributes:
        backbone: The recipe's; its weights are shared.
        heads: One for each task.
    """

    def __init__(self, problem: Problem, recipe: Recipe, n_basis: int) -> None:
        super().__init__()
        self.backbone = backbone(problem, recipe, lambda: TaskActivation(problem.n_tasks, n_basis))
        self.heads = Heads(problem, self.backbone.n_features)
        self.task_axes = {f"backbone.{name}.alpha": 0 for name in own_activations(self.backbone, problem.input_shape)}

    def forward(self, batch: Batch) -> Tensor:
        """Outputs [B, O]."""
        task = row_tasks(batch)
        own = {f"{name}.alpha": activation.alpha[task] for name, activation in self.activations().items()}
        features = functional_call(self.backbone, own, (batch.inputs,))
        return self.heads(for_heads(features, batch), batch)

    def activations(self) -> dict[str, TaskActivation]:
        """By name within the backbone; none where the recipe's activation is the identity."""
        return {name: m for name, m in self.backbone.named_modules() if isinstance(m, TaskActivation)}

    def decay(self) -> Tensor:
        """Half the sum of squares of the shared weights and of S."""
        of_activations = {id(p) for a in self.activations().values() for p in a.parameters()}
        weights = [p for p in self.backbone.parameters() if id(p) not in of_activations]
        return torch.stack([p.square().sum() for p in [*weights, self.heads.S]]).sum() / 2


def own_activations(network: Backbone, input_shape: tuple[int, ...]) -> list[str]:
    """Names of the activations that no batch norm follows.

    Batch norm pools the rows of all tasks, so that through it the functions of one task reach the losses of others.
    """
    network, found = copy.deepcopy(network).to("meta"), list[str]()
    for name, module in network.named_modules():
        if isinstance(module, TaskActivation):
            module.register_forward_hook(lambda *_, name=name: found.append(name))
        elif isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda *_: found.clear())
    n_tasks = max((len(m.alpha) for m in network.modules() if isinstance(m, TaskActivation)), default=1)
    network(torch.empty(n_tasks, *input_shape, device="meta"))
    return found


class TAAN(GradientMethod):
    """Tasks share all weights and differ in their activation functions."""

    name = "taan"
    reference = Reference(
        "Adaptive Activation Network and Functional Regularization for Efficient and Flexible Deep Multi-Task Learning",
        "AAAI 2020",
        arxiv="1911.08065",
    )
    Params = TAANParams

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Rows that the recipe's backbone takes."""
        return backbone_support(problem, recipe)

    def build(self, problem: Problem, params: TAANParams, recipe: Recipe) -> nn.Module:
        """The recipe's backbone with task activations, and heads."""
        return TAANNet(problem, recipe, params.n_basis)

    def terms(self, model: TAANNet, batch: Batch, params: TAANParams) -> Terms:
        """L_t, and lambda / 2 |weights|^2."""
        return Terms(batch.task_losses(model(batch)), params.lambda_ * model.decay())

    def learned(self, model: TAANNet, params: TAANParams) -> Mapping[str, Tensor]:
        """Squared distances between the tasks' functions, summed over layers [T, T]; alpha [layers, T, M]."""
        layers = list(model.activations().values())
        if not layers:
            return {}
        distances = torch.stack([layer.distances() for layer in layers]).sum(0)
        return {"task_distance": distances, "alpha": torch.stack([layer.alpha for layer in layers])}


class _RegularisedTAAN(TAAN):
    """TAAN with a regulariser of the activation functions."""

    Params = RegularisedTAANParams

    def terms(self, model: TAANNet, batch: Batch, params: RegularisedTAANParams) -> Terms:
        """L_t, and lambda / 2 |weights|^2 + c sum_layers R(layer)."""
        plain = super().terms(model, batch, params)
        of_layers = [self.regulariser(layer) for layer in model.activations().values()]
        return Terms(plain.tasks, plain.penalty + params.c * sum(of_layers))

    def regulariser(self, layer: TaskActivation) -> Tensor:
        """R of one layer: a scalar."""
        raise NotImplementedError


class TAANDistance(_RegularisedTAAN):
    """TAAN whose tasks' functions are drawn together: R = mean over pairs of E[(f_s - f_t)^2]."""

    name = "taan_distance"

    def regulariser(self, layer: TaskActivation) -> Tensor:
        """The mean over pairs of tasks of (a_s - a_t)' K (a_s - a_t)."""
        return _pair_mean(layer.distances())


class TAANCosine(_RegularisedTAAN):
    """TAAN whose tasks' functions are drawn towards the same direction: R = - mean over pairs of cos(f_s, f_t)."""

    name = "taan_cosine"

    def regulariser(self, layer: TaskActivation) -> Tensor:
        """Minus the mean over pairs of tasks of <f_s, f_t> / (|f_s| |f_t|)."""
        return -_pair_mean(layer.cosines())


class TAANTraceNorm(_RegularisedTAAN):
    """TAAN whose tasks' functions span few dimensions: R = the nuclear norm of alpha."""

    name = "taan_trace_norm"

    def regulariser(self, layer: TaskActivation) -> Tensor:
        """The sum of the singular values of alpha."""
        return torch.linalg.svdvals(layer.alpha).sum()


def _pair_mean(values: Tensor) -> Tensor:
    """The mean of a symmetric matrix [T, T] over pairs of different tasks; 0 where there is one task."""
    n_pairs = len(values) * (len(values) - 1)
    return (values.sum() - values.diagonal().sum()) / max(n_pairs, 1)


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The methods of this file."""
    return [TAAN, TAANDistance, TAANCosine, TAANTraceNorm]
