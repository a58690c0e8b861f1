from pathlib import Path

import numpy as np
import pytest
from mtbench_datasets.mmoe_synthetic import MMoESynthetic, MMoESyntheticOptions

from mtbench import Problem


def load(split: int = 0, **options: float) -> Problem:
    return MMoESynthetic().load(Path(), split, MMoESyntheticOptions(**options))


def noise(problem: Problem, part: str = "test") -> np.ndarray:
    """What the truth leaves of the labels, written row by row as in the paper."""
    rows, truth = problem.parts[part], problem.truth
    left = np.empty(rows.labels.shape)
    for n, x in enumerate(rows.inputs.astype(float)):
        for k in range(2):
            z = truth["W"][:, k] @ x
            waves = sum(np.sin(a * z + b) for a, b in zip(truth["alpha"], truth["beta"], strict=True))
            left[n, k] = rows.labels[n, k] - (z + waves)
    return left


@pytest.mark.parametrize("rho", [-1.0, 0.0, 0.5, 1.0])
def test_weights_are_unit_vectors_whose_cosine_is_rho(rho):
    W = load(rho=rho).truth["W"]
    assert W.shape == (100, 2)
    assert np.allclose(W.T @ W, [[1, rho], [rho, 1]])


def test_the_truth_leaves_independent_noise_of_the_stated_size():
    left = noise(load())
    n = len(left)
    # The standard error of a standard deviation from n normal draws is sigma / sqrt(2 n).
    assert (np.abs(left.std(0) - 0.1) < 4 * 0.1 / np.sqrt(2 * n)).all()
    assert (np.abs(left.mean(0)) < 4 * 0.1 / np.sqrt(n)).all()
    assert abs(np.corrcoef(left.T)[0, 1]) < 4 / np.sqrt(n)


def test_labels_correlate_the_more_the_larger_rho_is():
    def correlation(split: int, rho: float) -> float:
        return np.corrcoef(load(split, rho=rho).parts["test"].labels.T)[0, 1]

    for split in range(3):
        found = [correlation(split, rho) for rho in (0.0, 0.5, 0.9, 1.0)]
        assert found == sorted(found)
        assert abs(found[0]) < 4 / np.sqrt(4000)
        # Of the same tasks only the noises differ: 1 - sigma^2 / variance.
        assert found[-1] == pytest.approx(1 - 0.01 / load(split).parts["test"].labels[:, 0].var(), abs=1e-3)


def test_rho_changes_the_second_task_alone():
    one, other = load(rho=0.2), load(rho=0.9)
    for part in ("train", "validation", "test"):
        assert np.array_equal(one.parts[part].inputs, other.parts[part].inputs)
        assert np.array_equal(one.parts[part].labels[:, 0], other.parts[part].labels[:, 0])
        assert not np.array_equal(one.parts[part].labels[:, 1], other.parts[part].labels[:, 1])


def test_every_split_draws_new_weights_and_new_rows():
    one, other = load(0), load(1)
    assert not np.allclose(one.truth["W"], other.truth["W"])
    rows = np.concatenate([part.inputs for problem in (one, other) for part in problem.parts.values()])
    assert len(np.unique(rows, axis=0)) == len(rows) == 18000


def test_no_straight_line_explains_the_labels():
    """A linear fit leaves far more than the noise, so that the hidden layer has something to do."""
    for split in range(3):
        rows = load(split).parts["train"]
        X = np.column_stack([rows.inputs.astype(float), np.ones(rows.n_rows)])
        _, left, *_ = np.linalg.lstsq(X, rows.labels.astype(float))
        assert (np.sqrt(left / rows.n_rows) > 3 * 0.1).all()
