"""Every built-in method on every built-in data set trains two steps, or is skipped with a reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from official_files import WRITERS

from mtbench import Dataset, Layout, Method, Part, Problem, Recipe
from mtbench.contracts.method import FitMethod, GradientMethod
from mtbench.contracts.trials import Cell, Status, Trial
from mtbench.plan.grid import hyperparameters
from mtbench.plugins.host import load_plugins
from mtbench.training import train_stack

PLUGINS = load_plugins(())
METHODS = sorted(n for n, m in PLUGINS.methods.items() if m.__module__.startswith("mtbench_methods."))
DATASETS = sorted(n for n, d in PLUGINS.datasets.items() if d.__module__.startswith("mtbench_datasets."))


@pytest.fixture(scope="module", params=DATASETS)
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
        yield made, thinned(made.load(root / "data", 0, made.Options()))


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
    rows = problem.parts["train"].n_rows
    return dataclasses.replace(
        recipe, backbone=small, base="", max_epochs=1, batch_size=-(-rows // 2), rows_per_task=0, keep="all", hidden=8
    )  # fmt: skip


def trained(method: Method, dataset: Dataset, problem: Problem, **recipe: Any) -> Any:
    changed = dataclasses.replace(two_steps(dataset.recipe, problem), **recipe)
    cell = Cell(method.name, method.version, "test", dataset.name, dataset.version, {}, "", changed)
    settings = {name: known.default for name, known in hyperparameters(type(method), changed).items()}
    settings |= {name: few for name, few in FEW.items() if name in settings}
    # A refit, for gradient methods: one epoch, and no look at what two steps cannot have made better.
    return train_stack(method, {0: problem}, [Trial(cell, settings, 0, 0)], dataset)


@pytest.mark.parametrize("name", METHODS)
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


def test_rows_of_each_task_in_every_step_train_as_well(dataset: tuple[Dataset, Problem]) -> None:
    made, problem = dataset
    if problem.parts["train"].task is None:
        return
    for name in METHODS:
        method = method_named(name)
        if isinstance(method, GradientMethod) and method.supports(problem, two_steps(made.recipe, problem)) is None:
            result = trained(method, made, problem, rows_per_task=2)
            assert result.status == [Status.FINISHED], (name, result.reason)
