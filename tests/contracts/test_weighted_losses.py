"""Losses of weighted rows, classes and tasks: over a whole part scikit-learn's, in batches the same on average."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.metrics import log_loss, mean_squared_error

from mtbench import NoOptions, Part, Problem, Task
from mtbench.contracts.batch import Batch, TaskColumns
from mtbench.testing.problems import MixedKinds, OwnMulticlass, OwnRegression, SharedRegression, with_weights
from mtbench.training.data import PartData, batch_of

CPU = torch.device("cpu")
PROBLEMS = {
    m.name: m().load(Path(), 0, NoOptions()) for m in (MixedKinds, OwnMulticlass, OwnRegression, SharedRegression)
}


def mixed_own() -> Problem:
    """Rows of their own for a binary, a multilabel and a regression task of two columns, with gaps."""
    rng = np.random.default_rng(0)
    task, tasks = np.arange(30) % 3, (Task("a", "binary"), Task("b", "multilabel", 2), Task("c", "regression", 2))
    labels = rng.integers(2, size=(30, 2)).astype(float)
    labels[5:9, 1] = np.nan
    labels[task == 0, 1] = np.nan
    part = Part(rng.normal(size=(30, 2)), labels, task)
    return Problem("mixed", 0, tasks, dict.fromkeys(("train", "validation", "test"), part))


CASES = [pytest.param(problem, id=name) for name, problem in {**PROBLEMS, "mixed_own": mixed_own()}.items()]


def batch_from(problem: Problem, rows: Any = slice(None)) -> Batch:
    columns = PartData([problem], "train", CPU, torch.float64).rows(0, rows)
    return batch_of(columns, TaskColumns.of(problem, CPU))


def outputs_for(problem: Problem) -> torch.Tensor:
    shape = problem.parts["train"].n_rows, problem.n_outputs
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def of_sklearn(problem: Problem, t: int, outputs: np.ndarray) -> float:
    """The loss of task t over the training part by scikit-learn, weights by the data set's words."""
    part, task = problem.parts["train"], problem.tasks[t]
    rows, labels = problem.labelled(part, t)
    assert part.sample_weight is not None
    weights = np.repeat(part.sample_weight[rows][:, None], labels.shape[1], 1)
    if task.class_weights is not None:
        weights = weights * np.array(task.class_weights)[labels.astype(int)]
    own, known = outputs[rows, problem.output_slices[t]], ~np.isnan(labels)
    if task.kind == "multiclass":
        classes = labels[:, 0].astype(int)
        return log_loss(classes, softmax(own, 1), sample_weight=weights[:, 0], labels=range(task.n_outputs))
    score = (
        mean_squared_error
        if task.kind == "regression"
        else lambda y, p, sample_weight: log_loss(y, expit(p), sample_weight=sample_weight, labels=[0, 1])
    )
    return score(labels[known], own[known], sample_weight=weights[known])


@pytest.mark.parametrize("problem", CASES)
def test_losses_over_all_rows_are_scikit_learns_with_sample_weight_times_the_weight_of_the_task(problem):
    problem = with_weights(problem)
    outputs, weights = outputs_for(problem), np.array([task.weight for task in problem.tasks])
    expected = [of_sklearn(problem, t, outputs.numpy()) for t in range(problem.n_tasks)]
    found = batch_from(problem).task_losses(outputs).numpy()
    np.testing.assert_allclose(found, np.array(expected) * weights / weights.mean(), 1e-9)


def test_the_mean_over_batches_of_an_epoch_is_the_loss_over_all_rows():
    problem = with_weights(PROBLEMS["miniature_mixed"])
    outputs, rows = outputs_for(problem), torch.randperm(40, generator=torch.Generator().manual_seed(0)).view(5, 8)
    for losses in ("task_losses", "pooled_losses"):
        batches = [getattr(batch_from(problem, some), losses)(outputs[some]) for some in rows]
        torch.testing.assert_close(torch.stack(batches).mean(0), getattr(batch_from(problem), losses)(outputs))


def test_a_row_alone_in_its_batch_still_counts_by_its_weight():
    problem = with_weights(PROBLEMS["miniature_ragged"], ("task",))
    outputs, weights = outputs_for(problem), problem.parts["train"].sample_weight
    own = np.flatnonzero(problem.parts["train"].task == 2)
    plain = replace(problem, parts={n: replace(p, sample_weight=None) for n, p in problem.parts.items()})
    for row in own:
        some = torch.tensor([row])
        ratio = (
            batch_from(problem, some).task_losses(outputs[some])[2]
            / batch_from(plain, some).task_losses(outputs[some])[2]
        )
        assert ratio.item() == pytest.approx(weights[row] / weights[own].mean())


@pytest.mark.parametrize("problem", CASES)
def test_a_row_that_weighs_three_is_as_three_rows_and_one_that_weighs_nothing_as_none(problem):
    problem = with_weights(problem, ("class", "task"))
    part = problem.parts["train"]
    counts = (2 * part.sample_weight).astype(int)
    rows = np.repeat(np.arange(part.n_rows), counts)
    repeated = Part(np.asarray(part.inputs)[rows], part.labels[rows], None if part.task is None else part.task[rows])
    plain = replace(problem, parts=dict.fromkeys(problem.parts, repeated))
    outputs = outputs_for(problem)
    expected = batch_from(plain).task_losses(outputs[rows])
    torch.testing.assert_close(batch_from(problem).task_losses(outputs), expected)


@pytest.mark.parametrize("problem", CASES)
def test_weights_that_are_all_alike_are_none(problem):
    outputs = outputs_for(problem)
    parts = {n: replace(p, sample_weight=np.full(p.n_rows, 3)) for n, p in problem.parts.items()}
    alike = replace(problem, parts=parts, tasks=tuple(replace(task, weight=5) for task in problem.tasks))
    for losses in ("task_losses", "pooled_losses"):
        found, expected = (getattr(batch_from(p), losses)(outputs) for p in (alike, problem))
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["miniature_mixed", "miniature_ragged", "miniature_missing_labels"])
def test_a_task_whose_labels_in_a_batch_all_weigh_nothing_is_absent(name):
    problem = PROBLEMS[name]
    part = problem.parts["train"]
    weights = np.ones(part.n_rows)
    weights[:8] = 0
    first = slice(0, 9)
    parts = {**problem.parts, "train": replace(part, sample_weight=weights)}
    found = batch_from(replace(problem, parts=parts), first).present
    assert batch_from(replace(problem, parts=parts), slice(0, 8)).present.tolist() == [0] * problem.n_tasks
    assert found.tolist() == batch_from(problem, slice(8, 9)).present.tolist()


def test_losses_map_over_trials_and_keep_their_dtype():
    problem = with_weights(PROBLEMS["miniature_mixed"])
    batch, outputs = batch_from(problem), outputs_for(problem)
    mapped = torch.func.vmap(batch.task_losses)(torch.stack([outputs, 2 * outputs]))
    torch.testing.assert_close(mapped[1], batch.task_losses(2 * outputs))
    single = PartData([problem], "train", CPU, torch.float32).rows(0, slice(None))
    losses = batch_of(single, TaskColumns.of(problem, CPU)).task_losses(outputs.float())
    assert losses.dtype == torch.float32
