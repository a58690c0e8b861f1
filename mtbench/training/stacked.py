"""R models of one architecture as one: parameters as rows of a matrix, and functions mapped over them.

Shapes: R trials, P parameters of one model.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mtbench.contracts.batch import Batch, TaskColumns
from mtbench.contracts.hyperparameters import describe
from mtbench.contracts.method import GradientMethod, Method
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.seeds import seed_from
from mtbench.contracts.stages import Stage
from mtbench.contracts.terms import Terms
from mtbench.contracts.trials import LEARNING_RATE, Trial
from mtbench.errors import PluginError
from mtbench.nn.batch_norm import take_any_batch
from mtbench.nn.vmap_operations import aligned
from mtbench.tasks import Array, Problem
from mtbench.training.author_checks import (
    broken_promise,
    check_model,
    check_names,
    checked_terms,
    checked_value,
    mixed_dtypes,
    tensor_objective,
)
from mtbench.training.data import Columns, batch_of
from mtbench.training.row_gradients import RowTaps, TaskMeans, dense_layers

Found = TypeVar("Found")

_OF_BATCHES = ("n_train", "n_examples", "key")
"""Columns of a batch that are not of its rows."""

_INPUTS = "inputs of "
"""Before the names of layers whose inputs are noted, among the terms of an objective."""

_NOTHING: Columns = {}

_NOT_PLUGINS = (Path(__file__).parents[1], Path(torch.__file__).parent)

PretrainedWeights = Mapping[tuple[int, int], Mapping[str, Array]]
"""By split and seed, the backbone that trials start from: parameters and buffers by name."""


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

    def copy_tasks_from(self, here: Tensor, other: StackState, there: Tensor, tasks: Tensor, owner: Tensor) -> None:
        """`copy_from` for some tasks of each trial, where every parameter and buffer belongs to one task.

        A buffer without an axis of tasks is copied where any task is.

        Args:
            here: Positions, int64 [r].
            other: Where from.
            there: Positions there, int64 [r].
            tasks: Which tasks, bool [r, T].
            owner: The task of each parameter, int64 [P].
        """
        self.theta[here] = torch.where(tasks[:, owner], other.theta[there], self.theta[here])
        for name, buffer in self.buffers.items():
            of_tasks = buffer.ndim > 1 and buffer.shape[1] == tasks.shape[1]
            some = tasks if of_tasks else tasks.any(1)
            which = some.view(*some.shape, *[1] * (buffer.ndim - some.ndim))
            buffer[here] = torch.where(which, other.buffers[name][there], buffer[here])

    def tensors(self) -> dict[str, Tensor]:
        """All of it under one name each."""
        buffers = {f"buffers/{name}": value for name, value in self.buffers.items()}
        return {"theta": self.theta, **buffers, **{f"hyper/{name}": value for name, value in self.hyper.items()}}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> StackState:
        """The state whose `tensors` these are."""
        buffers = {name[8:]: value for name, value in tensors.items() if name.startswith("buffers/")}
        return cls(tensors["theta"], buffers, {n[6:]: v for n, v in tensors.items() if n.startswith("hyper/")})

    def scaled(self, factor: float, names: Sequence[str]) -> StackState:
        """The same state with some hyperparameters multiplied by a factor."""
        if factor == 1.0 or not names:
            return self
        hyper = {name: values * factor if name in names else values for name, values in self.hyper.items()}
        return StackState(self.theta, self.buffers, hyper)


class StackedModels:
    """One architecture, and functions of it mapped over the states of R trials.

    Attributes:
        initial: The freshly initialised state of the trials it was made from.
        params: The trials' common hyperparameters, with plain numbers.
        ramped: Names of the hyperparameters that a recipe's ramp applies to.
        rate_factors: What each parameter's learning rate is multiplied by, [P]; None where the method names none.
        trained: Names of the parameters that the present stage trains.
    """

    def __init__(
        self,
        method: GradientMethod,
        problems: Sequence[Problem],
        trials: Sequence[Trial],
        device: torch.device,
        pretrained: PretrainedWeights | None = None,
    ) -> None:
        recipe = trials[0].cell.recipe
        dtype: torch.dtype = getattr(torch, recipe.dtype)
        views = {id(problem): problem.without_test() for problem in problems}
        handed = [views[id(problem)] for problem in problems]
        models = [
            _build(method, problem, trial, recipe, pretrained or {}).to(device, dtype)
            for problem, trial in zip(handed, trials, strict=True)
        ]
        self._channels_last = recipe.channels_last
        cast = recipe.autocast == "bfloat16"
        self._autocast = torch.autocast(device.type, torch.bfloat16) if cast else contextlib.nullcontext()
        self._device = device
        self._probe = _Probe(models[0], method, TaskColumns.of(handed[0], device))
        self._tied = _tied(models[0])
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
        self.params = method_params(method, trials[0])
        self.ramped = [name for name, known in describe(method.Params).items() if known.ramped]
        self.initial = StackState(theta, buffers, hyper)
        self.rate_factors = self._rate_factors(method.learning_rate_factors(models[0]))
        self.trained = list(self._shapes)

    def enter(self, stage: Stage) -> None:
        """From now on minimises and trains what a stage does.

        Raises:
            PluginError: It names something that is no parameter.
        """
        self._probe.stage = stage
        self.trained = self._trained_by(stage)

    def _trained_by(self, stage: Stage) -> list[str]:
        if not stage.trains:
            return list(self._shapes)
        by_name = {at: _below(at, self._shapes) for at in stage.trains}
        unknown = [at for at, names in by_name.items() if not names]
        check_names(self._probe.method, "stages", unknown, self._shapes)
        wanted = {name for names in by_name.values() for name in names}
        return [name for name in self._shapes if name in wanted]

    @property
    def n_parameters(self) -> int:
        """P."""
        return sum(self._sizes)

    def owners(self, n_tasks: int, stage: Stage) -> Tensor:
        """The task of each parameter of a method whose tasks share none, int64 [P].

        Args:
            n_tasks: T.
            stage: The last one: parameters that it does not train stay as they are, and count as task 0's.

        Raises:
            PluginError: A parameter that is trained, or a buffer where all are, has no task axis.
        """
        trained = self._trained_by(stage)
        held = {name: self._shapes[name] for name in trained}
        if len(trained) == len(self._shapes):
            held |= {name: tuple(buffer.shape[1:]) for name, buffer in self.initial.buffers.items()}
        for name, shape in held.items():
            if not shape or shape[0] != n_tasks:
                raise PluginError(
                    f"A method that is `separate` must give every parameter and buffer a first axis of its "
                    f"{n_tasks} tasks; '{name}' has shape {shape}."
                )
        tasks = torch.arange(n_tasks, device=self._device)
        sizes = dict(zip(self._shapes, self._sizes, strict=True))
        return torch.cat(
            [
                tasks.repeat_interleave(size // n_tasks) if name in held else tasks.new_zeros(size)
                for name, size in sizes.items()
            ]
        )

    def _rate_factors(self, by_name: Mapping[str, float]) -> Tensor | None:
        if not by_name:
            return None
        factors = torch.ones(len(self._shapes), device=self._device, dtype=self.initial.theta.dtype)
        for prefix, factor in by_name.items():
            below = _below(prefix, self._shapes)
            named = [i for i, name in enumerate(self._shapes) if name in below]
            if not named:
                raise PluginError(
                    f"learning_rate_factors must name parameters, or modules that have some; found '{prefix}' among "
                    f"{', '.join(self._shapes)}."
                )
            factors[named] = factor
        sizes = torch.tensor(self._sizes, device=self._device)
        return factors.repeat_interleave(sizes, output_size=self.n_parameters)

    def leaves(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of theta by parameter name, [R, ...]; those that the stage trains are leaves for gradients."""
        views = self._views(theta)
        for name in self.trained:
            views[name].requires_grad_()
        return views

    def _views(self, theta: Tensor) -> dict[str, Tensor]:
        blocks = torch.split(theta.detach(), self._sizes, dim=1)
        named = zip(self._shapes.items(), blocks, strict=True)
        return {name: block.view(len(theta), *shape) for (name, shape), block in named}

    def objective(
        self, leaves: Mapping[str, Tensor], state: StackState, columns: Columns, shared: bool, per_task: int = 0
    ) -> Tensor:
        """The objective of every trial: [R].

        Args:
            leaves: Parameters [R, ...], from `leaves(state.theta)`.
            state: Their buffers, which the model may update, and hyperparameters.
            columns: The batch, [R, B, ...], or [B, ...] where all trials share it.
            shared: Which of the two.
            per_task: As in `Batch`.
        """
        self._set_mode(training=True)
        with self._autocast:
            found: Tensor = self._map("objective", leaves, state, columns, shared, per_task)
        return found.to(state.theta.dtype)

    def terms(
        self,
        leaves: Mapping[str, Tensor],
        state: StackState,
        columns: Columns,
        shared: bool,
        per_task: int = 0,
        taps: RowTaps | None = None,
    ) -> dict[str, Tensor]:
        """The objectives in parts, where the method gives `terms`.

        Args:
            leaves: As in `objective`.
            state: As there.
            columns: As there.
            shared: As there.
            per_task: As in `Batch`.
            taps: Told the inputs of the layers that they follow.

        Returns:
            "tasks", the task losses [R, T]; "penalty" [R]; "present" [R, T], 1 for tasks with labels in the batch.
        """
        self._set_mode(training=True)
        with self._autocast:
            found: dict[str, Tensor] = self._map("terms", leaves, state, columns, shared, per_task, taps)
        found = {name: value.to(state.theta.dtype) for name, value in found.items()}
        if taps is not None:
            names = [name for name in found if name.startswith(_INPUTS)]
            taps.inputs = {name.removeprefix(_INPUTS): found.pop(name) for name in names}
        return found

    def row_taps(self, names: Sequence[str], n_trials: int, n_rows: int) -> RowTaps | None:
        """Taps on the dense layers of some parameters; None where one of these is of no dense layer."""
        layers = {} if self._tied else dense_layers(self._probe.model, names)
        return RowTaps(layers, n_trials, n_rows, self.initial.theta) if layers else None

    def row_gradients(
        self, names: Sequence[str], state: StackState, columns: Columns, shared: bool
    ) -> dict[str, Tensor]:
        """Gradients of the task losses where every row belongs to one task, in one pass, not one for each task.

        Every row goes through a network of its own, all equal; the gradient of a task's loss is the mean over its rows,
        weighted by their labels. So it is right only where no row's outputs depend on the others of the batch.

        Args:
            names: Of the parameters that gradients are taken by.
            state: Parameters, buffers (which stay as they are) and hyperparameters.
            columns: The batch, [R, B, ...], or [B, ...] where all trials share it.
            shared: Which of the two.

        Returns:
            By name, [R, T, ...].
        """
        theta = state.theta
        n_trials, n_rows = len(theta), columns["task"].shape[-1]
        views = self._views(theta)
        wanted = {n: views[n][:, None].expand(-1, n_rows, *self._shapes[n]).requires_grad_() for n in names}
        spare = {n: b[:, None].repeat(1, n_rows, *[1] * (b.ndim - 1)) for n, b in state.buffers.items()}
        rest = {n: view for n, view in views.items() if n not in wanted}
        of_rows = {n: c for n, c in columns.items() if n not in _OF_BATCHES}
        of_batch = {n: c for n, c in columns.items() if n in _OF_BATCHES}

        def run(own: Columns, rest: Columns, hyper: Columns, row: Columns, batch: Columns) -> Tensor:
            held = {"model." + name: value for name, value in {**own, **rest}.items()}
            one = {**{name: value[None] for name, value in row.items()}, **batch}
            inputs = ("task losses", one, dataclasses.replace(self.params, **hyper), 0)
            losses: Tensor = functional_call(self._probe, held, inputs, tie_weights=self._tied)
            return losses.sum()

        over_rows = vmap(run, in_dims=(0, None, None, 0, None))
        batch = (of_rows, of_batch)
        self._set_mode(training=True)
        with self._autocast:
            if n_trials == 1:
                batch = batch if shared else (_first(of_rows), _first(of_batch))
                losses = over_rows(_first({**wanted, **spare}), _first(rest), _first(state.hyper), *batch)
            else:
                over_trials = vmap(over_rows, in_dims=(0, 0, 0, *[None if shared else 0] * 2))
                losses = over_trials({**wanted, **spare}, rest, state.hyper, *batch)
        found = torch.autograd.grad(losses.sum(), list(wanted.values()), materialize_grads=True)
        means = TaskMeans(columns, n_trials, theta.dtype)
        return {
            name: means.of(rows.flatten(2)).view(n_trials, -1, *self._shapes[name])
            for name, rows in zip(wanted, found, strict=True)
        }

    def shared_sizes(self, n_tasks: int, n_outputs: int) -> dict[str, int]:
        """How many numbers a model has of each parameter that tasks share, which `task_axes` does not name.

        Raises:
            PluginError: It names something that is no parameter, or an axis that is not of tasks or outputs.
        """
        method, own = self._probe.method, set[str]()
        for at, axis in method.task_axes(self._probe.model).items():
            names = _below(at, self._shapes)
            check_names(method, "task_axes", [] if names else [at], list(self._shapes))
            for name in names:
                shape = self._shapes[name]
                if not (0 <= axis < len(shape) and shape[axis] in (n_tasks, n_outputs)):
                    must = f"must name axes of {n_tasks} tasks or {n_outputs} outputs"
                    raise broken_promise(method, "task_axes", must, f"axis {axis} of '{name}' {shape}")
            own.update(names)
        return {name: size for name, size in zip(self._shapes, self._sizes, strict=True) if name not in own}

    def predict(self, state: StackState, columns: Columns, per_task: int = 0) -> Tensor:
        """Outputs for rows [B, ...] that all trials share, of each row's own task in the own layout: [R, B, O or C]."""
        self._set_mode(training=False)
        with torch.no_grad(), self._autocast:
            found: Tensor = self._map("predict", self._views(state.theta), state, columns, True, per_task)
        return found.to(state.theta.dtype)

    def widest(self, state: StackState, columns: Columns, per_task: int = 0) -> int:
        """The most numbers that any one operation of a prediction gives per row, of one trial."""
        some = state.select(torch.zeros(1, dtype=torch.int64, device=self._device))
        counts = []
        for n in (1, 2):
            rows = {name: _repeated(column, name, n) for name, column in columns.items()}
            with _Counting() as counting:
                self.predict(some, rows, n * per_task)
            counts.append(counting.sizes)
        n_rows = len(columns["inputs"])
        grown = [b - a for a, b in zip(*counts, strict=False)]
        return int(max([1, *(-(-more // n_rows) for more in grown)]))

    def after_step(self, state: StackState, columns: Columns, shared: bool, per_task: int = 0) -> None:
        """Writes the method's closed-form updates into parameters and buffers."""
        with torch.no_grad():
            views = self._views(state.theta)
            changed: dict[str, Tensor] = self._map("after_step", views, state, columns, shared, per_task)
            check_names(self._probe.method, "after_step", changed, [*views, *state.buffers])
            for name, value in changed.items():
                (views if name in views else state.buffers)[name].copy_(value)

    def between(self, state: StackState, trials: Mapping[int, Trial], before: str, after: str) -> None:
        """Writes what changes from one stage to the next into parameters and buffers, trial by trial.

        Args:
            state: Of the R trials.
            trials: By position in the state, those that go on.
            before: Name of the stage that is over.
            after: Name of the one that begins.

        Raises:
            PluginError: A new value is of something else, or of another shape, or not finite.
        """
        method, views = self._probe.method, self._views(state.theta)
        held = {**views, **state.buffers}
        for r, trial in trials.items():
            params = method_params(method, trial)
            seed = seed_from(trial.cell.dataset, trial.split, trial.seed, f"before {after}")
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(seed)
                found = self._of_one(state, r, partial(_between, method, before, after, params))
                check_names(method, "between", found, [*held])
                for name, value in found.items():
                    held[name][r] = checked_value(method, name, value, held[name][r])

    def sizes(self, state: StackState, trials: Sequence[Trial]) -> Array:
        """Numbers that each trial learned, as its method counts them: int64 [R]."""
        method = self._probe.method
        if type(method).n_parameters is GradientMethod.n_parameters:
            return np.full(len(trials), self.n_parameters, np.int64)
        counts = [
            int(self._of_one(state, r, partial(method.n_parameters, params=method_params(method, trial))))
            for r, trial in enumerate(trials)
        ]
        return np.array(counts, np.int64)

    def _of_one(self, state: StackState, r: int, ask: Callable[[nn.Module], Found]) -> Found:
        """What a function makes of the model of the trial at position r, without mapping."""
        self._set_mode(training=False)
        tensors = {**self._views(state.theta), **state.buffers}
        one = {"model." + name: value[r] for name, value in tensors.items()}
        try:
            with torch.no_grad():
                return functional_call(self._probe, one, (ask,), tie_weights=self._tied)  # type: ignore[no-any-return]
        except PluginError as error:
            raise blamed(self._probe.method, error) from error

    def learned(self, state: StackState) -> dict[str, Tensor]:
        """The method's learned matrices, each [R, ...]."""
        self._set_mode(training=False)
        with torch.no_grad():
            return dict(self._map("learned", self._views(state.theta), state, {}, True))

    def backbone(self, state: StackState) -> dict[str, Tensor]:
        """Parameters and buffers of the models' backbone, by its own names, each [R, ...]; empty without one."""
        held = {**self._views(state.theta), **state.buffers}
        return {name.removeprefix("backbone."): v for name, v in held.items() if name.startswith("backbone.")}

    def _set_mode(self, training: bool) -> None:
        if self._probe.training != training:  # it takes time, in every step
            self._probe.train(training)

    def _map(
        self,
        what: str,
        parameters: Mapping[str, Tensor],
        state: StackState,
        columns: Columns,
        shared: bool,
        per_task: int = 0,
        taps: RowTaps | None = None,
    ) -> Any:
        try:
            return self._mapped(what, parameters, state, columns, shared, per_task, taps)
        except PluginError as error:
            raise blamed(self._probe.method, error) from error
        except RuntimeError as error:
            function = "build" if what == "predict" else what
            mixed = mixed_dtypes(self._probe.method, function, error, state.theta.dtype)
            if mixed is None:
                raise
            raise mixed from error

    def _mapped(
        self,
        what: str,
        parameters: Mapping[str, Tensor],
        state: StackState,
        columns: Columns,
        shared: bool,
        per_task: int,
        taps: RowTaps | None,
    ) -> Any:
        tensors = {"model." + name: value for name, value in {**parameters, **state.buffers}.items()}
        run = _caller(self._probe, what, self.params, per_task, self._tied, taps)
        zeros = {} if taps is None else taps.zeros
        if len(state.theta) == 1:
            # One trial alone needs no mapping, and mapping costs: run the model as it is, and add the axis back.
            tensors = _first(tensors)
            if self._channels_last:
                tensors = {name: _channels_last(value) for name, value in tensors.items()}
            result = run(tensors, _first(state.hyper), columns if shared else _first(columns), _first(zeros))
            return {k: v.unsqueeze(0) for k, v in result.items()} if isinstance(result, dict) else result.unsqueeze(0)
        return vmap(run, in_dims=(0, 0, None if shared else 0, 0))(tensors, state.hyper, columns, zeros)


def blamed(method: Method, error: PluginError) -> PluginError:
    """A broken promise with the name of the method, and the line of it that the harness was called from."""
    if str(error).startswith(f"Method '{method.name}': "):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    outside = [f for f in frames if not any(Path(f.filename).is_relative_to(place) for place in _NOT_PLUGINS)]
    place = f" ({outside[-1].filename}, line {outside[-1].lineno})" if outside else ""
    return PluginError(f"Method '{method.name}': {error}{place}")


def method_params(method: Method, trial: Trial) -> Any:
    """A trial's hyperparameters as the method's own Params, with plain numbers."""
    return method.Params(**{name: value for name, value in trial.params.items() if name != LEARNING_RATE})


class _Probe(nn.Module):
    """Carries a model through `functional_call`, to be asked for one thing at a time."""

    def __init__(self, model: nn.Module, method: GradientMethod, columns: TaskColumns) -> None:
        super().__init__()
        self.model, self.method, self._columns = model, method, columns
        self.stage = Stage("", 1.0)

    def forward(
        self, what: str | Callable[[nn.Module], Any], tensors: Columns = _NOTHING, params: Any = None, per_task: int = 0
    ) -> Any:
        if not isinstance(what, str):
            return what(self.model)
        if what == "learned":
            return dict(self.method.learned(self.model, params))
        batch = batch_of(tensors, self._columns, per_task)
        if what == "predict":
            return batch.own_outputs(batch.checked(self.model(batch)))
        if what == "after_step":
            return dict(self.method.after_step(self.model, batch, params))
        if what in ("terms", "task losses"):
            terms = checked_terms(self.method, self._terms(self.model, batch, params), batch.problem.n_tasks)
            return terms.tasks if what == "task losses" else {**vars(terms), "present": batch.present}
        return tensor_objective(self.method, self._objective(batch, params))

    @property
    def _terms(self) -> Callable[[Any, Batch, Any], Terms]:
        return self.stage.terms or self.method.terms

    def _objective(self, batch: Batch, params: Any) -> object:
        if self.stage.terms is not None:
            terms = self.stage.terms(self.model, batch, params)
            return checked_terms(self.method, terms, batch.problem.n_tasks).sum
        return (self.stage.objective or self.method.objective)(self.model, batch, params)


def _between(method: GradientMethod, before: str, after: str, params: Any, model: nn.Module) -> dict[str, Tensor]:
    return dict(method.between(model, before, after, params))


def _below(at: str, names: Iterable[str]) -> list[str]:
    """Those names that are `at`, or of something in the module of that name; all where it is ""."""
    return [name for name in names if not at or name == at or name.startswith(at + ".")]


def _caller(
    probe: _Probe, what: str, params: Any, per_task: int, tied: bool, taps: RowTaps | None
) -> Callable[[Columns, Columns, Columns, Columns], Any]:
    def run(state: Columns, hyper: Columns, columns: Columns, zeros: Columns) -> Any:
        inputs = (what, columns, dataclasses.replace(params, **hyper), per_task)
        if taps is None:
            return functional_call(probe, state, inputs, tie_weights=tied)
        with taps.at_work(zeros) as noted:
            found = functional_call(probe, state, inputs, tie_weights=tied)
        return {**found, **{_INPUTS + name: x for name, x in noted.items()}}

    return run


def _tied(model: nn.Module) -> bool:
    """Whether a parameter or buffer has several names: to look for them in every step takes time."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return len({id(tensor) for _, tensor in named}) < len(named)


def _first(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Not tensor[0]: the gradient of an index is an array of zeros that another is copied into.
    found = {name: tensor.squeeze(0) for name, tensor in tensors.items()}
    # Scales and shifts of a method's own batch norm are asked for as ours are.
    return {name: aligned(tensor) if tensor.ndim == 1 else tensor for name, tensor in found.items()}


def _channels_last(value: Tensor) -> Tensor:
    # By hand: filters of one channel pass for channels last as they are, and torch then goes on with channels first.
    return value.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) if value.ndim == 4 else value


def _repeated(column: Tensor, name: str, n: int) -> Tensor:
    """A column of a batch with every row n times, neighbours; sizes of tasks as they are."""
    return column if name in _OF_BATCHES else column.repeat_interleave(n, 0)


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes how many numbers each operation gives."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled here; torch would otherwise import its compiler, which takes as long as torch itself.
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.sizes.append(max((x.numel() for x in tree_leaves(out) if isinstance(x, Tensor)), default=0))
        return out


def _build(
    method: GradientMethod, problem: Problem, trial: Trial, recipe: Recipe, pretrained: PretrainedWeights
) -> nn.Module:
    """A trial's model, initialised from its data set, split and seed alone: a stack changes nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from(trial.cell.dataset, trial.split, trial.seed, "initialisation"))
        try:
            model = method.build(problem, method_params(method, trial), recipe)
        except PluginError as error:
            raise blamed(method, error) from error
    check_model(method, model, recipe)
    take_any_batch(model)
    if recipe.base:
        weights = pretrained[trial.split, trial.seed]
        method.start_from(model, {name: torch.as_tensor(array) for name, array in weights.items()})
    return model
