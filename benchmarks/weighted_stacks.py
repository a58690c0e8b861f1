"""Every weighting over every method that takes one, stacked and alone: `python -m benchmarks.weighted_stacks`.

Trains two epochs of three trials on a miniature of each layout, in float64, as one stack and one at a time, and prints
for each weighting the largest difference of any metric over all methods, which should be rounding: below 1e-8. About
twenty minutes of one core; `--methods` and `--weightings` take fewer. Exits with 1 where a difference is larger.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtbench.contracts.method import GradientMethod, Method
from mtbench.contracts.trials import Status
from mtbench.contracts.weighted import takes_weightings, weighted
from mtbench.plugins.host import load_plugins
from mtbench.testing.problems import Miniature, OwnRegression, SharedOneVsAll, SharedRegression, miniature_trials
from mtbench.training import train_stack

TOLERANCE = 1e-8
RATES = (0.003, 0.01, 0.03)


def difference(cls: type[GradientMethod], dataset: Miniature) -> float | None:
    """The largest difference of any metric between a stack and its trials alone; None where the method cannot train."""
    method, problem = cls(), dataset.load(Path(), 0, dataset.Options())
    if method.supports(problem, dataset.recipe) is not None:
        return None
    trials = miniature_trials(method, dataset, [{"learning_rate": rate} for rate in RATES])
    cell = dataclasses.replace(trials[0].cell, recipe=dataclasses.replace(dataset.recipe, max_epochs=2))
    trials = [dataclasses.replace(trial, cell=cell) for trial in trials]
    together: Any = train_stack(method, {0: problem}, trials, dataset)
    worst = 0.0
    for r, trial in enumerate(trials):
        alone: Any = train_stack(method, {0: problem}, [trial], dataset)
        if together.status[r] is not Status.FINISHED or alone.status[0] is not Status.FINISHED:
            return float("inf")
        for part, metrics in alone.metrics.items():
            for name, values in metrics.items():
                worst = max(worst, float(np.nanmax(np.abs(together.metrics[part][name][r] - values[0]))))
    return worst


def main() -> int:
    """Trains what the command line asks for; 1 where a stack differs from its trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="", help="joined by commas; all that take weightings unless named")
    parser.add_argument("--weightings", default="", help="joined by commas; all unless named")
    given = parser.parse_args()
    torch.set_num_threads(1)
    plugins = load_plugins()
    methods: list[type[Method]] = [m for _, m in sorted(plugins.methods.items()) if takes_weightings(m) is None]
    methods = [m for m in methods if not given.methods or m.name in given.methods.split(",")]
    names = given.weightings.split(",") if given.weightings else sorted(plugins.weightings)
    datasets = (SharedOneVsAll(), SharedRegression(), OwnRegression())
    bad = 0
    for name in names:
        found: dict[str, float] = {}
        for method in methods:
            cls = weighted(method, plugins.weighting(name))
            differences = [d for d in (difference(cls, dataset) for dataset in datasets) if d is not None]
            if differences:
                found[method.name] = max(differences)
        worst = max(found, key=lambda method: found[method])
        wrong = [f"{method} {d:.1e}" for method, d in found.items() if d > TOLERANCE]
        bad += len(wrong)
        print(f"{name:<12} {len(found)} methods, at most {found[worst]:.1e} ({worst}) {'; '.join(wrong)}", flush=True)
    print(f"{bad} of {len(names)} x {len(methods)} above {TOLERANCE:g}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
