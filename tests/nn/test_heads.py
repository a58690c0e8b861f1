"""Heads per task, and copies of a network per task: equal to a loop over tasks in every layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mtbench.contracts.batch import Batch, TaskColumns
from mtbench.nn.copies import Copies
from mtbench.nn.heads import Heads, task_features
from mtbench.testing.problems import OwnMulticlass, SharedOneVsAll
from mtbench.training.data import PartData, batch_of

CPU = torch.device("cpu")


def batch_from(miniature: Any, rows: Any = slice(None), per_task: int = 0) -> tuple[Any, Batch]:
    problem = miniature().load(Path(), 0, None)
    columns = PartData([problem], "train", CPU, torch.float64).rows(0, rows)
    return problem, batch_of(columns, TaskColumns.of(problem, CPU), per_task)


def in_order(n: int) -> torch.Tensor:
    task = OwnMulticlass().load(Path(), 0, None).parts["train"].task
    assert task is not None
    return torch.as_tensor(np.concatenate([np.flatnonzero(task == t)[:n] for t in range(3)]))


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU()).double()


def test_copies_give_what_a_loop_over_them_gives_and_keep_their_own_statistics() -> None:
    torch.manual_seed(0)
    modules = [network() for _ in range(3)]
    made = iter(modules)
    copies = Copies(lambda: next(made), 3)
    x = torch.randn(3, 6, 5, dtype=torch.float64)
    torch.manual_seed(0)
    alone = [network() for _ in range(3)]
    expected = torch.stack([module(rows) for module, rows in zip(alone, x, strict=True)])
    torch.testing.assert_close(copies(x, own=True), expected)
    means = torch.stack([module[1].running_mean for module in alone])
    torch.testing.assert_close(copies.state()["1.running_mean"], means)
    copies.eval()
    torch.testing.assert_close(copies(x[0]), torch.stack([module.eval()(x[0]) for module in alone]))


def test_heads_on_shared_features_equal_a_dense_layer_per_task() -> None:
    problem, batch = batch_from(SharedOneVsAll)
    heads = Heads(problem, 5).double()
    expected = torch.stack([batch.inputs @ heads.S[t, :, 0] + heads.b[t, 0] for t in range(3)], 1)
    torch.testing.assert_close(heads(batch.inputs, batch), expected)


def test_rows_of_each_task_give_what_all_rows_through_all_tasks_give_in_the_columns_that_are_read() -> None:
    problem, batch = batch_from(OwnMulticlass, in_order(6), per_task=6)
    _, mixed = batch_from(OwnMulticlass, in_order(6))
    torch.manual_seed(0)
    copies = Copies(lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh()).double(), 3)
    heads = Heads(problem, 4).double()
    features = task_features(copies, batch)
    assert features.shape == (3, 6, 4)
    assert task_features(copies, mixed).shape == (3, 18, 4)
    outputs, all_outputs = heads(features, batch), heads(task_features(copies, mixed), mixed)
    assert outputs.shape == all_outputs.shape == (18, 9)
    torch.testing.assert_close(batch.task_losses(outputs), mixed.task_losses(all_outputs))
    for t, columns in enumerate(problem.output_slices):
        rows = slice(6 * t, 6 * t + 6)
        torch.testing.assert_close(outputs[rows, columns], all_outputs[rows, columns])
        others = [c for c in range(9) if not columns.start <= c < columns.stop]
        assert (outputs[rows][:, others] == 0).all()


def test_copies_start_from_the_weights_of_one() -> None:
    copies = Copies(lambda: nn.Linear(2, 3), 4)
    weights = {"weight": torch.randn(3, 2), "other": torch.ones(1)}
    copies.start_from(weights)
    assert all(torch.equal(one, weights["weight"]) for one in copies.state()["weight"])
    assert not torch.equal(copies.state()["bias"][0], copies.state()["bias"][1])
