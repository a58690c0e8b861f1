"""The recipe: what is equal for all methods on a data set."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mtbench.contracts.values import checked_value
from mtbench.errors import UnknownName

NOT_IDENTITY = ("keep", "refit")
"""Fields that say what is stored, or done after a search; they change nothing that a trial gives."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What all methods of a data set have in common: backbone, optimiser, budget and stopping rule.

    Attributes:
        backbone: The network below the heads: "auto" chooses by the shape of a row ("mlp" for vectors, "lenet" for
            images of at most 32 pixels, "conv4" of less than 64, "resnet18" above), or "mlp", "lenet", "conv4",
            "resnet18", "resnet50".
        hidden: Units k of the hidden layers of one-hidden-layer networks and of the "mlp" backbone.
        layers: Hidden layers of the "mlp" backbone.
        activation: Of that layer: "relu", or "identity" for data whose features are linear by construction.
        intercept: Linear systems carry an intercept per task that no regulariser touches; switched off where the data
            hold a constant column or are centred.
        optimiser: "adam" or "sgd" (momentum 0.9).
        learning_rate: Its default; a search varies it over a factor of `learning_rate_span` up and down.
        learning_rate_span: That factor, at least 1.
        batch_size: Rows per step; 0 takes all rows every step.
        max_epochs: Passes over the training rows at most.
        decay_every: Epochs after which the learning rate is multiplied by `decay_factor`, again and again; 0 never.
        decay_factor: That factor.
        ramp_epochs: Epochs over which hyperparameters marked `ramped` grow linearly from 0 to their value; 0 starts at
            their value.
        rows_per_task: Own layout: every step takes so many rows of each task instead of `batch_size` rows of any; an
            epoch has as many steps as it takes to see as many rows as there are. 0 does not.
        augment: "none", or "crop", "crop_flip": images of each training batch are shifted by up to an eighth of their
            side (edges repeated) and, with "flip", mirrored half of the time; drawn alike for all methods.
        base: A method, trained once per split and seed with its defaults, whose backbone all other methods start from;
            "" starts from random weights.
        base_epochs: Passes over the training rows of that base training; 0 takes `max_epochs`.
        base_learning_rate: Its learning rate; 0 takes `learning_rate`.
        patience: Epochs without a better validation result after which a trial stops; 0 never stops early.
        eval_every: Epochs between looks at the validation part.
        clip_norm: Largest gradient norm per trial; 0 does not clip.
        refit: Train the selected setting again on training and validation rows, by default.
        keep: Test predictions and learned matrices are kept of "final" trials (refits, and searches that try one
            setting), of "all" or of "none"; "learned" keeps the matrices of all and the predictions of none;
            "backbone" keeps the weights of the backbone, for others to start from, and nothing else.
        dtype: "float32", or "float64" for tests.
        autocast: "none", or "bfloat16" for the operations that torch's autocast deems safe in it.
        channels_last: Images lie in memory channels last, which convolutions on most CPUs and GPUs prefer.
    """

    backbone: Literal["auto", "mlp", "lenet", "conv4", "resnet18", "resnet50"] = "auto"
    hidden: int = 100
    layers: int = 1
    activation: Literal["relu", "identity"] = "relu"
    intercept: bool = True
    optimiser: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 1e-3
    learning_rate_span: float = 10.0
    batch_size: int = 100
    max_epochs: int = 100
    decay_every: int = 0
    decay_factor: float = 0.1
    ramp_epochs: int = 0
    rows_per_task: int = 0
    augment: Literal["none", "crop", "crop_flip"] = "none"
    base: str = ""
    base_epochs: int = 0
    base_learning_rate: float = 0.0
    patience: int = 0
    eval_every: int = 1
    clip_norm: float = 0.0
    refit: bool = False
    keep: Literal["final", "all", "learned", "backbone", "none"] = "final"
    dtype: Literal["float32", "float64"] = "float32"
    autocast: Literal["none", "bfloat16"] = "none"
    channels_last: bool = False

    def override(self, changes: Mapping[str, object], owner: str) -> Recipe:
        """This recipe with some fields changed.

        Args:
            changes: New values by field name, given as such or as text.
            owner: Name of the data set, for the messages.

        Returns:
            A new recipe.

        Raises:
            UnknownName: A field does not exist.
            StudyError: A value has the wrong type or is out of range.
        """
        hints = typing.get_type_hints(Recipe)
        parsed: dict[str, object] = {}
        for name, value in changes.items():
            if name not in hints:
                raise UnknownName.among("recipe field", name, hints, f"`mtbench show {owner}` lists them.")
            parsed[name] = _parse(hints[name], value, f"{owner}.{name}")
        return dataclasses.replace(self, **parsed)  # type: ignore[arg-type]


_AT_LEAST: Mapping[str, float] = {
    "hidden": 1,
    "layers": 1,
    "max_epochs": 1,
    "eval_every": 1,
    "learning_rate_span": 1,
    "learning_rate": sys.float_info.min,  # above 0
}


def _parse(kind: Any, value: object, where: str) -> object:
    choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
    low = _AT_LEAST.get(where.rsplit(".", 1)[1], 0)
    return checked_value(value, str if choices else kind, f"Recipe {where}", choices, low)
