"""The stages of a stack: declared by its method, checked here, and followed epoch by epoch.

Shapes: K trials of the stack.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mtbench.contracts.method import GradientMethod
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.stages import Stage, stage_ends
from mtbench.contracts.trials import Trial
from mtbench.errors import PluginError
from mtbench.training.author_checks import broken_promise, what
from mtbench.training.stacked import method_params

_WHOLE = (Stage("", 1.0),)
"""Of methods that declare no stages."""

_CLOSE = 1e-9  # to 1, of a sum of shares


class StageCourse:
    """The stages that all trials of a stack go through, at the same epochs.

    Args:
        method: The method.
        trials: The K trials.

    Attributes:
        stages: One at least.
        ends: The last epoch of each.
        declared: Whether the method declares stages.
        at: Index of the present one.

    Raises:
        PluginError: What the method declares are no stages, trials differ in them, or a refit ends before the last.
    """

    def __init__(self, method: GradientMethod, trials: Sequence[Trial]) -> None:
        recipe, self.at = trials[0].cell.recipe, 0
        first, *others = (checked_stages(method, method_params(method, trial), recipe) for trial in trials)
        self.declared = bool(first)
        self.stages = first or _WHOLE
        # A rung is a training of fewer epochs, of which stages have their shares; a refit is the search's, cut short.
        budget = trials[0].most_epochs if trials[0].rung else recipe.max_epochs
        self.ends = stage_ends(self.stages, budget)
        if any(_of(one) != _of(first) for one in others):
            raise broken_promise(
                method,
                "stages",
                "must give all trials of a stack the same stages",
                "shares that depend on a real number in which they differ",
                "Declare that hyperparameter with `tunable(..., stackable=False)`.",
            )
        fewest = min(trial.most_epochs for trial in trials)
        if fewest <= self._begin:
            raise PluginError(
                f"Method '{method.name}': a refit must reach its last stage, '{self.stages[-1].name}', which begins "
                f"after epoch {self._begin}; found {fewest} epochs."
            )

    @property
    def stage(self) -> Stage:
        """The present one."""
        return self.stages[self.at]

    @property
    def in_last(self) -> bool:
        """Whether trials are judged by now: snapshots, early stopping and selection."""
        return self.at == len(self.stages) - 1

    @property
    def _begin(self) -> int:
        """Epochs before the last stage."""
        return self.ends[-2] if len(self.ends) > 1 else 0

    def of_epoch(self, epoch: int) -> int:
        """The index of the stage that an epoch, counted from 1, is in."""
        return next((i for i, end in enumerate(self.ends) if epoch <= end), len(self.ends) - 1)

    def patient_since(self, best_epoch: Any) -> Any:
        """The epoch from which patience counts: the best one, [R], but not before the last stage."""
        return best_epoch.clip(self._begin)

    @property
    def facts(self) -> dict[str, object]:
        """For the record: name and last epoch of each stage."""
        if not self.declared:
            return {}
        return {"stages": [[stage.name, end] for stage, end in zip(self.stages, self.ends, strict=True)]}


def checked_stages(method: GradientMethod, params: Any, recipe: Recipe) -> tuple[Stage, ...]:
    """The stages that a method declares for its hyperparameters and a recipe.

    Raises:
        PluginError: They are no stages, have equal names, shares that do not sum to 1, or two things to minimise.
    """
    found: object = method.stages(params, recipe)
    if not isinstance(found, tuple | list) or not all(isinstance(one, Stage) for one in found):
        raise broken_promise(method, "stages", "must return a tuple of mtbench.Stage", what(found))
    stages = tuple(found)
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names) or not all(names):
        raise broken_promise(method, "stages", "must give each stage a name of its own", ", ".join(map(repr, names)))
    shares = [float(stage.share) for stage in stages]
    if stages and not (min(shares) >= 0 and shares[-1] > 0 and abs(math.fsum(shares) - 1) <= _CLOSE):
        must = "must give shares of the epochs that sum to 1, none below 0 and the last above it"
        raise broken_promise(method, "stages", must, " + ".join(f"{s:g}" for s in shares) + f" = {math.fsum(shares):g}")
    for stage in stages:
        if stage.terms is not None and stage.objective is not None:
            raise broken_promise(method, "stages", "must give a stage terms or an objective", f"both in '{stage.name}'")
    return stages


def _of(stages: Sequence[Stage]) -> list[tuple[object, ...]]:
    """What trials of a stack must have in common."""
    return [(stage.name, stage.share, stage.trains) for stage in stages]
