"""DMTRL: the weights of all tasks' networks, layer by layer, are products of factors that the tasks share.

Paper: Yang and Hospedales, Deep Multi-task Representation Learning: A Tensor Factorisation Approach, ICLR 2017.

Shapes: T tasks, B rows, b rows of each task, k features, C outputs of a task. The weights of a layer of T equal
networks are stacked to a tensor with the axis of tasks last and factorised (`factors.py`): LAF into bases and
coefficients of the tasks, W = L S with W laid flat; Tucker into a core and a matrix along each axis; TT into a chain of
cores. Biases and norms belong to a task. So do the weights of the heads where tasks differ in their number of outputs;
otherwise they are a layer like the others.

Ranks and starting values of the factors come from networks that have learned each task alone: the smallest ranks with a
relative error of at most 0.1 in every layer. Ranks are thus found from data, differ from trial to trial and give
parameters their shapes, so trials cannot share a stack; and they must be known before training begins. Hence the tasks
are learned alone while the model is built: for `alone` times the recipe's epochs, with its optimiser, learning rate and
batch size; from the base network, where the recipe names one. That comes on top of the epochs that all methods have.

Tensor trains are chained in the authors' order, inputs, outputs, tasks; a convolution's two axes of pixels come first.

Departures: the rank of the tasks stays below T, since at T the factors share nothing and start where single tasks
ended. That breaks the promised error where T is small: with T = 2 and a rank of 1 it was 0.62 on a first layer. `capped
= false` keeps the promise instead; the errors that there are stand among what a trial learned, "relative_errors", layer
by layer. The networks start from equal weights. Hidden units of independent starts do not correspond to each other, and
stacks of unrelated weights have no low rank to find. Weight decay is on the weights, not on their factors, so that
lambda means the same as for single networks.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, Terms, hookimpl, tunable
from mtbench.contracts.terms import PerTask
from mtbench.nn.backbones import backbone, backbone_support
from mtbench.nn.copies import Copies
from mtbench.nn.heads import Heads, by_task, from_tasks
from mtbench_methods.dmtrl.factors import LAF, Factors, TensorTrain, Tucker
from mtbench_methods.dmtrl.single_task import learn_alone

_TOLERANCE = 0.1
_HEADS = "heads"


@dataclass(frozen=True, kw_only=True)
class DMTRLParams:
    """Hyperparameters of DMTRL.

    Attributes:
        lambda_: Weight of half the squared norms of all layers, as the factors give them.
        alone: Epochs of learning every task alone, as a share of the recipe's.
        capped: The rank of the tasks stays below T, whatever error that makes.
    """

    lambda_: float = tunable(1e-4, low=1e-6, high=1e-2, per="loss", help="l2 on all layers")
    alone: float = tunable(0.2, maximum=1.0, help="epochs of learning tasks alone first, as a share of all")
    capped: bool = tunable(True, later=True, help="the rank of the tasks stays below their number, whatever that loses")


class FactoredNet(PerTask):
    """T networks whose weights are products.

    Args:
        factors: The kind of product.
        problem: Its training rows are learned from.
        recipe: Backbone, and how the tasks are learned alone.
        params: Plain numbers.

    Attributes:
        copies: The backbones, with biases, norms and their statistics; their weights are in `factors`.
        factors: By name of the weights, "." written "__".
        S: [T, k, C], the heads' weights where tasks differ in their number of outputs; else None.
        b: [T, C], the heads' biases.
    """

    def __init__(self, factors: type[Factors], problem: Problem, recipe: Recipe, params: DMTRLParams) -> None:
        super().__init__()
        self._kind, self._problem, self._recipe, self._params = factors, problem, recipe, params
        self._seed = int(torch.randint(2**62, ()))
        self.start()

    def start(self, base: Mapping[str, Tensor] | None = None) -> None:
        """Learns every task alone and factorises what they learned; from a base network where the recipe names one."""
        # From a generator of its own: it is also called when torch's is not seeded.
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(self._seed)
            one = backbone(self._problem, self._recipe)
            copies = Copies(lambda: copy.deepcopy(one), self._problem.n_tasks)
            heads = Heads(self._problem, one.n_features)
            if base is not None:
                copies.start_from(base)
            if base is not None or not self._recipe.base:
                n_epochs = self._params.alone * self._recipe.max_epochs
                learn_alone(copies, heads, self._problem, self._recipe, n_epochs, self._params.lambda_)
        weights = {name: value.detach() for name, value in copies.named_parameters() if value.ndim > 2}
        for name in weights:
            delattr(copies, name)
        equal = len({task.n_outputs for task in self._problem.tasks}) == 1
        if equal:
            weights[_HEADS] = heads.S.detach()
        self.copies = copies
        self.S, self.b = None if equal else heads.S, heads.b
        self.task_axes = {"copies": 0, "b": 0} if equal else {"copies": 0, "b": 0, "S": 0}
        chained = {name: inputs_first(value) if name != _HEADS else value for name, value in weights.items()}
        given = chained if self._kind is TensorTrain else weights
        capped = self._params.capped
        self.factors = nn.ModuleDict({name: self._kind(value, _TOLERANCE, capped) for name, value in given.items()})

    def weights(self) -> dict[str, Tensor]:
        """The weights of each layer, [T, ...], as the backbone takes them."""
        found = {name: factors.weights() for name, factors in self.factors.items()}
        if self._kind is not TensorTrain:
            return found
        return {name: outputs_first(value) if name != _HEADS else value for name, value in found.items()}

    def forward(self, batch: Batch) -> Tensor:
        """Outputs [B, O]."""
        return self.outputs(batch, self.weights())

    def outputs(self, batch: Batch, weights: Mapping[str, Tensor]) -> Tensor:
        """Outputs [B, O] by given `weights`."""
        own = {**dict(self.copies.named_parameters()), **dict(self.copies.named_buffers()), **weights}
        S = own.pop(_HEADS, self.S)
        state = {name.replace("__", "."): value for name, value in own.items()}
        rows = by_task(batch.inputs, batch) if batch.per_task else batch.inputs
        features = self.copies.with_state(state, rows, own=batch.per_task > 0)
        return from_tasks(features @ S + self.b[:, None], batch, own_rows=batch.per_task > 0)

    def decay(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Half the sum of squares of given `weights` and of what belongs to the tasks below their outputs."""
        held = [*weights.values(), *self.copies.parameters()] + ([] if self.S is None else [self.S])
        return torch.stack([value.square().sum() for value in held]).sum() / 2


def inputs_first(weights: Tensor) -> Tensor:
    """Weights [T, out, in, ...] of a torch layer in the authors' order, [T, ..., in, out]."""
    return weights.transpose(1, 2).movedim((1, 2), (-2, -1))


def outputs_first(weights: Tensor) -> Tensor:
    """The way back: [T, ..., in, out] -> [T, out, in, ...]."""
    return weights.movedim((-2, -1), (1, 2)).transpose(1, 2)


class _DMTRL(GradientMethod):
    """Networks of all tasks, factorised layer by layer."""

    reference = Reference(
        "Deep Multi-task Representation Learning: A Tensor Factorisation Approach", "ICLR 2017", arxiv="1605.06391"
    )
    Params = DMTRLParams
    stackable = False
    factors: ClassVar[type[Factors]]

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Rows that the recipe's backbone takes."""
        return backbone_support(problem, recipe)

    def build(self, problem: Problem, params: DMTRLParams, recipe: Recipe) -> nn.Module:
        """Factors of networks that have learned each task alone."""
        return FactoredNet(self.factors, problem, recipe, params)

    def start_from(self, model: FactoredNet, weights: Mapping[str, Tensor]) -> None:
        """The tasks are learned alone from the base network."""
        model.start(weights)

    def terms(self, model: FactoredNet, batch: Batch, params: DMTRLParams) -> Terms:
        """L_t, and lambda / 2 |weights|^2."""
        weights = model.weights()
        return Terms(batch.task_losses(model.outputs(batch, weights)), params.lambda_ * model.decay(weights))

    def learned(self, model: FactoredNet, params: DMTRLParams) -> Mapping[str, Tensor]:
        """Cosines between the tasks' weights, the mean over layers [T, T]; rank of the tasks and error by layer."""
        flat = [nn.functional.normalize(value.flatten(1), dim=1) for value in model.weights().values()]
        cosines = torch.stack([rows @ rows.mT for rows in flat]).mean(0)
        ranks = [factors.task_rank for factors in model.factors.values()]
        errors = [factors.relative_error for factors in model.factors.values()]
        return {
            "task_similarity": cosines,
            "task_ranks": torch.tensor(ranks, device=cosines.device),
            "relative_errors": torch.tensor(errors, device=cosines.device),
        }


class DMTRLLAF(_DMTRL):
    """DMTRL by last axis flattening: in every layer W = L S, with W laid flat."""

    name = "dmtrl_laf"
    factors = LAF


class DMTRLTucker(_DMTRL):
    """DMTRL by Tucker decompositions: in every layer a core times a matrix along each axis."""

    name = "dmtrl_tucker"
    factors = Tucker


class DMTRLTT(_DMTRL):
    """DMTRL by tensor trains: in every layer a chain of cores."""

    name = "dmtrl_tt"
    version = "2"
    factors = TensorTrain


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The methods of this file."""
    return [DMTRLLAF, DMTRLTucker, DMTRLTT]
