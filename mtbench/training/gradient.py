"""Training a stack of a gradient method: batches, steps, early stopping, divergence.

Shapes: K trials of the stack, R of them still held, P parameters, S streams (split and seed).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mtbench.dataset import Dataset
from mtbench.errors import PluginError
from mtbench.method import GradientMethod
from mtbench.metrics import metric
from mtbench.tasks import Array, Problem
from mtbench.training.data import Columns, PartData, epoch_rows
from mtbench.training.evaluate import Evaluator
from mtbench.training.memory import is_out_of_memory
from mtbench.training.optimisers import clip_, optimiser_for
from mtbench.training.progress import EpochListener, Progress
from mtbench.training.stacked import StackedModels, StackState
from mtbench.trials import LEARNING_RATE, Trial

_LEAVE = 0.75  # finished trials are taken out once this share or less of those held still trains


class GradientStack:
    """A stack of a gradient method in training.

    Args:
        method: The method.
        problems: Problems by split, with the training part to train on.
        trials: The K trials, all of one phase.
        dataset: Gives the metric that is monitored.
        device: Where to train.
    """

    def __init__(
        self,
        method: GradientMethod,
        problems: Mapping[int, Problem],
        trials: Sequence[Trial],
        dataset: Dataset,
        device: torch.device,
    ) -> None:
        self._method, self._device, self._recipe = method, device, trials[0].cell.recipe
        self._refit = trials[0].epochs is not None
        self._limit = np.array([self._recipe.max_epochs if t.epochs is None else t.epochs for t in trials])
        splits = sorted({trial.split for trial in trials})
        self._problems = [problems[split] for split in splits]
        streams = {(trial.split, trial.seed): trial for trial in trials}
        self._stream = np.array([list(streams).index((trial.split, trial.seed)) for trial in trials])
        self._stream_split = np.array([splits.index(split) for split, _ in streams])
        self._dtype: torch.dtype = getattr(torch, self._recipe.dtype)
        self._parts: dict[str, PartData] = {}
        self.models = StackedModels(method, [problems[trial.split] for trial in trials], trials, device)
        self._state = self.models.initial
        self.progress = Progress.start(self._state)
        rates = torch.tensor([float(t.params[LEARNING_RATE]) for t in trials], device=device, dtype=self._dtype)
        self._optimiser = optimiser_for(self._recipe, self._state.theta, rates)
        self._orders = epoch_rows(list(streams.values()), self._part("train").n_rows)
        self._steps = 0
        self._active = np.arange(len(trials))  # still training
        self._held = np.arange(len(trials))  # still in the stack: finished trials leave in groups
        problem = self._problems[0]
        width = self.models.n_parameters // problem.n_features + problem.n_outputs + problem.n_features
        self.evaluator = Evaluator(self._problems, self._stream_split[self._stream], width)
        self._monitor = metric(dataset.selection_metric)

    def _part(self, name: str) -> PartData:
        if name not in self._parts:
            self._parts[name] = PartData(self._problems, name, self._device, self._dtype)
        return self._parts[name]

    def run(self, on_epoch: EpochListener | None = None) -> None:
        """Trains until every trial has stopped; the outcome is in `progress`."""
        epoch, since = 0, time.perf_counter()
        losses = torch.zeros(len(self._held), device=self._device, dtype=self._dtype)
        while len(self._active):
            epoch += 1
            losses = losses + self.train_epoch()
            if epoch % self._recipe.eval_every and not (self._limit[self._active] == epoch).any():
                continue
            done = self._look(epoch, losses)
            now = time.perf_counter()
            self.progress.seconds[self._active] += (now - since) / len(self._active)
            since = now
            self._leave(done)
            losses = torch.zeros_like(losses[: len(self._held)])
            if on_epoch is not None:
                on_epoch(epoch, len(self._active))
        # A trial whose validation metric never was a number has nothing to be judged by.
        self.progress.diverged |= self.progress.best_epoch == 0

    def train_epoch(self, max_steps: int | None = None) -> Tensor:
        """One pass over the training rows.

        Args:
            max_steps: Stop after so many steps, for calibration.

        Returns:
            The summed objective of each held trial, [R].
        """
        part = self._part("train")
        orders = torch.as_tensor(next(self._orders)).to(self._device)
        size = self._recipe.batch_size or part.n_rows
        stream = self._stream[self._held]
        shared = len(np.unique(stream)) == 1
        total = torch.zeros(len(self._held), device=self._device, dtype=self._dtype)
        for step, start in enumerate(range(0, part.n_rows, size)):
            if step == max_steps:
                break
            if shared:
                columns = part.rows(int(self._stream_split[stream[0]]), orders[stream[0], start : start + size])
            else:
                split = torch.as_tensor(self._stream_split[stream], device=self._device)
                columns = part.rows(split, orders[torch.as_tensor(stream), start : start + size])
            total += self._step(columns, shared)
        return total

    def measure(self, n_steps: int) -> None:
        """Does, for calibration, what an epoch of at most so many steps does: steps, then a look at validation rows."""
        self.train_epoch(n_steps)
        if not self._refit:
            self._validate()

    def _step(self, columns: Columns, shared: bool) -> Tensor:
        leaves = self.models.leaves(self._state.theta)
        objective = self._objective(leaves, columns, shared)
        gradients = torch.autograd.grad(objective.sum(), list(leaves.values()), materialize_grads=True)
        gradient = torch.cat([g.reshape(len(objective), -1) for g in gradients], 1)
        clip_(gradient, self._recipe.clip_norm)
        self._optimiser.step(self._state.theta, gradient)
        self._steps += 1
        if self._method.update_every and self._steps % self._method.update_every == 0:
            self.models.after_step(self._state, columns, shared)
        return objective.detach()

    def _objective(self, leaves: Mapping[str, Tensor], columns: Columns, shared: bool) -> Tensor:
        """The objectives [R]; in the first step with the errors an author needs."""
        try:
            objective = self.models.objective(leaves, self._state, columns, shared)
        except (RuntimeError, NotImplementedError, ValueError) as error:
            if self._steps or len(self._held) == 1 or is_out_of_memory(error):
                raise
            raise PluginError(
                f"The objective of method '{self._method.name}' must map over trials, but an operation in it does not: "
                f"{str(error).splitlines()[0]} Use tensor operations throughout, or set `stackable = False`."
            ) from error
        if objective.shape != (len(self._held),):
            raise PluginError(
                f"The objective of method '{self._method.name}' must be a scalar; found shape "
                f"{tuple(objective.shape[1:])}."
            )
        return objective

    def _look(self, epoch: int, losses: Tensor) -> Array:
        """Validation, snapshots and stopping at the end of an epoch; gives the trials that are done."""
        state, held = self.progress, self._held
        active = np.isin(held, self._active)
        loss = losses.double().cpu().numpy()
        finite = np.isfinite(loss) & torch.isfinite(self._state.theta).all(1).cpu().numpy()
        state.note("epoch", self._active, epoch)
        state.note("loss", self._active, loss[active])
        if self._refit:
            better = active & finite & (self._limit[held] == epoch)
            stale = np.zeros(len(held), bool)
        else:
            values = self._validate()
            state.note(self._monitor.name, self._active, values[active])
            sign = 1.0 if self._monitor.higher_is_better else -1.0
            better = active & finite & np.isfinite(values)
            better &= np.isnan(state.best[held]) | (sign * values > sign * state.best[held])
            state.best[held[better]] = values[better]
            stale = epoch - np.where(better, epoch, state.best_epoch[held]) >= (self._recipe.patience or np.inf)
        state.best_epoch[held[better]] = epoch
        state.snapshot.copy_from(*self._places(better))
        state.diverged[held[active & ~finite]] = True
        return np.asarray(held[active & (~finite | stale | (self._limit[held] <= epoch))])

    def learned(self) -> dict[str, Array]:
        """The method's learned matrices at each trial's best epoch, each [K, ...]."""
        found = self.models.learned(self.progress.snapshot)
        return {name: matrix.cpu().numpy() for name, matrix in found.items()}

    @property
    def n_parameters(self) -> int:
        """Numbers learned per trial."""
        return self.models.n_parameters

    def _places(self, which: Array) -> tuple[Tensor, StackState, Tensor]:
        """Where some held trials are in the snapshot, and where in the present state."""
        there = torch.as_tensor(np.flatnonzero(which), device=self._device)
        return torch.as_tensor(self._held[which], device=self._device), self._state, there

    def _validate(self) -> Array:
        predictions = self._predictions(self._state, self._held, "validation", self._held)
        found = self.evaluator.metrics([self._monitor.name], "validation", predictions, self._held)
        return self._monitor.headline(found[self._monitor.name])

    def predictions(self, part: str, trials: Array) -> Array:
        """Predictions of some trials at their best epoch on a part: [len(trials), n, O or C]."""
        return self._predictions(self.progress.snapshot, np.arange(len(self._limit)), part, trials)

    def _predictions(self, state: StackState, held: Array, part: str, trials: Array) -> Array:
        """Predictions by a state that holds the trials `held`, for some of them."""

        def predict(positions: Array, split: int, rows: slice) -> Tensor:
            places = np.searchsorted(held, trials[positions])
            some = state if len(places) == len(held) else state.select(torch.as_tensor(places, device=self._device))
            return self.models.predict(some, self._part(part).rows(split, rows))

        return self.evaluator.predictions(predict, part, trials)

    def _leave(self, done: Array) -> None:
        """Takes finished trials out of training, and out of the stack when enough have gathered."""
        self._active = self._active[~np.isin(self._active, done)]
        if len(self._active) <= _LEAVE * len(self._held):
            keep = torch.as_tensor(np.flatnonzero(np.isin(self._held, self._active)), device=self._device)
            self._state = self._state.select(keep)
            self._optimiser.select(keep)
            self._held = self._active.copy()
