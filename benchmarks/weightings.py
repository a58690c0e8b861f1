"""A step of training under each weighting, alone and stacked, beside TorchJD's: `python -m benchmarks.weightings`.

Three problems: 12 regressions on a network 30-6-12, batch 50; 10 regressions on 64-500-10, batch 100; and School, hard
sharing as its recipe has it, where every row belongs to one of 139 tasks. On the first two TorchJD's `mtl_backward` and
its aggregator of the same name train the same network, in the same process and in turn with ours. Prints milliseconds
of a step: the median of many short turns, with one thread and the environment of the local engine's workers; `--clock
cpu` counts processor time, which says more on a busy machine. "stacked" divides a step of a stack by its R trials.

    python -m benchmarks.weightings --out benchmarks/figures/weightings.json
    python -m benchmarks.weightings --problems school --weightings pcgrad,mgda
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torchjd.autojac import jac_to_grad, mtl_backward

from benchmarks.weighting_solvers import torchjds
from mtbench.contracts.method import GradientMethod
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.trials import Cell, Trial
from mtbench.data.root import data_root
from mtbench.engines.local import WORKER_VARIABLES
from mtbench.plan.grid import hyperparameters
from mtbench.plugins.host import Plugins, load_plugins
from mtbench.tasks import Part, Problem, Task, TaskKind
from mtbench.training.gradient import GradientStack

STEPS = 5  # of a turn
SECONDS, TURNS = 1.2, 3  # that each of them is measured for, at least


@dataclasses.dataclass(frozen=True)
class Shape:
    """A problem of generated rows: n tasks on d - k - n.

    Attributes:
        n_inputs: d.
        hidden: k.
        n_tasks: n.
        batch: Rows of a step.
        n_trials: R of the stack.
    """

    n_inputs: int
    hidden: int
    n_tasks: int
    batch: int
    n_trials: int


SHAPES = {"30-6-12": Shape(30, 6, 12, 50, 100), "64-500-10": Shape(64, 500, 10, 100, 4)}
SCHOOL, SCHOOL_TRIALS = "school", 4


def generated(shape: Shape) -> Problem:
    """Regressions that share half of their weights."""
    rng = np.random.default_rng(0)
    W = rng.normal(size=(shape.n_inputs, 1)) + rng.normal(size=(shape.n_inputs, shape.n_tasks))

    def part(n: int) -> Part:
        X = rng.normal(size=(n, shape.n_inputs)).astype(np.float32)
        return Part(X, (X @ W + rng.normal(size=(n, shape.n_tasks))).astype(np.float32))

    tasks = tuple(Task(f"t{t}", TaskKind.REGRESSION) for t in range(shape.n_tasks))
    sizes = {"train": 20 * shape.batch, "validation": shape.batch, "test": shape.batch}
    return Problem("generated", 0, tasks, {name: part(n) for name, n in sizes.items()})


def stack(
    plugins: Plugins, method: str, problem: Problem, recipe: Recipe, n_trials: int, dataset: Any
) -> GradientStack:
    """A stack of hard sharing, that differs in its trials' penalty."""
    cls = plugins.method(method)
    defaults = {name: h.default for name, h in hyperparameters(cls, recipe).items()}
    cell = Cell(method, cls.version, "mtbench", problem.dataset, "1", {}, "", recipe)
    trials = [Trial(cell, {**defaults, "lambda_": 1e-4 * (r + 1)}, 0, 0) for r in range(n_trials)]
    made = cls()
    assert isinstance(made, GradientMethod)
    return GradientStack(made, {0: problem}, trials, dataset, torch.device("cpu"))


class TorchJD:
    """The same network under an aggregator of TorchJD's."""

    def __init__(self, shape: Shape, problem: Problem, name: str) -> None:
        self._trunk = nn.Sequential(nn.Linear(shape.n_inputs, shape.hidden), nn.ReLU())
        self._heads = nn.ModuleList(nn.Linear(shape.hidden, 1) for _ in range(shape.n_tasks))
        self._aggregator: Any = torchjds(name, shape.n_tasks)
        self._adam = torch.optim.Adam([*self._trunk.parameters(), *self._heads.parameters()], 1e-3)
        part = problem.parts["train"]
        self._X, self._Y = torch.as_tensor(np.array(part.inputs)), torch.as_tensor(np.array(part.labels))
        self._batch, self._at = shape.batch, 0

    def steps(self, n: int) -> None:
        """So many steps."""
        for _ in range(n):
            rows = slice(self._at, self._at + self._batch)
            self._at = (self._at + self._batch) % (len(self._X) - self._batch + 1)
            features = self._trunk(self._X[rows])
            losses = [(head(features)[:, 0] - self._Y[rows, t]).square().mean() for t, head in enumerate(self._heads)]
            mtl_backward(losses, features)
            jac_to_grad(list(self._trunk.parameters()), self._aggregator)
            self._adam.step()
            self._adam.zero_grad()


def measured(runs: Mapping[str, Callable[[int], None]], clock: Callable[[], float]) -> dict[str, float]:
    """Milliseconds of a step of each: the median over short turns, which all take one after the other."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(2)
    left = dict(runs)
    while left:
        for name, run in list(left.items()):
            began = clock()
            run(STEPS)
            found[name].append(clock() - began)
            if sum(found[name]) >= SECONDS and len(found[name]) >= TURNS:
                del left[name]
    return {name: 1e3 * statistics.median(times) / STEPS for name, times in found.items()}


def compared(
    plugins: Plugins, problem: str, weightings: Sequence[str], clock: Callable[[], float], root: Path
) -> dict[str, dict[str, float]]:
    """By weighting, milliseconds of a step "alone", "stacked" (for each trial), unweighted ("plain"), of "torchjd"."""
    if problem == SCHOOL:
        dataset = plugins.dataset(SCHOOL)()
        rows = dataset.load(root, 0, dataset.Options())
        recipe, n_trials, shape = dataset.recipe, SCHOOL_TRIALS, None
    else:
        shape = SHAPES[problem]
        dataset, rows, n_trials = plugins.dataset("mmoe_synthetic")(), generated(shape), shape.n_trials
        recipe = Recipe(backbone="mlp", hidden=shape.hidden, batch_size=shape.batch)
    found = {}
    plain = [stack(plugins, "hard_sharing", rows, recipe, n, dataset) for n in (1, n_trials)]
    for name in weightings:
        alone, stacked = (stack(plugins, f"hard_sharing+{name}", rows, recipe, n, dataset) for n in (1, n_trials))
        # The unweighted step takes its turn every time: a machine is not equally fast all the while.
        runs: dict[str, Callable[[int], Any]] = {"plain alone": plain[0].train_epoch, "alone": alone.train_epoch}
        runs |= {"plain stacked": plain[1].train_epoch, "stacked": stacked.train_epoch}
        if shape is not None and torchjds(name, shape.n_tasks) is not None:
            runs["torchjd"] = TorchJD(shape, rows, name).steps
        found[name] = measured(runs, clock)
        for what in ("plain stacked", "stacked"):
            found[name][what] /= n_trials
        print(_line(name, found[name]), flush=True)
    return found


def _line(name: str, times: Mapping[str, float]) -> str:
    torchjd = times.get("torchjd")
    beside = (
        "" if torchjd is None else f"{torchjd:9.2f}  {torchjd / times['alone']:6.1f} {torchjd / times['stacked']:8.1f}"
    )
    return (
        f"  {name:<12} {times['alone']:9.3f} {times['stacked']:9.4f}   {times['alone'] / times['plain alone']:6.2f}"
        f" {times['stacked'] / times['plain stacked']:8.2f}   {beside}"
    )


def summary(found: Mapping[str, Mapping[str, float]], losses: Sequence[str]) -> dict[str, float]:
    """What is asked of weightings: medians over those of gradients, the most over those of losses."""
    gradients = [times for name, times in found.items() if name not in losses]
    beside = [times for times in gradients if "torchjd" in times]
    said = {
        "gradient weightings, alone, over unweighted, median": _median(t["alone"] / t["plain alone"] for t in gradients)
    }
    of_losses = [found[name]["alone"] / found[name]["plain alone"] for name in losses if name in found]
    if of_losses:
        said["loss weightings, alone, over unweighted, median"] = statistics.median(of_losses)
        said["loss weightings, alone, over unweighted, most"] = max(of_losses)
    if beside:
        said["TorchJD over ours alone, median"] = _median(t["torchjd"] / t["alone"] for t in beside)
        said["TorchJD over ours stacked, median"] = _median(t["torchjd"] / t["stacked"] for t in beside)
    return said


def _median(values: Any) -> float:
    found = list(values)
    return statistics.median(found) if found else float("nan")


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", default=",".join((*SHAPES, SCHOOL)))
    parser.add_argument("--weightings", default="", help="joined by commas; all unless named")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in WORKER_VARIABLES.items()):
        # As a worker of the local engine: the C library reads its variables when a process starts.
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **WORKER_VARIABLES})
    torch.set_num_threads(1)
    plugins = load_plugins()
    from mtbench.contracts.weighting import LossWeighting

    names = given.weightings.split(",") if given.weightings else sorted(plugins.weightings)
    losses = [name for name in names if issubclass(plugins.weighting(name), LossWeighting)]
    clock = time.perf_counter if given.clock == "wall" else time.process_time
    figures = {}
    for problem in given.problems.split(","):
        print(f"{problem}: ms of a step alone and stacked, their ratios to unweighted; TorchJD's ms and ratios to both")
        found = compared(plugins, problem, names, clock, data_root(None))
        figures[problem] = {"ms": found, "summary": summary(found, losses)}
        for text, value in figures[problem]["summary"].items():
            print(f"  {text}: {value:.2f}")
    if given.out is not None:
        record = {"clock": given.clock, "torch": torch.__version__, "problems": figures}
        given.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
