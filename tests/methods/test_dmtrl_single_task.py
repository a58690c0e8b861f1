"""Learning each task alone: rows of the right tasks, no task helped by another, and a loss that falls."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from mtbench_methods.dmtrl.single_task import learn_alone, random_batches

from mtbench import Part, Problem
from mtbench.nn.backbones import backbone
from mtbench.nn.copies import Copies
from mtbench.nn.heads import Heads, task_features
from mtbench.testing.problems import MINIATURES, RECIPE, OwnMulticlass, OwnRegression, SharedOneVsAll, SharedRegression


def problem_of(miniature: type) -> Problem:
    return miniature().load(Path(), 0, None)


def networks(problem: Problem) -> tuple[Copies, Heads]:
    torch.manual_seed(0)
    one = backbone(problem, RECIPE)
    return Copies(lambda: copy.deepcopy(one), problem.n_tasks), Heads(problem, one.n_features)


@pytest.mark.parametrize("miniature", MINIATURES)
def test_batches_hold_training_rows_with_their_labels(miniature) -> None:
    problem = problem_of(miniature)
    part = problem.parts["train"]
    batches = list(random_batches(problem, RECIPE, 4))
    assert len(batches) == round(4 * part.n_rows / len(batches[0].inputs))
    for batch in batches:
        for i, row in enumerate(batch.inputs):
            (place,) = np.flatnonzero((part.inputs == row.numpy()).all(1))
            np.testing.assert_array_equal(batch.labels[i], np.nan_to_num(part.labels[place]))
            if problem.missing(part) is None:
                assert batch.mask is None
            else:
                np.testing.assert_array_equal(batch.mask[i].bool(), ~np.isnan(part.labels[place]))
            if part.task is not None:
                assert batch.task[i] == part.task[place] == i // batch.per_task


def test_images_become_fractions_of_255() -> None:
    problem = problem_of(SharedOneVsAll)
    images = {
        name: dataclasses.replace(part, inputs=np.full((part.n_rows, 2, 2), 51, np.uint8))
        for name, part in problem.parts.items()
    }
    problem = dataclasses.replace(problem, parts=images)
    (batch, *_) = random_batches(problem, RECIPE, 1)
    torch.testing.assert_close(batch.inputs, torch.full((16, 2, 2), 0.2))


@pytest.mark.parametrize("miniature", MINIATURES)
@pytest.mark.parametrize("optimiser", [{"optimiser": "adam"}, {"optimiser": "sgd", "learning_rate": 0.005}])
def test_every_task_learns(miniature, optimiser) -> None:
    problem = problem_of(miniature)
    copies, heads = networks(problem)
    (batch, *_) = random_batches(problem, dataclasses.replace(RECIPE, batch_size=0), 1)
    before = batch.task_losses(heads(task_features(copies, batch), batch)).detach()
    learn_alone(copies, heads, problem, dataclasses.replace(RECIPE, **optimiser), 20, 0.0)
    assert (batch.task_losses(heads(task_features(copies, batch), batch)) < before).all()


@pytest.mark.parametrize("miniature", [SharedRegression, OwnRegression, OwnMulticlass])
def test_other_tasks_labels_change_nothing(miniature) -> None:
    problem = problem_of(miniature)
    found = []
    for change in (0.0, 1.0):
        part = problem.parts["train"]
        labels = part.labels.copy()
        if part.task is None:
            labels[:, 1:] += change
        else:
            labels[part.task > 0] = np.maximum(labels[part.task > 0] - change, 0.0)
        changed = dataclasses.replace(
            problem, parts={**problem.parts, "train": dataclasses.replace(part, labels=labels)}
        )
        copies, heads = networks(changed)
        learn_alone(copies, heads, changed, RECIPE, 3, 1e-3)
        found.append({**copies.state(), "S": heads.S})
    for name, value in found[0].items():
        torch.testing.assert_close(value[0], found[1][name][0])
        assert not torch.allclose(value[1], found[1][name][1]), name


def test_a_task_without_training_rows_learns_nothing() -> None:
    problem = problem_of(OwnMulticlass)
    part = problem.parts["train"]
    rows = part.task != 2
    train = Part(part.inputs[rows], part.labels[rows], part.task[rows])
    problem = dataclasses.replace(problem, parts={**problem.parts, "train": train})
    copies, heads = networks(problem)
    start = heads.S[2].clone()
    learn_alone(copies, heads, problem, RECIPE, 3, 0.0)
    torch.testing.assert_close(heads.S[2], start)
    assert not torch.allclose(heads.S[1], start)
