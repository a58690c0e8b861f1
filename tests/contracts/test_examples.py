"""Examples and predictors: what fit methods see of a part, and how outputs are put together."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss

from mtbench import Examples, Part, Target, TargetPredictors, Task, TaskKind

NAN = np.nan
TASKS = (
    Task("values", TaskKind.REGRESSION, 2),
    Task("yes", TaskKind.BINARY),
    Task("three", TaskKind.MULTICLASS, 3),
    Task("labels", TaskKind.MULTILABEL, 2),
)
SHARED = Examples.of(
    Part(
        np.arange(6, dtype=np.float32).reshape(3, 2),
        np.array(
            [[1, 10, 0, 2, 1, 0], [2, NAN, 1, NAN, NAN, NAN], [NAN, NAN, NAN, 0, NAN, 1]],
            np.float32,
        ),
    ),
    TASKS,
)
OWN = Examples.of(
    Part(
        np.arange(10, dtype=np.float32).reshape(5, 2),
        np.array([[1, 10], [2, NAN], [1, NAN], [NAN, NAN], [0, 1]], np.float32),
        np.array([0, 0, 1, 1, 3]),
    ),
    TASKS,
)


def test_targets_are_label_columns_with_their_outputs():
    assert SHARED.targets == (
        Target(0, 0, TaskKind.REGRESSION, 0),
        Target(0, 1, TaskKind.REGRESSION, 1),
        Target(1, 0, TaskKind.BINARY, 2),
        Target(2, 0, TaskKind.MULTICLASS, 3, 3),
        Target(3, 0, TaskKind.BINARY, 6),
        Target(3, 1, TaskKind.BINARY, 7),
    )


def test_targets_come_with_the_rows_in_which_they_are_known():
    found = [(x[:, 0].tolist(), y.tolist()) for _, x, y in SHARED.by_target()]
    assert found == [([0, 2], [1, 2]), ([0], [10]), ([0, 2], [0, 1]), ([0, 4], [2, 0]), ([0], [1]), ([0, 4], [0, 1])]
    own = [(target.start, x[:, 0].tolist(), y.tolist()) for target, x, y in OWN.by_target()]
    assert own == [(0, [0, 2], [1, 2]), (1, [0], [10]), (2, [4], [1]), (6, [8], [0]), (7, [8], [1])]


def test_tasks_come_with_the_rows_in_which_they_have_any_label():
    found = [(t, x[:, 0].tolist(), y.shape) for t, x, y in SHARED.by_task()]
    assert found == [(0, [0, 2], (2, 2)), (1, [0, 2], (2, 1)), (2, [0, 4], (2, 1)), (3, [0, 4], (2, 2))]
    own = [(t, x[:, 0].tolist(), y.shape) for t, x, y in OWN.by_task()]
    assert own == [(0, [0, 2], (2, 2)), (1, [4], (1, 1)), (3, [8], (1, 2))]


def test_labels_alone_need_no_inputs():
    examples = Examples.of(SHARED.part, TASKS)
    assert [y.tolist() for _, y in examples.known_labels()] == [y.tolist() for _, _, y in SHARED.by_target()]
    assert "inputs" not in vars(examples)


@pytest.mark.parametrize("examples", [SHARED, OWN])
def test_no_array_can_be_written_to(examples):
    arrays = [examples.inputs, examples.labels, examples.flat]
    arrays += [array for found in (examples.by_task(), examples.by_target()) for _, *both in found for array in both]
    assert not any(array.flags.writeable for array in arrays)


def test_logits_of_probabilities_have_scikit_learns_log_loss():
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.uniform(size=(20, 1)), [[0.0], [1.0]]])
    y = (rng.uniform(size=22) < 0.5).astype(float)
    binary = Target(0, 0, TaskKind.BINARY, 0)
    z = binary.logits(np.hstack([1 - p, p]), np.array([0.0, 1.0]))
    assert z.shape == (22, 1)
    assert np.mean(np.logaddexp(0, z[:, 0]) - y * z[:, 0]) == pytest.approx(log_loss(y, p[:, 0]), rel=1e-12)
    assert np.abs(z).max() == pytest.approx(36.04, abs=0.01)
    assert ((z[:, 0] > 0) == (p[:, 0] > 0.5)).all()


def test_classes_that_were_not_seen_have_no_probability():
    target = Target(0, 0, TaskKind.MULTICLASS, 0, 4)
    z = target.logits(np.array([[0.25, 0.75]]), np.array([1.0, 3.0]))
    np.testing.assert_allclose(np.exp(z), [[0, 0.25, 0, 0.75]], atol=1e-15)
    binary = Target(0, 0, TaskKind.BINARY, 0)
    assert binary.logits(np.ones((1, 1)), np.array([1.0]))[0, 0] > 36
    assert binary.logits(np.ones((1, 1)), np.array([0.0]))[0, 0] < -36


def test_predictors_of_targets_fill_their_own_columns_and_rows():
    def own(inputs: np.ndarray) -> np.ndarray:
        assert len(inputs)
        return inputs[:, 0]

    wide = SHARED.targets[3]
    predictor = TargetPredictors(TASKS, {SHARED.targets[0]: own, wide: lambda x: np.ones((len(x), 3))}, 7)
    assert predictor.n_parameters == 7
    assert predictor.predict(SHARED.inputs, None).tolist() == [[x, 0, 0, 1, 1, 1, 0, 0] for x in (0, 2, 4)]
    found = predictor.predict(OWN.inputs, OWN.task)
    assert found[:, 0].tolist() == [0, 2, 0, 0, 0]
    assert not found[:, 1:].any()
