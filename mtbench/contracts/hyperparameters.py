"""Hyperparameters: declared once, in a method's frozen dataclass; searched, set and checked from there.

A real-valued hyperparameter (annotated `float`) is stackable: trials that differ in it train together, unless it says
that they cannot. All others (integers, words, switches) split stacks, because they may change shapes.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtbench.contracts.scale import COUNTS, UNITS, Scale
from mtbench.contracts.values import Value, checked_value
from mtbench.errors import PluginError, StudyError, UnknownName

_META = "mtbench.tunable"


@dataclass(frozen=True)
class NoParams:
    """The hyperparameters of what has none of its own."""


@dataclass(frozen=True)
class Range:
    """Where a search looks for a hyperparameter.

    Attributes:
        grid: The values of a grid search.
        low: Smallest value a random search draws, inclusive; None draws from `grid`.
        high: Largest.
        log: Draw evenly on the logarithmic scale.
        complete: No larger value than the last of `grid` would make sense.
    """

    grid: tuple[Value, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = True
    complete: bool = False

    def draw(self, rng: np.random.Generator, kind: type) -> Value:
        """One value for a random search."""
        if self.low is None or self.high is None:
            return self.grid[int(rng.integers(len(self.grid)))]
        u = rng.uniform()
        if self.log:
            value = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + u * (self.high - self.low)
        return round(value) if kind is int else six_digits(value)

    def scaled(self, unit: float) -> Range:
        """The range with all values multiplied by `unit`."""
        low, high = (None if end is None else six_digits(end * unit) for end in (self.low, self.high))
        return dataclasses.replace(self, grid=tuple(six_digits(float(v) * unit) for v in self.grid), low=low, high=high)

    def cut(self, most: int) -> Range:
        """The range with the values of its list above `most` replaced by `most`."""
        numbers = [int(value) for value in self.grid]
        grid = tuple(dict.fromkeys(min(number, most) for number in numbers))
        return dataclasses.replace(self, grid=grid, complete=max(numbers) >= most)


def six_digits(value: float) -> float:
    """Six of them: values are read by people, and are part of a trial's identity."""
    return float(f"{value:.6g}")


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
    per: str = "",
    up_to: str = "",
    later: bool = False,
    stackable: bool = True,
) -> Any:
    """Declares a hyperparameter, as a field of a method's `Params`, and how searches vary it.

    Args:
        default: Its value in draw 0 of every search.
        grid: Values of `--search grid`. Defaults to `choices`, else to the default alone.
        low: Lower end of what `--search random:N`, and all that search like it, draw from; without it (and `high`)
            values are drawn from the grid.
        high: Upper end.
        log: Draw evenly on the logarithmic scale.
        minimum: Smallest value that makes sense; below it a setting is refused. None for no bound.
        maximum: Largest.
        choices: The only values allowed, for words and short lists.
        help: One line, shown by `mtbench show`.
        ramped: It grows from 0 to its value over the recipe's `ramp_epochs`.
        per: A key of `mtbench.contracts.scale.UNITS`: `default`, `grid`, `low` and `high` are multiples of that number
            of the problem at hand, so that they fit data of any scale. Methods receive the product.
        up_to: A key of `mtbench.contracts.scale.COUNTS`, for whole numbers: values of `grid` above that number of the
            problem become that number, and so does the default.
        later: It came after results were stored and changes none at its default: no search draws it, and a setting
            holds it only where it is given, so that trials keep their identity.
        stackable: False of a float that trials of one stack must have in common, such as the share of a stage: it
            arrives as a plain number. Best searched over a short list.

    Returns:
        The default of a dataclass field.

    Raises:
        PluginError: `low`, `high`, `log`, `per`, `up_to` and the default do not fit each other.
    """
    _check_words(default, per, up_to, low)
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
        "per": per,
        "up_to": up_to,
        "later": later,
        "stackable": stackable,
    }
    return dataclasses.field(default=default, metadata={_META: meta})


def _check_words(default: Value, per: str, up_to: str, low: float | None) -> None:
    if per and (per not in UNITS or not isinstance(default, float)):
        raise PluginError(f"tunable(per=...) needs a float and one of {', '.join(UNITS)}; found {default!r}, '{per}'.")
    if up_to and (up_to not in COUNTS or type(default) is not int or low is not None):
        raise PluginError(
            f"tunable(up_to=...) needs a whole number, a grid without low and high, and one of {', '.join(COUNTS)}; "
            f"found {default!r}, low={low}, '{up_to}'."
        )


@dataclass(frozen=True)
class Hyperparameter:
    """What is known of one field of a Params dataclass; `shared` of a float that all trials of a stack must have."""

    name: str
    kind: type
    default: Value
    range: Range | None
    minimum: float | None
    maximum: float | None
    choices: tuple[Value, ...]
    help: str
    ramped: bool = False
    per: str = ""
    up_to: str = ""
    later: bool = False
    shared: bool = False

    def at(self, scale: Scale) -> Hyperparameter:
        """The same for a problem of this scale, with a default and a range that fit it."""
        if self.range is None or not (self.per or self.up_to in scale.counts):
            return self
        if self.per:
            unit = scale.units[self.per]
            default = six_digits(float(self.default) * unit)
            return dataclasses.replace(self, default=default, range=self.range.scaled(unit), per="")
        most = scale.counts[self.up_to]
        return dataclasses.replace(self, default=min(int(self.default), most), range=self.range.cut(most), up_to="")

    @property
    def stackable(self) -> bool:
        """Whether trials that differ in it can share one batched computation."""
        return self.kind is float and not self.shared

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
        return checked_value(value, self.kind, f"{owner}.{self.name}", self.choices, self.minimum, self.maximum)


def describe(params: type) -> dict[str, Hyperparameter]:
    """The hyperparameters of a Params dataclass, by name.

    Raises:
        PluginError: It is no frozen dataclass, or a field has no default or an unsupported type, or one whose values do
            not fit each other.
    """
    hints = _types(params)
    found = {}
    for f in dataclasses.fields(params):
        meta = f.metadata.get(_META, {})
        found[f.name] = Hyperparameter(
            f.name,
            _kind(params, f, hints[f.name]),
            typing.cast(Value, f.default),
            meta.get("range"),
            meta.get("minimum"),
            meta.get("maximum"),
            meta.get("choices", ()),
            meta.get("help", ""),
            meta.get("ramped", False),
            meta.get("per", ""),
            meta.get("up_to", ""),
            meta.get("later", False),
            not meta.get("stackable", True),
        )
        _check_values(found[f.name], params.__qualname__)
    return found


def _types(params: Any) -> dict[str, Any]:
    """The types of the fields of a Params dataclass, which it must be."""
    if not (isinstance(params, type) and dataclasses.is_dataclass(params)):
        raise PluginError(
            f"Hyperparameters must be a frozen dataclass: @dataclass(frozen=True, kw_only=True); found {params!r}."
        )
    if not params.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise PluginError(f"{params.__qualname__} must be a frozen dataclass: @dataclass(frozen=True, kw_only=True).")
    try:
        return typing.get_type_hints(params)
    except (NameError, TypeError, SyntaxError) as error:
        raise PluginError(
            f"{params.__qualname__}: every hyperparameter must be annotated as float, int, str or bool; found: {error}."
        ) from None


def _kind(params: type, f: dataclasses.Field[Any], hint: Any) -> type:
    """The type of a field, which has a default."""
    if hint not in (float, int, str, bool):
        raise PluginError(f"{params.__qualname__}.{f.name} must be a float, int, str or bool; found {hint!r}.")
    if f.default is dataclasses.MISSING:
        example = {float: "0.1", int: "4", str: '"relu"', bool: "True"}[hint]
        raise PluginError(
            f"{params.__qualname__}.{f.name} must have a default, which draw 0 of every search is made of: "
            f"`{f.name}: {hint.__name__} = tunable({example})`; found none."
        )
    return hint  # type: ignore[no-any-return]


def _check_values(h: Hyperparameter, owner: str) -> None:
    """Default, grid and range of a hyperparameter have its type and lie within its bounds."""
    span = h.range or Range()
    ends = [end for end in (span.low, span.high) if end is not None]
    if ends and h.kind not in (float, int):
        raise PluginError(f"{owner}.{h.name}: low and high are for numbers; found a {h.kind.__name__}.")
    for what, value in (("default", h.default), *(("grid", v) for v in span.grid), *(("range", end) for end in ends)):
        _check_type(h, owner, what, value)
        try:
            h.parse(value, owner)
        except StudyError as error:
            raise PluginError(f"{error} It stands in the {what} of the hyperparameter.") from None
    if ends and not ends[0] <= float(h.default) <= ends[1]:
        raise PluginError(
            f"{owner}.{h.name}: the default must lie in the range that a search draws from, {ends[0]:g} to "
            f"{ends[1]:g}; found {h.default!r}."
        )


def _check_type(h: Hyperparameter, owner: str, what: str, value: object) -> None:
    fits = isinstance(value, (float, int) if h.kind is float or what == "range" else h.kind)
    if not fits or (isinstance(value, bool) and h.kind is not bool):
        raise PluginError(f"{owner}.{h.name} is a {h.kind.__name__}, and so must be its {what}; found {value!r}.")


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
