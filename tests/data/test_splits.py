import numpy as np
import pytest

from mtbench import DataError, draw_by_group
from mtbench.data.splits import one_vs_all

GROUP = np.repeat(np.arange(3), [10, 4, 7])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_every_set_has_its_number_of_rows_of_every_group():
    first, second, rest = draw_by_group(GROUP, (2, (5, 0, 1)), rng())
    assert np.bincount(GROUP[first]).tolist() == [2, 2, 2]
    assert np.bincount(GROUP[second], minlength=3).tolist() == [5, 0, 1]
    assert np.bincount(GROUP[rest]).tolist() == [3, 2, 4]


def test_sets_are_disjoint_and_cover_all_rows():
    drawn = np.concatenate(draw_by_group(GROUP, (2, 1), rng()))
    assert np.array_equal(np.sort(drawn), np.arange(len(GROUP)))


def test_the_draw_depends_on_the_generator_alone():
    same = [draw_by_group(GROUP, (2,), rng(5))[0] for _ in range(2)]
    assert np.array_equal(*same)
    assert not np.array_equal(same[0], draw_by_group(GROUP, (2,), rng(6))[0])


def test_every_row_is_as_likely_as_any_other_of_its_group():
    counts = np.zeros(len(GROUP))
    for seed in range(2000):
        counts[draw_by_group(GROUP, (2,), rng(seed))[0]] += 1
    expected = 2000 * 2 / np.array([10, 4, 7])[GROUP]
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected.max())


def test_a_group_that_is_too_small_is_named():
    with pytest.raises(DataError, match="Group 1 must have at least 5 rows to draw from; found 4"):
        draw_by_group(GROUP, (3, 2), rng())


def test_one_vs_all_labels_each_row_for_every_class():
    base = np.arange(21, dtype=np.float32)[:, None]
    drawn = {"train": np.array([0, 20]), "validation": np.array([10]), "test": np.array([1])}
    problem = one_vs_all("set", 3, base, GROUP, ["a", "b", "c"], drawn)
    assert [task.name for task in problem.tasks] == ["a", "b", "c"]
    assert (problem.dataset, problem.split) == ("set", 3)
    assert problem.parts["train"].labels.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert problem.parts["train"].inputs.place == problem.parts["test"].inputs.place
    assert np.shares_memory(problem.parts["train"].inputs.base, base)
    assert problem.parts["validation"].inputs[:].tolist() == [[10.0]]
