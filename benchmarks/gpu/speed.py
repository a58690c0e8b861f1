"""Stacked training against plain loops, and against one core of the CPU.

The plain loop trains one trial: the method's own model and objective, `torch.optim.Adam` (torch's default and its fused
one, of which the faster counts), data on the device, no loader. That it is the same training is checked first. For
networks per task, `benchmarks.towers` has a loop over tasks as published codes write it, which counts as well.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import towers
from benchmarks.devices import seconds
from benchmarks.gpu.built_in import methods
from benchmarks.gpu.figures import Row, Setting
from benchmarks.gpu.shapes import Shape, shapes
from mtbench.contracts.batch import TaskColumns
from mtbench.contracts.hyperparameters import describe
from mtbench.contracts.method import GradientMethod
from mtbench.contracts.seeds import seed_from
from mtbench.contracts.trials import LEARNING_RATE, Trial
from mtbench.training.data import PartData, batch_of
from mtbench.training.gradient import GradientStack
from mtbench.training.memory import is_out_of_memory

SAME = (1e-3, 2e-2)  # how far the objectives of one step and of three may be apart, relatively
ROUND = 0.25  # seconds a side is measured before the next has its turn
GOALS = {"tiny": 20.0, "school": 5.0}
"""Trials per second of the best stack against those of the plain loop; others have no goal."""


def rows(setting: Setting) -> list[Row]:
    """One row for each shape, and for each network per task one against a loop over tasks."""
    cases = {f"{shape.name}, {shape.method}": shape for shape in shapes(setting.small)}
    found = [_row(what, shape, setting) for what, shape in setting.in_time(cases)]
    per_task = {f"loop over tasks, {name}": name for name in towers.LOOPS if not setting.small or name == "mrn"}
    return found + [_towers_row(name, setting) for _, name in setting.in_time(per_task)]


class PlainLoop:
    """A loop over one trial, as one would write it for this training alone."""

    def __init__(self, method: GradientMethod, shape: Shape, trial: Trial, device: torch.device, fused: bool) -> None:
        dataset = shape.dataset()
        problem = dataset.load(Path(), trial.split, None)
        self._recipe = trial.cell.recipe
        own = {name: value for name, value in trial.params.items() if name != LEARNING_RATE}
        assert set(own) == set(describe(method.Params))
        self._method, self._params = method, method.Params(**own)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_from(dataset.name, trial.split, trial.seed, "initialisation"))
            self.model = method.build(problem, self._params, self._recipe)
        self.model.to(device)
        self._layout = TaskColumns.of(problem, device)
        self._part = PartData([problem], "train", device, torch.float32)
        self._adam = torch.optim.Adam(self._groups(float(trial.params[LEARNING_RATE])), fused=fused)
        self._rng = np.random.default_rng(seed_from(dataset.name, trial.split, trial.seed, "order"))
        self._by_task = None
        if self._recipe.rows_per_task:
            task = problem.parts["train"].task
            self._by_task = [np.flatnonzero(task == t) for t in range(problem.n_tasks)]
        self._device = device

    def _groups(self, rate: float) -> list[dict[str, Any]]:
        factors = self._method.learning_rate_factors(self.model)

        def factor(name: str) -> float:
            return next((f for prefix, f in factors.items() if name == prefix or name.startswith(prefix + ".")), 1.0)

        return [{"params": [p], "lr": rate * factor(name)} for name, p in self.model.named_parameters()]

    def steps(self, n: int) -> torch.Tensor:
        """Takes the first n steps of an epoch; gives their summed objective."""
        total = torch.zeros((), device=self._device)
        for batch, per_task in self._batches(n):
            columns = self._part.rows(0, batch)
            objective = self._method.objective(self.model, batch_of(columns, self._layout, per_task), self._params)
            self._adam.zero_grad()
            objective.backward()  # type: ignore[no-untyped-call]
            self._adam.step()
            total += objective.detach()
        return total

    def _batches(self, n: int) -> list[tuple[torch.Tensor, int]]:
        size = self._recipe.rows_per_task
        if self._by_task is not None:
            drawn = [np.concatenate([self._rng.choice(own, size) for own in self._by_task]) for _ in range(n)]
            return [(torch.as_tensor(rows, device=self._device), size) for rows in drawn]
        order = torch.as_tensor(self._rng.permutation(self._part.n_rows), device=self._device)
        return [(rows, 0) for rows in order.split(self._recipe.batch_size or len(order))[:n]]


class Stacked:
    """The trainer of mtbench on R trials."""

    def __init__(self, method: GradientMethod, shape: Shape, r: int, device: torch.device) -> None:
        dataset, trials = shape.dataset(), shape.trials(method, r)
        problems = {split: dataset.load(Path(), split, None) for split in {trial.split for trial in trials}}
        self.stack, self.r = GradientStack(method, problems, trials, dataset, device), r

    def steps(self, n: int) -> torch.Tensor:
        """Takes the first n steps of an epoch; gives the first trial's summed objective."""
        return self.stack.train_epoch(n)[0]


def _row(what: str, shape: Shape, setting: Setting) -> Row:
    method = methods()[shape.method]
    assert isinstance(method, GradientMethod)
    if not shape.dataset().recipe.rows_per_task:
        _check_same(method, shape, setting.device)
    sides: dict[str, tuple[Any, int]] = {
        "loop": (PlainLoop(method, shape, shape.trials(method, 1)[0], setting.device, fused=False), 1),
        "fused loop": (PlainLoop(method, shape, shape.trials(method, 1)[0], setting.device, fused=True), 1),
    }
    for r in shape.sizes:
        try:
            sides[f"R = {r}"] = (Stacked(method, shape, r, setting.device), r)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
    times = _measured(sides, setting)
    loops = [min(pair) for pair in zip(times["loop"], times["fused loop"], strict=True)]
    ratios = {name: median(a / b for a, b in zip(loops, times[name], strict=True)) for name in times if "R" in name}
    best = max(ratios, key=lambda name: ratios[name])
    figure = f"loop {1e3 * median(loops):.2f} ms a trial's step; " + ", ".join(
        f"{name}: {ratio:.3g} times" for name, ratio in ratios.items()
    )
    values: dict[str, Any] = {"seconds": times, "ratios": ratios}
    if setting.device.type == "cuda" and shape.name in ("tiny", "school", "lenet"):
        r = {"tiny": 256, "school": 16, "lenet": 1}[shape.name]
        core = _measured({"cpu": (Stacked(method, shape, r, torch.device("cpu")), r)}, setting)["cpu"]
        values["cpu_seconds"] = core
        figure += f"; {median(core) / median(times[best]):.3g} times one CPU core at R = {r}"
    goal = None if setting.small else GOALS.get(shape.name)
    met = None if goal is None else ratios[best] >= goal
    return Row(what, figure, "" if goal is None else f">= {goal:g} times the loop", met, values)


def _check_same(method: GradientMethod, shape: Shape, device: torch.device) -> None:
    """The loop and a stack of one must have the same objectives, step by step."""
    ours = Stacked(method, shape, 1, device)
    loop = PlainLoop(method, shape, shape.trials(method, 1)[0], device, fused=False)
    for n, most in zip((1, 3), SAME, strict=True):
        mine, its = float(ours.steps(n)), float(loop.steps(n))
        if not abs(mine - its) <= most * abs(its):
            raise RuntimeError(f"The plain loop of {shape.name} is another training: objective {its:g}, ours {mine:g}.")


def _measured(sides: dict[str, tuple[Any, int]], setting: Setting) -> dict[str, list[float]]:
    """Seconds of a step per trial, side by side in turn, several times over."""
    counts = {}
    for name, (side, _) in sides.items():
        side.steps(2)  # the first steps allocate
        once = seconds(lambda side=side: side.steps(2), setting.device)[0] / 2  # type: ignore[misc]
        counts[name] = max(1, min(50, round((0.01 if setting.small else ROUND) / once)))
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(2 if setting.small else 5):
        for name, (side, r) in sides.items():
            n, done, took = counts[name], 0, 0.0
            while done < n:
                # An epoch may have fewer steps than are measured.
                steps = min(n - done, _steps(side))
                took += seconds(lambda side=side, steps=steps: side.steps(steps), setting.device)[0]  # type: ignore[misc]
                done += steps
            found[name].append(took / n / r)
    return found


def _steps(side: Any) -> int:
    """Steps of an epoch."""
    if isinstance(side, Stacked):
        return side.stack.n_steps
    recipe, n_rows = side._recipe, side._part.n_rows
    return 2**30 if recipe.rows_per_task else -(-n_rows // (recipe.batch_size or n_rows))


def _towers_row(name: str, setting: Setting) -> Row:
    dataset = towers.alphabets(2, 12, 2) if setting.small else towers.alphabets(50, 28, 8)
    found = towers.measure(methods()[name], dataset(), towers.LOOPS[name], setting.device, 2 if setting.small else 5)
    ratio = min(found["ratio"], found["fused_ratio"])
    figure = f"{found['ours']:.1f} ms a step, {ratio:.3g} times the loop over tasks"
    goal = setting.device.type == "cuda"
    return Row(
        f"conv4 towers, {name}",
        figure,
        f">= {towers.GOAL:g} times" if goal else "",
        ratio >= towers.GOAL if goal else None,
        found,
    )
