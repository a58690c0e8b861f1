"""Objectives as task losses and a penalty, and whose parameters are whose, on vectors and images of both layouts."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from mtbench import GradientMethod
from mtbench.contracts.hyperparameters import describe
from mtbench.plugins.host import load_plugins
from mtbench.testing.ownership import moved, parameter_axes, task_gradients, trespasses, wrongly_shared
from mtbench.testing.problems import (
    RECIPE,
    OwnImages,
    OwnMulticlass,
    OwnRegression,
    SharedImages,
    SharedOneVsAll,
    SharedRegression,
)

METHODS = [
    method
    for method in load_plugins().methods.values()
    if issubclass(method, GradientMethod) and method.terms is not GradientMethod.terms
]
OF_THEIR_OWN = {"amtfl", "deep_amtfl", "deep_amtl"}  # losses times learned feedback

CASES = {
    "shared": (SharedOneVsAll, 0, {}),
    "shared, missing labels": (SharedRegression, 0, {}),
    "own": (OwnRegression, 0, {}),
    "own, rows of each task": (OwnMulticlass, 5, {}),
    "linear": (OwnMulticlass, 0, {"activation": "identity"}),
    "one layer": (SharedOneVsAll, 0, {"layers": 1}),
    "images, shared": (SharedImages, 0, {"backbone": "conv4"}),
    "images, own": (OwnImages, 0, {"backbone": "conv4"}),
    "images, own, rows of each task": (OwnImages, 4, {"backbone": "lenet"}),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Any:
    return CASES[request.param]


@pytest.fixture(params=METHODS, ids=lambda method: method.name)
def reached(request: pytest.FixtureRequest, case: Any, deep: Any) -> Any:
    """A method, its model away from its start, a batch, and the gradients of the task losses."""
    miniature, per_task, changes = case
    method, problem = request.param(), deep.problem(miniature)
    recipe = dataclasses.replace(RECIPE, max_epochs=2, **changes)
    if (reason := method.supports(problem, recipe)) is not None:
        pytest.skip(reason)
    known = describe(method.Params)
    small = {name: min(h.choices) for name, h in known.items() if h.kind is int and h.choices}
    model, params = deep.build(method, problem, recipe, **small)
    batch = deep.batch(problem, per_task)
    return method, moved(model), batch, params, task_gradients(method, model, batch, params)


def test_every_method_but_those_with_feedback_has_terms() -> None:
    gradient = {name for name, m in load_plugins().methods.items() if issubclass(m, GradientMethod)}
    assert {method.name for method in METHODS} == gradient - OF_THEIR_OWN


def test_the_objective_is_the_sum_of_the_terms(reached: Any) -> None:
    method, model, batch, params, _ = reached
    terms = method.terms(model, batch, params)
    assert terms.tasks.shape == (batch.problem.n_tasks,)
    torch.testing.assert_close(method.objective(model, batch, params), terms.tasks.sum() + terms.penalty)


def test_what_belongs_to_one_task_is_reached_by_no_other(reached: Any) -> None:
    method, model, batch, _, gradients = reached
    assert trespasses(gradients, parameter_axes(method, model), batch.problem) == []


def test_what_is_shared_is_reached_by_two_tasks_at_least(reached: Any) -> None:
    method, model, batch, params, gradients = reached
    axes = parameter_axes(method, model)
    assert wrongly_shared(gradients, axes, batch.problem) == []
    everywhere = [gradients]
    for stage in method.stages(method.Params(), RECIPE):
        if stage.terms is not None:
            everywhere.append(task_gradients(method, model, batch, params, stage.terms))
            assert trespasses(everywhere[-1], axes, batch.problem) == []
            assert wrongly_shared(everywhere[-1], axes, batch.problem) == []
    for name in gradients:
        reaching = max((rows[name].flatten(1) != 0).any(1).sum() for rows in everywhere)
        assert name in axes or reaching >= 2, name
