"""No step of an epoch waits for the device: an epoch runs on the device "meta", whose numbers nobody can look at."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import pkgutil
from pathlib import Path
from typing import Any

import mtbench_methods
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mtbench import Batch, GradientMethod, Problem, Reference
from mtbench.testing.problems import OwnMulticlass, SharedImages, SharedOneVsAll, miniature_trials
from mtbench.training.batches import Batches
from mtbench.training.data import PartData
from mtbench.training.gradient import GradientStack

META = torch.device("meta")
BUILT_IN = [
    method
    for module in pkgutil.iter_modules(mtbench_methods.__path__, "mtbench_methods.")
    if hasattr(plugin := importlib.import_module(module.name), "mtbench_methods")
    for method in plugin.mtbench_methods()
    if issubclass(method, GradientMethod)
]


class Linear(GradientMethod):
    """A linear model of all pixels."""

    name = "linear_test"
    reference = Reference("A test", "here")

    def build(self, problem: Problem, params: Any, recipe: Any) -> nn.Module:
        return Flat(problem)

    def objective(self, model: nn.Module, batch: Batch, params: Any) -> Tensor:
        return batch.task_losses(model(batch)).sum()


class Flat(nn.Module):
    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(problem.n_features, problem.n_outputs))

    def forward(self, batch: Batch) -> Tensor:
        return batch.inputs.flatten(1) @ self.weight


def stack_on_meta(method: GradientMethod, dataset: Any, n_splits: int = 1, **recipe: Any) -> GradientStack:
    trials = miniature_trials(method, dataset, splits=tuple(range(n_splits)))
    cell = dataclasses.replace(trials[0].cell, recipe=dataclasses.replace(dataset.recipe, **recipe))
    trials = [dataclasses.replace(trial, cell=cell) for trial in trials]
    problems = {split: dataset.load(Path(), split, None) for split in range(n_splits)}
    return GradientStack(method, problems, trials, dataset, META)


@pytest.fixture(autouse=True)
def _no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device "meta" has none to switch off."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())


@pytest.mark.parametrize("method", BUILT_IN, ids=lambda method: method.name)
@pytest.mark.parametrize("recipe", [{}, {"rows_per_task": 2, "clip_norm": 1.0, "decay_every": 1, "ramp_epochs": 3}])
def test_an_epoch_of_every_method_looks_at_no_number(method: type[GradientMethod], recipe: dict[str, Any]) -> None:
    dataset = OwnMulticlass()
    if method().supports(dataset.load(Path(), 0, None), dataset.recipe) is not None:
        dataset = SharedOneVsAll()
        recipe = {**recipe, "rows_per_task": 0}
    n_splits = 2 if method.stackable else 1
    stack = stack_on_meta(method(), dataset, n_splits, **recipe)
    stack.train_epoch()
    assert stack.train_epoch().shape == (n_splits,)


@pytest.mark.parametrize("n_splits", [1, 2])
def test_varying_images_looks_at_no_number(n_splits: int) -> None:
    stack = stack_on_meta(Linear(), SharedImages(), n_splits, augment="crop_flip", optimiser="sgd")
    assert stack.train_epoch().shape == (n_splits,)


def test_a_step_that_looks_at_a_number_would_be_noticed() -> None:
    class Curious(Linear):
        """Looks at its loss."""

        def objective(self, model: nn.Module, batch: Batch, params: Any) -> Tensor:
            loss = super().objective(model, batch, params)
            return loss * (2.0 if loss.item() > 1.0 else 1.0)

    with pytest.raises(RuntimeError, match="meta tensors"):
        stack_on_meta(Curious(), SharedOneVsAll()).train_epoch()


class Counted(TorchDispatchMode):
    """Notes which step took tensors of the host to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.sent = -1, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        came = {x.device.type for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        if "cpu" in came and any(isinstance(x, Tensor) and x.is_meta for x in tree_leaves(out)):
            self.sent.append(self.step)
        return out


@pytest.mark.parametrize("trials", [[0, 0], [0, 1]])
def test_only_the_first_step_of_an_epoch_is_sent_anything(trials: list[int]) -> None:
    dataset = SharedImages()
    problems = [dataset.load(Path(), split, None) for split in (0, 1)]
    # Images of their own: those that parts share stay on the host here.
    problems = [
        dataclasses.replace(
            problem,
            parts={n: dataclasses.replace(part, inputs=np.asarray(part.inputs)) for n, part in problem.parts.items()},
        )
        for problem in problems
    ]
    recipe = dataclasses.replace(dataset.recipe, augment="crop")
    part = PartData(problems, "train", META, torch.float32)
    streams = miniature_trials(Linear(), dataset, splits=(0, 1))
    batches = Batches(problems, streams, np.arange(2), part, recipe, META)
    with Counted() as counted:
        for _ in batches.epoch(np.array(trials)):
            counted.step += 1
    assert counted.step > 0
    assert counted.sent
    assert set(counted.sent) == {-1}
