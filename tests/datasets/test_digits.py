from pathlib import Path

import numpy as np
from mtbench_datasets.digits import Digits

from mtbench import NoOptions, Problem
from mtbench.metrics import metric


def load(split: int = 0) -> Problem:
    return Digits().load(Path(), split, NoOptions())


def test_every_image_is_in_exactly_one_part():
    rows = np.concatenate([part.inputs for part in load().parts.values()])
    bundled = np.unique(rows, axis=0)
    assert len(rows) == 1797
    assert np.array_equal(bundled, np.unique(np.concatenate([p.inputs for p in load(3).parts.values()]), axis=0))


def test_classes_are_balanced_and_labels_one_hot():
    parts = load().parts
    assert parts["train"].labels.sum(0).tolist() == [20] * 10
    assert parts["validation"].labels.sum(0).tolist() == [20] * 10
    assert all((part.labels.sum(1) == 1).all() for part in parts.values())


def test_pixels_lie_between_0_and_1():
    inputs = load().parts["train"].inputs
    assert inputs.min() == 0
    assert inputs.max() == 1


def test_least_squares_classifies_most_digits():
    problem = load()
    train, test = problem.parts["train"], problem.parts["test"]
    gram = train.inputs.T @ train.inputs + np.eye(64, dtype=np.float32)
    weights = np.linalg.solve(gram, train.inputs.T @ train.labels)
    error = metric("one_vs_all_error").compute(problem, test, (test.inputs @ weights)[None])
    assert 5 < error.mean() < 15
