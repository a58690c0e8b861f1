"""Which settings a search tries: the defaults first, then a grid or random draws from the ranges."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from mtbench.contracts.hyperparameters import Hyperparameter, Range
from mtbench.contracts.values import Value
from mtbench.errors import StudyError

_TRIES = 50
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
        search: "default", "grid" or "random".
        fixed: As in `settings`.

    Returns:
        By name "low", "high" and "log", or "values"; and "final", the ends ("low", "high") beyond which no value would
        make sense.
    """
    found: dict[str, dict[str, Any]] = {}
    values: list[Value | None]
    for name, h in known.items():
        values = list(fixed.get(name, h.range.grid if h.range is not None and search != "default" else ()))
        if name not in fixed and search == "random" and h.range is not None and h.range.low is not None:
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


def settings(
    known: Mapping[str, Hyperparameter],
    search: str,
    n_draws: int,
    rng: np.random.Generator,
    fixed: Mapping[str, Sequence[Value]],
    apart: Mapping[str, np.random.Generator] = MappingProxyType({}),
) -> list[dict[str, Value]]:
    """The settings one method tries on one data set.

    Values in `fixed` replace a hyperparameter's range: a single value holds it still, several are its grid.

    Args:
        known: The hyperparameters.
        search: "default", "grid" or "random".
        n_draws: Settings of a random search; draw 0 is the defaults.
        rng: Source of the random search; draw i depends on the draws before it only.
        fixed: Values given by the user, already parsed.
        apart: Hyperparameters that a random search draws from a source of their own, so that the values of the others
            are the same with them and without.

    Returns:
        Distinct settings, each complete, draw 0 first.
    """
    known = {name: h for name, h in known.items() if name in fixed or not h.later}
    base = {name: fixed[name][0] if name in fixed else h.default for name, h in known.items()}
    several = {name: list(values) for name, values in fixed.items() if len(values) > 1}
    if search == "random":
        return _drawn(known, base, n_draws, {name: apart.get(name, rng) for name in known}, set(fixed), several)
    axes: dict[str, Sequence[Value]] = dict(several)
    if search == "grid":
        axes |= {name: h.range.grid for name, h in known.items() if h.range is not None and name not in fixed}
    rows = [base | dict(zip(axes, combo, strict=True)) for combo in itertools.product(*axes.values())]
    return list(_distinct([base, *rows] if search == "grid" else rows))


def _drawn(
    known: Mapping[str, Hyperparameter],
    base: dict[str, Value],
    n_draws: int,
    sources: Mapping[str, np.random.Generator],
    fixed: Container[str],
    several: Mapping[str, Sequence[Value]],
) -> list[dict[str, Value]]:
    """`base`, and random settings up to `n_draws` in all."""
    # Short lists repeat themselves: so many tries at most for as many distinct settings as were asked for.
    tries = (_draw(known, base, sources, fixed, several) for _ in range(_TRIES * n_draws))
    return list(itertools.islice(_distinct(itertools.chain([base], tries)), n_draws))


def _draw(
    known: Mapping[str, Hyperparameter],
    base: Mapping[str, Value],
    sources: Mapping[str, np.random.Generator],
    fixed: Container[str],
    several: Mapping[str, Sequence[Value]],
) -> dict[str, Value]:
    """One random setting."""
    row = dict(base)
    # Draw for every hyperparameter, also a fixed one, so that fixing one does not change the others.
    for name, h in known.items():
        if h.range is not None and not h.later:
            value = h.range.draw(sources[name], h.kind)
            if name not in fixed:
                row[name] = value
    for name, values in several.items():
        row[name] = values[int(sources[name].integers(len(values)))]
    return row


def _distinct(rows: Iterable[dict[str, Value]]) -> Iterator[dict[str, Value]]:
    seen: set[tuple[Value, ...]] = set()
    for row in rows:
        key = tuple(row.values())
        if key not in seen:
            seen.add(key)
            yield row
