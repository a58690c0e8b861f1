"""Settings that are known before anything is trained: the defaults first, then a grid or random draws from ranges."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from mtbench.contracts.hyperparameters import Hyperparameter, Range
from mtbench.contracts.values import Value

_TRIES = 50


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
    known = _held(known, fixed)
    base = {name: fixed[name][0] if name in fixed else h.default for name, h in known.items()}
    several = {name: list(values) for name, values in fixed.items() if len(values) > 1}
    if search == "random":
        return _drawn(known, base, n_draws, {name: apart.get(name, rng) for name in known}, set(fixed), several)
    axes: dict[str, Sequence[Value]] = dict(several)
    if search == "grid":
        axes |= {name: h.range.grid for name, h in known.items() if h.range is not None and name not in fixed}
    rows = [base | dict(zip(axes, combo, strict=True)) for combo in itertools.product(*axes.values())]
    return list(_distinct([base, *rows] if search == "grid" else rows))


def axes(known: Mapping[str, Hyperparameter], fixed: Mapping[str, Sequence[Value]]) -> dict[str, Hyperparameter]:
    """The hyperparameters that a random search varies, each with the range that it draws from; arguments as above."""
    found = {}
    for name, h in _held(known, fixed).items():
        span = Range(tuple(dict.fromkeys(fixed[name]))) if name in fixed else None if h.later else h.range
        if span is not None and (span.low is not None or len(set(span.grid)) > 1):
            found[name] = dataclasses.replace(h, range=span)
    return found


def _held(known: Mapping[str, Hyperparameter], fixed: Container[str]) -> dict[str, Hyperparameter]:
    """The hyperparameters that a setting holds."""
    return {name: h for name, h in known.items() if name in fixed or not h.later}


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
