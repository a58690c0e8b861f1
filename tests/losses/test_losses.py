"""The losses of training and those of metrics are the same, and so are those of large logits by hand."""

import numpy as np
import pytest
import torch

from mtbench import TaskKind
from mtbench.losses import scoring, training


def drawn(kind, n_outputs):
    """Outputs [R, n, C], some of them large, and labels [n, D]."""
    rng = np.random.default_rng(n_outputs)
    outputs = rng.normal(size=(3, 40, n_outputs)) * 10.0 ** rng.integers(-2, 3, (3, 40, 1))
    if kind is TaskKind.REGRESSION:
        return outputs, rng.normal(size=(40, n_outputs))
    if kind is TaskKind.MULTICLASS:
        return outputs, rng.integers(n_outputs, size=(40, 1)).astype(float)
    return outputs, rng.integers(2, size=(40, n_outputs)).astype(float)


@pytest.mark.parametrize(
    ("kind", "n_outputs"),
    [(kind, n) for kind in TaskKind for n in (1, 4) if (kind, n) != (TaskKind.BINARY, 4)],
)
def test_the_losses_of_training_and_of_metrics_are_the_same(kind, n_outputs):
    outputs, labels = drawn(kind, n_outputs)
    scored = scoring.label_losses(kind, outputs, labels)
    trained = training.label_losses(kind, torch.tensor(outputs), torch.tensor(labels).expand(3, -1, -1))
    assert scored.shape == trained.shape == (*outputs.shape[:2], labels.shape[1])
    np.testing.assert_allclose(scored, trained.numpy(), 1e-12, 1e-12)


@pytest.mark.parametrize("kind", [TaskKind.BINARY, TaskKind.MULTICLASS])
def test_a_large_wrong_logit_costs_its_size_and_a_right_one_nothing(kind):
    outputs = np.array([[[-800.0]], [[800.0]]]) if kind is TaskKind.BINARY else np.array([[[800.0, 0]], [[0, 800.0]]])
    found = scoring.label_losses(kind, outputs, np.array([[1.0]]))[:, 0, 0]
    again = training.label_losses(kind, torch.tensor(outputs), torch.ones(2, 1, 1, dtype=torch.float64))[:, 0, 0]
    assert found.tolist() == again.tolist() == [800, 0]
