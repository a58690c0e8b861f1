"""A plugin of tests: a method that upsets all that a process shares, and one that does nothing but train."""

from __future__ import annotations

import gc
import os
import random
import resource
import signal
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, hookimpl


class Linear(nn.Module):
    def __init__(self, d: int, n_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(d, n_outputs))

    def forward(self, batch: Batch) -> Tensor:
        return batch.inputs @ self.weight


class Quiet(GradientMethod):
    """Trains, and tells the log what the process is like."""

    name = "quiet"
    reference = Reference("A test", "here")

    def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
        return Linear(problem.n_features, problem.n_outputs)

    def objective(self, model: nn.Module, batch: Batch, params: Any) -> Tensor:
        return batch.task_losses(model(batch)).sum()


@dataclass(frozen=True, kw_only=True)
class OffenderParams:
    act: str = "everything"


class Offender(Quiet):
    """Upsets what `act` names, and trains."""

    name = "offender"
    Params = OffenderParams

    def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
        for name, act in ACTS.items():
            if params.act in (name, "everything"):
                act(problem)
        return Linear(problem.n_features, problem.n_outputs).to(torch.float32)


def _standardise(problem: Problem) -> None:
    for part in problem.parts.values():
        for array in (part.inputs, part.labels):
            base = getattr(array, "base", None)
            for found in (array, base if base is not None else array):
                if isinstance(found, np.ndarray):
                    try:
                        found.setflags(write=True)
                        found *= 3
                    except ValueError:
                        pass


def _poison_caches(problem: Problem) -> None:
    """All arrays of problems that this process holds, wherever they are."""
    for thing in gc.get_objects():
        if isinstance(thing, Problem) and thing is not problem:
            _standardise(thing)


def _patch(problem: Problem) -> None:
    matmul, squared = torch.Tensor.__matmul__, torch.nn.functional.mse_loss
    torch.Tensor.__matmul__ = lambda a, b: 2 * matmul(a, b)  # type: ignore[method-assign,assignment]
    torch.nn.functional.mse_loss = lambda *args, **kw: 3 * squared(*args, **kw)
    Linear.forward = lambda self, batch: 7 * (batch.inputs @ self.weight)  # type: ignore[method-assign]


def _leave_a_child(problem: Problem) -> None:
    os.fork()  # and let it go on


ACTS: dict[str, Any] = {
    "dtype": lambda problem: torch.set_default_dtype(torch.float64),
    "grad": lambda problem: torch.set_grad_enabled(False),
    "threads": lambda problem: torch.set_num_threads(3),
    "deterministic": lambda problem: torch.use_deterministic_algorithms(True),
    "seeds": lambda problem: (torch.manual_seed(1), np.random.seed(1), random.seed(1)),  # noqa: NPY002  # upsets it
    "errors": lambda problem: np.seterr(all="raise"),
    "patch": _patch,
    "arrays": _standardise,
    "caches": _poison_caches,
    "directory": lambda problem: os.chdir("/"),
    "signals": lambda problem: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "limits": lambda problem: resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1)),
    "environment": lambda problem: os.environ.clear(),
    "path": lambda problem: sys.path.clear(),
    "modules": lambda problem: sys.modules.update({"scipy.special": None}),
    "child": _leave_a_child,
}


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    return [Quiet, Offender]
