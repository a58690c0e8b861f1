"""Training a stack of a fit method: one predictor after the other, in numpy.

Shapes: K trials, n rows of a part, T tasks, C_t outputs of task t, O = sum of C_t, C the widest task's outputs.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from mtbench.contracts.examples import Examples, Predictor
from mtbench.contracts.method import FitMethod
from mtbench.contracts.seeds import seed_from
from mtbench.contracts.trials import Trial
from mtbench.errors import MtbenchError
from mtbench.tasks import Array, Problem
from mtbench.training.author_checks import broken_promise, raised, what
from mtbench.training.checkpoints import Checkpoint
from mtbench.training.evaluate import Evaluator
from mtbench.training.memory import is_out_of_memory
from mtbench.training.progress import EpochListener, Progress
from mtbench.training.stacked import StackState
from mtbench.training.trainer import StackTraining, Trainer, TrainingInputs

_AT_ONCE = 2**24  # numbers of inputs or outputs that are predicted at once: 128 MB
_THREADS = "OMP_NUM_THREADS"  # which all of them read when they are loaded

Found = TypeVar("Found")


class FitStack(StackTraining):
    """A stack of a fit method, whose trials have nothing in common but their cell.

    Args:
        inputs: What is trained, `prepared`.
    """

    def __init__(self, inputs: TrainingInputs) -> None:
        assert isinstance(inputs.method, FitMethod)
        self._method, self._inputs, self._trials = inputs.method, inputs, inputs.trials
        splits = sorted({trial.split for trial in inputs.trials})
        problems = [inputs.problems[split] for split in splits]
        position = np.array([splits.index(trial.split) for trial in inputs.trials])
        self.evaluator = Evaluator(problems, position, problems[0].n_outputs)
        self.progress = Progress.start(StackState(torch.zeros(len(inputs.trials), 0), {}, {}))
        self._predictors: list[Predictor] = []

    @property
    def n_parameters(self) -> Array | None:
        """Numbers learned, int64 [K]; None where a predictor does not say."""
        known = [predictor.n_parameters for predictor in self._predictors]
        return None if None in known else np.array(known, np.int64)

    def run(self, on_epoch: EpochListener | None = None) -> None:
        """Fits all trials."""
        for module in self._method.imports:
            importlib.import_module(module)
        for k, trial in enumerate(self._trials):
            started = time.perf_counter()
            self._predictors.append(self._fitted(trial))
            self.progress.seconds[k] = time.perf_counter() - started
            if on_epoch is not None:
                on_epoch(1, len(self._trials) - k - 1)

    def predictions(self, part: str, trials: Array) -> Array:
        """Predictions of some trials on a part: [len(trials), n, O], or [len(trials), n, C] in the own layout."""
        return np.stack([self._predicted(self._trials[k], self._predictors[k], part) for k in trials])

    def _fitted(self, trial: Trial) -> Predictor:
        problem = self._inputs.problems[trial.split]
        train = Examples.of(problem.parts["train"], problem.tasks)
        validation = None if self._inputs.refit else Examples.of(problem.parts["validation"], problem.tasks)
        arguments = (train, validation, self._method.Params(**trial.params), _seed(trial))
        found: object = self._asked("fit", None, trial, self._method.fit, *arguments)
        if not isinstance(found, Predictor):
            raise broken_promise(self._method, "fit", "must return a mtbench.Predictor", what(found))
        return found

    def _predicted(self, trial: Trial, predictor: Predictor, part: str) -> Array:
        """One trial's predictions, [n, O] or [n, C]."""
        problem = self._inputs.problems[trial.split]
        rows = problem.parts[part]
        step = max(1, _AT_ONCE // max(problem.n_outputs, problem.n_features))
        found = []
        for now in (slice(start, start + step) for start in range(0, rows.n_rows, step)):
            inputs = _closed(rows.numbers(now).astype(np.float64))
            task = None if rows.task is None else rows.task[now]
            own = None if task is None else _closed(task.copy())
            outputs = self._asked("predict", type(predictor), trial, predictor.predict, inputs, own)
            found.append(self._checked(type(predictor), outputs, problem, len(inputs), task))
        return np.concatenate(found)

    def _checked(self, owner: type, outputs: object, problem: Problem, n_rows: int, task: Array | None) -> Array:
        """What `predict` gave, if it is as promised: the outputs [n, O], or those of each row's own task [n, C]."""
        expected = (n_rows, problem.n_outputs)
        must = f"must return a numpy array of numbers, the outputs of all tasks, [n, O] = {list(expected)}"
        if not isinstance(outputs, np.ndarray):
            raise broken_promise(self._method, "predict", must, what(outputs), owner=owner)
        if outputs.shape != expected or outputs.dtype.kind not in "iuf":
            found = f"{list(outputs.shape)} of {outputs.dtype}"
            raise broken_promise(self._method, "predict", must, found, owner=owner)
        read = outputs.astype(np.float64)
        if task is not None:
            read = np.take_along_axis(read, _own_columns(problem)[task], 1)
        wrong = np.argwhere(~np.isfinite(read))
        if len(wrong):
            row, column = wrong[0]
            found = f"{read[row, column]} in {'column' if task is None else 'its own column'} {column} of a row"
            raise broken_promise(self._method, "predict", "must return finite outputs", found, owner=owner)
        return read

    def _asked(
        self, function: str, owner: type | None, trial: Trial, ask: Callable[..., Found], *arguments: object
    ) -> Found:
        """What one of the author's functions returns, called so that it leaves no trace in this process."""
        try:
            with _own_generators(_seed(trial)), _own_threads(torch.get_num_threads()):
                return ask(*arguments)
        except MtbenchError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise raised(self._method, function, error, owner) from error


class FitTrainer(Trainer):
    """Trains fit methods; without checkpoints, for they have no steps to go on from."""

    measures_all = True

    def start(self, inputs: TrainingInputs, checkpoint: Checkpoint | None = None) -> FitStack:
        """A stack that is ready to run."""
        return FitStack(inputs)

    def seconds(self, inputs: TrainingInputs) -> float:
        """What fitting all trials takes."""
        started = time.perf_counter()
        self.start(inputs.prepared()).run()
        return time.perf_counter() - started


def _seed(trial: Trial) -> int:
    """What `fit` is seeded by: the same for all methods and settings, so that comparisons are paired."""
    return seed_from(trial.cell.dataset, trial.split, trial.seed, "fit") % 2**32


@contextlib.contextmanager
def _own_generators(seed: int) -> Iterator[None]:
    """While it lasts, the global generators begin at a seed; they are put back afterwards."""
    kept = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002


@contextlib.contextmanager
def _own_threads(n: int) -> Iterator[None]:
    """While it lasts, numerical libraries use so many threads, loaded before or meanwhile."""
    kept = os.environ.get(_THREADS)
    if kept == str(n):  # as in a worker, whose environment was made before any of them was loaded
        yield
        return
    os.environ[_THREADS] = str(n)
    try:
        with threadpool_limits(n):
            yield
    finally:
        del os.environ[_THREADS]
        if kept is not None:
            os.environ[_THREADS] = kept


def _own_columns(problem: Problem) -> Array:
    """The output columns of each task, int64 [T, C], filled up with its first."""
    width = max(task.n_outputs for task in problem.tasks)
    return np.array([np.resize(np.r_[s, [s.start] * width], width) for s in problem.output_slices])


def _closed(array: Array) -> Array:
    """The array itself, not to be written to any more."""
    array.flags.writeable = False
    return array
