"""The same training twice, and one that was stopped and goes on: the same bytes, for every gradient method."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.gpu.built_in import cells
from benchmarks.gpu.figures import Row, Setting
from mtbench.contracts.method import GradientMethod
from mtbench.contracts.trials import StackResult, Trial
from mtbench.testing.problems import Miniature, miniature_trials
from mtbench.training import Checkpoint, train_stack

EPOCHS, STOPPED_AT = 6, 3


class _Stopped(Exception):
    """Stands for a kill."""


def rows(setting: Setting) -> list[Row]:
    """One row for repetition and one for resuming, with the cells that fail."""
    twice: dict[str, bool] = {}
    resumed: dict[str, bool] = {}
    for cell, (method, dataset) in setting.in_time(cells(setting.small, 2)):
        if isinstance(method, GradientMethod):
            trials = _trials(method, dataset)
            whole = _trained(method, dataset, trials, setting)
            twice[cell] = _same(whole, _trained(method, dataset, trials, setting))
            resumed[cell] = _same(whole, _interrupted(method, dataset, trials, setting))
    return [_row("trained twice, float32", twice), _row("stopped and resumed, float32", resumed)]


def _row(what: str, same: dict[str, bool]) -> Row:
    other = sorted(cell for cell, equal in same.items() if not equal)
    figure = f"{len(same) - len(other)} of {len(same)} cells" + (f"; not: {', '.join(other)}" if other else "")
    return Row(what, figure, "the same bytes", not other, {"same": same})


def _trials(method: GradientMethod, dataset: Miniature) -> list[Trial]:
    trials = miniature_trials(method, dataset, splits=(0, 1) if method.stackable else (0,))
    recipe = dataclasses.replace(dataset.recipe, dtype="float32", max_epochs=EPOCHS)
    cell = dataclasses.replace(trials[0].cell, recipe=recipe)
    return [dataclasses.replace(trial, cell=cell) for trial in trials]


def _trained(
    method: GradientMethod,
    dataset: Miniature,
    trials: list[Trial],
    setting: Setting,
    on_epoch: Callable[[int, int], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> StackResult:
    problems = {split: dataset.load(Path(), split, None) for split in {trial.split for trial in trials}}
    return train_stack(method, problems, trials, dataset, str(setting.device), on_epoch, None, checkpoint)


def _interrupted(method: GradientMethod, dataset: Miniature, trials: list[Trial], setting: Setting) -> StackResult:
    def stop(epoch: int, n_active: int) -> None:
        if epoch > STOPPED_AT:
            raise _Stopped

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stack.npz"
        with contextlib.suppress(_Stopped):
            _trained(method, dataset, trials, setting, stop, Checkpoint(path, trials, every=0.0))
        if not path.exists():
            return StackResult(trials, [], [])
        return _trained(method, dataset, trials, setting, None, Checkpoint(path, trials, every=1e9))


def _same(one: StackResult, other: StackResult) -> bool:
    """Whether predictions and histories are equal to the last bit."""
    pairs = [(one.predictions, other.predictions), (one.history, other.history)]
    return all(
        a.keys() == b.keys() and all(np.array_equal(a[name], b[name], equal_nan=True) for name in a) for a, b in pairs
    )
