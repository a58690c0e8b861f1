"""Solver methods on generated data: fitting, and what their contract promises of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtbench import LinearData, LinearSolution, Part, Problem, SolverMethod, Task, TaskKind
from mtbench.hyperparameters import describe
from mtbench.nn.linear_problems import linear_data
from mtbench.testing.problems import OwnRegression, SharedOneVsAll, SharedRegression

MINIATURES = (OwnRegression, SharedRegression, SharedOneVsAll)


def _params(method: SolverMethod, n_trials: int, **changes: Any) -> Any:
    """Hyperparameters of R trials: floats as tensors [R], given as one number or a list of them."""
    values = {name: changes.get(name, h.default) for name, h in describe(method.Params).items()}
    stackable = {name for name, h in describe(method.Params).items() if h.stackable}
    ones = torch.ones(n_trials, dtype=torch.float64)
    return method.Params(
        **{n: torch.as_tensor(v, dtype=torch.float64) * ones if n in stackable else v for n, v in values.items()}
    )


class Solving:
    """Fits methods; handed to tests by the fixture of that name."""

    params = staticmethod(_params)

    def data(self, problems: Sequence[Problem], stream: Sequence[int], intercept: bool = True) -> LinearData:
        return linear_data(problems, stream, intercept, torch.device("cpu"))

    def fit(self, method: SolverMethod, data: LinearData, **changes: Any) -> LinearSolution:
        return method.solve(data, _params(method, data.n_trials, **changes))

    def assert_stacked_equals_alone(self, method: SolverMethod, miniature: type, **changes: Any) -> None:
        """R trials on several splits and settings, together and one by one, to 1e-8."""
        problems = [miniature().load(Path(), split, None) for split in (0, 1)]
        stream = [1, 0, 1, 0]
        together = self.fit(method, self.data(problems, stream), **changes)
        for r, split in enumerate(stream):
            own = {name: value[r] if isinstance(value, list) else value for name, value in changes.items()}
            alone = self.fit(method, self.data([problems[split]], [0]), **own)
            torch.testing.assert_close(alone.weights[0], together.weights[r], rtol=0, atol=1e-8)

    def related_tasks(self, n_rows: int, noise: float = 0.1, seed: int = 0) -> tuple[Problem, np.ndarray]:
        """Own-layout regressions whose predictors W [8, 9] are sparse combinations of two bases, and W."""
        rng = np.random.default_rng(seed)
        bases = rng.normal(size=(8, 2))
        coefficients = np.kron(np.eye(2), np.ones((1, 4)))
        W = np.concatenate([bases @ coefficients, bases.sum(1, keepdims=True)], 1)

        def part(n: int) -> Part:
            task = np.repeat(np.arange(9), n)
            x = rng.normal(size=(len(task), 8))
            y = np.einsum("nd,dn->n", x, W[:, task]) + noise * rng.normal(size=len(task))
            return Part(x.astype(np.float32), y[:, None].astype(np.float32), task)

        tasks = tuple(Task(f"task_{t}", TaskKind.REGRESSION) for t in range(9))
        parts = {"train": part(n_rows), "validation": part(2), "test": part(2)}
        return Problem("related", 0, tasks, parts, {"W": W}), W


@pytest.fixture
def solving() -> Solving:
    return Solving()


@pytest.fixture(params=MINIATURES, ids=lambda m: m.name)
def miniature(request: pytest.FixtureRequest) -> type:
    return request.param


@pytest.fixture(params=[False, True], ids=["no intercept", "intercept"])
def mini_data(miniature: type, request: pytest.FixtureRequest, solving: Solving) -> LinearData:
    """Two trials on one split."""
    return solving.data([miniature().load(Path(), 0, None)], [0, 0], request.param)
