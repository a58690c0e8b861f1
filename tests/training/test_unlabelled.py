"""Labels that are missing: in some columns, for a whole task in a part, or altogether."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mtbench_methods.amtfl import AMTFL
from mtbench_methods.hard_sharing import HardSharing
from mtbench_methods.nn import NN
from mtbench_methods.stl import STL
from mtbench_methods.stl_deep import DeepSTL as STLDeep

from mtbench import DataError, Part, Problem, Recipe, Reference, Task, TaskKind
from mtbench.contracts.dataset import Dataset
from mtbench.contracts.seeds import seed_from
from mtbench.contracts.trials import StackResult, Status
from mtbench.testing.problems import OwnMulticlass, OwnRegression, SharedRegression, miniature_trials
from mtbench.training import train_stack

W = np.random.default_rng(0).normal(size=(6, 12))
SIZES = {"train": 200, "validation": 100, "test": 200}


class Made(Dataset):
    """Problems as a function of the rows of each part."""

    name, title, licence = "made", "Made here", "generated"
    citation = Reference("A test", "here")
    recipe = Recipe(hidden=8, learning_rate=0.01, batch_size=20, max_epochs=30, keep="all")

    def __init__(self, tasks: list[Task], metric: str, make: Any) -> None:
        self._tasks, self._make = tasks, make
        self.selection_metric = self.report_metric = metric

    def load(self, root: Path, split: int, options: Any) -> Problem:
        rng = np.random.default_rng(seed_from("cases", split))
        parts = {p: Part(*self._make(rng.normal(size=(n, 6)).astype(np.float32), p)) for p, n in SIZES.items()}
        return Problem(self.name, split, tuple(self._tasks), parts)


def trained(method: Any, dataset: Any, problem: Problem | None = None, **recipe: Any) -> StackResult:
    trials = miniature_trials(method, dataset)
    if recipe:
        cell = dataclasses.replace(trials[0].cell, recipe=dataclasses.replace(dataset.recipe, **recipe))
        trials = [dataclasses.replace(trial, cell=cell) for trial in trials]
    result = train_stack(method, {0: problem or dataset.load(Path(), 0, None)}, trials, dataset)
    assert result.status == [Status.FINISHED], result.reason
    return result


def score(method: Any, dataset: Any) -> np.ndarray:
    return trained(method, dataset).metrics["test"][dataset.report_metric][0]


def holes(labels: np.ndarray) -> np.ndarray:
    labels = labels.astype(np.float32)
    labels[::2, 1] = np.nan  # of the first task's second column
    return labels


def test_a_multilabel_task_with_gaps_in_one_column_learns_and_is_scored_on_the_labels_it_has():
    tasks = [Task("a", TaskKind.MULTILABEL, 2), Task("b", TaskKind.MULTILABEL, 2)]
    full = Made(tasks, "error", lambda x, p: (x, (x @ W[:, :4] > -1).astype(np.float32)))
    gaps = Made(tasks, "error", lambda x, p: (x, holes(x @ W[:, :4] > -1)))
    a, b = score(NN(), full), score(NN(), gaps)
    assert (a < 10).all()
    assert (np.abs(a - b) < 5).all()


def test_a_regression_task_with_gaps_stays_in_the_mean():
    tasks = [Task("a", TaskKind.REGRESSION, 2), Task("b", TaskKind.REGRESSION, 2)]
    full = Made(tasks, "rmse", lambda x, p: (x, (x @ W[:, :4] + 3).astype(np.float32)))
    gaps = Made(tasks, "rmse", lambda x, p: (x, holes(x @ W[:, :4] + 3)))
    a, b = score(NN(), full), score(NN(), gaps)
    assert np.isfinite(b).all()
    assert (np.abs(a - b) < 0.35).all()


@pytest.mark.parametrize("method", [NN, STL, HardSharing])
def test_own_rows_without_a_label_change_nothing(method):
    task = TaskKind.REGRESSION

    def make(x: np.ndarray, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        t = np.arange(len(x)) % 3
        return x, (x * W[:, t].T).sum(1, keepdims=True).astype(np.float32), t

    def with_more(x: np.ndarray, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, labels, t = make(x, part)
        more = 100 * np.ones((7, 6), np.float32)
        nothing = np.full((7, 1), np.nan, np.float32)
        return np.concatenate([rows, more]), np.concatenate([labels, nothing]), np.concatenate([t, np.arange(7) % 3])

    tasks = [Task(f"t{t}", task) for t in range(3)]
    plain, padded = Made(tasks, "rmse", make), Made(tasks, "rmse", with_more)
    for dataset in (plain, padded):
        dataset.recipe = dataclasses.replace(dataset.recipe, batch_size=0, dtype="float64")
    one, other = trained(method(), plain), trained(method(), padded)
    for part in ("validation", "test"):
        np.testing.assert_allclose(one.metrics[part]["rmse"], other.metrics[part]["rmse"], rtol=1e-6)


@pytest.mark.parametrize("method", [NN, STL])
def test_rows_of_no_class_do_not_count_where_their_labels_are_missing(method):
    def rows(x: np.ndarray, part: str) -> tuple[np.ndarray, np.ndarray]:
        c = np.arange(len(x)) % 4
        labels = np.eye(4, dtype=np.float32)[c][:, :3]
        labels[c == 3] = np.nan
        return (np.eye(6)[c] * 3 + 0.3 * x).astype(np.float32), labels

    dataset = Made([Task(f"t{t}", TaskKind.BINARY) for t in range(3)], "one_vs_all_error", rows)
    assert score(method(), dataset).tolist() == [0, 0, 0]


def without(problem: Problem, part: str, *tasks: int) -> Problem:
    """The problem without a part's labels of some tasks."""
    found = problem.parts[part]
    labels = found.labels.copy()
    for t in tasks:
        if found.task is None:
            labels[:, problem.label_slices[t]] = np.nan
        else:
            labels[found.task == t] = np.nan
    return dataclasses.replace(problem, parts={**problem.parts, part: dataclasses.replace(found, labels=labels)})


@pytest.mark.parametrize("method", [NN, STL, HardSharing, AMTFL, STLDeep])
@pytest.mark.parametrize("dataset", [SharedRegression, OwnRegression])
def test_a_task_without_training_labels_is_left_out_and_said_so(method, dataset):
    problem = without(dataset().load(Path(), 0, None), "train", 1)
    if method().supports(problem.without_test(), dataset.recipe) is not None:
        pytest.skip("not for this problem")
    result = trained(method(), dataset(), problem)
    assert result.provenance["untrained_tasks"] == {"0": [problem.tasks[1].name]}
    for part in ("validation", "test"):
        values = result.metrics[part]["rmse"][0]
        assert np.isnan(values).tolist() == [False, True, False, False]
    assert result.history["loss"].shape[1] > 1 if "loss" in result.history else True


def test_a_task_without_training_rows_is_left_out_where_batches_hold_rows_of_each():
    problem = OwnMulticlass().load(Path(), 0, None)
    part = problem.parts["train"]
    rows = np.flatnonzero(part.task != 1)
    few = Part(part.inputs[rows], part.labels[rows], part.task[rows])
    problem = dataclasses.replace(problem, parts={**problem.parts, "train": few})
    result = trained(HardSharing(), OwnMulticlass(), problem, rows_per_task=4)
    assert np.isnan(result.metrics["test"]["error"][0]).tolist() == [False, True, False]


def test_the_other_tasks_train_as_they_do_without_a_task_that_has_no_labels():
    problem = SharedRegression().load(Path(), 0, None)
    one = trained(STLDeep(), SharedRegression(), problem).predictions["test"][0]
    other = trained(STLDeep(), SharedRegression(), without(problem, "train", 3)).predictions["test"][0]
    np.testing.assert_allclose(one[:, :3], other[:, :3], atol=1e-12)


@pytest.mark.parametrize("dataset", [SharedRegression, OwnRegression])
def test_a_task_that_validation_cannot_judge_takes_the_best_epoch_of_those_it_can(dataset):
    """Found: networks per task kept their random start for it."""
    problem = dataset().load(Path(), 0, None)
    full = trained(STLDeep(), dataset(), problem).metrics["test"]["rmse"][0]
    result = trained(STLDeep(), dataset(), without(problem, "validation", 2))
    values = result.metrics["test"]["rmse"][0]
    assert np.isnan(result.metrics["validation"]["rmse"][0]).tolist() == [False, False, True, False]
    np.testing.assert_allclose(values[[0, 1, 3]], full[[0, 1, 3]])
    assert values[2] < 1.3 * full[2]


def test_a_task_without_test_labels_has_no_value_and_the_others_keep_theirs():
    problem = OwnRegression().load(Path(), 0, None)
    result = trained(NN(), OwnRegression(), without(problem, "test", 0, 3))
    assert np.isnan(result.metrics["test"]["rmse"][0]).tolist() == [True, False, False, True]
    nothing = trained(NN(), OwnRegression(), without(problem, "test", 0, 1, 2, 3))
    assert np.isnan(nothing.metrics["test"]["rmse"]).all()


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_problem_that_cannot_be_learned_or_selected_on_is_refused(part):
    problem = without(OwnRegression().load(Path(), 0, None), part, 0, 1, 2, 3)
    with pytest.raises(DataError, match=f"split 0, part '{part}': a part must have labels"):
        trained(NN(), OwnRegression(), problem)
    split = without(without(OwnRegression().load(Path(), 0, None), "train", 0, 1), "validation", 2, 3)
    with pytest.raises(DataError, match="each has them in one of the two at most"):
        trained(NN(), OwnRegression(), split)


def test_bytes_of_vectors_train_as_the_same_values_in_floats():
    def bits(dtype: type) -> Made:
        tasks = [Task(f"t{t}", TaskKind.BINARY) for t in range(3)]
        label = lambda x: (((x > 0) - 0.5) @ W[:, :3] > 0).astype(np.float32)  # noqa: E731
        return Made(tasks, "error", lambda x, p: ((x > 0).astype(dtype), label(x)))

    for method in (NN(), STL()):
        one, other = (trained(method, bits(dtype)).predictions["test"] for dtype in (np.float32, np.uint8))
        assert np.array_equal(one, other)


def test_a_trial_that_validation_never_gives_a_number_says_so():
    class Nowhere(NN):
        def build(self, problem: Problem, params: Any, recipe: Recipe) -> torch.nn.Module:
            model = super().build(problem, params, recipe)
            forward = model.forward
            model.forward = lambda batch: forward(batch) / float(model.training)
            return model

    method = Nowhere()
    with np.errstate(all="ignore"):
        problems = {0: OwnRegression().load(Path(), 0, None)}
        result = train_stack(method, problems, miniature_trials(method, OwnRegression()), OwnRegression())
    assert result.status == [Status.DIVERGED]
    assert "The selection metric had no value on the validation part" in result.reason[0]
