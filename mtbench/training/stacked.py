"""R models of one architecture as one: parameters as rows of a matrix, and functions mapped over them.

Shapes: R trials, P parameters of one model.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from mtbench.batch import TaskLayout
from mtbench.hyperparameters import describe
from mtbench.method import GradientMethod, Method
from mtbench.recipe import Recipe
from mtbench.seeds import seed_from
from mtbench.tasks import Problem
from mtbench.training.data import Columns, batch_of
from mtbench.trials import LEARNING_RATE, Trial


@dataclass
class StackState:
    """All that R models of one architecture hold.

    Parameters are the rows of one matrix, so that the optimiser, clipping, snapshots and the departure of finished
    trials are single operations whatever the architecture.

    Attributes:
        theta: Parameters, [R, P].
        buffers: Running statistics and the like by name, [R, ...].
        hyper: Stackable hyperparameters by name, [R].
    """

    theta: Tensor
    buffers: dict[str, Tensor]
    hyper: dict[str, Tensor]

    def select(self, keep: Tensor) -> StackState:
        """The state of some trials: int64 positions."""
        pick = {name: buffer[keep] for name, buffer in self.buffers.items()}
        return StackState(self.theta[keep], pick, {name: values[keep] for name, values in self.hyper.items()})

    def clone(self) -> StackState:
        """A copy of its own."""
        return self.select(torch.arange(len(self.theta), device=self.theta.device))

    def copy_from(self, here: Tensor, other: StackState, there: Tensor) -> None:
        """Takes over parameters and buffers of other trials: from positions `there` to positions `here`."""
        self.theta[here] = other.theta[there]
        for name, buffer in self.buffers.items():
            buffer[here] = other.buffers[name][there]


class StackedModels:
    """One architecture, and functions of it mapped over the states of R trials.

    Attributes:
        initial: The freshly initialised state of the trials it was made from.
    """

    def __init__(
        self, method: GradientMethod, problems: Sequence[Problem], trials: Sequence[Trial], device: torch.device
    ) -> None:
        recipe = trials[0].cell.recipe
        dtype: torch.dtype = getattr(torch, recipe.dtype)
        models = [
            _build(method, problem, trial, recipe).to(device, dtype)
            for problem, trial in zip(problems, trials, strict=True)
        ]
        self._probe = _Probe(models[0], method, TaskLayout.of(problems[0], device))
        self._shapes = {name: tuple(p.shape) for name, p in models[0].named_parameters()}
        self._sizes = [math.prod(shape) for shape in self._shapes.values()]
        theta = torch.stack([torch.cat([p.detach().reshape(-1) for p in model.parameters()]) for model in models])
        held = [dict(model.named_buffers()) for model in models]
        buffers = {name: torch.stack([b[name] for b in held]) for name in held[0]}
        hyper = {
            name: torch.tensor([float(trial.params[name]) for trial in trials], device=device, dtype=dtype)
            for name, known in describe(method.Params).items()
            if known.stackable
        }
        self._params = method_params(method, trials[0])
        self.initial = StackState(theta, buffers, hyper)

    @property
    def n_parameters(self) -> int:
        """P."""
        return sum(self._sizes)

    def leaves(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of theta by parameter name, [R, ...], each a leaf that gradients are taken by."""
        return {name: view.requires_grad_() for name, view in self._views(theta).items()}

    def _views(self, theta: Tensor) -> dict[str, Tensor]:
        blocks = torch.split(theta.detach(), self._sizes, dim=1)
        named = zip(self._shapes.items(), blocks, strict=True)
        return {name: block.view(len(theta), *shape) for (name, shape), block in named}

    def objective(self, leaves: Mapping[str, Tensor], state: StackState, columns: Columns, shared: bool) -> Tensor:
        """The objective of every trial: [R].

        Args:
            leaves: Parameters [R, ...], from `leaves(state.theta)`.
            state: Their buffers, which the model may update, and hyperparameters.
            columns: The batch, [R, B, ...], or [B, ...] where all trials share it.
            shared: Which of the two.
        """
        self._probe.train()
        return self._map("objective", leaves, state, columns, shared)  # type: ignore[no-any-return]

    def predict(self, state: StackState, columns: Columns) -> Tensor:
        """Outputs for rows [B, ...] that all trials share, of each row's own task in the own layout: [R, B, O or C]."""
        self._probe.eval()
        with torch.no_grad():
            return self._map("predict", self._views(state.theta), state, columns, True)  # type: ignore[no-any-return]

    def after_step(self, state: StackState, columns: Columns, shared: bool) -> None:
        """Writes the method's closed-form updates into parameters and buffers."""
        with torch.no_grad():
            views = self._views(state.theta)
            changed: dict[str, Tensor] = self._map("after_step", views, state, columns, shared)
            for name, value in changed.items():
                (views if name in views else state.buffers)[name].copy_(value)

    def learned(self, state: StackState) -> dict[str, Tensor]:
        """The method's learned matrices, each [R, ...]."""
        self._probe.eval()
        with torch.no_grad():
            return dict(self._map("learned", self._views(state.theta), state, {}, True))

    def _map(
        self, what: str, parameters: Mapping[str, Tensor], state: StackState, columns: Columns, shared: bool
    ) -> Any:
        tensors = {"model." + name: value for name, value in {**parameters, **state.buffers}.items()}
        run = _caller(self._probe, what, self._params)
        if len(state.theta) == 1:
            # One trial alone needs no mapping, and mapping costs: run the model as it is, and add the axis back.
            result = run(_first(tensors), _first(state.hyper), columns if shared else _first(columns))
            return {k: v[None] for k, v in result.items()} if isinstance(result, dict) else result[None]
        return vmap(run, in_dims=(0, 0, None if shared else 0))(tensors, state.hyper, columns)


def method_params(method: Method, trial: Trial) -> Any:
    """A trial's hyperparameters as the method's own Params, with plain numbers."""
    return method.Params(**{name: value for name, value in trial.params.items() if name != LEARNING_RATE})


class _Probe(nn.Module):
    """Carries a model through `functional_call`, to be asked for one thing at a time."""

    def __init__(self, model: nn.Module, method: GradientMethod, layout: TaskLayout) -> None:
        super().__init__()
        self.model, self._method, self._layout = model, method, layout

    def forward(self, what: str, columns: Columns, params: Any) -> Any:
        if what == "learned":
            return dict(self._method.learned(self.model, params))
        batch = batch_of(columns, self._layout)
        if what == "predict":
            return batch.own_outputs(self.model(batch))
        if what == "after_step":
            return dict(self._method.after_step(self.model, batch, params))
        return self._method.objective(self.model, batch, params)


def _caller(probe: _Probe, what: str, params: Any) -> Callable[[dict[str, Tensor], dict[str, Tensor], Columns], Any]:
    def run(state: dict[str, Tensor], hyper: dict[str, Tensor], columns: Columns) -> Any:
        return functional_call(probe, state, (what, columns, dataclasses.replace(params, **hyper)))

    return run


def _first(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor[0] for name, tensor in tensors.items()}


def _build(method: GradientMethod, problem: Problem, trial: Trial, recipe: Recipe) -> nn.Module:
    """A trial's model, initialised from its data set, split and seed alone: a stack changes nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from(trial.cell.dataset, trial.split, trial.seed, "initialisation"))
        return method.build(problem, method_params(method, trial), recipe)
