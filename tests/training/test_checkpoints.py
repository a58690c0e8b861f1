"""Checkpoints: training that goes on from one gives what uninterrupted training gives, and bad ones count as none."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mtbench_methods.cnn import CNN

from mtbench.testing.methods import assert_same
from mtbench.testing.problems import OwnMulticlass, SharedOneVsAll, miniature_trials
from mtbench.training import Checkpoint, train_stack

NOWHERE = Path()


class Stopped(Exception):
    pass


def trials_of(dataset: Any, **recipe: Any) -> list[Any]:
    trials = miniature_trials(CNN(), dataset, [{"lambda_": 1e-4}, {"lambda_": 1e-3}], splits=(0, 1))
    cell = dataclasses.replace(trials[0].cell, recipe=dataclasses.replace(dataset.recipe, **recipe))
    return [dataclasses.replace(trial, cell=cell) for trial in trials]


def train(dataset: Any, trials: Any, **kwargs: Any) -> Any:
    problems = {split: dataset.load(NOWHERE, split, None) for split in (0, 1)}
    return train_stack(CNN(), problems, trials, dataset, **kwargs)


def stop_at(epoch: int) -> Any:
    def listener(at: int, n_active: int) -> None:
        if at > epoch:
            raise Stopped

    return listener


@pytest.mark.parametrize("recipe", [{}, {"optimiser": "sgd"}, {"patience": 2, "eval_every": 2}, {"decay_every": 3}])
@pytest.mark.parametrize("dataset", [SharedOneVsAll(), OwnMulticlass()], ids=lambda d: d.name)
def test_going_on_from_a_checkpoint_gives_the_same_bits(dataset: Any, recipe: Any, tmp_path: Path) -> None:
    if dataset.name == "miniature_multiclass":
        recipe = {**recipe, "rows_per_task": 4}
    trials = trials_of(dataset, **recipe)
    whole = train(dataset, trials)
    path = tmp_path / "checkpoints" / "stack.npz"
    with pytest.raises(Stopped):
        train(dataset, trials, on_epoch=stop_at(4), checkpoint=Checkpoint(path, trials, every=0.0))
    epochs: list[int] = []
    resumed = train(
        dataset, trials, on_epoch=lambda epoch, n: epochs.append(epoch), checkpoint=Checkpoint(path, trials, every=1e9)
    )
    assert epochs[0] == 5
    assert_same(whole, resumed, tolerance=0.0)
    assert np.array_equal(whole.best_epoch, resumed.best_epoch)


def test_a_checkpoint_of_other_trials_counts_as_none(tmp_path: Path) -> None:
    trials = trials_of(SharedOneVsAll())
    Checkpoint(tmp_path / "c", trials, every=0.0).write({"x": np.ones(2)}, {"note": "here"})
    found = Checkpoint(tmp_path / "c", trials).read()
    assert found is not None
    assert found[0]["x"].tolist() == [1.0, 1.0]
    assert found[1] == {"note": "here"}
    assert Checkpoint(tmp_path / "c", trials[:2]).read() is None
    assert Checkpoint(tmp_path / "c", trials, version="another").read() is None


def test_a_damaged_checkpoint_counts_as_none(tmp_path: Path) -> None:
    trials = trials_of(SharedOneVsAll())
    path = tmp_path / "c"
    Checkpoint(path, trials).write({"x": np.ones(2)}, {})
    content = path.read_bytes()
    for damaged in (content[:-1], content[:100] + b"x" + content[101:], b"", b"nonsense"):
        path.write_bytes(damaged)
        assert Checkpoint(path, trials).read() is None


def test_a_folder_that_cannot_be_written_costs_the_checkpoint_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    checkpoint = Checkpoint(tmp_path / "file" / "c", trials_of(SharedOneVsAll()), every=0.0)
    checkpoint.write({"x": np.ones(2)}, {})
    assert checkpoint.read() is None
    checkpoint.remove()
