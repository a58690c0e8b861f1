"""R models of one architecture as one: parameters as rows of a matrix, and functions mapped over them.

Shapes: R trials, P parameters of one model.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from mtbench.batch import TaskLayout
from mtbench.method import GradientMethod
from mtbench.recipe import Recipe
from mtbench.seeds import seed_from
from mtbench.tasks import Problem
from mtbench.training.data import Columns, batch_of
from mtbench.trials import Trial

LEARNING_RATE = "learning_rate"
"""The hyperparameter every gradient method has besides its own."""


class StackedModels:
    """The models of R trials.

    Parameters are the rows of `theta` [R, P], so that the optimiser, clipping, snapshots and the departure of finished
    trials are single operations whatever the architecture.

    Attributes:
        theta: [R, P], no gradient of its own: see `leaves`.
        buffers: By name, [R, ...]: running statistics and the like.
    """

    def __init__(
        self, method: GradientMethod, problems: Sequence[Problem], trials: Sequence[Trial], device: torch.device
    ) -> None:
        recipe = trials[0].cell.recipe
        dtype = getattr(torch, recipe.dtype)
        self.method = method
        models = [
            _build(method, problem, trial, recipe).to(device, dtype)
            for problem, trial in zip(problems, trials, strict=True)
        ]
        self._probe = _Probe(models[0], method, TaskLayout.of(problems[0], device))
        named = [dict(model.named_parameters()) for model in models]
        self._shapes = {name: tuple(p.shape) for name, p in named[0].items()}
        flat = [torch.cat([p.detach().reshape(-1) for p in parameters.values()]) for parameters in named]
        self.theta = torch.stack(flat)
        self.buffers = {
            name: torch.stack([dict(model.named_buffers())[name] for model in models])
            for name, _ in models[0].named_buffers()
        }
        self.hyper = {
            name: torch.tensor([float(trial.params[name]) for trial in trials], device=device, dtype=dtype)
            for name, value in trials[0].params.items()
            if isinstance(value, float) and name != LEARNING_RATE
        }
        own = {name: value for name, value in trials[0].params.items() if name != LEARNING_RATE}
        self._params = method.Params(**own)

    @property
    def n_parameters(self) -> int:
        """P."""
        return self.theta.shape[1]

    def leaves(self) -> dict[str, Tensor]:
        """Views of theta by parameter name, [R, ...], each a leaf that gradients are taken by."""
        return {name: view.requires_grad_() for name, view in self._views(self.theta).items()}

    def _views(self, theta: Tensor) -> dict[str, Tensor]:
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        blocks = theta.detach().split(sizes, dim=1)
        return {
            name: block.view(len(theta), *shape)
            for (name, shape), block in zip(self._shapes.items(), blocks, strict=True)
        }

    def select(self, keep: Tensor) -> None:
        """Keeps some trials: int64 positions."""
        self.theta = self.theta[keep]
        self.buffers = {name: buffer[keep] for name, buffer in self.buffers.items()}
        self.hyper = {name: values[keep] for name, values in self.hyper.items()}

    def objective(self, leaves: Mapping[str, Tensor], columns: Columns, shared: bool) -> Tensor:
        """The objective of every trial: [R].

        Args:
            leaves: Parameters [R, ...].
            columns: The batch, [R, B, ...], or [B, ...] where all trials share it.
            shared: Which of the two.
        """
        self._probe.train()
        return self._map("objective", leaves, columns, shared)

    def predict(self, theta: Tensor, columns: Columns, shared: bool) -> Tensor:
        """Outputs, of each row's own task in the own layout: [R, B, O or C]."""
        self._probe.eval()
        with torch.no_grad():
            return self._map("predict", self._views(theta), columns, shared)

    def after_step(self, columns: Columns, shared: bool) -> None:
        """Writes the method's closed-form updates into parameters and buffers."""
        with torch.no_grad():
            views = self._views(self.theta)
            changed = self._map("after_step", views, columns, shared)
            for name, value in changed.items():
                (views if name in views else self.buffers)[name].copy_(value)

    def learned(self, theta: Tensor) -> dict[str, Tensor]:
        """The method's learned matrices, each [R, ...]."""
        self._probe.eval()
        with torch.no_grad():
            return dict(self._map("learned", self._views(theta), {}, True))

    def _map(self, what: str, parameters: Mapping[str, Tensor], columns: Columns, shared: bool) -> Any:
        state = {"model." + name: value for name, value in {**parameters, **self.buffers}.items()}
        run = _caller(self._probe, what, self._params)
        if len(self.theta) == 1:
            # One trial alone needs no mapping, and mapping costs: run the model as it is, and add the axis back.
            alone = columns if shared else _first(columns)
            result = run(_first(state), _first(self.hyper), alone)
            return {k: v[None] for k, v in result.items()} if isinstance(result, dict) else result[None]
        return vmap(run, in_dims=(0, 0, None if shared else 0))(state, self.hyper, columns)


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
    """A trial's model, initialised from its data set, split and seed alone: methods start alike, stacks change nothing."""
    own = {name: value for name, value in trial.params.items() if name != LEARNING_RATE}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from(trial.cell.dataset, trial.split, trial.seed, "initialisation"))
        return method.build(problem, method.Params(**own), recipe)
