"""Memory of stacks as predicted before they start, against the allocator's peak while they train."""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path

import torch

from benchmarks.gpu.built_in import methods
from benchmarks.gpu.figures import Row, Setting
from benchmarks.gpu.shapes import Shape, shapes
from mtbench.contracts.trials import Trial
from mtbench.training import predicted_bytes, train_stack
from mtbench.training.memory import TensorBytes, peak_bytes, restart_peak, used_bytes

WITHIN = 0.1


def rows(setting: Setting) -> list[Row]:
    """One row for each shape and stack size."""
    cases = {
        f"{shape.name}, {shape.method}, R = {r}": (shape, r)
        for shape in shapes(setting.small)
        for r in shape.memory_sizes
    }
    return [_row(what, *case, setting) for what, case in setting.in_time(cases)]


def _row(what: str, shape: Shape, r: int, setting: Setting) -> Row:
    method, dataset = methods()[shape.method], shape.dataset()
    trials = [_shortened(trial) for trial in shape.trials(method, r)]
    problems = {split: dataset.load(Path(), split, None) for split in {trial.split for trial in trials}}
    predicted = predicted_bytes(method, problems, trials, dataset, str(setting.device)) or 0
    gc.collect()
    if setting.device.type == "cuda":
        torch.cuda.empty_cache()
        restart_peak(setting.device)
        before = used_bytes(setting.device) or 0
        train_stack(method, problems, trials, dataset, str(setting.device))
        measured = peak_bytes(setting.device) - before
    else:
        with TensorBytes() as count:
            train_stack(method, problems, trials, dataset, "cpu")
        measured = count.peak
    apart = predicted / measured - 1
    figure = f"{predicted / 1e6:.1f} MB predicted, {measured / 1e6:.1f} MB measured, {apart:+.1%}"
    values = {"predicted": predicted, "measured": measured, "R": r}
    return Row(what, figure, f"within {WITHIN:.0%}", abs(apart) <= WITHIN, values)


def _shortened(trial: Trial) -> Trial:
    """The trial with one epoch and one look at the validation part."""
    recipe = dataclasses.replace(trial.cell.recipe, max_epochs=1, eval_every=1, keep="none")
    return dataclasses.replace(trial, cell=dataclasses.replace(trial.cell, recipe=recipe))
