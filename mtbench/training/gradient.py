"""Training a stack of a gradient method: epochs, snapshots, what stops, checkpoints.

Shapes: K trials of the stack, R of them still held, P parameters, S streams (split and seed), T tasks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mtbench.contracts.dataset import Dataset
from mtbench.contracts.method import GradientMethod
from mtbench.contracts.scoring import scoring_of
from mtbench.contracts.trials import LEARNING_RATE, Trial
from mtbench.metrics import metric
from mtbench.tasks import Array, Problem
from mtbench.training.batches import Batches
from mtbench.training.checkpoints import Arrays, Checkpoint, prefixed, without
from mtbench.training.data import Columns, PartData, rows_on
from mtbench.training.evaluate import Chunk, Evaluator
from mtbench.training.progress import EpochListener, Progress
from mtbench.training.stacked import PretrainedWeights, StackedModels, StackState
from mtbench.training.stages import StageCourse
from mtbench.training.steps import Steps
from mtbench.training.stopping import OwnStopping, out_of_patience
from mtbench.training.trainer import StackTraining

_ROWS_FROM = 32  # tasks from which gradients are taken row by row where that is possible
_ROWS_UP_TO = 2**22  # numbers that the gradients of a batch's rows, taken one by one, may have in a trial
_LEAVE = 0.75  # finished trials are taken out once this share or less of those held still trains


class GradientStack(StackTraining):
    """A stack of a gradient method in training.

    Args:
        method: The method.
        problems: Problems by split, with the training part to train on.
        trials: The K trials, all of one phase.
        dataset: Gives the metric that is monitored.
        device: Where to train.
        pretrained: Backbones to start from, where the recipe names a base.
        checkpoint: Kept up to date while the stack trains, and gone on from where there is one; None keeps none.
    """

    def __init__(
        self,
        method: GradientMethod,
        problems: Mapping[int, Problem],
        trials: Sequence[Trial],
        dataset: Dataset,
        device: torch.device,
        pretrained: PretrainedWeights | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._method, self._device, self._recipe = method, device, trials[0].cell.recipe
        self._refit = trials[0].phase == "refit"
        self._limit = np.array([trial.most_epochs for trial in trials])
        splits = sorted({trial.split for trial in trials})
        self._problems = [problems[split] for split in splits]
        streams = {(trial.split, trial.seed): trial for trial in trials}
        self._stream = np.array([list(streams).index((trial.split, trial.seed)) for trial in trials])
        self._stream_split = np.array([splits.index(split) for split, _ in streams])
        self._dtype: torch.dtype = getattr(torch, self._recipe.dtype)
        self._parts: dict[str, PartData] = {}
        self._arrays: dict[object, Tensor] = {}
        self._checkpoint = checkpoint
        of_trials = [problems[trial.split] for trial in trials]
        started = time.perf_counter()
        self._trials = trials
        self.course = StageCourse(method, trials)
        self.models = StackedModels(method, of_trials, trials, device, pretrained)
        self.models.enter(self.course.stage)
        self._state = self.models.initial
        self.progress = Progress.start(self._state)
        # Counts as training: a method may look at its data while it builds.
        self.progress.seconds += (time.perf_counter() - started) / len(trials)
        rates = torch.tensor([float(t.params[LEARNING_RATE]) for t in trials], device=device, dtype=self._dtype)
        one_of_each = list(streams.values())
        train = self.part("train")
        self._batches = Batches(self._problems, one_of_each, self._stream_split, train, self._recipe, device)
        self.steps = Steps(
            method,
            self.models,
            self.course,
            self._state,
            self._problems[0],
            self._recipe,
            rates,
            self._batches.per_task,
        )
        self._epoch = 0
        self._losses = torch.zeros(len(trials), device=device, dtype=self._dtype)  # since the last look
        self._active = np.arange(len(trials))  # still training
        self._held = np.arange(len(trials))  # still in the stack: finished trials leave in groups
        by_task = self._batches.per_task > 0
        rows = _first_of_each(self._problems[0]) if by_task else slice(0, 1)
        columns = self.part("train").rows(0, rows_on(rows, device))
        width = self.models.widest(self._state, columns, int(by_task))
        self.evaluator = Evaluator(self._problems, self._stream_split[self._stream], width, by_task)
        self._monitor = metric(scoring_of(dataset, self._problems[0].tasks).selection)
        self._own: OwnStopping | None = None
        if method.separate and not self._refit:
            owner = self.models.owners(self._problems[0].n_tasks, self.course.stages[-1])
            self._own = OwnStopping(self._monitor, self._problems[0].n_tasks, len(trials), owner)

    def part(self, name: str) -> PartData:
        """A part's rows on the device, kept from their first use."""
        if name not in self._parts:
            self._parts[name] = PartData(self._problems, name, self._device, self._dtype, self._arrays)
        return self._parts[name]

    def run(self, on_epoch: EpochListener | None = None) -> None:
        """Trains until every trial has stopped; the outcome is in `progress`."""
        if self._checkpoint is not None and (found := self._checkpoint.read()) is not None:
            self._restore(*found)
        since = time.perf_counter()
        while len(self._active):
            self.enter(self.course.of_epoch(self._epoch + 1))
            self._losses = self._losses + self.train_epoch()
            looks = self._epoch % self._recipe.eval_every == 0 or (self._limit[self._active] == self._epoch).any()
            looks = looks or self._epoch in self.course.ends[:-1]
            done = self._look(self._losses) if looks else np.zeros(0, np.int64)
            now = time.perf_counter()
            self.progress.seconds[self._active] += (now - since) / len(self._active)
            since = now
            if looks:
                self.leave(done)
                self._losses = torch.zeros_like(self._losses[: len(self._held)])
            if on_epoch is not None:
                on_epoch(self._epoch, len(self._active))
            if self._checkpoint is not None and len(self._active) and self._checkpoint.due():
                self._checkpoint.write(*self._saved())
        # A trial whose validation metric never was a number has nothing to be judged by.
        self.progress.unjudged = (self.progress.best_epoch == 0) & ~self.progress.diverged
        self.progress.diverged |= self.progress.best_epoch == 0

    def enter(self, stage: int) -> None:
        """Goes on to a stage, with all that changes between stages on the way there.

        Args:
            stage: Its index.
        """
        while self.course.at < stage:
            before = self.course.stage
            self._go_to(self.course.at + 1)
            active = set(self._active.tolist())
            going_on = {i: self._trials[k] for i, k in enumerate(self._held.tolist()) if k in active}
            self.models.between(self._state, going_on, before.name, self.course.stage.name)
            self.steps.restart()
            if self.course.in_last:
                self.progress.snapshot.copy_from(*self._places(np.isin(self._held, self._active)))

    def _go_to(self, stage: int) -> None:
        self.course.at = stage
        self.models.enter(self.course.stage)
        self.steps.enter_stage()

    def train_epoch(self, max_steps: int | None = None) -> Tensor:
        """One pass over the training rows.

        Args:
            max_steps: Stop after so many steps, for calibration.

        Returns:
            The summed objective of each held trial, [R].
        """
        self._epoch += 1
        recipe = self._recipe
        ramp = min(1.0, (self._epoch - 1) / recipe.ramp_epochs) if recipe.ramp_epochs else 1.0
        decays = (self._epoch - 1) // recipe.decay_every if recipe.decay_every else 0
        state = self._state.scaled(ramp, self.models.ramped)
        total = torch.zeros(len(self._held), device=self._device, dtype=self._dtype)
        for step, (columns, shared) in enumerate(self._batches.epoch(self._stream[self._held])):
            if step == max_steps:
                break
            total += self.steps.take(state, columns, shared, recipe.decay_factor**decays)
        self.steps.end_epoch(state.hyper)
        return total

    def measure(self, n_steps: int) -> None:
        """Does, for calibration, what an epoch of at most so many steps does: steps, then a look at validation rows.

        Every stage does its share of the steps, without what changes between stages.
        """
        for i, stage in enumerate(self.course.stages):
            if self.course.at != i:
                self._go_to(i)
            self.train_epoch(max(1, round(stage.share * n_steps)))
        if not self._refit:
            self._predictions(self._state, self._held, "validation", self._held)

    @property
    def n_steps(self) -> int:
        """Steps of an epoch."""
        return self._batches.n_steps

    def rows_to_predict(self, n_rows: int) -> tuple[Columns, int]:
        """A chunk of about so many training rows, the same again where there are fewer, and its `per_task`."""
        part, per_task = self.part("train"), 0
        rows = np.arange(n_rows) % part.n_rows
        if self._batches.per_task:
            first = _first_of_each(self._problems[0])
            per_task = max(1, n_rows // len(first))
            rows = first.repeat(per_task)
        return part.rows(0, rows_on(rows, self._device)), per_task

    def _look(self, losses: Tensor) -> Array:
        """Validation, snapshots and stopping at the end of an epoch; gives the trials that are done."""
        state, held, epoch = self.progress, self._held, self._epoch
        active = np.isin(held, self._active)
        loss = losses.double().cpu().numpy()
        finite = np.isfinite(loss) & torch.isfinite(self._state.theta).all(1).cpu().numpy()
        state.note("epoch", self._active, epoch)
        state.note("loss", self._active, loss[active])
        if self.course.declared:
            state.note("stage", self._active, self.course.at)
        for name, values in self.steps.history().items():
            state.note(name, self._active, values[active])
        stale = better = np.zeros(len(held), bool)
        if not self.course.in_last:
            if not self._refit:
                state.note(self._monitor.name, self._active, np.nan)
        elif self._refit:
            better = active & finite & (self._limit[held] == epoch)
            state.best_epoch[held[better]] = epoch
            state.snapshot.copy_from(*self._places(better))
        else:
            better = self._keep_better(active & finite)
            since = np.where(better, epoch, self.course.patient_since(state.best_epoch[held]))
            stale = out_of_patience(self._recipe, epoch, since)
        state.diverged[held[active & ~finite]] = True
        return np.asarray(held[active & (~finite | stale | (self._limit[held] <= epoch))])

    def _keep_better(self, eligible: Array) -> Array:
        """Takes snapshots of what is better than ever on the validation part; which of the held trials are."""
        state, held = self.progress, self._held
        predictions = self._predictions(self._state, held, "validation", held)
        found = self.evaluator.metrics([self._monitor], "validation", predictions, held)
        values = self._monitor.headline(found[self._monitor.name], self._problems[0].task_weights)
        state.note(self._monitor.name, self._active, values[np.isin(held, self._active)])
        better = np.asarray(eligible & np.isfinite(values))
        if self._own is not None:
            # A task that no validation label judges takes the epoch that is best for those that can be judged.
            overall = better & self._monitor.improves(values, state.best[held])
            state.best[held[overall]] = values[overall]
            tasks = self._own.better(self.evaluator, predictions, held, eligible, overall)
            better = np.asarray(tasks.any(1))
            here, there_state, there = self._places(better)
            which = torch.as_tensor(tasks[better], device=self._device)
            state.snapshot.copy_tasks_from(here, there_state, there, which, self._own.owner)
        else:
            better = better & self._monitor.improves(values, state.best[held])
            state.best[held[better]] = values[better]
            state.snapshot.copy_from(*self._places(better))
        state.best_epoch[held[better]] = self._epoch
        return better

    def _saved(self) -> tuple[Arrays, dict[str, str]]:
        """All that training on depends on, as arrays and texts."""
        arrays: dict[str, Tensor | Array] = {
            **prefixed("state/", self._state.tensors()),
            **prefixed("snapshot/", self.progress.snapshot.tensors()),
            **prefixed("steps/", self.steps.tensors()),
            **prefixed("progress/", self.progress.arrays()),
            "losses": self._losses,
            "active": self._active,
            "held": self._held,
            "counts": np.array([self._epoch, self.steps.n_taken]),
        }
        if self._own is not None:
            arrays["own"] = self._own.best
        plain = {name: v.cpu().numpy() if isinstance(v, Tensor) else v for name, v in arrays.items()}
        return plain, {"batches": self._batches.state(), "random": _random_state()}

    def _restore(self, arrays: Arrays, texts: Mapping[str, str]) -> None:
        """Goes on from what was `_saved`."""

        def of(prefix: str) -> dict[str, Tensor]:
            found = without(prefix, arrays)
            return {name: torch.as_tensor(value).to(self._device) for name, value in found.items()}

        self._state = StackState.of(of("state/"))
        self.progress.restore(without("progress/", arrays), of("snapshot/"))
        self._losses = torch.as_tensor(arrays["losses"]).to(self._device)
        self._active, self._held = arrays["active"], arrays["held"]
        self._epoch, n_steps = (int(count) for count in arrays["counts"])
        self._go_to(self.course.of_epoch(self._epoch))
        self.steps.restore(of("steps/"), n_steps)
        if self._own is not None:
            self._own.best = arrays["own"]
        self._batches.restore(texts["batches"])
        _set_random_state(texts["random"])

    def learned(self) -> dict[str, Array]:
        """The method's learned matrices at each trial's best epoch, each [K, ...]."""
        found = self.models.learned(self.progress.snapshot)
        return {name: matrix.cpu().numpy() for name, matrix in found.items()}

    def backbone(self) -> dict[str, Array]:
        """The models' backbone at each trial's best epoch, each [K, ...], by its own names."""
        return {name: value.cpu().numpy() for name, value in self.models.backbone(self.progress.snapshot).items()}

    @property
    def state(self) -> StackState:
        """Of the trials still held."""
        return self._state

    @property
    def n_parameters(self) -> Array:
        """Numbers learned and used to predict, int64 [K]."""
        return self.models.sizes(self.progress.snapshot, self._trials)

    @property
    def facts(self) -> dict[str, object]:
        """The stages, of a method that declares some."""
        return self.course.facts

    def _places(self, which: Array) -> tuple[Tensor, StackState, Tensor]:
        """Where some held trials are in the snapshot, and where in the present state."""
        there = torch.as_tensor(np.flatnonzero(which), device=self._device)
        return torch.as_tensor(self._held[which], device=self._device), self._state, there

    def predictions(self, part: str, trials: Array) -> Array:
        """Predictions of some trials at their best epoch on a part: [len(trials), n, O or C]."""
        return self._predictions(self.progress.snapshot, np.arange(len(self._limit)), part, trials)

    def _predictions(self, state: StackState, held: Array, part: str, trials: Array) -> Array:
        """Predictions by a state that holds the trials `held`, for some of them."""

        def predict(positions: Array, split: int, chunk: Chunk) -> Tensor:
            places = np.searchsorted(held, trials[positions])
            some = state if len(places) == len(held) else state.select(torch.as_tensor(places, device=self._device))
            columns = self.part(part).rows(split, rows_on(chunk.rows, self._device))
            return self.models.predict(some, columns, chunk.per_task)

        return self.evaluator.predictions(predict, part, trials)

    def leave(self, done: Array) -> None:
        """Takes finished trials out of training, and out of the stack when enough have gathered."""
        self._active = self._active[~np.isin(self._active, done)]
        if len(self._active) <= _LEAVE * len(self._held):
            keep = torch.as_tensor(np.flatnonzero(np.isin(self._held, self._active)), device=self._device)
            self._state = self._state.select(keep)
            self.steps.select(keep)
            self._held = self._active.copy()


def _first_of_each(problem: Problem) -> Array:
    """One training row of each task, in their order."""
    task = problem.parts["train"].task
    assert task is not None, "rows_per_task needs rows that belong to tasks"
    return np.array([np.flatnonzero(task == t)[0] for t in range(problem.n_tasks)])


def _random_state() -> str:
    return torch.get_rng_state().numpy().tobytes().hex()


def _set_random_state(state: str) -> None:
    torch.set_rng_state(torch.frombuffer(bytearray.fromhex(state), dtype=torch.uint8))
