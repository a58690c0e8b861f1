"""What one combine of each weighting costs: `python -m benchmarks.weighting_solvers [NAME ...]`.

Microseconds for T tasks, alone and for R trials mapped together, with P shared parameters and gradients at hand. Beside
them TorchJD's aggregator of the same name for one trial, where it has one, from the same gradients: that includes its
Gram matrix and the sum of the gradients, which are small. One thread; processor time, the least of several repetitions.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import mtbench_weightings
import torch
from torch import Tensor
from torchjd import aggregation

from mtbench.contracts.weighting import LossWeighting, TaskStep, Weighting

TRIALS = {2: (1, 100), 12: (1, 100), 139: (1, 10)}  # by the number of tasks
N_SHARED = 400
SECONDS = 0.1  # of processor time that each is repeated for, once at least


def weightings() -> list[Weighting]:
    """The built-in ones."""
    found = pkgutil.iter_modules(mtbench_weightings.__path__, "mtbench_weightings.")
    return [cls() for module in found for cls in importlib.import_module(module.name).mtbench_weightings()]


def torchjds(name: str, n_tasks: int) -> Callable[[Tensor], Tensor] | None:
    """TorchJD's aggregator, or none."""
    made: dict[str, Callable[[], Any]] = {
        "aligned_mtl": aggregation.AlignedMTL,
        "cagrad": lambda: aggregation.CAGrad(c=0.5),
        "config": aggregation.ConFIG,
        "dualproj": aggregation.DualProj,
        "excess_mtl": aggregation.ExcessMTL,
        "fairgrad": lambda: aggregation.FairGrad(alpha=1.0),
        "graddrop": aggregation.GradDrop,
        "gradvac": aggregation.GradVac,
        "imtl_g": aggregation.IMTLG,
        "mgda": aggregation.MGDA,
        "nash_mtl": lambda: aggregation.NashMTL(n_tasks=n_tasks),
        "pcgrad": aggregation.PCGrad,
        "upgrad": aggregation.UPGrad,
    }
    return made[name]() if name in made else None


def combine(weighting: Weighting, n_tasks: int, n_trials: int) -> Callable[[], Any]:
    """One combine of R trials."""
    values = weighting.Params()
    scalars = {
        f.name: torch.tensor(getattr(values, f.name))
        for f in dataclasses.fields(values)
        if isinstance(getattr(values, f.name), float)
    }
    params = dataclasses.replace(values, **scalars)
    J = gradients(n_tasks, n_trials)
    gram, losses = J.double() @ J.double().mT, torch.rand(n_trials, n_tasks) + 0.1
    state = dict(weighting.start(n_tasks, N_SHARED, params))
    learned = dict(weighting.learned(n_tasks, params)) if isinstance(weighting, LossWeighting) else {}

    def one(J: Tensor, gram: Tensor, losses: Tensor, key: Tensor) -> Any:
        step = TaskStep(losses, torch.ones_like(losses), key, gram, J, learned, state)
        return weighting.combine(step, params)

    inputs = (J, gram, losses, torch.arange(n_trials))
    mapped = torch.vmap(one)
    return lambda: mapped(*inputs)


def gradients(n_tasks: int, n_trials: int) -> Tensor:
    """Gradients with something in common: [R, T, P]."""
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(n_trials, n_tasks, N_SHARED, generator=generator)
    return own + 0.2 * torch.randn(n_trials, 1, N_SHARED, generator=generator)


def microseconds(work: Callable[[], Any]) -> float:
    """Of the fastest repetition."""
    work()
    best, end = float("inf"), time.process_time() + SECONDS
    while True:
        start = time.process_time()
        work()
        now = time.process_time()
        best = min(best, now - start)
        if now > end:
            return 1e6 * best


def main() -> None:
    """Prints a row for each weighting."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    cells = [(t, r) for t, counts in TRIALS.items() for r in counts]
    heads = [f"T = {t}, R = {r}" for t, r in cells] + [f"TorchJD, T = {t}" for t in TRIALS]
    print("| weighting | " + " | ".join(heads) + " |\n|---" + "|---" * len(heads) + "|")
    for weighting in weightings():
        if sys.argv[1:] and weighting.name not in sys.argv[1:]:
            continue
        ours = [f"{microseconds(combine(weighting, t, r)):,.0f}" for t, r in cells]
        theirs = []
        for t in TRIALS:
            aggregator, J = torchjds(weighting.name, t), gradients(t, 1)[0]
            theirs.append("" if aggregator is None else f"{microseconds(lambda a=aggregator, J=J: a(J)):,.0f}")
        print(f"| {weighting.name} | " + " | ".join(ours + theirs) + " |", flush=True)


if __name__ == "__main__":
    main()
