"""Parts of a model that can take over the weights of a trained backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn


class Pretrainable(nn.Module, ABC):
    """A module that a trained backbone's weights can be put into, wherever it is in a model."""

    @abstractmethod
    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Takes over parameters and buffers, in place; what it has under other names stays.

        Args:
            weights: Parameters and buffers of the backbone, by its own names.
        """
