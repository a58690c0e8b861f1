"""Functions of one trial's tensors over those of R trials.

Shapes: R trials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

Named = dict[str, Tensor]
"""Tensors by name."""


def over_trials(run: Callable[..., Any], *arguments: Tensor | Mapping[str, Tensor]) -> Any:
    """What a function of one trial's tensors gives for each of R trials.

    Args:
        run: Takes tensors and dictionaries of tensors; returns the like, or a tuple of them.
        *arguments: What it takes, with a first axis of R trials.

    Returns:
        What it returns, with a first axis of R trials.
    """
    first = arguments[0]
    n_trials = len(first if isinstance(first, Tensor) else next(iter(first.values())))
    if n_trials > 1:
        return vmap(run)(*arguments)
    return _unsqueezed(
        run(*(_squeezed(argument) for argument in arguments))
    )  # mapping costs: a trial alone does without


def stacked(each: Sequence[Mapping[str, Tensor]], device: torch.device, dtype: torch.dtype) -> Named:
    """Tensors of R trials by name, stacked on a device; those in float32 in the dtype of training."""
    found = {}
    for name in each[0]:
        value = torch.stack([torch.as_tensor(one[name]).detach().to(device) for one in each])
        found[name] = value.to(dtype) if value.dtype == torch.float32 else value
    return found


def _squeezed(value: Tensor | Mapping[str, Tensor]) -> Any:
    return value.squeeze(0) if isinstance(value, Tensor) else {name: v.squeeze(0) for name, v in value.items()}


def _unsqueezed(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.unsqueeze(0)  # indexing by None takes three times as long
    if isinstance(value, tuple):
        return tuple(_unsqueezed(one) for one in value)
    return {name: v.unsqueeze(0) for name, v in value.items()}
