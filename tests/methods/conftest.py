"""Methods on generated data: fitting linear ones, and training and taking apart deep ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtbench import (
    Batch,
    GradientMethod,
    LinearData,
    LinearSolution,
    Method,
    Part,
    Problem,
    SolverMethod,
    Task,
    TaskKind,
)
from mtbench.contracts.batch import TaskColumns
from mtbench.contracts.hyperparameters import describe
from mtbench.contracts.trials import StackResult
from mtbench.linear.problems import linear_data
from mtbench.testing.methods import assert_same
from mtbench.testing.problems import (
    RECIPE,
    CompleteRegression,
    Miniature,
    OwnMulticlass,
    OwnRegression,
    SharedOneVsAll,
    SharedRegression,
    miniature_trials,
)
from mtbench.training import train_stack
from mtbench.training.data import PartData, batch_of

MINIATURES = (OwnRegression, SharedRegression, SharedOneVsAll)

SEVERAL_TRAININGS = (
    "test_training_again_gives_the_same",
    "test_a_trial_does_not_depend_on_its_stack",
    "test_it_can_be_refitted",
    "test_every_choice_of_a_hyperparameter_trains",
)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests of the contract that train several times take a data set of each layout, the next method the next."""
    if not isinstance(item, pytest.Function) or item.originalname not in SEVERAL_TRAININGS:
        return
    method, dataset = (item.callspec.params[name] for name in ("_choose", "dataset"))
    if dataset not in _of_each_layout(method):
        item.add_marker("thorough")


@cache
def _of_each_layout(method: type[Method]) -> list[type[Miniature]]:
    """Of the miniatures that a method supports one of shared and one of own inputs, in turn by the method's name."""
    found = []
    turn = sum(map(ord, method.name))
    for kinds in ((SharedOneVsAll, SharedRegression, CompleteRegression), (OwnRegression, OwnMulticlass)):
        problems = {kind: kind().load(Path(), 0, None) for kind in kinds}
        supported = [kind for kind, problem in problems.items() if method().supports(problem, kind.recipe) is None]
        if SharedRegression in supported and CompleteRegression in supported:
            supported.remove(CompleteRegression)  # the contract skips it
        if supported:
            found.append(supported[turn % len(supported)])
        turn //= 2
    return found


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


class TwoGroups(Miniature):
    """Six regressions of own rows, in two groups whose members are alike: relu(u'x), and |u'x|."""

    name = "two_groups"
    title = "Two groups of regressions"
    selection_metric = report_metric = "rmse"
    recipe = dataclasses.replace(RECIPE, hidden=2, rows_per_task=10, max_epochs=40, learning_rate=0.04)
    tasks = tuple(Task(f"{group}_{i}", TaskKind.REGRESSION) for group in "ab" for i in range(3))

    def generate(self, rng: np.random.Generator) -> Mapping[str, Part]:
        def part(n: int) -> Part:
            task = np.repeat(np.arange(6), n)
            x = rng.normal(size=(len(task), 5))
            y = self.targets(x @ [1.0, -0.8, 0.6, -0.4, 0.5], task >= 3) + 0.1 * rng.normal(size=len(task))
            return Part(x.astype(np.float32), y[:, None].astype(np.float32), task)

        return {"train": part(50), "validation": part(20), "test": part(20)}

    def targets(self, z: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.where(second, np.abs(z), np.maximum(z, 0.0))


class OppositeGroups(TwoGroups):
    """The groups are relu(u'x) and relu(-u'x)."""

    name = "opposite_groups"
    recipe = dataclasses.replace(TwoGroups.recipe, hidden=8, learning_rate=0.01)

    def targets(self, z: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.maximum(np.where(second, -z, z), 0.0)


class TwoReliableTasks(Miniature):
    """Four shared targets that are one function; the last two under noise larger than it."""

    name = "two_reliable_tasks"
    title = "Two reliable tasks and two that are not"
    selection_metric = report_metric = "rmse"
    recipe = dataclasses.replace(RECIPE, batch_size=50, max_epochs=40, learning_rate=0.02)
    tasks = tuple(Task(f"task_{t}", TaskKind.REGRESSION) for t in range(4))

    def generate(self, rng: np.random.Generator) -> Mapping[str, Part]:
        direction = rng.normal(size=5)

        def part(n: int) -> Part:
            x = rng.normal(size=(n, 5)).astype(np.float32)
            z = np.maximum(x @ direction, 0) + 1
            y = z[:, None] * [1.0, 0.8, 0.9, 1.1] + rng.normal(size=(n, 4)) * [0.05, 0.05, 1.5, 1.5]
            return Part(x, y.astype(np.float32))

        return {"train": part(100), "validation": part(100), "test": part(20)}


class Deep:
    """Builds and trains deep methods; handed to tests by the fixture of that name."""

    two_groups, opposite_groups, reliable_tasks = TwoGroups, OppositeGroups, TwoReliableTasks

    def problem(self, miniature: type[Miniature], tasks: int | None = None) -> Problem:
        """The first split; of an own layout, if asked, the first tasks only."""
        problem = miniature().load(Path(), 0, None)
        if tasks is None:
            return problem
        parts = {}
        for name, part in problem.parts.items():
            assert part.task is not None
            rows = part.task < tasks
            parts[name] = Part(np.asarray(part.inputs)[rows], part.labels[rows], part.task[rows])
        return Problem(problem.dataset, 0, problem.tasks[:tasks], parts)

    def batch(self, problem: Problem, per_task: int = 0, key: int | None = None) -> Batch:
        """All training rows, or the first few of each task, in float64; with a key as if in training."""
        part, rows = problem.parts["train"], slice(None)
        if per_task:
            first = [np.flatnonzero(part.task == t)[:per_task] for t in range(problem.n_tasks)]
            rows = torch.as_tensor(np.concatenate(first))
        columns = PartData([problem], "train", torch.device("cpu"), torch.float64).rows(0, rows)
        if key is not None:
            columns["key"] = torch.tensor(key)
        return batch_of(columns, TaskColumns.of(problem, torch.device("cpu")), per_task)

    def build(self, method: GradientMethod, problem: Problem, recipe: Any = RECIPE, **changes: Any) -> tuple[Any, Any]:
        """A model in float64 from seed 0, and its hyperparameters."""
        params = method.Params(**changes)
        torch.manual_seed(0)
        return method.build(problem, params, recipe).double(), params

    def train(self, method: GradientMethod, miniature: type[Miniature], split: int = 0, **setting: Any) -> StackResult:
        """One trial."""
        dataset = miniature()
        problems = {split: dataset.load(Path(), split, None)}
        return train_stack(method, problems, miniature_trials(method, dataset, [setting], (split,)), dataset)

    def assert_stacked_equals_alone(
        self, method: GradientMethod, miniature: type[Miniature], *settings: Mapping[str, Any], **recipe: Any
    ) -> None:
        """Trials of two splits and several settings, together and one by one."""
        dataset = miniature()
        dataset.recipe = dataclasses.replace(miniature.recipe, **recipe)
        problems = {split: dataset.load(Path(), split, None) for split in (0, 1)}
        trials = miniature_trials(method, dataset, settings, splits=(0, 1))
        together = train_stack(method, problems, trials, dataset)
        for r, trial in enumerate(trials):
            alone = train_stack(method, problems, [trial], dataset)
            row = StackResult(
                [trial],
                together.status[r : r + 1],
                [""],
                {part: {n: v[r : r + 1] for n, v in found.items()} for part, found in together.metrics.items()},
                {n: rows[r : r + 1] for n, rows in together.history.items()},
            )
            assert_same(row, alone, tolerance=1e-8)
            for name, matrix in alone.learned.items():
                np.testing.assert_allclose(together.learned[name][r], matrix[0], 1e-8, 1e-8, err_msg=name)

    def within_and_across(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The entries of a matrix [6, 6] between different tasks of one group, and between groups."""
        group = np.arange(6) // 3
        same = group[:, None] == group
        return matrix[same & ~np.eye(6, dtype=bool)], matrix[~same]


@pytest.fixture
def deep() -> Deep:
    return Deep()
