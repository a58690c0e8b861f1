"""Hyperparameters: declared once, in a method's frozen dataclass; searched, set and checked from there.

A real-valued hyperparameter (annotated `float`) is stackable: trials that differ in it train together. All others
(integers, words, switches) split stacks, because they may change shapes.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import typing
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtbench.errors import PluginError, StudyError, UnknownName

Value = float | int | str | bool

_META = "mtbench.tunable"

_TRIES = 50


@dataclass(frozen=True)
class Range:
    """Where a search looks for a hyperparameter.

    Attributes:
        grid: The values of a grid search.
        low: Smallest value a random search draws, inclusive; None draws from `grid`.
        high: Largest.
        log: Draw evenly on the logarithmic scale.
    """

    grid: tuple[Value, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = True

    def draw(self, rng: np.random.Generator, kind: type) -> Value:
        """One value for a random search."""
        if self.low is None or self.high is None:
            return self.grid[int(rng.integers(len(self.grid)))]
        u = rng.uniform()
        if self.log:
            value = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + u * (self.high - self.low)
        # Six digits: the value is read by people, and is part of a trial's identity.
        return round(value) if kind is int else float(f"{value:.6g}")


def tunable(
    default: Value,
    *,
    grid: Sequence[Value] = (),
    low: float | None = None,
    high: float | None = None,
    log: bool = True,
    minimum: float | None = 0.0,
    maximum: float | None = None,
    choices: Sequence[Value] = (),
    help: str = "",
    ramped: bool = False,
) -> Any:
    """Declares a hyperparameter that searches may vary.

    Args:
        default: Its value in draw 0.
        grid: Values of `--search grid`. Defaults to `choices`, else to the default alone.
        low: Lower end of `--search random:N`; without it (and `high`) values are drawn from the grid.
        high: Upper end.
        log: Draw evenly on the logarithmic scale.
        minimum: Smallest value that makes sense; below it a setting is refused. None for no bound.
        maximum: Largest.
        choices: The only values allowed, for words and short lists.
        help: One line, shown by `mtbench show`.
        ramped: It grows from 0 to its value over the recipe's `ramp_epochs`.
    """
    if (low is None) != (high is None) or (low is not None and high is not None and not low < high):
        raise PluginError(f"tunable() needs low and high together, low below high; found low={low}, high={high}.")
    if log and low is not None and low <= 0:
        raise PluginError(
            f"tunable() draws on the logarithmic scale from a low above 0; found {low}. Or say log=False."
        )
    span = Range(tuple(grid) or tuple(choices) or (default,), low, high, log)
    meta = {
        "range": span,
        "minimum": minimum,
        "maximum": maximum,
        "choices": tuple(choices),
        "help": help,
        "ramped": ramped,
    }
    return dataclasses.field(default=default, metadata={_META: meta})


@dataclass(frozen=True)
class Hyperparameter:
    """What is known of one field of a Params dataclass."""

    name: str
    kind: type
    default: Value
    range: Range | None
    minimum: float | None
    maximum: float | None
    choices: tuple[Value, ...]
    help: str
    ramped: bool = False

    @property
    def stackable(self) -> bool:
        """Whether trials that differ in it can share one batched computation."""
        return self.kind is float

    def parse(self, value: object, owner: str) -> Value:
        """Checks a value, given as such or as text.

        Args:
            value: The value.
            owner: Name of the method, for the message.

        Returns:
            The value in the field's own type.

        Raises:
            StudyError: It has the wrong type or is out of range.
        """
        where = f"{owner}.{self.name}"
        parsed = self._typed(value, where)
        if self.choices and parsed not in self.choices:
            raise StudyError(f"{where} must be one of {', '.join(map(str, self.choices))}; found {value!r}.")
        if isinstance(parsed, int | float) and not isinstance(parsed, bool):
            low = -math.inf if self.minimum is None else self.minimum
            high = math.inf if self.maximum is None else self.maximum
            if not (low <= parsed <= high and math.isfinite(parsed)):
                raise StudyError(f"{where} must be a finite number from {low:g} to {high:g}; found {value!r}.")
        return parsed

    def _typed(self, value: object, where: str) -> Value:
        if self.kind is bool:
            words = {"true": True, "false": False}
            if isinstance(value, bool):
                return value
            if str(value).lower() in words:
                return words[str(value).lower()]
            raise StudyError(f"{where} must be true or false; found {value!r}.")
        if self.kind is str:
            return str(value)
        try:
            number = float(str(value))
        except ValueError:
            raise StudyError(f"{where} must be a number; found {value!r}.") from None
        if not math.isfinite(number):
            raise StudyError(f"{where} must be a finite number; found {value!r}.")
        if self.kind is int:
            if number != int(number):
                raise StudyError(f"{where} must be a whole number; found {value!r}.")
            return int(number)
        return number


def describe(params: type) -> dict[str, Hyperparameter]:
    """The hyperparameters of a Params dataclass, by name.

    Raises:
        PluginError: It is no frozen dataclass, or a field has no default or an unsupported type.
    """
    if not (dataclasses.is_dataclass(params) and params.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        raise PluginError(f"{params.__qualname__} must be a frozen dataclass: @dataclass(frozen=True, kw_only=True).")
    hints = typing.get_type_hints(params)
    found = {}
    for f in dataclasses.fields(params):
        if f.default is dataclasses.MISSING or hints[f.name] not in (float, int, str, bool):
            raise PluginError(
                f"{params.__qualname__}.{f.name} must be a float, int, str or bool with a default; found "
                f"{hints[f.name]!r}."
            )
        meta = f.metadata.get(_META, {})
        found[f.name] = Hyperparameter(
            f.name,
            hints[f.name],
            f.default,
            meta.get("range"),
            meta.get("minimum"),
            meta.get("maximum"),
            meta.get("choices", ()),
            meta.get("help", ""),
            meta.get("ramped", False),
        )
    return found


def find(known: Mapping[str, Hyperparameter], name: str, owner: str) -> Hyperparameter:
    """The hyperparameter of that name.

    Raises:
        UnknownName: There is none.
    """
    if name not in known:
        raise UnknownName.among(
            "hyperparameter", name, known, f"`mtbench show {owner}` lists them.", where=f"of {owner}"
        )
    return known[name]


def settings(
    known: Mapping[str, Hyperparameter],
    search: str,
    n_draws: int,
    rng: np.random.Generator,
    fixed: Mapping[str, Sequence[Value]],
) -> list[dict[str, Value]]:
    """The settings one method tries on one data set.

    Values in `fixed` replace a hyperparameter's range: a single value holds it still, several are its grid.

    Args:
        known: The hyperparameters.
        search: "default", "grid" or "random".
        n_draws: Settings of a random search; draw 0 is the defaults.
        rng: Source of the random search; draw i depends on the draws before it only.
        fixed: Values given by the user, already parsed.

    Returns:
        Distinct settings, each complete, draw 0 first.
    """
    base = {name: fixed[name][0] if name in fixed else h.default for name, h in known.items()}
    several = {name: list(values) for name, values in fixed.items() if len(values) > 1}
    if search == "random":
        return _drawn(known, base, n_draws, rng, set(fixed), several)
    axes: dict[str, Sequence[Value]] = dict(several)
    if search == "grid":
        axes |= {name: h.range.grid for name, h in known.items() if h.range is not None and name not in fixed}
    rows = [base | dict(zip(axes, combo, strict=True)) for combo in itertools.product(*axes.values())]
    return list(_distinct([base, *rows] if search == "grid" else rows))


def _drawn(
    known: Mapping[str, Hyperparameter],
    base: dict[str, Value],
    n_draws: int,
    rng: np.random.Generator,
    fixed: Container[str],
    several: Mapping[str, Sequence[Value]],
) -> list[dict[str, Value]]:
    """`base`, and random settings up to `n_draws` in all."""
    # Short lists repeat themselves: so many tries at most for as many distinct settings as were asked for.
    tries = (_draw(known, base, rng, fixed, several) for _ in range(_TRIES * n_draws))
    return list(itertools.islice(_distinct(itertools.chain([base], tries)), n_draws))


def _draw(
    known: Mapping[str, Hyperparameter],
    base: Mapping[str, Value],
    rng: np.random.Generator,
    fixed: Container[str],
    several: Mapping[str, Sequence[Value]],
) -> dict[str, Value]:
    """One random setting."""
    row = dict(base)
    # Draw for every hyperparameter, also a fixed one, so that fixing one does not change the others.
    for name, h in known.items():
        if h.range is not None:
            value = h.range.draw(rng, h.kind)
            if name not in fixed:
                row[name] = value
    for name, values in several.items():
        row[name] = values[int(rng.integers(len(values)))]
    return row


def _distinct(rows: Iterable[dict[str, Value]]) -> Iterator[dict[str, Value]]:
    seen: set[tuple[Value, ...]] = set()
    for row in rows:
        key = tuple(row.values())
        if key not in seen:
            seen.add(key)
            yield row
