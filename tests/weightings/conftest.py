"""Steps of a weighting, and task gradients to test it on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtbench import TaskStep, Weighting


def _params(weighting: Weighting, **settings: Any) -> Any:
    """Hyperparameters as the harness gives them: floats are scalar tensors."""
    values = {f.name: getattr(weighting.Params(**settings), f.name) for f in dataclasses.fields(weighting.Params)}
    scalars = {name: torch.tensor(v, dtype=torch.float64) for name, v in values.items() if isinstance(v, float)}
    return weighting.Params(**{**values, **scalars})


def _step(
    J: Tensor, losses: Any = None, present: Any = None, key: Any = 0, state: Any = None, learned: Any = None
) -> TaskStep:
    """A step with gradients J [..., T, P]; all tasks are present, with losses of 1, where nothing else is said."""
    ones = torch.ones(J.shape[:-1], dtype=J.dtype)
    here = ones if present is None else torch.as_tensor(present, dtype=J.dtype).expand_as(ones)
    losses = ones if losses is None else torch.as_tensor(losses, dtype=J.dtype)
    J = torch.where(here[..., None] > 0, J, 0.0)
    gram = J.double() @ J.double().mT
    return TaskStep(losses * here, here, torch.as_tensor(key), gram, J, learned or {}, state or {})


def _combine(weighting: Weighting, J: Tensor, settings: Any = None, **step: Any) -> Tensor:
    """What a weighting makes of gradients J [T, P] in a first step: weights [T], or a gradient [P]."""
    params = _params(weighting, **(settings or {}))
    step.setdefault("state", weighting.start(*J.shape, params))
    return weighting.combine(_step(J, **step), params)[0]


def _updates(weighting: Weighting, J: Tensor, settings: Any = None) -> Tensor:
    """The updates [R, P] that a Gram weighting makes of R trials' gradients [R, T, P], mapped over trials."""
    weights = torch.vmap(lambda one: _combine(weighting, one, settings))(J)
    return (weights[:, None] @ J)[:, 0]


@pytest.fixture(scope="session")
def params() -> Callable[..., Any]:
    return _params


@pytest.fixture(scope="session")
def step() -> Callable[..., TaskStep]:
    return _step


@pytest.fixture(scope="session")
def combine() -> Callable[..., Tensor]:
    return _combine


@pytest.fixture(scope="session")
def updates() -> Callable[..., Tensor]:
    return _updates


def _random(rng: np.random.Generator, kind: str, n_trials: int) -> Tensor:
    shape = n_trials, int(rng.integers(2, 9)), int(rng.integers(2, 30))
    J = rng.standard_normal(shape)
    if kind == "alike":
        J = 0.1 * J + rng.standard_normal((n_trials, 1, shape[2]))
    if kind == "unequal":
        J *= 10 ** rng.uniform(-3, 3, (*shape[:2], 1))
    if kind == "scaled":
        J *= 10 ** rng.uniform(-6, 6, (n_trials, 1, 1))
    if kind == "ill-conditioned":
        J *= np.logspace(0, -3, shape[2])
    if kind == "zero":
        J[:, rng.integers(shape[1])] = 0
    return torch.from_numpy(J)


KINDS = ("plain", "alike", "unequal", "scaled", "ill-conditioned", "zero")


@pytest.fixture(scope="session")
def jacobians() -> Callable[..., Iterator[Tensor]]:
    """Batches of gradients [25, T, P] of 2 to 8 tasks, often with fewer parameters than tasks or about as many."""

    def drawn(n: int, kinds: tuple[str, ...] = KINDS, seed: int = 0, n_trials: int = 25) -> Iterator[Tensor]:
        rng = np.random.default_rng(seed)
        yield from (_random(rng, kinds[i % len(kinds)], n_trials) for i in range(n // n_trials))

    return drawn
