"""bfloat16 autocast and images channels last, against float32 with channels first: what they change, and gain."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from statistics import median

import torch

from benchmarks.devices import seconds
from benchmarks.gpu.built_in import methods
from benchmarks.gpu.figures import Row, Setting
from benchmarks.gpu.shapes import Shape, shapes
from mtbench.contracts.method import GradientMethod
from mtbench.training.gradient import GradientStack

STEPS = 10
APART = {"channels last": 1e-3, "bfloat16": 5e-2, "bfloat16, channels last": 5e-2}
"""Largest relative difference of the summed objective of the first steps."""

COMPARED = 2  # steps: later ones enlarge what rounding has begun

_VARIANTS = {
    "float32": {},
    "channels last": {"channels_last": True},
    "bfloat16": {"autocast": "bfloat16"},
    "bfloat16, channels last": {"autocast": "bfloat16", "channels_last": True},
}


def rows(setting: Setting) -> list[Row]:
    """One row for each network of images and variant."""
    names = ("lenet",) if setting.small else ("lenet", "resnet18")
    cases = {shape.name: shape for shape in shapes(setting.small) if shape.name in names}
    return [row for _, shape in setting.in_time(cases) for row in _rows(shape, setting)]


def _rows(shape: Shape, setting: Setting) -> list[Row]:
    stacks = {name: _stack(shape, changes, setting) for name, changes in _VARIANTS.items()}
    losses = {name: float(stack.train_epoch(COMPARED).sum()) for name, stack in stacks.items()}
    taken: dict[str, list[float]] = {name: [] for name in stacks}
    for _ in range(1 if setting.small else 5):
        for name, stack in stacks.items():
            taken[name].append(1e3 * seconds(lambda stack=stack: stack.train_epoch(STEPS), setting.device)[0] / STEPS)  # type: ignore[misc]
    plain = "float32"
    found = []
    for name, times in taken.items():
        apart = abs(losses[name] / losses[plain] - 1)
        figure = f"{median(times):.2f} ms a step"
        if name == plain:
            found.append(Row(f"{shape.name}, {name}", figure, values={"ms": times}))
            continue
        gain = median(a / b for a, b in zip(taken[plain], times, strict=True))
        figure += f", {gain:.2f} times as fast, objective {apart:.1e} apart"
        values = {"ms": times, "ratio": gain, "apart": apart}
        found.append(Row(f"{shape.name}, {name}", figure, f"<= {APART[name]:g} apart", apart <= APART[name], values))
    return found


def _stack(shape: Shape, changes: dict[str, object], setting: Setting) -> GradientStack:
    method, dataset = methods()[shape.method], shape.dataset()
    assert isinstance(method, GradientMethod)
    trial = shape.trials(method, 1)[0]
    recipe = dataclasses.replace(trial.cell.recipe, **changes)  # type: ignore[arg-type]
    trial = dataclasses.replace(trial, cell=dataclasses.replace(trial.cell, recipe=recipe))
    torch.cuda.empty_cache()
    return GradientStack(method, {0: dataset.load(Path(), 0, None)}, [trial], dataset, setting.device)
