"""Every built-in method on every built-in data set trains two steps, or is skipped with a reason.

Of data sets that are alike a method is given one, the next method the next; `--thorough` gives it all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from official_files import WRITERS

from mtbench import Dataset, Layout, Method, Part, Problem, Recipe, TaskKind
from mtbench.contracts.method import FitMethod, GradientMethod
from mtbench.contracts.trials import Cell, Status, Trial
from mtbench.plan.grid import hyperparameters
from mtbench.plugins.host import load_plugins
from mtbench.training import train_stack

PLUGINS = load_plugins(())
METHODS = sorted(n for n, m in PLUGINS.methods.items() if m.__module__.startswith("mtbench_methods."))
GRADIENT = [name for name in METHODS if issubclass(PLUGINS.method(name), GradientMethod)]
DATASETS = sorted(n for n, d in PLUGINS.datasets.items() if d.__module__.startswith("mtbench_datasets."))
OWN = ("amtfl_synthetic", "amtl_imbalanced", "amtl_synthetic", "omniglot", "school", "youtube8m")

ALIKE: dict[tuple[Layout, TaskKind, bool], tuple[str, ...]] = {
    (Layout.OWN, TaskKind.REGRESSION, False): ("amtfl_synthetic", "amtl_imbalanced", "amtl_synthetic", "school"),
    (Layout.SHARED, TaskKind.BINARY, False): ("awa_c", "digits", "mnist", "room", "usps"),
    (Layout.SHARED, TaskKind.BINARY, True): ("awa_c_images", "cub", "imagenet_small", "mnist_imbalanced"),
}
"""Complete data sets by layout, kind of task, and whether inputs are images."""


def pairs(methods: Sequence[str], datasets: Sequence[str]) -> list[Any]:
    """Each method with each data set, data set by data set; those that others stand for are for `--thorough`."""
    found = []
    for dataset in datasets:
        group = next((group for group in ALIKE.values() if dataset in group), (dataset,))
        for i, name in enumerate(methods):
            marks = () if group[i % len(group)] == dataset else pytest.mark.thorough
            found.append(pytest.param(dataset, name, id=f"{dataset}-{name}", marks=marks))
    return found


@pytest.fixture(scope="module")
def dataset(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Dataset, Problem]]:
    """A data set on miniature files in their official layout, and its first split."""
    made = PLUGINS.dataset(request.param)()
    root = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        if request.param in WRITERS:
            WRITERS[request.param](root / "data", patch)
            made.prepare(root / "data")
        problem = thinned(made.load(root / "data", 0, made.Options()))
        assert (problem.layout is Layout.OWN) == (request.param in OWN)
        for (layout, kind, images), names in ALIKE.items():
            if request.param in names:
                assert (problem.layout, {task.kind for task in problem.tasks}) == (layout, {kind})
                assert (len(problem.input_shape) > 1) == images
        yield made, problem


def thinned(problem: Problem) -> Problem:
    """The same with some 100 rows a part where tasks share them: more would only take longer."""
    parts = dict(problem.parts)
    if problem.layout is Layout.SHARED:
        for name, part in parts.items():
            rows = np.arange(0, part.n_rows, max(1, part.n_rows // 100))
            parts[name] = Part(np.asarray(part.inputs)[rows], part.labels[rows])
    return dataclasses.replace(problem, parts=parts)


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Solvers stop long before they are done, as networks do here."""
    for name in METHODS:
        for rounds in ("max_rounds", "near_rounds", "trial_rounds", "final_rounds", "newton_rounds", "n_starts"):
            if hasattr(PLUGINS.method(name), rounds):
                monkeypatch.setattr(PLUGINS.method(name), rounds, 2)


MOST = 20_000  # outputs times features, of a fit method
FEW = {"n_estimators": 1, "max_iter": 1, "n_chains": 1, "n_folds": 2, "base": "trees"}


@cache
def method_named(name: str) -> Method:
    return PLUGINS.method(name)()


def two_steps(recipe: Recipe, problem: Problem) -> Recipe:
    """A recipe that stops after two steps, on a network that many copies of are soon trained."""
    small = "conv4" if recipe.backbone.startswith("resnet") else recipe.backbone
    half = -(-problem.parts["train"].n_rows // 2)
    return dataclasses.replace(
        recipe, backbone=small, base="", max_epochs=1, batch_size=half, rows_per_task=0, keep="all", hidden=8
    )


def trained(method: Method, dataset: Dataset, problem: Problem, **recipe: Any) -> Any:
    changed = dataclasses.replace(two_steps(dataset.recipe, problem), **recipe)
    cell = Cell(method.name, method.version, "test", dataset.name, dataset.version, {}, "", changed)
    settings = {name: known.default for name, known in hyperparameters(type(method), changed).items()}
    settings |= {name: few for name, few in FEW.items() if name in settings}
    # A refit, for gradient methods: one epoch, and no look at what two steps cannot have made better.
    return train_stack(method, {0: problem}, [Trial(cell, settings, 0, 0)], dataset)


@pytest.mark.parametrize(("dataset", "name"), pairs(METHODS, DATASETS), indirect=["dataset"], scope="module")
def test_it_trains_two_steps_or_says_why_not(name: str, dataset: tuple[Dataset, Problem]) -> None:
    made, problem = dataset
    method = method_named(name)
    reason = method.supports(problem, two_steps(made.recipe, problem))
    if reason is not None:
        assert len(reason) > 10
        assert not reason.endswith(".")
        return
    if isinstance(method, FitMethod) and problem.n_outputs * problem.n_features > MOST:
        return  # it has no steps to stop after; tests/methods/test_estimators.py has it on every layout and kind
    result = trained(method, made, problem)
    assert result.status == [Status.FINISHED], result.reason
    assert made.report_metric.partition("@")[0] in result.metrics["test"]


@pytest.mark.parametrize(("dataset", "name"), pairs(GRADIENT, OWN), indirect=["dataset"], scope="module")
def test_rows_of_each_task_in_every_step_train_as_well(name: str, dataset: tuple[Dataset, Problem]) -> None:
    made, problem = dataset
    method = method_named(name)
    if method.supports(problem, two_steps(made.recipe, problem)) is None:
        rows = max(2, -(-problem.parts["train"].n_rows // (2 * problem.n_tasks)))
        result = trained(method, made, problem, rows_per_task=rows)
        assert result.status == [Status.FINISHED], result.reason
