"""A plugin of tests: a data set that trains in a blink, and methods that misbehave on command.

The hyperparameter `act` says how, `mark` names a file: what has happened once is not to happen again.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, StudyError, hookimpl, tunable
from mtbench.testing.problems import RECIPE, OwnRegression


class Tiny(OwnRegression):
    name = "tiny"
    recipe = replace(RECIPE, max_epochs=4, keep="final")


@dataclass(frozen=True, kw_only=True)
class ProbeParams:
    alpha: float = tunable(1e-3, grid=(1e-3, 1e-2), low=1e-5, high=1e-1)
    act: str = "train"
    mark: str = ""


class Linear(nn.Module):
    def __init__(self, d: int, n_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(d, n_outputs))

    def forward(self, batch: Batch) -> Tensor:
        return batch.inputs @ self.weight


class Probe(GradientMethod):
    name = "probe"
    reference = Reference("A test", "here")
    Params = ProbeParams

    def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
        misbehave(params.act, Path(params.mark))
        return Linear(problem.n_features, problem.n_outputs)

    def objective(self, model: nn.Module, batch: Batch, params: Any) -> Tensor:
        return batch.task_losses(model(batch)).sum() + params.alpha * model.weight.square().sum()


class Steady(Probe):
    name = "steady"


class Choosy(Probe):
    name = "choosy"

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        return "Choosy likes no problem."


def misbehave(act: str, mark: Path) -> None:
    if act == "raise":
        raise ValueError("an act of\nmisbehaviour")
    if act == "refuse":
        raise StudyError("this is refused")
    if act == "exit":
        sys.exit(7)
    if act == "end":
        os._exit(7)
    if act == "chat":
        for line in range(100_000):
            print("line", line, "of a plugin that talks too much")
        raise ValueError("and now this")
    if act == "kill once" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "wait" and not mark.exists():
        mark.with_suffix(".begun").touch()
        while not mark.exists():
            time.sleep(0.01)


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    return [Probe, Steady, Choosy]


@hookimpl
def mtbench_datasets() -> list[type[OwnRegression]]:
    return [Tiny]


@hookimpl
def mtbench_stack_start(stack: Any) -> None:
    """Keeps count of what a run hands to its workers."""
    if "TINY_STARTED" in os.environ:
        with open(os.environ["TINY_STARTED"], "a") as file:
            file.write(f"{stack.id}\n")


@hookimpl
def mtbench_epoch(stack_id: str, epoch: int, n_active: int) -> None:
    """Keeps what is told of the epochs that stacks reach."""
    if "TINY_REACHED" in os.environ:
        with open(os.environ["TINY_REACHED"], "a") as file:
            file.write(f"{stack_id} {epoch}\n")
