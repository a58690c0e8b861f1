"""Training a stack of a solver method: linear predictors for all its trials in one call.

Shapes: R trials, d features, p = d or d + 1 rows of the weights, T tasks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mtbench.errors import PluginError
from mtbench.hyperparameters import describe
from mtbench.method import LinearSolution, SolverMethod
from mtbench.nn.linear_problems import linear_data
from mtbench.tasks import Array, Problem
from mtbench.training.data import PartData, rows_on
from mtbench.training.evaluate import Chunk, Evaluator
from mtbench.training.progress import EpochListener, Progress
from mtbench.training.stacked import StackState, method_params
from mtbench.trials import Trial


class SolverStack:
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
        _check(self._method.name, solution, (len(self._trials), data.n_rows, data.n_tasks))
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


def _check(method: str, solution: LinearSolution, expected: tuple[int, int, int]) -> None:
    """Refuses what are no predictors [R, p, T], or no verdicts [R]."""
    weights = solution.weights
    found = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
    if found != expected or weights.dtype != torch.float64:
        kind = f" of {weights.dtype}" if isinstance(weights, Tensor) else ""
        raise PluginError(
            f"Method '{method}': `solve` must give weights [R, p, T] = {list(expected)} of torch.float64; found "
            f"{list(found) if isinstance(found, tuple) else found}{kind}."
        )
    for name, each in (("finite", solution.finite), ("residual", solution.residual)):
        if each is not None and tuple(each.shape) != expected[:1]:
            raise PluginError(
                f"Method '{method}': `{name}` must have shape [R] = [{expected[0]}]; found {list(each.shape)}."
            )
