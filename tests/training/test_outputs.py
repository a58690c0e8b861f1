"""Outputs and solutions are checked where they first appear, and no method is handed test rows."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtbench import (
    Batch,
    DataError,
    GradientMethod,
    LinearSolution,
    PluginError,
    Problem,
    Recipe,
    Reference,
    SolverMethod,
)
from mtbench.metrics import metric
from mtbench.testing.problems import MINIATURES, OwnMulticlass, OwnRegression, SharedRegression, miniature_trials
from mtbench.training import train_stack
from mtbench.training.evaluate import Evaluator


class Net(nn.Module):
    def __init__(self, problem: Problem, extra: int) -> None:
        super().__init__()
        self.dense = nn.Linear(problem.n_features, problem.n_outputs + extra)
        self.cut = slice(None)

    def forward(self, batch: Batch) -> Tensor:
        return self.dense(batch.inputs)[self.cut]


class Wrong(GradientMethod):
    name = "wrong"
    reference = Reference("A test", "here")
    extra = 0

    def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
        return Net(problem, self.extra)

    def objective(self, model: Net, batch: Batch, params: Any) -> Tensor:
        return batch.task_losses(model(batch)).sum()


def trained(method: Any, dataset: Any, **settings: Any) -> Any:
    trials = miniature_trials(method, dataset, settings=({}, {})[: settings.pop("n", 1)], **settings)
    return train_stack(method, {0: dataset.load(Path(), 0, None)}, trials, dataset)


@pytest.mark.parametrize("dataset", MINIATURES)
@pytest.mark.parametrize("extra", [3, -1, -2])
def test_outputs_of_another_width_are_refused_by_name(dataset, extra):
    method = type("Wide", (Wrong,), {"extra": extra})()
    n_outputs = dataset().load(Path(), 0, None).n_outputs
    expected = re.escape(f"[B, O] = [1, {n_outputs}] here; found [1, {n_outputs + extra}]")
    with pytest.raises(PluginError, match=f"Method 'wrong': .*{expected}"):
        trained(method, dataset())


def test_outputs_of_another_width_in_training_alone_are_refused_too():
    class Sometimes(Wrong):
        name = "sometimes"

        def objective(self, model: Net, batch: Batch, params: Any) -> Tensor:
            return batch.task_losses(model(batch)[:, :1]).sum()

    for n in (1, 2):
        with pytest.raises(
            PluginError, match=r"Method 'sometimes': .*\[16, 4\] here; found \[16, 1\].*test_outputs.py"
        ):
            trained(Sometimes(), SharedRegression(), n=n)


def test_outputs_that_are_no_tensor_are_refused():
    class Pair(Wrong):
        def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
            model = Net(problem, 0)
            model.forward = lambda batch: (batch.inputs, batch.inputs)
            return model

    with pytest.raises(PluginError, match="found tuple"):
        trained(Pair(), SharedRegression())


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda w: w[:, :, :1], r"found \[1, 5, 1\]"),
        (lambda w: w[0], r"found \[5, 4\]"),
        (lambda w: w.float(), "of torch.float32"),
        (lambda w: w.numpy(), "found a ndarray"),
    ],
)
def test_solutions_of_another_shape_or_type_are_refused(change, found):
    class Solver(SolverMethod):
        name = "solver"
        reference = Reference("A test", "here")

        def solve(self, data: Any, params: Any) -> LinearSolution:
            zeros = torch.zeros(data.n_trials, data.n_rows, data.n_tasks, dtype=torch.float64)
            return LinearSolution(change(zeros), 1)

    with pytest.raises(PluginError, match=f"Method 'solver': .*{found}"):
        trained(Solver(), OwnRegression())


@pytest.mark.parametrize("dataset", [SharedRegression, OwnMulticlass])
def test_predictions_of_another_shape_are_not_scored(dataset):
    problem = dataset().load(Path(), 0, None)
    evaluator = Evaluator([problem], np.zeros(1, np.int64), 1)
    n = problem.parts["test"].n_rows
    for shape in ((1, n, 1), (1, n - 1, 4), (1, n, 9)):
        with pytest.raises(DataError, match=re.escape(f"found {list(shape)}")):
            evaluator.metrics([metric("loss")], "test", np.zeros(shape), np.zeros(1, np.int64))


class Nosy(Wrong):
    name = "nosy"

    def __init__(self, look: Any, where: str) -> None:
        self._look, self._where = look, where

    def supports(self, problem: Problem, recipe: Recipe | None = None) -> str | None:
        return self._seen("supports", problem)

    def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
        self._seen("build", problem)
        return Net(problem, 0)

    def objective(self, model: Net, batch: Batch, params: Any) -> Tensor:
        self._seen("objective", batch.problem)
        return super().objective(model, batch, params)

    def _seen(self, where: str, problem: Problem) -> None:
        if where == self._where:
            self._look(problem)


@pytest.mark.parametrize("where", ["build", "objective"])
def test_a_gradient_method_that_asks_for_test_rows_is_told_that_there_are_none(where):
    with pytest.raises(PluginError, match="Method 'nosy': A method must not look at test rows.*test_outputs.py, line"):
        trained(Nosy(lambda problem: problem.parts["test"], where), OwnRegression())


@pytest.mark.parametrize("where", ["build", "objective"])
def test_nothing_that_a_gradient_method_is_handed_is_known_of_test_rows(where):
    seen = []
    trained(Nosy(seen.append, where), OwnRegression())
    test = OwnRegression().load(Path(), 0, None).parts["test"].inputs
    for problem in seen:
        assert list(problem.parts) == ["train", "validation"]
        assert problem.truth == {}
        held = np.concatenate([np.asarray(part.inputs) for part in problem.parts.values()])
        assert not (held[:, None] == test[None]).all(2).any()


def test_a_method_that_writes_to_its_problem_in_place_has_no_score():
    def standardise(problem: Problem) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.from_numpy(problem.parts["train"].inputs).mul_(3)

    def scale(problem: Problem) -> None:
        part = problem.parts["train"]
        np.multiply(part.inputs, 3, out=part.inputs)

    with pytest.raises(ValueError, match="read-only"):
        trained(Nosy(scale, "build"), OwnRegression())
    method, dataset = Nosy(standardise, "build"), OwnRegression()
    problems = {0: dataset.load(Path(), 0, None)}
    for _ in range(2):  # nor on rows that were written to before
        with pytest.raises(PluginError, match="'nosy' must not change the arrays .* part 'train' of miniature_ragged"):
            train_stack(method, problems, miniature_trials(method, dataset), dataset)


def test_what_a_solver_is_handed_has_training_rows_only():
    seen = []

    class Solver(SolverMethod):
        name = "solver"
        reference = Reference("A test", "here")

        def solve(self, data: Any, params: Any) -> LinearSolution:
            seen.append(data)
            return LinearSolution(torch.zeros(data.n_trials, data.n_rows, data.n_tasks, dtype=torch.float64), 1)

    trained(Solver(), OwnRegression())
    (data,) = seen
    assert not any(isinstance(value, Problem) for value in vars(data).values())
    assert data.n_train[0].tolist() == OwnRegression().load(Path(), 0, None).task_sizes().tolist()
