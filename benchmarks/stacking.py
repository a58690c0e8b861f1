"""Stacked against one at a time, on the same trials, in one run: `python -m benchmarks.stacking`.

For every cell of the built-in methods and data sets the stack size R is calibrated as a run would do it. Then, in turn
and several times over, R trials are trained as one stack and some of the same trials one at a time (R = 1: the
trainer's own path without mapping). The ratio of trials per second is taken round by round; its median is printed. Both
sides train for the same few epochs, without early stopping, in one process with one torch thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from benchmarks.cells import supported_cells
from mtbench.contracts.method import GradientMethod
from mtbench.contracts.stacking import groups
from mtbench.contracts.trials import Trial
from mtbench.data.root import data_root
from mtbench.plan.grid import PlannedCell
from mtbench.plugins.host import load_plugins
from mtbench.plugins.loading import load_split
from mtbench.tasks import Problem
from mtbench.training import train_stack
from mtbench.training.calibrate import calibrate

EPOCHS = 10
ALONE = 6  # trials trained one at a time per round
GOALS = {("amtfl_synthetic", "nn"): 15.0, ("amtfl_synthetic", "mt_nn"): 15.0, ("amtfl_synthetic", "amtfl"): 15.0}
AT_LEAST = 0.9


def main() -> None:
    """Measures all cells and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", help="comma-separated; all built-in methods unless given")
    parser.add_argument("--datasets", help="comma-separated; all whose data are there unless given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=25, help="settings per split")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    plugins, root = load_plugins(), data_root(options.data)
    methods = options.methods.split(",") if options.methods else sorted(plugins.methods)
    datasets = options.datasets.split(",") if options.datasets else sorted(plugins.datasets)
    print(f"{'data set':18} {'method':10} {'R':>5} {'trials/s at R=1':>16} {'stacked':>10} {'ratio':>7}  goal")
    rows = []
    for name in datasets:
        for cell in supported_cells(plugins, methods, name, options.draws, root):
            row = _measure(cell, root, options.rounds)
            rows.append(row)
            verdict = "" if row["goal"] is None else ("met" if row["ratio"] >= row["goal"] else "MISSED")
            print(
                f"{name:18} {row['method']:10} {row['R']:5d} {row['alone']:16.3g} {row['stacked']:10.3g} "
                f"{row['ratio']:7.2f}  {row['goal']} {verdict}",
                flush=True,
            )
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


def _measure(cell: PlannedCell, root: Path, rounds: int) -> dict[str, object]:
    problems = {split: load_split(cell.dataset, root, split, cell.options) for split in cell.splits}
    group = max(groups(cell.trials(), cell.shapes), key=len)
    size = int(str(calibrate(cell.method, problems, group, cell.dataset, "cpu")["stack_size"]))
    trials = [_shortened(trial) for trial in group]
    stack = trials[: min(size, len(trials))]
    alone = stack[:: max(1, len(stack) // ALONE)][:ALONE]
    slow, fast, ratios = [], [], []
    for _ in range(rounds):
        one = len(alone) / sum(_seconds(cell, problems, [trial]) for trial in alone)
        many = one if len(stack) == 1 else len(stack) / _seconds(cell, problems, stack)
        slow.append(one)
        fast.append(many)
        ratios.append(many / one)
    goal = GOALS.get((cell.cell.dataset, cell.cell.method), AT_LEAST)
    return {
        "dataset": cell.cell.dataset,
        "method": cell.cell.method,
        "R": len(stack),
        "alone": median(slow),
        "stacked": median(fast),
        "ratio": median(ratios),
        "ratios": ratios,
        "goal": goal,
    }


def _shortened(trial: Trial) -> Trial:
    """The trial with a small, equal number of epochs; a solver's stays as it is."""
    recipe = dataclasses.replace(trial.cell.recipe, max_epochs=EPOCHS, patience=0, keep="none")
    return dataclasses.replace(trial, cell=dataclasses.replace(trial.cell, recipe=recipe))


def _seconds(cell: PlannedCell, problems: dict[int, Problem], trials: Sequence[Trial]) -> float:
    started = time.perf_counter()
    result = train_stack(cell.method, problems, trials, cell.dataset)
    took = time.perf_counter() - started
    if result.train_seconds is None:
        raise SystemExit(f"{cell.cell.label} did not train: {result.reason[0]}")
    # Solvers are timed as a whole; a gradient stack without the test metrics, which both sides compute alike.
    return float(result.train_seconds.sum()) if isinstance(cell.method, GradientMethod) else took


if __name__ == "__main__":
    main()
