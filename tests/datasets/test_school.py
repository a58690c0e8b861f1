from collections.abc import Callable

import numpy as np
import pytest
from mtbench_datasets.school import School
from scipy.io import loadmat

from mtbench import NoOptions, Problem

pytestmark = pytest.mark.real_data


@pytest.fixture
def load(root_of: Callable) -> Callable[[int], Problem]:
    root = root_of(School)
    return lambda split=0: School().load(root, split, NoOptions())


def test_sizes_are_the_published_ones(load):
    problem = load()
    assert problem.n_tasks == 139
    assert problem.n_features == 28
    sizes = {name: part.n_rows for name, part in problem.parts.items()}
    assert sizes["test"] == 3890
    assert sizes["train"] + sizes["validation"] == 11472


def test_validation_takes_a_fifth_of_each_school_and_never_all(load):
    problem = load()
    train, validation = problem.task_sizes("train"), problem.task_sizes("validation")
    assert np.array_equal(validation, np.rint(0.2 * (train + validation)))
    assert (validation >= 1).all()
    assert (train >= 1).all()


def test_all_splits_have_the_same_number_of_rows_per_school(load):
    for part in ("train", "validation", "test"):
        sizes = [load(split).task_sizes(part) for split in range(10)]
        assert all(np.array_equal(size, sizes[0]) for size in sizes)


def test_training_and_validation_are_the_published_training_pupils(load, root_of):
    """Pupils are told apart by school, columns and score; all three parts together are all pupils."""
    matrix = loadmat(root_of(School) / "school" / "school_b.mat")
    published = loadmat(root_of(School) / "school" / "school_3_indexes.mat")
    everyone = np.column_stack([matrix["x"].T, matrix["y"]]).astype(float)
    parts = load(2).parts
    found = {name: np.column_stack([part.inputs, part.labels]).astype(float) for name, part in parts.items()}
    pool = np.concatenate([found["train"], found["validation"]])
    for rows, key in ((pool, "tr"), (found["test"], "tst")):
        expected = everyone[published[key].ravel().astype(int) - 1]
        assert np.array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)])


def test_columns_stay_raw_and_the_last_is_constant(load):
    train = load().parts["train"]
    assert (train.inputs[:, -1] == 1).all()
    assert train.inputs.max() == 91
    assert 1 <= train.labels.min() < train.labels.max() <= 70


def test_rows_carry_the_school_they_come_from(load, root_of):
    """Two columns are a school's own percentages or kind: school gender is the same for all its pupils."""
    matrix = loadmat(root_of(School) / "school" / "school_b.mat")
    first = matrix["task_indexes"].ravel().astype(int) - 1
    scores = np.split(matrix["y"].ravel().astype(float), first[1:])
    parts = load(5).parts.values()
    for t in (0, 70, 138):
        ours = np.concatenate([part.labels[part.task == t, 0] for part in parts])
        assert np.array_equal(np.sort(ours), np.sort(scores[t]))
