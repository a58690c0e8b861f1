"""Copies of one module for T tasks, computed as one batched module: no loop over tasks.

Shapes: T copies, B batch rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from mtbench.contracts.pretrained import Pretrainable
from mtbench.nn.batch_norm import take_any_batch

_DOT = "__"  # stands for the dots of a template's names, which names of parameters cannot hold


class Copies(Pretrainable):
    """T copies of a module, their parameters stacked to [T, ...] under the module's own names ("." written "__").

    Args:
        make: Makes one freshly initialised copy.
        n: T, the number of copies.

    Attributes:
        n: T, the number of copies.
    """

    def __init__(self, make: Callable[[], nn.Module], n: int) -> None:
        super().__init__()
        self.n = n
        modules = [make() for _ in range(n)]
        parameters, buffers = stack_module_state(modules)
        for name, value in parameters.items():
            self.register_parameter(name.replace(".", _DOT), nn.Parameter(value.detach()))
        for name, value in buffers.items():
            self.register_buffer(name.replace(".", _DOT), value)
        self._names = [*parameters, *buffers]
        # Its own parameters are never used: in a list, so that it is no part of this module.
        self._template = [modules[0].to("meta")]
        take_any_batch(self.template)

    @property
    def template(self) -> nn.Module:
        """The copied module, on the meta device: its structure without values."""
        return self._template[0]

    def train(self, mode: bool = True) -> Copies:
        """Sets training or evaluation mode, of the copies as well."""
        self.template.train(mode)
        return super().train(mode)

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers [T, ...] by the template's names."""
        return {name: getattr(self, name.replace(".", _DOT)) for name in self._names}

    def forward(self, x: Tensor, own: bool = False, **arguments: Any) -> Tensor:
        """Applies every copy.

        Args:
            x: Rows [B, ...] that all copies take; with `own` [T, B, ...], rows of each copy.
            own: Whether each copy has rows of its own.
            **arguments: Handed to the module.

        Returns:
            [T, B, ...].
        """
        return self.with_state(self.state(), x, own, **arguments)

    def with_state(self, state: Mapping[str, Tensor], x: Tensor, own: bool = False, **arguments: Any) -> Tensor:
        """`forward` with other parameters.

        Args:
            state: Parameters and buffers [T, ...] by the template's names.
            x: As in `forward`.
            own: As in `forward`.
            **arguments: Handed to the module.

        Returns:
            [T, B, ...].
        """

        def run(one: dict[str, Tensor], rows: Tensor) -> Any:
            return functional_call(self.template, one, (rows,), arguments)

        return vmap(run, in_dims=(0, 0 if own else None))(dict(state), x)  # type: ignore[no-any-return]

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Gives every copy the same parameters and buffers, by the template's names; others stay."""
        held = self.state()
        with torch.no_grad():
            for name in held.keys() & weights.keys():
                held[name].copy_(weights[name].expand_as(held[name]))
