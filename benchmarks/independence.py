"""Results do not depend on the stack a trial is in: `python -m benchmarks.independence`.

For every built-in method and data set whose data are there, the same trials are trained one at a time and as one stack.

- float64, a few epochs: the largest difference of any metric of any trial (relative to values above 1), which must stay
  below 1e-8;
- float32, the full recipe with early stopping: the share of trials whose headline metrics agree to 1e-3. A trial that
  does not is named, with the epochs at which the two stopped: rounding that tips a tie between two epochs, or one row
  over a decision boundary, shows as a small difference in a metric that counts rows.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.cells import supported_cells
from mtbench.contracts.stacking import groups
from mtbench.contracts.trials import StackResult, Trial
from mtbench.data.root import data_root
from mtbench.metrics import metric
from mtbench.plan.grid import PlannedCell
from mtbench.plugins.host import load_plugins
from mtbench.plugins.loading import load_split
from mtbench.training import train_stack


def main() -> None:
    """Compares all cells and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", help="comma-separated; all built-in methods unless given")
    parser.add_argument("--datasets", help="comma-separated; all whose data are there unless given")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--trials", type=int, default=12, help="trials per cell")
    parser.add_argument("--epochs", type=int, help="epochs at most  [default: 6 in float64, the recipe's in float32]")
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    plugins, root = load_plugins(), data_root(options.data)
    methods = options.methods.split(",") if options.methods else sorted(plugins.methods)
    epochs = options.epochs or (6 if options.dtype == "float64" else None)
    worst, n_equal, n_all = 0.0, 0, 0
    for name in options.datasets.split(",") if options.datasets else sorted(plugins.datasets):
        for cell in supported_cells(plugins, methods, name, options.trials, root):
            alone, stacked = _both(cell, root, options.dtype, epochs, options.trials)
            largest = _largest(alone, stacked)
            agree = _headlines_agree(alone, stacked)
            worst, n_equal, n_all = max(worst, largest), n_equal + int(agree.sum()), n_all + len(agree)
            share = f"{int(agree.sum())} of {len(agree)} to 1e-3"
            print(f"{name:16} {cell.cell.method:8} R = {len(agree):3d}  {largest:9.2e}  {share}", flush=True)
            if options.dtype == "float32":
                _explain(alone, stacked, agree)
    print(f"{options.dtype}: largest difference {worst:.2e}; {n_equal} of {n_all} trials agree to 1e-3")


def _both(
    cell: PlannedCell, root: Path, dtype: str, epochs: int | None, n_trials: int
) -> tuple[list[StackResult], StackResult]:
    """The results of some trials, of two splits where there are two, trained one at a time and together."""
    group = max(groups(cell.trials(), cell.shapes), key=len)
    trials = [_changed(t, dtype, epochs) for t in group[:: max(1, len(group) // n_trials)][:n_trials]]
    problems = {split: load_split(cell.dataset, root, split, cell.options) for split in {t.split for t in trials}}
    alone = [train_stack(cell.method, problems, [trial], cell.dataset) for trial in trials]
    return alone, train_stack(cell.method, problems, trials, cell.dataset)


def _changed(trial: Trial, dtype: str, epochs: int | None) -> Trial:
    recipe = dataclasses.replace(trial.cell.recipe, dtype=dtype, keep="none")  # type: ignore[arg-type]
    if epochs is not None:
        recipe = dataclasses.replace(recipe, max_epochs=epochs)
    return dataclasses.replace(trial, cell=dataclasses.replace(trial.cell, recipe=recipe))


def _largest(alone: Sequence[StackResult], stacked: StackResult) -> float:
    """The largest difference of any metric, relative where values exceed 1; infinite for number against NaN."""
    largest = 0.0
    for part, metrics in stacked.metrics.items():
        for name, values in metrics.items():
            for r, one in enumerate(alone):
                other = one.metrics[part][name][0] if part in one.metrics else np.full_like(values[r], np.nan)
                if (np.isnan(values[r]) != np.isnan(other)).any():
                    return float("inf")
                apart = np.abs(values[r] - other) / np.maximum(1.0, np.abs(other))
                largest = max(largest, float(np.nan_to_num(apart).max()))
    return largest


def _headlines_agree(alone: Sequence[StackResult], stacked: StackResult) -> np.ndarray:
    agree = np.ones(len(alone), bool)
    for part, metrics in stacked.metrics.items():
        for name, values in metrics.items():
            together = metric(name).headline(values)
            for r, one in enumerate(alone):
                single = metric(name).headline(one.metrics[part][name])[0] if part in one.metrics else np.nan
                agree[r] &= bool(np.isclose(together[r], single, rtol=1e-3, atol=1e-3, equal_nan=True))
    return agree


def _explain(alone: Sequence[StackResult], stacked: StackResult, agree: np.ndarray) -> None:
    for r in np.flatnonzero(~agree):
        epochs = [
            int(result.best_epoch[i]) for result, i in ((alone[r], 0), (stacked, r)) if result.best_epoch is not None
        ]
        print(f"    trial {r}: best epoch {epochs[0]} alone, {epochs[1]} in the stack")


if __name__ == "__main__":
    main()
