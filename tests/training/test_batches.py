"""Which rows make a batch, how images are varied, and how learning rates and ramps move."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtbench import Batch, DataError, GradientMethod, Part, Problem, Recipe, Reference, Rows, Task, TaskKind, tunable
from mtbench.testing.problems import RECIPE, OwnMulticlass, OwnRegression, SharedOneVsAll, miniature_trials
from mtbench.training import train_stack
from mtbench.training.augment import varied
from mtbench.training.batches import Batches
from mtbench.training.data import PartData

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class NotedParams:
    weight: float = tunable(2.0, ramped=True)


class Noted(GradientMethod):
    """Writes down what it is given."""

    name = "noted"
    reference = Reference("A test", "here")
    Params = NotedParams
    seen: list[tuple[Any, float]]

    def __init__(self) -> None:
        self.seen = []

    def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
        return Flat(problem)

    def objective(self, model: Any, batch: Batch, params: Any) -> Tensor:
        self.seen.append((batch, float(params.weight)))
        return model.weight.sum() + 0 * batch.task_losses(model(batch)).sum()


class Flat(nn.Module):
    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(problem.n_features, problem.n_outputs))

    def forward(self, batch: Batch) -> Tensor:
        return batch.inputs.flatten(1) @ self.weight


def batches_of(dataset: Any, n_trials: int = 1, **recipe: Any) -> Batches:
    trials = miniature_trials(Noted(), dataset, splits=tuple(range(n_trials)))
    problems = [dataset.load(Path(), split, None) for split in range(n_trials)]
    part = PartData(problems, "train", CPU, torch.float64)
    changed = dataclasses.replace(RECIPE, **recipe)
    return Batches(problems, trials, np.arange(n_trials), part, changed, CPU)


def train_noted(dataset: Any, **recipe: Any) -> tuple[Noted, Any]:
    method = Noted()
    trials = miniature_trials(method, dataset)
    cell = dataclasses.replace(trials[0].cell, recipe=dataclasses.replace(dataset.recipe, **recipe))
    trials = [dataclasses.replace(trials[0], cell=cell)]
    result = train_stack(method, {0: dataset.load(Path(), 0, None)}, trials, dataset)
    return method, result


def test_batches_by_task_have_so_many_rows_of_each_task_in_order() -> None:
    batches = batches_of(OwnMulticlass(), rows_per_task=4)
    assert batches.n_steps == -(-40 // 12)
    for columns, shared in batches.epoch(np.zeros(1, int)):
        assert shared
        assert columns["task"].tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_batches_by_task_show_small_tasks_again_before_large_ones_are_through() -> None:
    batches = batches_of(OwnRegression(), rows_per_task=5)
    seen = torch.cat([columns["inputs"][:, 0] for columns, _ in batches.epoch(np.zeros(1, int))])
    task = torch.cat([columns["task"] for columns, _ in batches.epoch(np.zeros(1, int))])
    rows = {t: len(seen[task == t].unique()) for t in range(4)}
    assert rows == {0: 10, 1: 10, 2: 6, 3: 4}  # of 20, 10, 6 and 4 rows


def test_batches_by_task_need_rows_that_belong_to_tasks() -> None:
    with pytest.raises(DataError, match="rows_per_task must be 0"):
        batches_of(SharedOneVsAll(), rows_per_task=4)


def test_no_two_steps_of_a_stream_share_a_key_and_streams_differ() -> None:
    batches = batches_of(SharedOneVsAll(), 2)
    keys = [columns["key"] for _ in range(3) for columns, _ in batches.epoch(np.array([0, 1]))]
    assert len({int(key) for pair in keys for key in pair}) == 2 * len(keys)


def test_a_restored_sampler_goes_on_with_the_same_batches() -> None:
    first, second = (batches_of(OwnMulticlass(), 2, rows_per_task=2) for _ in range(2))
    list(first.epoch(np.array([0, 1])))
    second.restore(first.state())
    for (one, _), (other, _) in zip(first.epoch(np.array([0, 1])), second.epoch(np.array([0, 1])), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_evaluation_by_task_gives_each_row_its_own_prediction() -> None:
    plain = train_noted(OwnMulticlass(), max_epochs=3, batch_size=12)[1]
    grouped = train_noted(OwnMulticlass(), max_epochs=3, rows_per_task=4)[1]
    # The objective moves every weight alike, whatever the batch; only the number of steps must agree.
    assert np.allclose(plain.predictions["test"], grouped.predictions["test"])


def test_the_learning_rate_falls_by_the_factor_at_every_so_many_epochs() -> None:
    dataset = SharedOneVsAll()
    sgd = {"optimiser": "sgd", "batch_size": 0, "max_epochs": 6}
    _, plain = train_noted(dataset, **sgd)
    _, decayed = train_noted(dataset, **sgd, decay_every=2, decay_factor=0.1)
    rate = dataset.recipe.learning_rate
    velocity = np.cumsum(0.9 ** np.arange(6))
    scales = np.array([1, 1, 0.1, 0.1, 0.01, 0.01])
    # The weights go down by rate x velocity x scale; the loss of epoch e is seen before its step.
    n_weights = dataset.load(Path(), 0, None).n_features * 3
    for result, scale in ((plain, np.ones(6)), (decayed, scales)):
        expected = -n_weights * np.concatenate([[0], np.cumsum(rate * velocity * scale)[:-1]])
        assert np.allclose(result.history["loss"][0], expected)


def test_ramped_hyperparameters_grow_from_zero_to_their_value() -> None:
    method, _ = train_noted(SharedOneVsAll(), batch_size=0, max_epochs=6, ramp_epochs=4)
    weights = [weight for batch, weight in method.seen]
    assert weights == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]


def test_shifted_and_mirrored_images_hold_the_pixels_they_should() -> None:
    image = torch.arange(16 * 16).view(1, 16, 16)
    still = torch.tensor([[0.5, 0.5, 0.9]])
    assert torch.equal(varied(image, still, flip=True), image)
    mirrored = torch.tensor([[0.5, 0.5, 0.1]])
    assert torch.equal(varied(image, mirrored, flip=True), image.flip(2))
    assert torch.equal(varied(image, mirrored, flip=False), image)
    down = varied(image, torch.tensor([[0.999, 0.5, 0.9]]), flip=True)
    assert torch.equal(down[0, :-2], image[0, 2:])
    assert torch.equal(down[0, -1], image[0, -1])
    colour = torch.stack([image, image + 1000], 1)
    assert torch.equal(varied(colour, mirrored, flip=True), colour.flip(3))


def test_rows_of_a_table_cannot_be_augmented() -> None:
    with pytest.raises(DataError, match="Only images"):
        varied(torch.zeros(4, 5), torch.zeros(4, 3), flip=True)


def test_parts_that_share_an_array_are_gathered_from_it() -> None:
    base = np.arange(6 * 2 * 2, dtype=np.uint8).reshape(6, 2, 2)
    base.flags.writeable = False
    labels = np.zeros((3, 1), np.float32)
    parts = {name: Part(Rows(base, np.array([5, 0, 2])), labels) for name in ("train", "validation", "test")}
    problem = Problem("shared", 0, (Task("t", TaskKind.BINARY),), parts)
    columns = PartData([problem], "train", CPU, torch.float64).rows(0, torch.tensor([0, 2]))
    assert torch.equal(columns["inputs"], torch.as_tensor(base[[5, 2]].astype(np.float64) / 255))
    joined = problem.refit().parts["train"].inputs
    assert isinstance(joined, Rows)
    assert joined.base is base
