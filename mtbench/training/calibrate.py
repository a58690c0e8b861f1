"""How many trials to train at once: measured on this device, with this problem, never assumed.

Measuring ends where it could take more than a tenth of what it can still save: all trials, each for all its epochs, at
the least seconds per trial seen so far. Few trials of a slow network are hardly measured, many of a fast one are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch

from mtbench.contracts.dataset import Dataset
from mtbench.contracts.method import Method
from mtbench.contracts.stacking import sizes_of_stacks
from mtbench.contracts.trials import Trial
from mtbench.tasks import Problem
from mtbench.training.memory import is_out_of_memory
from mtbench.training.stacked import PretrainedWeights
from mtbench.training.trainer import TrainingInputs
from mtbench.training.trainers import trainer_of

_CANDIDATES = (1, 4, 16, 64, 256, 1024)
_SHARE = 0.1  # of what measuring can save, what it may take
_WHOLE_SECONDS = 4.0  # where whole trainings are measured, a larger candidate is not tried that would take longer
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
    inputs = TrainingInputs(method, problems, trials, dataset, torch.device(device), pretrained)
    trainer = trainer_of(method)
    sizes = [r for r in _CANDIDATES if r < len(trials)] + [len(trials)]
    seconds: dict[int, float] = {}
    pieces = trainer.pieces(inputs)
    begun, before, took = time.perf_counter(), 1, 0.0
    memory = trainer.memory(inputs)
    for r in sizes if method.stackable else [1]:
        if r > 1:
            can_save = len(trials) * pieces * min(seconds.values())
            spent = time.perf_counter() - begun
            if spent + took * r / before > _SHARE * can_save or not memory.fits(r):
                break
        since = time.perf_counter()
        try:
            seconds[r] = trainer.seconds(inputs.first(r)) / r
        except Exception as error:
            if not is_out_of_memory(error) or r == 1:
                raise
            break
        before, took = r, time.perf_counter() - since
        best = min(seconds.values())
        if seconds[r] > _WORSE * best:
            break
        if trainer.measures_all and 4 * r * seconds[r] > _WHOLE_SECONDS:
            break
    chosen = _choose(seconds)
    predicted = {str(n): memory.of(n) for n in sizes_of_stacks(len(trials), chosen)} if len(seconds) > 1 else {}
    per_trial = {str(r): s for r, s in seconds.items()}
    return {"stack_size": chosen, "seconds_per_trial": per_trial, "predicted_bytes": predicted}


def _choose(seconds: Mapping[int, float]) -> int:
    """The smallest size that no larger one beats by more than 5 %."""
    chosen = min(seconds)
    for r in sorted(seconds):
        if seconds[r] < _CLOSE * seconds[chosen]:
            chosen = r
    return chosen


def predicted_bytes(
    method: Method,
    problems: Mapping[int, Problem],
    trials: Sequence[Trial],
    dataset: Dataset,
    device: str = "cpu",
    pretrained: PretrainedWeights | None = None,
) -> int | None:
    """The most bytes of tensors that will live at once while these trials train as one stack; None where not known."""
    inputs = TrainingInputs(method, problems, trials, dataset, torch.device(device), pretrained)
    return trainer_of(method).memory(inputs).of(len(trials))
