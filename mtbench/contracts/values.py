"""One check of values that people give, as such or as text: hyperparameters, options and fields of a recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mtbench.errors import StudyError

Value = float | int | str | bool

_WORDS = {"true": True, "false": False}


def checked_value(
    value: object,
    kind: type,
    where: str,
    choices: Sequence[Value] = (),
    low: float | None = None,
    high: float | None = None,
) -> Value:
    """A value in its own type.

    Args:
        value: The value, or a text that says it.
        kind: float, int, str or bool.
        where: What it is the value of, for the message.
        choices: The only values allowed; empty for all.
        low: Smallest number allowed; None for any.
        high: Largest.

    Raises:
        StudyError: It has the wrong type or is out of range.
    """
    parsed = _typed(value, kind, where)
    if choices and parsed not in choices:
        raise StudyError(f"{where} must be one of {', '.join(map(str, choices))}; found {value!r}.")
    if isinstance(parsed, int | float) and not isinstance(parsed, bool):
        least, most = -math.inf if low is None else low, math.inf if high is None else high
        if not (least <= parsed <= most and math.isfinite(parsed)):
            raise StudyError(f"{where} must be a finite number from {least:g} to {most:g}; found {value!r}.")
    return parsed


def _typed(value: object, kind: type, where: str) -> Value:
    if kind is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in _WORDS:
            return _WORDS[str(value).lower()]
        raise StudyError(f"{where} must be true or false; found {value!r}.")
    if kind is str:
        return str(value)
    try:
        number = float(str(value))
    except ValueError:
        raise StudyError(f"{where} must be a number; found {value!r}.") from None
    if not math.isfinite(number):
        raise StudyError(f"{where} must be a finite number; found {value!r}.")
    if kind is int:
        if number != int(number):
            raise StudyError(f"{where} must be a whole number; found {value!r}.")
        return int(number)
    return number
