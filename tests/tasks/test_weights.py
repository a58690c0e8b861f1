"""Weights of rows, classes and tasks: what is refused, in one line, and what they come to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtbench import DataError, Part, Problem, Task
from mtbench.tasks.fingerprint import fingerprint
from mtbench.tasks.some_tasks import with_tasks
from mtbench.tasks.weights import row_weights

X = np.arange(8.0).reshape(4, 2)
Y = np.array([[0, 1.5], [1, np.nan], [1, 2.5], [np.nan, 3.5]])
TASKS = (Task("sold", "binary"), Task("price", "regression"))
OWN = np.array([0, 0, 0, 1])


def problem(weights=None, tasks=TASKS, labels=Y, task=None):
    part = Part(X, labels, task, weights)
    return Problem("set", 3, tasks, dict.fromkeys(("train", "validation", "test"), part))


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ([1, 1, np.nan, 1], "must be finite and at least 0; row 2 holds nan"),
        ([1, -1, 1, 1], "must be finite and at least 0; row 1 holds -1"),
        ([1, 1, 1, np.inf], "row 3 holds inf"),
        ([1, 1, 1], "must have shape (4,), one number per row; found (3,)"),
        ([[1], [1], [1], [1]], "found (4, 1)"),
        ([0, 0, 0, 0], "must not be 0 in all rows"),
        (["a"] * 4, "sample_weight must be real numbers"),
        ([0, 0, 0, 1], "task 'sold': its labels must not all weigh 0"),
    ],
)
def test_sample_weights_are_finite_numbers_from_0_one_for_each_row(weights, told):
    with pytest.raises(DataError) as caught:
        problem(weights)
    text = str(caught.value)
    assert text.startswith("set, split 3, part 'train'")
    assert told in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("a", "regression", 2, (1, 2)), "binary and multiclass tasks have class weights; its kind is regression"),
        (("a", "multilabel", 2, (1, 2)), "its kind is multilabel"),
        (("a", "binary", 1, (1,)), "must be 2 finite numbers from 0, one for each class, not all 0; found [1]"),
        (("a", "multiclass", 3, (1, 2, -1)), "must be 3 finite numbers"),
        (("a", "multiclass", 2, (0, 0)), "not all 0; found [0, 0]"),
        (("a", "binary", 1, ("x", 1)), "must be 2 finite numbers"),
        (("a", "binary", 1, None, -1), "its weight must be a finite number above 0; found -1"),
        (("a", "binary", 1, None, 0), "found 0.0. Leave out a task that must not count"),
        (("a", "binary", 1, None, "heavy"), "its weight must be a finite number above 0; found nan"),
    ],
)
def test_weights_of_classes_and_tasks_are_finite_and_not_negative(arguments, told):
    with pytest.raises(DataError, match="Task 'a': ") as caught:
        Task(*arguments)
    assert told in str(caught.value)


def test_a_problem_says_which_weights_it_declares():
    classes = (replace(TASKS[0], class_weights=(1, 2)), TASKS[1])
    assert problem().weights == ()
    assert problem([1, 1, 1, 1]).weights == ("sample",)
    assert problem(tasks=classes).weights == ("class",)
    assert problem(tasks=tuple(replace(task, weight=3) for task in TASKS)).weights == ()  # all alike
    tasks = (replace(classes[0], weight=3), classes[1])
    assert problem([1, 2, 1, 1], tasks).weights == ("sample", "class", "task")
    assert problem(tasks=tasks).task_weights.tolist() == [1.5, 0.5]


def test_a_label_weighs_its_row_times_its_class():
    tasks = (replace(TASKS[0], class_weights=(1, 4)), TASKS[1])
    made = problem([1, 2, 3, 4], tasks)
    assert made.label_weights(made.parts["train"], 0).tolist() == [1, 8, 12]
    assert made.label_weights(made.parts["train"], 1).tolist() == [1, 3, 4]
    assert problem(tasks=tasks).label_weights(problem(tasks=tasks).parts["train"], 1) is None


@pytest.mark.parametrize("own", [False, True])
def test_weights_of_training_are_1_on_average_over_the_labels_of_a_task(own):
    labels = np.where(OWN == 0, Y[:, 0], Y[:, 1])[:, None] if own else Y
    labels = np.nan_to_num(labels) if own else labels
    made = problem([1, 2, 3, 4], (replace(TASKS[0], class_weights=(1, 4)), TASKS[1]), labels, OWN if own else None)
    found = row_weights(made, made.parts["train"])
    sold = np.array([1, 8, 12]) / 7
    if own:
        np.testing.assert_allclose(found, [*sold, 1])
    else:
        np.testing.assert_allclose(found[:, 0], [*sold, 0])
        np.testing.assert_allclose(found[:, 1], np.array([1, 0, 3, 4]) * 3 / 8)
    assert row_weights(problem(), problem().parts["train"]) is None


def test_weights_go_with_their_rows_into_refits_and_into_problems_of_some_tasks():
    labels = np.array([[0.0], [1], [1], [2.5]])
    weighed = problem([1, 2, 3, 4], labels=labels, task=OWN)
    plain = Part(X, labels, OWN)
    joined = replace(weighed, parts={**weighed.parts, "validation": plain}).refit()
    assert joined.parts["train"].sample_weight.tolist() == [1, 2, 3, 4, 1, 1, 1, 1]
    assert with_tasks(weighed, [1]).parts["test"].sample_weight.tolist() == [4]


def test_weights_cannot_be_written_to_and_a_change_of_them_is_seen():
    given = np.array([1.0, 2, 3, 4])
    made = problem(given)
    with pytest.raises(ValueError, match="read-only"):
        made.parts["train"].sample_weight[0] = 7
    given[0] = 7
    assert made.changed() is not None


def test_weights_are_part_of_a_fingerprint_and_problems_without_keep_theirs():
    plain = fingerprint(problem())
    assert plain.sha256 == "0eaa91718d6432af25837d405819718beaf5160166e49fc408f92d9e46d6d0ac"
    others = [
        problem([1, 2, 3, 4]),
        problem([1, 2, 3, 5]),
        problem(tasks=(replace(TASKS[0], weight=2), TASKS[1])),
        problem(tasks=(replace(TASKS[0], class_weights=(1, 2)), TASKS[1])),
        problem(tasks=(replace(TASKS[0], class_weights=(2, 1)), TASKS[1])),
    ]
    found = [plain, *map(fingerprint, others)]
    assert len({one.sha256 for one in found}) == len(found)
    assert not any(one.is_like(other) for i, one in enumerate(found) for other in found[:i])
