"""The device against the CPU, and stacked trials against trials alone, for every built-in method."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.built_in import cells
from benchmarks.gpu.figures import Row, Setting
from mtbench.contracts.method import GradientMethod, Method
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.trials import StackResult, Trial
from mtbench.tasks import Array
from mtbench.testing.problems import Miniature, miniature_trials
from mtbench.training import train_stack

EPOCHS = {"float64": 4, "float32": 1}
"""In float32 a few steps of Adam make much of rounding: where a gradient is near 0, a step goes the other way."""

DATASETS = {"float64": 2, "float32": 1}
"""Of each method. Float64 tells whether two ways compute the same, so it comes first and goes further."""

TO_CPU = {"float64": 1e-6, "float32": 2e-2}
TO_ALONE = {"float64": 1e-8, "float32": 2e-2}
"""Largest difference, relative to the root mean square, of what is compared: in float64 the objective of every epoch,
all metrics and learned matrices, in float32 the objective of the first epoch."""


def rows(setting: Setting) -> list[Row]:
    """One row for each precision and comparison, the worst method named."""
    found = []
    for dtype in DATASETS:
        to_cpu: dict[str, float] = {}
        to_alone: dict[str, float] = {}
        for cell, (method, dataset) in setting.in_time(cells(setting.small, DATASETS[dtype])):
            to_cpu[cell], to_alone[cell] = _compared(method, dataset, dtype, setting)
        for what, apart, most in (
            (f"{setting.device.type} against cpu", to_cpu, TO_CPU[dtype]),
            ("stacked against alone", to_alone, TO_ALONE[dtype]),
        ):
            found.append(_row(f"{what}, {dtype}", apart, most))
    return found


def _row(what: str, apart: dict[str, float], most: float) -> Row:
    worst = max(apart, key=lambda cell: apart[cell], default="")
    beyond = sorted(cell for cell, value in apart.items() if not value <= most)
    figure = f"{len(apart)} cells, at most {apart.get(worst, float('nan')):.1e} apart ({worst})"
    figure += f"; beyond: {', '.join(beyond[:8])}" if beyond else ""
    return Row(what, figure, f"<= {most:g}", not beyond, {"apart": apart})


def _compared(method: Method, dataset: Miniature, dtype: str, setting: Setting) -> tuple[float, float]:
    """Largest relative differences of predictions: to the CPU, and to the first trial alone."""
    trials = _trials(method, dataset, dtype)
    here = _trained(method, dataset, trials, str(setting.device))
    there = _trained(method, dataset, trials, "cpu")
    alone = _trained(method, dataset, trials[:1], str(setting.device))
    compared = _numbers if dtype == "float64" else _first_losses
    return _apart(compared(here), compared(there), len(trials)), _apart(compared(here), compared(alone), 1)


def _trials(method: Method, dataset: Miniature, dtype: Any) -> list[Trial]:
    splits = (0, 1) if getattr(method, "stackable", True) else (0,)
    trials = miniature_trials(method, dataset, splits=splits)
    recipe: Recipe = dataclasses.replace(dataset.recipe, dtype=dtype, max_epochs=EPOCHS[dtype], patience=0)
    cell = dataclasses.replace(trials[0].cell, recipe=recipe)
    # Refits: they end at a given epoch, where a search's trials may differ by a tie between two.
    epochs = EPOCHS[dtype] if isinstance(method, GradientMethod) else 0
    return [dataclasses.replace(trial, cell=cell, epochs=epochs) for trial in trials]


def _trained(method: Method, dataset: Miniature, trials: Sequence[Trial], device: str) -> StackResult:
    problems = {split: dataset.load(Path(), split, None) for split in {trial.split for trial in trials}}
    return train_stack(method, problems, trials, dataset, device)


def _apart(one: list[Array], other: list[Array], n: int) -> float:
    """The largest difference of the first n trials."""
    return max((_difference(a[:n], b[:n]) for a, b in zip(one, other, strict=True)), default=0.0)


def _first_losses(result: StackResult) -> list[Array]:
    return [values[:, :1] for name, values in result.history.items() if name == "loss"]


def _numbers(result: StackResult) -> list[Array]:
    """What both must agree in: epoch by epoch the objective, and what the last epoch gives."""
    losses = [values for name, values in result.history.items() if name == "loss"]
    return [*losses, *result.metrics["test"].values(), *result.learned.values()]


def _difference(a: Array, b: Array) -> float:
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return float(np.abs(a - b).max() / (np.sqrt(np.mean(np.square(b))) + 1e-12))
