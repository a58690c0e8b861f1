import numpy as np
import pytest

from mtbench import DataError, Part, Problem, Task, TaskKind
from mtbench.metrics import metric

RNG = np.random.default_rng(0)


def own(widths: tuple[int, ...], task: list[int], labels: np.ndarray) -> Problem:
    """Rows of multilabel tasks of these widths."""
    part = Part(np.zeros((len(task), 2), np.float32), labels.astype(np.float32), np.array(task))
    tasks = tuple(Task(f"vertical_{t}", TaskKind.MULTILABEL, c) for t, c in enumerate(widths))
    return Problem("videos", 0, tasks, dict.fromkeys(("train", "validation", "test"), part))


def slow_map_at_10(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Row by row and rank by rank, straight from the definition."""
    scores = []
    for scored, true in zip(outputs, labels, strict=True):
        wanted = {c for c in range(len(true)) if true[c] == 1}
        if not wanted:
            continue
        ranking = sorted(range(len(scored)), key=lambda c: (-scored[c], c))
        found, total = 0, 0.0
        for rank, c in enumerate(ranking[:10], start=1):
            if c in wanted:
                found += 1
                total += found / rank
        scores.append(total / min(len(wanted), 10))
    return 100 * sum(scores) / len(scores)


def test_map_at_10_equals_a_slow_loop():
    widths, task = (25, 4, 12), RNG.permutation(np.repeat([0, 1, 2], 40)).tolist()
    labels = np.full((120, 25), np.nan)
    for row, t in enumerate(task):
        labels[row, : widths[t]] = RNG.random(widths[t]) < RNG.choice([0.02, 0.3, 0.9])
    outputs = RNG.normal(size=(3, 120, 25)).round(1)  # some outputs are equal
    problem = own(widths, task, labels)
    found = metric("map_at_10").compute(problem, problem.parts["test"], outputs.astype(np.float32))
    assert found.shape == (3, 3)
    for t, width in enumerate(widths):
        rows = np.flatnonzero(np.array(task) == t)
        assert (labels[rows, :width].sum(1) == 0).any()
        assert (labels[rows, :width].sum(1) > 10).any() or width <= 12
        for r in range(3):
            expected = slow_map_at_10(outputs[r][rows, :width].astype(np.float32), labels[rows, :width])
            assert found[r, t] == pytest.approx(expected)


def test_map_at_10_of_a_row_is_what_its_definition_gives_by_hand():
    labels = np.zeros((1, 12))
    labels[0, [0, 3, 11]] = 1
    problem = own((12,), [0], labels)
    outputs = -np.arange(12.0)[None, None]  # ranks are 1, 4 and 12, and the last is beyond the cut-off
    assert metric("map_at_10").compute(problem, problem.parts["test"], outputs).tolist() == [
        [pytest.approx(100 * (1 / 1 + 2 / 4) / 3)]
    ]


def test_map_at_10_is_100_for_perfect_rankings_however_many_labels_a_row_has():
    labels = RNG.random((50, 30)) < RNG.uniform(0.05, 1, (50, 1))
    labels[:, 0] = True
    problem = own((30,), [0] * 50, labels)
    perfect = labels[None] + RNG.uniform(0, 0.5, (1, 50, 30))
    assert metric("map_at_10").compute(problem, problem.parts["test"], perfect).tolist() == [[pytest.approx(100)]]
    assert metric("map_at_10").compute(problem, problem.parts["test"], -perfect)[0, 0] < 60


def test_map_at_10_has_no_value_for_a_task_without_labels_and_the_mean_leaves_it_out():
    problem = own((3, 3), [0, 1], np.array([[1, 0, 0], [0, 0, 0]]))
    values = metric("map_at_10").compute(problem, problem.parts["test"], np.ones((2, 2, 3)))
    assert np.isnan(values[:, 1]).all()
    assert metric("map_at_10").headline(values).tolist() == [100, 100]


def test_map_at_10_is_better_when_higher():
    assert metric("map_at_10").improves(np.array([2.0]), np.array([1.0])).all()


def test_map_at_10_needs_multilabel_tasks():
    part = Part(np.zeros((2, 2), np.float32), np.zeros((2, 1), np.float32))
    parts = dict.fromkeys(("train", "validation", "test"), part)
    problem = Problem("digits", 0, (Task("is_a", TaskKind.BINARY),), parts)
    with pytest.raises(DataError, match="digits: metric 'map_at_10' needs multilabel tasks; 'is_a' is not one"):
        metric("map_at_10").compute(problem, part, np.zeros((1, 2, 1)))
