"""A weighting as the trials of a stack see it: its hyperparameters and what it remembers of each.

Shapes: R held trials, T tasks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtbench.contracts.method import GradientMethod
from mtbench.contracts.weighted import weighting_params
from mtbench.contracts.weighting import LossWeighting, TaskStep, Weighting
from mtbench.errors import PluginError
from mtbench.training.over_trials import Named, over_trials, stacked

_SALT = 0x2545F4914F6CDD1D % 2**62  # what is random here is not what dropout draws from the same key


class WeightingState:
    """Calls a weighting's functions for every trial, and keeps what they remember.

    Args:
        method: With a weighting.
        params: The trials' common hyperparameters, with plain numbers.
        hyper: The method's hyperparameters that may differ between trials by name, [R].
        n_trials: R.
        sizes: T, and the number of shared parameters.
        where: Device and dtype of training.

    Attributes:
        weighting: The weighting.
        learned: What the weighting learns at its start, by name, [R, ...].
    """

    def __init__(
        self,
        method: GradientMethod,
        params: Any,
        hyper: Mapping[str, Tensor],
        n_trials: int,
        sizes: tuple[int, int],
        where: tuple[torch.device, torch.dtype],
    ) -> None:
        assert method.weighting is not None
        self.weighting: Weighting = method.weighting
        self._params = weighting_params(method, params)
        self._names = {own: name for own, name in method.weighting_names.items() if name in hyper}
        own = [self._own({name: v[r] for name, v in self._hyper(hyper).items()}) for r in range(n_trials)]
        self._state = stacked([dict(self.weighting.start(*sizes, one)) for one in own], *where)
        self.learned: Named = {}
        if isinstance(self.weighting, LossWeighting):
            self.learned = stacked([dict(self.weighting.learned(sizes[0], one)) for one in own], *where)

    def combine(self, seen: Named, learned: Named, hyper: Mapping[str, Tensor], key: Tensor) -> Tensor:
        """What the weighting makes of every trial's step, [R, ...]; moves on what it remembers.

        Args:
            seen: Fields of `TaskStep` by name, [R, ...].
            learned: What it learns, [R, ...].
            hyper: Hyperparameters by name, [R].
            key: int64 [R] or a scalar.
        """

        def run(seen: Named, learned: Named, state: Named, hyper: Named, key: Tensor) -> tuple[Tensor, Named]:
            step = TaskStep(**seen, learned=learned, state=state, key=key)
            return self._checked(self.weighting.combine(step, self._own(hyper)), state)

        keys = (key + _SALT).expand(len(seen["losses"]))
        value, state = over_trials(run, seen, learned, self._state, self._hyper(hyper), keys)
        self._keep(state)
        return value  # type: ignore[no-any-return]

    def after_step(self, before: Tensor, after: Tensor, hyper: Mapping[str, Tensor]) -> None:
        """Tells the weighting the losses [R, T] of a batch before and after the parameters changed."""
        weighting = self.weighting
        assert isinstance(weighting, LossWeighting)

        def run(before: Tensor, after: Tensor, state: Named, hyper: Named) -> Named:
            return dict(weighting.after_step(before, after, state, self._own(hyper)))

        self._keep(over_trials(run, before, after, self._state, self._hyper(hyper)))

    @property
    def hears_of_epochs(self) -> bool:
        """Whether the weighting has an `after_epoch` of its own."""
        return type(self.weighting).after_epoch is not Weighting.after_epoch

    def after_epoch(self, losses: Tensor, hyper: Mapping[str, Tensor]) -> None:
        """Tells the weighting the mean losses [R, T] of an epoch."""

        def run(losses: Tensor, state: Named, hyper: Named) -> Named:
            return dict(self.weighting.after_epoch(losses, state, self._own(hyper)))

        self._keep(over_trials(run, losses, self._state, self._hyper(hyper)))

    def select(self, keep: Tensor) -> None:
        """Keeps some trials: int64 positions."""
        self._state = {name: value[keep] for name, value in self._state.items()}

    def tensors(self) -> Named:
        """What it remembers by name, [R, ...]."""
        return self._state

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from `tensors`."""
        self._state = dict(tensors)

    def check_shape(self, found: Tensor, wanted: str, shape: tuple[int, ...]) -> None:
        """Refuses what `combine` gave where it is of another shape.

        Args:
            found: [R, ...].
            wanted: What one trial's must be, in words.
            shape: Of one trial's.

        Raises:
            PluginError: It is.
        """
        if tuple(found.shape[1:]) != shape:
            name = type(self.weighting).__qualname__
            raise PluginError(f"{name}.combine must return {wanted} first; found shape {list(found.shape[1:])}.")

    def _hyper(self, hyper: Mapping[str, Tensor]) -> Named:
        """The weighting's hyperparameters [R] by its own names, out of those of the method with it."""
        return {own: hyper[name] for own, name in self._names.items()}

    def _own(self, hyper: Mapping[str, Tensor]) -> Any:
        """Its hyperparameters of one trial, as it takes them."""
        return dataclasses.replace(self._params, **hyper) if hyper else self._params

    def _keep(self, state: Named) -> None:
        self._state = {name: value.detach() for name, value in state.items()}

    def _checked(self, found: object, state: Named) -> tuple[Tensor, Named]:
        name = type(self.weighting).__qualname__
        if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Tensor)):
            raise PluginError(f"{name}.combine must return (tensor, state); found {type(found).__name__}.")
        value, after = found[0], dict(found[1])
        shapes = {n: v.shape for n, v in after.items()}
        if shapes != {n: v.shape for n, v in state.items()}:
            held = ", ".join(f"'{n}' {list(v.shape)}" for n, v in state.items()) or "nothing"
            raise PluginError(f"{name}.combine must return a state as `start` gave it, {held}; found {shapes}.")
        return value, after
