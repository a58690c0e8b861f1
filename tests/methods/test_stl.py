"""STL minimises each task's penalised loss, on its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mtbench_methods.stl import STL, objective

from mtbench.testing.problems import OwnRegression


def test_no_weights_nearby_are_better(mini_data, solving) -> None:
    params = solving.params(STL(), 2, lambda_=0.05, mu=[0.0, 0.1])
    weights = STL().solve(mini_data, params).weights
    lowest = objective(mini_data, weights, params)
    for seed in range(10):
        moved = weights + 1e-3 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(seed)).double()
        assert (objective(mini_data, moved, params) > lowest).all()


def test_it_ends_at_its_tolerance(mini_data, solving) -> None:
    found = solving.fit(STL(), mini_data, lambda_=[1e-4, 0.1], mu=[0.0, 0.05])
    assert (found.residual <= STL.tolerance).all()


def test_stacked_equals_alone(miniature, solving) -> None:
    solving.assert_stacked_equals_alone(STL(), miniature, lambda_=[1e-3, 1e-2, 0.1, 1.0], mu=[0.0, 0.1, 0.0, 0.3])


def test_no_task_looks_at_another(solving) -> None:
    problem, _ = solving.related_tasks(12)
    train = problem.parts["train"]
    labels = np.where(train.task[:, None] == 3, train.labels + 5.0, train.labels)
    moved = replace(problem, parts={**problem.parts, "train": replace(train, labels=labels)})
    before = solving.fit(STL(), solving.data([problem], [0])).weights
    after = solving.fit(STL(), solving.data([moved], [0])).weights
    changed = (before != after).any(1)[0]
    assert changed[3]
    assert changed.sum() == 1


def test_a_pinned_value(solving) -> None:
    data = solving.data([OwnRegression().load(Path(), 0, None)], [0])
    assert solving.fit(STL(), data, lambda_=0.1).weights.norm().item() == pytest.approx(5.560447, rel=1e-6)
