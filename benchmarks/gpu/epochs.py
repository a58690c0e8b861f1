"""Inside an epoch the device is never waited for, and what batches are made of lies on it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.gpu.built_in import cells, methods
from benchmarks.gpu.figures import Row, Setting
from mtbench.contracts.method import GradientMethod
from mtbench.testing.problems import Miniature, SharedImages, miniature_trials
from mtbench.training import data as placement
from mtbench.training.gradient import GradientStack

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "aten::_local_scalar_dense", "DtoH")
"""What the profiler calls a look at the device's numbers, or a part of it."""

WAIT_INSIDE_TORCH = "taan_trace_norm"
"""Takes singular values, for which torch asks the device whether they were found."""

_EPOCH = "mtbench_epoch"


def rows(setting: Setting) -> list[Row]:
    """Waits of all gradient methods, and where the data are."""
    waits: dict[str, dict[str, int]] = {}
    places: dict[str, list[str]] = {}
    for cell, (method, dataset) in setting.in_time(cells(setting.small, 2)):
        if isinstance(method, GradientMethod):
            stack = _stack(method, dataset, setting)
            waits[cell], places[cell] = _waits(stack, setting), _places(stack)
    waiting = sorted(cell for cell, found in waits.items() if found and not cell.startswith(WAIT_INSIDE_TORCH))
    figure = f"{sum(sum(found.values()) for found in waits.values())} waits in {len(waits)} cells"
    listed = sorted(cell for cell, found in waits.items() if found)
    figure += f": {'; '.join(f'{cell} {waits[cell]}' for cell in listed[:4])}" if listed else ""
    elsewhere = sorted(cell for cell, found in places.items() if set(found) != {setting.device.type})
    where = f"{len(places) - len(elsewhere)} of {len(places)} cells on the device"
    return [
        Row("waits inside an epoch (profiler)", figure, "none but singular values", not waiting, {"waits": waits}),
        Row("rows, labels and sizes", where, "all on the device", not elsewhere, {"elsewhere": elsewhere}),
        _kept_apart(setting),
    ]


def _stack(method: GradientMethod, dataset: Miniature, setting: Setting) -> GradientStack:
    splits = (0, 1) if method.stackable else (0,)
    trials = miniature_trials(method, dataset, splits=splits)
    recipe = dataclasses.replace(dataset.recipe, dtype="float32")
    cell = dataclasses.replace(trials[0].cell, recipe=recipe)
    trials = [dataclasses.replace(trial, cell=cell) for trial in trials]
    problems = {split: dataset.load(Path(), split, None) for split in splits}
    return GradientStack(method, problems, trials, dataset, setting.device)


def _waits(stack: GradientStack, setting: Setting) -> dict[str, int]:
    """Waits between the beginning and the end of the third epoch."""
    stack.train_epoch()
    stack.train_epoch()
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if setting.device.type == "cuda" else [])
    with profile(activities=kinds, acc_events=True) as profiled, record_function(_EPOCH):
        stack.train_epoch()
    events = list(profiled.events() or [])
    epoch = next(event.time_range for event in events if event.name == _EPOCH)
    inside = [e for e in events if epoch.start <= e.time_range.start <= epoch.end and _is_wait(e)]
    return dict(Counter(event.name for event in inside))


def _is_wait(event: FunctionEvent) -> bool:
    return any(word in event.name for word in WAITS)


def _places(stack: GradientStack) -> list[str]:
    """Kinds of the devices that hold the training part."""
    columns = stack.rows_to_predict(4)[0]
    part = stack.part("train")
    return sorted({tensor.device.type for tensor in columns.values()} | {device.type for device in part.devices})


def _kept_apart(setting: Setting) -> Row:
    """Images too large for the device stay on the CPU, and give the same training."""
    method = methods()["cnn"]
    assert isinstance(method, GradientMethod)
    dataset = SharedImages()
    losses = []
    for share in (placement.SHARE, placement.SHARE, 0.0):
        with patch.object(placement, "SHARE", share):
            stack = _stack(method, dataset, setting)
            losses.append(torch.stack([stack.train_epoch() for _ in range(2)]).cpu())
            apart = stack.part("train").apart
    here, again, there = losses
    difference = float(((there - here) / here).abs().max())
    where = "gathered on the CPU" if apart else "on the device"
    figure = f"{where}; losses {difference:.1e} apart, twice on the device {float((again - here).abs().max()):.1e}"
    expected = setting.device.type == "cpu" or apart
    values = {"losses": [loss.tolist() for loss in losses]}
    return Row(
        "images larger than the device's memory", figure, "the same losses", difference == 0 and expected, values
    )
