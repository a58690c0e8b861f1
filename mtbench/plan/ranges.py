"""Where a search looks: a study's own ranges, and the record of what was searched."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtbench.contracts.hyperparameters import Hyperparameter, Range
from mtbench.contracts.values import Value
from mtbench.errors import StudyError

_GRID_POINTS = 5


def own_range(known: Hyperparameter, values: Sequence[object], owner: str) -> Hyperparameter | None:
    """A hyperparameter with a range that a study gives instead of its own.

    Args:
        known: The hyperparameter.
        values: What the study says: "low:high" or "a|b|c", alone or after the value of draw 0.
        owner: Name of the method, for the message.

    Returns:
        None where the values are plain ones.

    Raises:
        StudyError: It is no range, or there are further values beside it.
    """
    texts = [value for value in values if isinstance(value, str) and (":" in value or "|" in value)]
    if not texts or known.kind not in (float, int):
        return None
    where = f"{owner}.{known.name}"
    if len(texts) > 1 or len(values) > 2 or values[-1] != texts[0]:
        raise StudyError(
            f"{where} must be one range 'low:high' or one list 'a|b|c', after the value of draw 0 if any; found "
            f"{', '.join(map(str, values))}."
        )
    span = _read(known, texts[0], owner)
    inside = min(span.grid) <= known.default <= max(span.grid)  # type: ignore[operator]
    default = known.default if inside else span.grid[len(span.grid) // 2]
    return dataclasses.replace(
        known, default=known.parse(values[0], owner) if len(values) == 2 else default, range=span
    )


def _read(known: Hyperparameter, text: str, owner: str) -> Range:
    """The range that a text says."""
    if "|" in text:
        return Range(tuple(known.parse(part, owner) for part in text.split("|")))
    low, high = (float(known.parse(end, owner)) for end in text.split(":", 1))
    if not low < high:
        raise StudyError(f"{owner}.{known.name} must be a range from a smaller to a larger number; found '{text}'.")
    log = low > 0 and (known.range is None or known.range.log)
    points = np.geomspace(low, high, _GRID_POINTS) if log else np.linspace(low, high, _GRID_POINTS)
    rounded = [round(p) if known.kind is int else float(f"{p:.6g}") for p in points]
    return Range(tuple(dict.fromkeys(rounded)), low, high, log)


def searched(
    known: Mapping[str, Hyperparameter], search: str, fixed: Mapping[str, Sequence[Value]]
) -> dict[str, dict[str, Any]]:
    """Where a search looks for each hyperparameter that it varies, ready for JSON.

    Args:
        known: The hyperparameters.
        search: The kind of search: "default", "grid", or one that draws from ranges.
        fixed: As in `settings`.

    Returns:
        By name "low", "high" and "log", or "values"; and "final", the ends ("low", "high") beyond which no value would
        make sense.
    """
    found: dict[str, dict[str, Any]] = {}
    values: list[Value | None]
    for name, h in known.items():
        values = list(fixed.get(name, h.range.grid if h.range is not None and search != "default" else ()))
        if name not in fixed and search not in ("default", "grid") and h.range is not None and h.range.low is not None:
            found[name] = {"low": h.range.low, "high": h.range.high, "log": h.range.log}
            values = [h.range.low, h.range.high]
        elif len(set(values)) > 1:
            found[name] = {"values": values}
        if name in found:
            found[name]["final"] = _final(h, values)
    return found


def _final(h: Hyperparameter, values: Sequence[Value | None]) -> list[str]:
    """The ends of a hyperparameter's values, a list or the two ends of a range, that lie where it itself ends."""
    numbers = [v for v in values if isinstance(v, int | float)]
    most = h.maximum
    if h.range is not None and h.range.complete:  # its list goes as far as any value makes sense
        most = max(int(v) for v in h.range.grid)
    low = bool(numbers) and h.minimum is not None and min(numbers) <= h.minimum
    high = bool(numbers) and most is not None and max(numbers) >= most
    return [end for end, is_final in (("low", low), ("high", high)) if is_final]
