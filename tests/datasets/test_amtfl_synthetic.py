from pathlib import Path

import numpy as np
import pytest
from mtbench_datasets.amtfl_synthetic import AMTFLSynthetic, AMTFLSyntheticOptions

from mtbench import Problem, StudyError


def load(split: int = 0, **options: object) -> Problem:
    return AMTFLSynthetic().load(Path(), split, AMTFLSyntheticOptions(**options))


def residuals(problem: Problem, part: str = "test") -> list[np.ndarray]:
    """y - w_t'x of each task."""
    rows = problem.parts[part]
    error = rows.labels[:, 0] - (rows.inputs * problem.truth["W"].T[rows.task]).sum(1)
    return [error[rows.task == t] for t in range(problem.n_tasks)]


def test_sizes_are_those_of_the_paper():
    problem = load()
    assert problem.task_sizes("train").tolist() == [50] * 6 + [25] * 6
    assert problem.task_sizes("validation").tolist() == [50] * 6 + [25] * 6
    assert problem.task_sizes("test").tolist() == [100] * 12
    assert [task.name for task in problem.tasks] == [f"{k}_{i}" for k in ("easy", "hard") for i in range(6)]
    shapes = {name: problem.truth[name].shape for name in "WLS"}
    assert shapes == {"W": (30, 12), "L": (30, 6), "S": (6, 12)}


@pytest.mark.parametrize("bases", ["block", "sparse", "dense"])
def test_the_truth_leaves_noise_of_the_stated_size(bases):
    pooled = [np.concatenate(r) for r in zip(*(residuals(load(s, bases=bases)) for s in range(20)), strict=True)]
    sigma = load().truth["sigma"]
    assert sigma.tolist() == [1.0] * 6 + [2.0] * 6
    for t, errors in enumerate(pooled):
        # The standard error of a standard deviation from n normal draws is sigma / sqrt(2 n).
        assert abs(errors.std() - sigma[t]) < 4 * sigma[t] / np.sqrt(2 * len(errors))
        assert abs(errors.mean()) < 4 * sigma[t] / np.sqrt(len(errors))


def test_noise_in_the_parameters_as_the_paper_words_it_would_leave_easy_tasks_nothing_to_gain():
    problem, rng = load(), np.random.default_rng(0)
    easy = {name: part.inputs[part.task == 0].astype(np.float64) for name, part in problem.parts.items()}
    w = problem.truth["W"][:, 0] + rng.normal(size=30)
    alone = np.linalg.lstsq(easy["train"], easy["train"] @ w, rcond=None)[0]
    assert np.abs(easy["test"] @ (w - alone)).max() < 1e-9
    # With noise in the labels, as it is here, separate regressions leave an error on them.
    fitted = np.linalg.lstsq(easy["train"], problem.parts["train"].labels[:50, 0], rcond=None)[0]
    assert np.abs(easy["test"] @ (problem.truth["W"][:, 0] - fitted)).max() > 0.5


def test_easy_and_hard_tasks_pick_every_pair_of_their_four_bases():
    S = load().truth["S"]
    picked = [tuple(np.flatnonzero(column)) for column in S.T]
    pairs = {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    assert set(picked[:6]) == pairs
    assert set(picked[6:]) == {(a + 2, b + 2) for a, b in pairs}
    assert (np.abs(S[S != 0]) >= 0.5).all()
    assert (np.abs(S) <= 1.5).all()


def test_weights_are_combinations_of_the_bases():
    truth = load().truth
    assert np.allclose(truth["W"], truth["L"] @ truth["S"])


def test_kinds_of_bases_differ_in_where_they_are_not_zero():
    counts = {kind: (load(bases=kind).truth["L"] != 0).sum(0).tolist() for kind in ("block", "sparse", "dense")}
    assert counts == {"block": [5] * 6, "sparse": [10] * 6, "dense": [30] * 6}
    block = load(bases="block").truth["L"] != 0
    assert (block.sum(1) == 1).all()
    for kind in counts:
        assert np.allclose(np.linalg.norm(load(bases=kind).truth["L"], axis=0), np.sqrt(5))


def test_more_tasks_leave_the_first_ones_as_they_are():
    few, many = load(tasks=4), load(tasks=24)
    assert np.array_equal(few.truth["L"], many.truth["L"])
    for t, name in enumerate(task.name for task in few.tasks):
        u = [task.name for task in many.tasks].index(name)
        ours, theirs = (p.parts["train"].inputs[p.parts["train"].task == i] for p, i in ((few, t), (many, u)))
        assert np.array_equal(ours, theirs)


def test_an_odd_number_of_tasks_is_refused():
    with pytest.raises(StudyError, match=r"must be even.*found 5"):
        load(tasks=5)


def test_no_column_is_constant():
    assert (load().parts["train"].inputs.std(0) > 0.5).all()


def test_every_split_draws_new_bases_and_rows():
    assert not np.array_equal(load(0).truth["L"], load(1).truth["L"])
    rows = np.concatenate([part.inputs for split in range(5) for part in load(split).parts.values()])
    assert len(np.unique(rows, axis=0)) == len(rows)
