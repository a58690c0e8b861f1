"""The recipe: what is equal for all methods on a data set."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mtbench.errors import StudyError, UnknownName

NOT_IDENTITY = ("keep", "refit")
"""Fields that say what is stored, or done after a search; they change nothing that a trial gives."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Backbone, optimiser, budget and stopping rule, shared by all methods of a data set.

    Attributes:
        hidden: Units k of the hidden layer of one-hidden-layer networks.
        activation: Of that layer: "relu", or "identity" for data whose features are linear by construction.
        intercept: Linear systems carry an intercept per task that no regulariser touches; switched off where the data
            hold a constant column or are centred.
        optimiser: "adam" or "sgd" (momentum 0.9).
        learning_rate: Its default; a search varies it over a factor of `learning_rate_span` up and down.
        learning_rate_span: That factor, at least 1.
        batch_size: Rows per step; 0 takes all rows every step.
        max_epochs: Passes over the training rows at most.
        patience: Epochs without a better validation result after which a trial stops; 0 never stops early.
        eval_every: Epochs between looks at the validation part.
        clip_norm: Largest gradient norm per trial; 0 does not clip.
        refit: Train the selected setting again on training and validation rows, by default.
        keep: Test predictions and learned matrices are kept of "final" trials (refits, and searches that try one
            setting), of "all" or of "none"; "learned" keeps the matrices of all and the predictions of none.
        dtype: "float32", or "float64" for tests.
    """

    hidden: int = 100
    activation: Literal["relu", "identity"] = "relu"
    intercept: bool = True
    optimiser: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 1e-3
    learning_rate_span: float = 10.0
    batch_size: int = 100
    max_epochs: int = 100
    patience: int = 0
    eval_every: int = 1
    clip_norm: float = 0.0
    refit: bool = False
    keep: Literal["final", "all", "learned", "none"] = "final"
    dtype: Literal["float32", "float64"] = "float32"

    def override(self, changes: Mapping[str, object], owner: str) -> Recipe:
        """This recipe with some fields changed.

        Args:
            changes: New values by field name, given as such or as text.
            owner: Name of the data set, for the messages.

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


_AT_LEAST = {"hidden": 1, "max_epochs": 1, "eval_every": 1, "learning_rate_span": 1}


def _parse(kind: object, value: object, where: str) -> object:
    field = where.rsplit(".", 1)[1]
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise StudyError(f"Recipe {where} must be one of {', '.join(typing.get_args(kind))}; found {value!r}.")
        return value
    if kind is bool:
        if str(value).lower() not in ("true", "false"):
            raise StudyError(f"Recipe {where} must be true or false; found {value!r}.")
        return str(value).lower() == "true"
    try:
        number = float(str(value))
        if kind is int and number != int(number):
            raise ValueError
    except (ValueError, OverflowError):
        what = "a whole number" if kind is int else "a number"
        raise StudyError(f"Recipe {where} must be {what}; found {value!r}.") from None
    if field == "learning_rate" and number <= 0:
        raise StudyError(f"Recipe {where} must be above 0; found {value!r}.")
    low = _AT_LEAST.get(field, 0)
    if not low <= number < float("inf"):
        raise StudyError(f"Recipe {where} must be at least {low}; found {value!r}.")
    return int(number) if kind is int else number
