"""Random problems, many damaged: refused in one line, or scored as a slow, plain reference does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmarks.fuzz_problems import assert_one_line, check, close, random_case, reference
from mtbench import Batch, DataError, Dataset, GradientMethod, Problem, Recipe, Reference
from mtbench.contracts.trials import Status
from mtbench.linear.problems import linear_data
from mtbench.testing.problems import RECIPE, miniature_trials
from mtbench.training import train_stack

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(SEEDS)
def test_a_random_problem_is_refused_in_one_line_or_scored_as_the_reference_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    check(random_case(rng), rng)


class Linear(nn.Module):
    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.W = nn.Parameter(0.1 * torch.randn(problem.n_features, problem.n_outputs))

    def forward(self, batch: Batch) -> Tensor:
        return batch.inputs.flatten(1) @ self.W


class Plain(GradientMethod):
    name = "plain"
    reference = Reference("A test", "here")

    def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
        return Linear(problem)

    def objective(self, model: Linear, batch: Batch, params: Any) -> Tensor:
        return batch.task_losses(model(batch)).sum()


class Fuzzed(Dataset):
    name = "fuzz"
    title = "Random problems"
    licence = "generated"
    citation = Reference("A test", "here")
    recipe = replace(RECIPE, max_epochs=2, learning_rate=1e-3, batch_size=4)
    selection_metric = report_metric = "loss"

    def load(self, root: Path, split: int, options: Any) -> Problem:
        raise AssertionError("problems are handed over")


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(SEEDS)
def test_what_the_trainer_stores_of_a_random_problem_is_what_the_reference_says(seed: int) -> None:
    case = random_case(np.random.default_rng(seed))
    assume(not case.damage)
    problem, trials = case.problem(), miniature_trials(Plain(), Fuzzed())
    trained = problem.task_sizes() > 0
    if not (trained & (problem.task_sizes("validation") > 0)).any():
        with pytest.raises(DataError) as caught:
            train_stack(Plain(), {0: problem}, trials, Fuzzed())
        assert_one_line(caught.value)
        return
    result = train_stack(Plain(), {0: problem}, trials, Fuzzed())
    assert result.status == [Status.FINISHED], result.reason
    names = [task.name for task, there in zip(problem.tasks, trained, strict=True) if not there]
    assert result.provenance.get("untrained_tasks", {}).get("0", []) == names
    expected = np.array(reference("loss", problem.tasks, case.plain["test"], result.predictions["test"][0]))
    close(result.metrics["test"]["loss"][0], np.where(trained, expected, np.nan), "stored loss")


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(SEEDS)
def test_losses_of_linear_predictors_on_a_random_problem_are_those_of_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    case = random_case(rng)
    try:
        problem = case.problem()
    except DataError:
        return
    kinds = {task.kind for task in problem.tasks}
    if len(kinds) > 1 or not all(t.n_outputs == t.n_labels == 1 for t in problem.tasks) or "multilabel" in kinds:
        return
    data = linear_data([problem], [0], False, torch.device("cpu"))
    weights = rng.normal(size=(problem.n_features, problem.n_tasks)) / 10
    train = case.plain["train"]
    outputs = train.inputs.reshape(len(train.inputs), -1) @ weights
    expected = np.array(reference("loss", problem.tasks, train, outputs, all_outputs=True))
    if problem.task_weights is not None:
        expected *= problem.task_weights
    found = data.losses(torch.from_numpy(weights)[None])[0].numpy()
    np.testing.assert_allclose(found, np.nan_to_num(expected), 1e-6, 1e-4 * np.abs(train.inputs).max() ** 2 * 1e-2)
    assert data.n_train[0].tolist() == pytest.approx(problem.task_sizes().tolist())
