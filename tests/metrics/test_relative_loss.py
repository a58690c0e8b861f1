"""Loss relative to the constant predictor's, on problems of mixed kinds."""

import numpy as np
import pytest
from mtbench_methods.hard_sharing import HardSharing
from mtbench_methods.stl_deep import DeepSTL

from mtbench import Part, Problem, Task
from mtbench.contracts.trials import Status
from mtbench.metrics import metric
from mtbench.testing.problems import OwnRegression, miniature_trials
from mtbench.training import train_stack

TASKS = (
    Task("price", "regression", 2),
    Task("sold", "binary"),
    Task("colour", "multiclass", 3),
    Task("tags", "multilabel", 3),
)
PARTS = ("train", "validation", "test")


def random_part(rng, n, own, missing):
    columns = [
        rng.normal(3, 2, (n, 2)),
        rng.random((n, 1)) < 0.3,
        rng.integers(3, size=(n, 1)),
        rng.random((n, 3)) < 0.4,
    ]
    if own:
        task = rng.integers(4, size=n)
        labels = np.full((n, 3), np.nan)
        for t, values in enumerate(columns):
            labels[task == t, : values.shape[1]] = values[task == t]
    else:
        task, labels = None, np.concatenate(columns, 1).astype(float)
    labels[rng.random(labels.shape) < missing] = np.nan
    return Part(np.zeros((n, 1)), labels, task)


def constants(problem):
    """The best constant of each task in training, straight from the labels: T arrays [C_t]."""
    train, found = problem.parts["train"], []
    for t, task in enumerate(problem.tasks):
        labels = problem.labelled(train, t)[1].astype(float)
        if task.kind == "multiclass":
            found.append(np.log(np.bincount(labels[:, 0].astype(int)) / len(labels)))
            continue
        mean = np.nanmean(labels, 0)
        found.append(mean if task.kind == "regression" else np.log(mean / (1 - mean)))
    return found


def predicted(problem, part, outputs):
    """Predictions [n, O or C] that are the same in every row."""
    if part.task is None:
        return np.tile(np.concatenate(outputs), (part.n_rows, 1))
    width = max(len(o) for o in outputs)
    padded = np.stack([np.pad(o, (0, width - len(o))) for o in outputs])
    return padded[part.task]


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("own", [False, True])
def test_the_constant_predictor_of_the_training_part_has_1_in_every_task(own, missing):
    rng = np.random.default_rng(3)
    problem = Problem("mixed", 0, TASKS, {name: random_part(rng, 211, own, missing) for name in PARTS})
    part = problem.parts["test"]
    best = predicted(problem, part, constants(problem))
    values = metric("relative_loss").compute(
        problem, part, np.stack([best, best + 9 * rng.normal(size=best.shape), best])
    )
    assert values.shape == (3, 4)
    np.testing.assert_allclose(values[[0, 2]], 1, rtol=1e-13)
    assert (values[1] > 1).all()


@pytest.mark.parametrize("n_trials", [1, 2, 5])
def test_the_constant_predictor_has_exactly_1_whatever_its_company(n_trials):
    rng = np.random.default_rng(4)
    columns = rng.normal(3, 2, 64).round(), np.arange(64) % 2, np.arange(64) % 2
    labels = np.stack(columns, 1)
    tasks = (Task("a", "regression"), Task("b", "binary"), Task("c", "multiclass", 2))
    part = Part(np.zeros((64, 1)), labels)
    problem = Problem("mixed", 0, tasks, dict.fromkeys(PARTS, part))
    best = np.array([labels[:, 0].mean(), 0.0, np.log(0.5), np.log(0.5)])
    predictions = rng.normal(size=(n_trials, 64, 4))
    predictions[-1] = best
    values = metric("relative_loss").compute(problem, problem.parts["test"], predictions)
    assert values[-1].tolist() == [1, 1, 1]
    assert metric("relative_loss").headline(values)[-1] == 1


def test_it_is_what_its_definition_gives_by_hand(small):
    squared = small("relative_loss", "regression", [1, 3], [1, 2], trained=[0, 4])
    assert squared == pytest.approx((0 + 1) / (1 + 1))
    binary = small("relative_loss", "binary", [1, 0], [0, 0], trained=[1, 0, 0, 0])
    assert binary == pytest.approx(2 * np.log(2) / -(np.log(1 / 4) + np.log(3 / 4)))
    classes = small("relative_loss", "multiclass", [0, 1], np.zeros((2, 3)), trained=[0, 0, 1, 2])
    assert classes == pytest.approx(2 * np.log(3) / -(np.log(1 / 2) + np.log(1 / 4)))
    labels, trained = [[1, 0], [0, 1]], [[1, 0], [0, 0], [0, 0], [1, 1]]
    several = small("relative_loss", "multilabel", labels, np.zeros((2, 2)), trained=trained)
    assert several == pytest.approx(4 * np.log(2) / -(2 * np.log(1 / 2) + np.log(3 / 4) + np.log(1 / 4)))


def test_of_a_regression_it_is_the_square_of_rrmse(small):
    labels, outputs, trained = np.random.default_rng(0).normal(size=(3, 20))
    found = small("relative_loss", "regression", labels, outputs, trained)
    assert found == pytest.approx(small("rrmse", "regression", labels, outputs, trained) ** 2)


def test_perfect_predictions_have_0(small):
    assert small("relative_loss", "regression", [1, 3], [1, 3], trained=[0, 4]) == 0
    assert small("relative_loss", "binary", [1, 0], [50, -50], trained=[1, 0]) == pytest.approx(0)


def test_where_the_constant_is_infinitely_wrong_or_right_there_is_no_value(small):
    assert np.isnan(small("relative_loss", "regression", [2, 2], [1, 3], trained=[2, 2]))
    assert np.isnan(small("relative_loss", "binary", [1, 0], [1, 3], trained=[0, 0]))
    assert np.isnan(small("relative_loss", "multiclass", [0, 2], np.eye(3)[:2], trained=[0, 1]))
    assert np.isnan(small("relative_loss", "multiclass", [0, 0], np.eye(3)[:2], trained=[0, 0]))
    alike = small("relative_loss", "multilabel", [[1, 0], [0, 1]], np.zeros((2, 2)), trained=[[1, 0], [0, 0]])
    assert alike == pytest.approx(1)  # of the first column only


class Mixed(OwnRegression):
    name = "mixed_kinds"
    tasks = TASKS
    selection_metric = report_metric = "relative_loss"

    def load(self, root, split, options):
        rng = np.random.default_rng(split)
        return Problem(self.name, split, TASKS, {name: random_part(rng, 120, True, 0.1) for name in PARTS})


@pytest.mark.parametrize("epochs", [None, 3])
@pytest.mark.parametrize("method", [HardSharing, DeepSTL])
def test_trials_on_mixed_kinds_are_selected_and_scored_by_it(method, epochs):
    trials = miniature_trials(method(), Mixed(), splits=(0, 1), epochs=epochs)
    problems = {split: Mixed().load(None, split, None) for split in (0, 1)}
    result = train_stack(method(), problems, trials, Mixed())
    assert result.status == [Status.FINISHED] * 2, result.reason
    assert np.isfinite(result.metrics["test"]["relative_loss"]).all()
    assert ("validation" in result.metrics) == (epochs is None)
