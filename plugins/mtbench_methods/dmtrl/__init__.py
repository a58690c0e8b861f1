"""DMTRL: the weights of all tasks' networks, layer by layer, are products of factors that the tasks share.

Paper: Yang and Hospedales, Deep Multi-task Representation Learning: A Tensor Factorisation Approach, ICLR 2017.

Shapes: T tasks, B rows, b rows of each task, k features, C outputs of a task. The weights of a layer of T equal
networks are stacked to a tensor with the axis of tasks last and factorised (`factors.py`): LAF into bases and
coefficients of the tasks, W = L S with W laid flat; Tucker into a core and a matrix along each axis; TT into a chain of
cores. Biases and norms belong to a task. So do the weights of the heads where tasks differ in their number of outputs;
otherwise they are a layer like the others.

Ranks and starting values of the factors come from networks that have learned each task alone: the smallest ranks with a
relative error of at most 0.1 in every layer. So training has two stages: "alone", for a share of the recipe's epochs,
and "factorised" for the rest. In the first, all weights lie in one factor of each layer, beside identities; between the
two they are decomposed, and columns and rows beyond the ranks that were found become 0 and stay so. Trials of different
ranks thus have one shape, and share stacks; what a table counts as parameters is what lies within the ranks.

The paper starts the factors from single-task networks and states no budget for these; the authors' demonstration
(https://github.com/wOOL/DMTRL) trains both for as many steps, that is twice as many in all. Here both stages together
have the epochs that every method has.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, Stage, Terms, hookimpl, tunable
from mtbench.contracts.terms import PerTask
from mtbench.nn.backbones import backbone, backbone_support
from mtbench.nn.copies import Copies
from mtbench.nn.heads import Heads, by_task, from_tasks
from mtbench_methods.dmtrl.factors import LAF, Factors, TensorTrain, Tucker

_TOLERANCE = 0.1
_HEADS = "heads"


@dataclass(frozen=True, kw_only=True)
class DMTRLParams:
    """Hyperparameters of DMTRL.

    Attributes:
        lambda_: Weight of half the squared norms of all layers, as the factors give them.
        alone: Share of the epochs in which every task is learned alone.
        capped: The rank of the tasks stays below T, whatever error that makes.
    """

    lambda_: float = tunable(1e-4, low=1e-6, high=1e-2, per="loss", help="l2 on all layers")
    alone: float = tunable(0.2, maximum=0.9, stackable=False, help="share of the epochs that learn tasks alone first")
    capped: bool = tunable(True, later=True, help="the rank of the tasks stays below their number, whatever that loses")


class FactoredNet(PerTask):
    """T networks whose weights are products.

    Args:
        factors: The kind of product.
        problem: Its tasks.
        recipe: Backbone.

    Attributes:
        copies: The backbones, with biases, norms and their statistics; their weights are in `factors`.
        factors: By name of the weights, "." written "__".
        S: [T, k, C], the heads' weights where tasks differ in their number of outputs; else None.
        b: [T, C], the heads' biases.
    """

    def __init__(self, factors: type[Factors], problem: Problem, recipe: Recipe) -> None:
        super().__init__()
        one = backbone(problem, recipe)
        self.copies = Copies(lambda: copy.deepcopy(one), problem.n_tasks)
        heads = Heads(problem, one.n_features)
        weights = {name: value.detach() for name, value in self.copies.named_parameters() if value.ndim > 2}
        for name in weights:
            delattr(self.copies, name)
        equal = len({task.n_outputs for task in problem.tasks}) == 1
        if equal:
            weights[_HEADS] = heads.S.detach()
        self.S, self.b = None if equal else heads.S, heads.b
        self.task_axes = {"copies": 0, "b": 0} if equal else {"copies": 0, "b": 0, "S": 0}
        self._chained = factors is TensorTrain
        self.factors = nn.ModuleDict({name: factors(self._in_order(name, value)) for name, value in weights.items()})

    def start_from(self, base: Mapping[str, Tensor]) -> None:
        """Gives every task the parameters and buffers of a backbone, by its own names."""
        held = dict([*self.copies.named_parameters(), *self.copies.named_buffers()])
        with torch.no_grad():
            for name, value in base.items():
                at = name.replace(".", "__")
                if at in held:
                    held[at].copy_(value.expand_as(held[at]))
                elif at in self.factors:
                    factors = self.factors[at]
                    of_each = self._in_order(at, value.expand(len(self.b), *value.shape))
                    factors.apart.copy_(factors.hold_apart(of_each))

    def _in_order(self, name: str, weights: Tensor) -> Tensor:
        return inputs_first(weights) if self._chained and name != _HEADS else weights

    def _as_torch(self, name: str, weights: Tensor) -> Tensor:
        return outputs_first(weights) if self._chained and name != _HEADS else weights

    def weights(self, alone: bool = False) -> dict[str, Tensor]:
        """The weights of each layer, [T, ...], as the backbone takes them; or those of tasks that learn alone."""
        found = {name: f.apart_weights() if alone else f.weights() for name, f in self.factors.items()}
        return {name: self._as_torch(name, value) for name, value in found.items()}

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
    version = "2"
    Params = DMTRLParams
    factors: ClassVar[type[Factors]]

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Rows that the recipe's backbone takes."""
        return backbone_support(problem, recipe)

    def build(self, problem: Problem, params: DMTRLParams, recipe: Recipe) -> nn.Module:
        """A network for each task, all equal below their heads."""
        return FactoredNet(self.factors, problem, recipe)

    def start_from(self, model: FactoredNet, weights: Mapping[str, Tensor]) -> None:
        """The tasks are learned alone from the base network."""
        model.start_from(weights)

    def stages(self, params: DMTRLParams, recipe: Recipe) -> Sequence[Stage]:
        """Every task alone, then the factors."""
        return (
            Stage("alone", params.alone, objective=self.alone_objective),
            Stage("factorised", 1 - params.alone),
        )

    def between(self, model: FactoredNet, before: str, after: str, params: DMTRLParams) -> Mapping[str, Tensor]:
        """Factors of what the tasks have learned alone."""
        return {
            f"factors.{layer}.{name}": value
            for layer, factors in model.factors.items()
            for name, value in factors.truncated(_TOLERANCE, params.capped).items()
        }

    def alone_objective(self, model: FactoredNet, batch: Batch, params: DMTRLParams) -> Tensor:
        """sum_t L_t + lambda / 2 |weights|^2, of weights that share nothing."""
        return self._terms(model, batch, params, model.weights(alone=True)).sum

    def terms(self, model: FactoredNet, batch: Batch, params: DMTRLParams) -> Terms:
        """L_t, and lambda / 2 |weights|^2."""
        return self._terms(model, batch, params, model.weights())

    def _terms(self, model: FactoredNet, batch: Batch, params: DMTRLParams, weights: Mapping[str, Tensor]) -> Terms:
        return Terms(batch.task_losses(model.outputs(batch, weights)), params.lambda_ * model.decay(weights))

    def n_parameters(self, model: FactoredNet, params: DMTRLParams) -> int:
        """What lies within the ranks, and what belongs to the tasks."""
        own = [*model.copies.parameters(), model.b] + ([] if model.S is None else [model.S])
        return sum(p.numel() for p in own) + sum(int(factors.n_core) for factors in model.factors.values())

    def learned(self, model: FactoredNet, params: DMTRLParams) -> Mapping[str, Tensor]:
        """Cosines between the tasks' weights, the mean over layers [T, T]; rank of the tasks and error by layer."""
        flat = [nn.functional.normalize(value.flatten(1), dim=1) for value in model.weights().values()]
        cosines = torch.stack([rows @ rows.mT for rows in flat]).mean(0)
        return {
            "task_similarity": cosines,
            "task_ranks": torch.stack([factors.task_rank for factors in model.factors.values()]),
            "relative_errors": torch.stack([factors.relative_error for factors in model.factors.values()]),
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
    version = "3"
    factors = TensorTrain


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The methods of this file."""
    return [DMTRLLAF, DMTRLTucker, DMTRLTT]
