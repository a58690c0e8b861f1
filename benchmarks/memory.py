"""Memory of a stack as predicted before it starts, and as measured: `python -m benchmarks.memory`.

Every number comes from a process of its own. One predicts, and does not train. One trains a stack for an epoch, looks
at the validation part and measures the test part, and counts the bytes of tensors that live at once: what is predicted,
and must be within 10 %. One does the same without counting, and tells by how much the process itself grew, from after
a training of miniature data (which loads the libraries) to its peak; on the CPU that is more, since the C library's
heap keeps holes between tensors. On a CUDA device, where there is one, what counts is the allocator's peak, with
bfloat16 autocast and channels last.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import gc
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.cells import supported_cells
from benchmarks.devices import device_name, devices, on_cuda
from mtbench.contracts.stacking import groups
from mtbench.contracts.trials import Trial
from mtbench.data.root import data_root
from mtbench.plan.grid import PlannedCell
from mtbench.plugins.host import load_plugins
from mtbench.plugins.loading import load_split
from mtbench.tasks import Problem
from mtbench.testing.problems import MINIATURES, OwnImages, SharedImages, miniature_trials
from mtbench.training import predicted_bytes, train_stack
from mtbench.training.memory import TensorBytes, peak_bytes, restart_peak, used_bytes

CELLS = (
    ("nn", "digits", 64),
    ("nn", "digits", 256),
    ("deep_amtfl", "mnist_imbalanced", 1),
    ("deep_amtfl", "mnist_imbalanced", 4),
    ("hard_sharing", "omniglot", 1),
    ("hard_sharing", "omniglot", 4),
)
WITHIN = 0.1


def main() -> None:
    """Goes through the cells and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", help="METHOD:DATASET:R, comma-separated")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    parser.add_argument("--one", nargs=5, metavar=("METHOD", "DATASET", "R", "DEVICE", "WHAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        method, dataset, n_trials, device, what = options.one
        print(_one(method, dataset, int(n_trials), device, what, data_root(options.data)))
        return
    chosen = [_cell(text) for text in options.cells.split(",")] if options.cells else CELLS
    print(f"{'cell':34} {'R':>4} {'predicted':>10} {'tensors':>9} {'':>7} {'process':>9}   (MB)")
    rows = [_row(*cell, device, options.data) for device in devices() for cell in chosen]
    if options.out:
        options.out.write_text(json.dumps({"torch": torch.__version__, "cells": rows}, indent=1) + "\n")


def _cell(text: str) -> tuple[str, str, int]:
    method, dataset, n_trials = text.split(":")
    return method, dataset, int(n_trials)


def _row(method: str, dataset: str, n_trials: int, device: torch.device, data: Path | None) -> dict[str, object]:
    where = [] if data is None else ["--data", str(data)]
    found = {}
    for what in ("predicted", "tensors", "process") if device.type == "cpu" else ("predicted", "process"):
        one = ["--one", method, dataset, str(n_trials), str(device), what]
        command = [sys.executable, "-m", "benchmarks.memory", *where, *one]
        found[what] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
    measured = found.get("tensors", found["process"])
    apart = found["predicted"] / measured - 1
    verdict = "within" if abs(apart) <= WITHIN else "NOT within"
    print(
        f"{method + ' x ' + dataset + ', ' + device.type:34} {n_trials:4d} {found['predicted'] / 1e6:10.1f} "
        f"{measured / 1e6:9.1f} {apart:+7.1%} {found['process'] / 1e6:9.1f}   {verdict} {WITHIN:.0%}",
        flush=True,
    )
    return {"cell": f"{method} x {dataset}", "R": n_trials, "device": device_name(device), **found, "apart": apart}


def _one(method: str, dataset: str, n_trials: int, device: str, what: str, root: Path) -> int:
    """One of the numbers, in bytes."""
    torch.set_num_threads(1)
    cell = supported_cells(load_plugins(), [method], dataset, n_trials, root)[0]
    trials = [_shortened(trial) for trial in max(groups(cell.trials(), cell.shapes), key=len)][:n_trials]
    if device != "cpu":
        trials = [on_cuda(trial) for trial in trials]
    problems = {
        split: load_split(cell.dataset, root, split, cell.options) for split in {trial.split for trial in trials}
    }
    if what == "predicted":
        return predicted_bytes(cell.method, problems, trials, cell.dataset, device) or 0
    _load_libraries(cell, device)
    if what == "tensors":
        with TensorBytes() as count:
            train_stack(cell.method, problems, trials, cell.dataset, device)
        return count.peak
    return _growth(cell, problems, trials, torch.device(device))


def _growth(cell: PlannedCell, problems: dict[int, Problem], trials: Sequence[Trial], device: torch.device) -> int:
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed so far is no room that the stack could take
    restart_peak(device)
    before = used_bytes(device) or peak_bytes(device)
    train_stack(cell.method, problems, trials, cell.dataset, str(device))
    return peak_bytes(device) - before


def _load_libraries(cell: PlannedCell, device: str) -> None:
    """Trains one trial and two on miniature data."""
    for miniature in (*MINIATURES, SharedImages, OwnImages):
        dataset = miniature()
        problems = {0: dataset.load(Path(), 0, None)}
        if cell.method.supports(problems[0], dataset.recipe) is None:
            trials = miniature_trials(cell.method, dataset)
            train_stack(cell.method, problems, trials, dataset, device)
            train_stack(cell.method, problems, trials * 2, dataset, device)


def _shortened(trial: Trial) -> Trial:
    """The trial with one epoch and one look at the validation part."""
    recipe = dataclasses.replace(trial.cell.recipe, max_epochs=1, eval_every=1)
    return dataclasses.replace(trial, cell=dataclasses.replace(trial.cell, recipe=recipe))


if __name__ == "__main__":
    main()
