"""Edges: hyperparameters whose best value lies at an end of the range that was searched.

What is best there might be better still beyond. A store says where a search looked (`ranges` in its provenance); older
ones do not, and nothing is said of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtbench.contracts.trials import Status
from mtbench.plan.cells import CellResults
from mtbench.plan.selected import Selected
from mtbench.plan.selection import Candidate
from mtbench.tasks import Array

_OUTER = 0.1
_OUTER_UNTRIED = 0.2
_HALF = 0.5
_FEWEST = 3
_TREND = 1.28
"""A tenth of all samples of unrelated numbers show more: one-sided, in standard errors."""

OFTEN = 0.2
"""A larger share of the splits than this, at one end, is worth a caution."""


@dataclass(frozen=True)
class Span:
    """Where a search looked for one hyperparameter.

    Attributes:
        values: The two ends of a range, or a list in ascending order.
        listed: Whether it is a list.
        log: Whether it is drawn evenly on the logarithmic scale.
        final: The ends, "low" and "high", beyond which no value would make sense.
    """

    values: tuple[float, ...]
    listed: bool
    log: bool
    final: frozenset[str]

    def position(self, value: float) -> float:
        """From 0 at the low end to 1 at the high one; in a list by place."""
        if self.listed:
            return float(np.interp(value, self.values, np.linspace(0, 1, len(self.values))))
        low, high, at = (math.log(v) if self.log else v for v in (self.values[0], self.values[-1], max(value, 1e-300)))
        return min(max((at - low) / (high - low), 0.0), 1.0)


@dataclass(frozen=True)
class Edge:
    """An end of a range, and how often selection ended there.

    Attributes:
        name: The hyperparameter.
        end: "low" or "high".
        value: That end.
        splits: The splits that selected there, ascending.
        n_splits: Splits in which something was selected.
    """

    name: str
    end: str
    value: float
    splits: tuple[int, ...]
    n_splits: int

    @property
    def often(self) -> bool:
        """Whether it is more than a fifth of the splits."""
        return len(self.splits) > OFTEN * self.n_splits


def spans(cell: CellResults) -> dict[str, Span]:
    """Where the search of a cell looked for each hyperparameter that is a number, as far as its stacks say."""
    stacks = {id(t.stack): t.stack for t in cell.search if t.status is Status.FINISHED}.values()
    found: dict[str, Span] = {}
    for stack in stacks:
        ranges = stack.provenance.get("ranges")
        for name, said in ranges.items() if isinstance(ranges, Mapping) else ():
            span = _span(said)
            if span is not None:
                found[name] = _joined(found[name], span) if name in found else span
    return found


def edges(cell: CellResults, selected: Selected, known: Mapping[str, Span] | None = None) -> Iterator[Edge]:
    """The ends at which some split's selected setting lies, by hyperparameter.

    Args:
        cell: The cell.
        selected: What was selected in it.
        known: Where the search looked; None for what the store says.
    """
    chosen = {c.split: dict(c.setting) for c in (row.candidate for row in selected.searched)}
    tried = _tried(cell.candidates)
    higher = cell.higher_is_better(cell.provenance.get("selection_metric", ""))
    for name, span in (spans(cell) if known is None else known).items():
        for end in ("low", "high"):
            if end in span.final:
                continue
            at = tuple(
                split
                for split, setting in sorted(chosen.items())
                if _is_number(setting.get(name))
                and _is_edge(span, end, name, float(setting[name]), tried[split], higher)
            )
            if at:
                yield Edge(name, end, span.values[0 if end == "low" else -1], at, len(chosen))


def _is_edge(
    span: Span,
    end: str,
    name: str,
    value: float,
    tried: Sequence[tuple[Mapping[str, Any], float]],
    higher_is_better: bool,
) -> bool:
    """Whether the selected value lies at an end, and validation gets better towards that end."""
    numbers = [(float(setting[name]), v) for setting, v in tried if _is_number(setting.get(name))]
    distance = [span.position(number) for number, _ in numbers]
    worse = [-v if higher_is_better else v for _, v in numbers]
    own = span.position(value)
    if end == "high":
        distance, own = [1.0 - d for d in distance], 1.0 - own
    outermost = own <= min(distance, default=0.0)
    near = own == 0.0 if span.listed else own <= (_OUTER_UNTRIED if outermost else _OUTER)
    return near and _pulls(np.array(distance), np.array(worse))


def _pulls(distance: Array, worse: Array) -> bool:
    """Whether settings in the half of a range at an end do better the closer they are to it.

    A hyperparameter that makes no difference is selected somewhere at random, at an end now and then; and many
    penalties make none below some size. So the half at the end decides: the rank correlation there between the
    distance from the end and how badly a setting did.

    Args:
        distance: From the end, 0 to 1, [settings].
        worse: Validation results, the larger the worse, [settings].
    """
    inner = distance <= _HALF
    if inner.sum() < _FEWEST or np.ptp(distance[inner]) == 0:
        inner = np.ones(len(distance), dtype=bool)
    near, bad = _ranks(distance[inner]), _ranks(worse[inner])
    if len(near) < _FEWEST or near.std() == 0 or bad.std() == 0:
        return False
    return bool(np.corrcoef(near, bad)[0, 1] * math.sqrt(len(near) - 1) > _TREND)


def _ranks(values: Array) -> Array:
    """Ranks from 0, ties sharing their mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: Array = (ends - (counts + 1) / 2.0)[place]
    return means


def _tried(candidates: Iterable[Candidate]) -> dict[int, list[tuple[dict[str, Any], float]]]:
    """By split, the settings that finished and their validation result, mean over seeds."""
    found: dict[int, dict[Any, list[float]]] = {}
    for c in candidates:
        if math.isfinite(c.validation):
            found.setdefault(c.split, {}).setdefault(c.setting, []).append(c.validation)
    return {
        split: [(dict(setting), math.fsum(values) / len(values)) for setting, values in settings.items()]
        for split, settings in found.items()
    }


def _span(said: object) -> Span | None:
    """What a provenance says of one hyperparameter; None for what is no range of numbers."""
    if not isinstance(said, Mapping):
        return None
    listed = "values" in said
    values = said["values"] if listed else [said.get("low"), said.get("high")]
    if not isinstance(values, list) or not all(_is_number(v) for v in values):
        return None
    numbers = sorted({float(v) for v in values})
    log = not listed and bool(said.get("log"))
    if len(numbers) < 2 or (log and numbers[0] <= 0):
        return None
    final = said.get("final")
    return Span(tuple(numbers), listed, log, frozenset(map(str, final)) if isinstance(final, list) else frozenset())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _joined(one: Span, other: Span) -> Span:
    """Where two searches of one cell looked, taken together."""
    if one == other:
        return one
    numbers = sorted({*one.values, *other.values})
    ends = (("low", numbers[0], 0), ("high", numbers[-1], -1))
    final = {end for end, value, i in ends for span in (one, other) if end in span.final and span.values[i] == value}
    if one.listed and other.listed:
        return Span(tuple(numbers), True, False, frozenset(final))
    return Span((numbers[0], numbers[-1]), False, (one.log or other.log) and numbers[0] > 0, frozenset(final))
