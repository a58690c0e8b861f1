"""How many trials to train at once: measured on this device, with this problem, never assumed.

Measuring ends where it could take more than a tenth of what it can still save: all trials, each for all its epochs, at
the least seconds per trial seen so far. Few trials of a slow network are hardly measured, many of a fast one are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch

from mtbench.contracts.dataset import Dataset
from mtbench.contracts.method import GradientMethod, Method
from mtbench.contracts.stacking import sizes_of_stacks
from mtbench.contracts.trials import Trial
from mtbench.tasks import Problem
from mtbench.training.exactness import repeatable
from mtbench.training.footprint import Footprint
from mtbench.training.gradient import GradientStack
from mtbench.training.memory import is_out_of_memory
from mtbench.training.prepared import prepared
from mtbench.training.stack import train_stack
from mtbench.training.stacked import PretrainedWeights

_CANDIDATES = (1, 4, 16, 64, 256, 1024)
_GRADIENT_SECONDS = 0.1  # measured time per candidate
_SHARE = 0.1  # of what measuring can save, what it may take
_STEPS = 8  # of a gradient method, measured at once
_SOLVER_SECONDS = 4.0  # a larger candidate is not tried when it would take longer than this
_WORSE = 1.15  # seconds per trial, against the best so far, at which growing is given up
_CLOSE = 0.95  # a larger stack must be at least this much cheaper per trial: small stacks lose less when killed


def calibrate(
    method: Method,
    problems: Mapping[int, Problem],
    trials: Sequence[Trial],
    dataset: Dataset,
    device: str,
    pretrained: PretrainedWeights | None = None,
) -> dict[str, object]:
    """Measures stacks of growing size, R = 1 first; none that is not likely to fit in the memory there is.

    Args:
        method: The method.
        problems: Problems by split.
        trials: The trials that are to be divided; the first R of them are measured.
        dataset: Gives the metric that is monitored.
        device: As torch names it.
        pretrained: Backbones to start from, where the recipe names a base.

    Returns:
        "stack_size", the chosen R; "seconds_per_trial" by R: of a few steps and one look at the validation part for a
        gradient method, of the whole solution for a solver; "predicted_bytes" by the sizes of stacks that R may lead
        to, where memory was looked into.
    """
    sizes = [r for r in _CANDIDATES if r < len(trials)] + [len(trials)]
    stackable = not isinstance(method, GradientMethod) or method.stackable
    seconds: dict[int, float] = {}
    pieces = _pieces(method, problems, trials)
    begun, before, took = time.perf_counter(), 1, 0.0
    footprint = Footprint(method, problems, trials, dataset, torch.device(device), pretrained)
    for r in sizes if stackable else [1]:
        if r > 1:
            can_save = len(trials) * pieces * min(seconds.values())
            spent = time.perf_counter() - begun
            if spent + took * r / before > _SHARE * can_save or not footprint.fits(r):
                break
        since = time.perf_counter()
        try:
            seconds[r] = _seconds(method, problems, trials[:r], dataset, device, pretrained) / r
        except Exception as error:
            if not is_out_of_memory(error) or r == 1:
                raise
            break
        before, took = r, time.perf_counter() - since
        best = min(seconds.values())
        if seconds[r] > _WORSE * best:
            break
        if not isinstance(method, GradientMethod) and 4 * r * seconds[r] > _SOLVER_SECONDS:
            break
    chosen = _choose(seconds)
    predicted = {str(n): footprint.of(n) for n in sizes_of_stacks(len(trials), chosen)} if len(seconds) > 1 else {}
    per_trial = {str(r): s for r, s in seconds.items()}
    return {"stack_size": chosen, "seconds_per_trial": per_trial, "predicted_bytes": predicted}


def _pieces(method: Method, problems: Mapping[int, Problem], trials: Sequence[Trial]) -> float:
    """How often at most a trial does what is measured of it."""
    if not isinstance(method, GradientMethod):
        return 1.0
    recipe, problem = trials[0].cell.recipe, problems[trials[0].split]
    n_rows = problem.parts["train"].inputs.shape[0]
    size = recipe.rows_per_task * problem.n_tasks or recipe.batch_size or n_rows
    return recipe.max_epochs * max(1.0, n_rows / size / _STEPS)


def _choose(seconds: Mapping[int, float]) -> int:
    """The smallest size that no larger one beats by more than 5 %."""
    chosen = min(seconds)
    for r in sorted(seconds):
        if seconds[r] < _CLOSE * seconds[chosen]:
            chosen = r
    return chosen


def _seconds(
    method: Method,
    problems: Mapping[int, Problem],
    trials: Sequence[Trial],
    dataset: Dataset,
    device: str,
    pretrained: PretrainedWeights | None,
) -> float:
    if not isinstance(method, GradientMethod):
        started = time.perf_counter()
        train_stack(method, problems, trials, dataset, device)
        return time.perf_counter() - started
    refit, rows_per_task = trials[0].epochs is not None, trials[0].cell.recipe.rows_per_task
    problems = {split: prepared(problem, refit, rows_per_task) for split, problem in problems.items()}
    stack = GradientStack(method, problems, trials, dataset, torch.device(device), pretrained)
    with repeatable(torch.device(device)):  # as it will be trained
        return _best(stack, _STEPS, device)


def _best(stack: GradientStack, steps: int, device: str) -> float:
    """Seconds of some steps and a look, at best."""
    stack.measure(2)
    best, spent = float("inf"), 0.0
    while spent < _GRADIENT_SECONDS:
        started = time.perf_counter()
        stack.measure(steps)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        took = time.perf_counter() - started
        best, spent = min(best, took), spent + took
    return best
