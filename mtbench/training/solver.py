"""Training a stack of a solver method: linear predictors for all its trials in one call.

Shapes: R trials, d features, p = d or d + 1 rows of the weights, T tasks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtbench.contracts.hyperparameters import describe
from mtbench.contracts.method import LinearSolution, SolverMethod
from mtbench.contracts.trials import Trial
from mtbench.linear.problems import linear_data
from mtbench.tasks import Array, Problem
from mtbench.training.author_checks import broken_promise
from mtbench.training.checkpoints import Checkpoint
from mtbench.training.data import PartData, rows_on
from mtbench.training.evaluate import Chunk, Evaluator
from mtbench.training.progress import EpochListener, Progress
from mtbench.training.stacked import StackState, method_params
from mtbench.training.trainer import StackTraining, Trainer, TrainingInputs


class SolverStack(StackTraining):
    """A stack of a solver method.

    Args:
        method: The method.
        problems: Problems by split, with the training part to train on.
        trials: The R trials, all of one phase.
        device: Where to solve, in float64 whatever the recipe's dtype: conditioning, not speed, decides here.
    """

    def __init__(
        self, method: SolverMethod, problems: Mapping[int, Problem], trials: Sequence[Trial], device: torch.device
    ) -> None:
        self._method, self._trials, self._device = method, trials, device
        splits = sorted({trial.split for trial in trials})
        self._problems = [problems[split] for split in splits]
        self._split = np.array([splits.index(trial.split) for trial in trials])
        self.evaluator = Evaluator(self._problems, self._split, self._problems[0].n_outputs)
        nothing = StackState(torch.zeros(len(trials), 0), {}, {})
        self.progress = Progress.start(nothing)
        self._solution: LinearSolution | None = None

    @property
    def n_parameters(self) -> int:
        """Numbers learned per trial."""
        return self._found.n_parameters

    @property
    def residual(self) -> Array | None:
        """How far from optimal each trial ended, [R]; None where the solver states no residual."""
        found = self._found.residual
        return None if found is None else found.to(torch.float64).cpu().numpy()

    @property
    def facts(self) -> dict[str, Any]:
        """The residual at which the method calls a problem solved, where it says so."""
        return {} if self._method.tolerance is None else {"tolerance": self._method.tolerance}

    @property
    def _found(self) -> LinearSolution:
        if self._solution is None:
            raise RuntimeError("run() comes first.")
        return self._solution

    def run(self, on_epoch: EpochListener | None = None) -> None:
        """Solves all trials."""
        started = time.perf_counter()
        data = linear_data(self._problems, self._split, self._trials[0].cell.recipe.intercept, self._device)
        floats = {
            name: torch.tensor([float(t.params[name]) for t in self._trials], dtype=torch.float64, device=self._device)
            for name, known in describe(self._method.Params).items()
            if known.stackable
        }
        solution = self._method.solve(data, replace(method_params(self._method, self._trials[0]), **floats))
        _check(self._method, solution, (len(self._trials), data.n_rows, data.n_tasks))
        self._solution = replace(solution, weights=data.with_intercept(solution.weights))
        finite = torch.isfinite(self._solution.weights).flatten(1).all(1)
        if solution.finite is not None:
            finite &= solution.finite
        self.progress.diverged = ~finite.cpu().numpy()
        self.progress.seconds[:] = (time.perf_counter() - started) / len(self._trials)
        if on_epoch is not None:
            on_epoch(1, 0)

    def predictions(self, part: str, trials: Array) -> Array:
        """Predictions of some trials on a part: [len(trials), n, O], or [len(trials), n, 1] in the own layout."""
        rows_of = PartData(self._problems, part, self._device, torch.float64)

        def predict(positions: Array, split: int, chunk: Chunk) -> Tensor:
            columns = rows_of.rows(split, rows_on(chunk.rows, self._device))
            inputs = columns["inputs"].flatten(1)
            d = inputs.shape[1]
            weights = self._found.weights[torch.as_tensor(trials[positions], device=self._device)]
            outputs = inputs @ weights[:, :d]
            if weights.shape[1] > d:
                outputs = outputs + weights[:, d:]
            if "task" not in columns:
                return outputs
            return outputs.gather(2, columns["task"].expand(len(outputs), -1)[:, :, None])

        return self.evaluator.predictions(predict, part, trials)

    def learned(self) -> dict[str, Array]:
        """The method's learned matrices and the predictors themselves, each [R, ...]."""
        learned = {"weights": self._found.weights, **self._found.learned}
        return {name: matrix.cpu().numpy() for name, matrix in learned.items()}


class SolverTrainer(Trainer):
    """Trains linear methods by their own solvers; without checkpoints, for solvers have no steps to go on from."""

    measures_all = True

    def start(self, inputs: TrainingInputs, checkpoint: Checkpoint | None = None) -> SolverStack:
        """A stack that is ready to run."""
        assert isinstance(inputs.method, SolverMethod)
        return SolverStack(inputs.method, inputs.problems, inputs.trials, inputs.device)

    def seconds(self, inputs: TrainingInputs) -> float:
        """What solving all trials takes."""
        started = time.perf_counter()
        self.start(inputs.prepared()).run()
        return time.perf_counter() - started


def _check(method: SolverMethod, solution: object, expected: tuple[int, int, int]) -> None:
    """Refuses what are no predictors [R, p, T], no verdicts [R], or no matrices [R, ...] of the R trials."""
    if not isinstance(solution, LinearSolution):
        raise broken_promise(method, "solve", "must return a LinearSolution", f"{type(solution).__name__}")
    _check_tensor(method, "weights", solution.weights, torch.float64, "[R, p, T]", expected)
    for name, each, dtype in (
        ("finite", solution.finite, torch.bool),
        ("residual", solution.residual, torch.float64),
    ):
        if each is not None:
            _check_tensor(method, name, each, dtype, "[R]", expected[:1])
    for name, matrix in solution.learned.items():
        if not isinstance(matrix, Tensor) or not matrix.ndim or len(matrix) != expected[0]:
            must = f"must give learned matrices [R, ...], R = {expected[0]}"
            raise broken_promise(method, "solve", must, f"'{name}' {_described(matrix)}")


def _check_tensor(
    method: SolverMethod, name: str, found: object, dtype: torch.dtype, shape: str, expected: tuple[int, ...]
) -> None:
    if not (isinstance(found, Tensor) and tuple(found.shape) == expected and found.dtype == dtype):
        must = f"must give {name} {shape} = {list(expected)} of {dtype}"
        raise broken_promise(method, "solve", must, _described(found))


def _described(found: object) -> str:
    return f"{list(found.shape)} of {found.dtype}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
