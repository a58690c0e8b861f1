"""The courses of task weights in text: a line for each task in a terminal, CSV and JSON.

Shapes: E epochs, T tasks.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.cells import set_cell_size

from mtbench.printable import can_be_encoded, one_line
from mtbench.report.courses import WeightCourses, bounds, mean_of_known
from mtbench.report.narrow import shortened, widest, wrapped
from mtbench.tasks import Array

_MOST_TASKS = 12
_NUMBERS = ("first", "last", "least", "largest")
_LONGEST_COURSE = 60  # columns
_SHORTEST_COURSE = 8
_LONGEST_NAME = 24
_SHORTEST_NAME = 6
_GAP = 2
_LEVEL = 1e-9  # of the largest size: less is rounding


@dataclass(frozen=True)
class Blocks:
    """The signs that courses are drawn with, each one column wide.

    Attributes:
        levels: From the lowest to the highest.
        best: Stands above the best epoch.
        missing: Stands where nothing is known.
    """

    levels: str
    best: str
    missing: str


UNICODE = Blocks("▁▂▃▄▅▆▇█", "▼", "·")
ASCII = Blocks("_.-:=+*#", "v", " ")


def blocks_for(encoding: str | None) -> Blocks:
    """The best signs that a stream of this encoding can print."""
    return UNICODE if can_be_encoded(UNICODE.levels + UNICODE.best + UNICODE.missing, encoding) else ASCII


def as_view(found: WeightCourses, blocks: Blocks = UNICODE, width: int | None = None, every_task: bool = False) -> str:
    """A line for each task: its first, last, least and largest weight, and the course between.

    Args:
        found: The courses.
        blocks: The signs.
        width: Columns of the terminal; None for as many as it takes.
        every_task: Show all tasks, not only the dozen that moves most.
    """
    shown = _shown(found, every_task)
    of_tasks = [] if found.weights is None else [(found.tasks[t], found.weights[:, t]) for t in shown]
    of_gradients = [
        (name, values)
        for name, values in (("cosine", found.cosine), ("conflicts", found.conflicts))
        if values is not None
    ]
    lines = [*found.title, ""]
    lines += _lines(found, of_tasks, of_gradients, blocks, width)
    lines += ["", *(wrapped(one_line(note), width) for note in _notes(found, shown, blocks))]
    return "\n".join(one_line(line).rstrip() for text in lines for line in text.split("\n")) + "\n"


def _shown(found: WeightCourses, every_task: bool) -> list[int]:
    n = len(found.tasks)
    return list(range(n)) if every_task or n <= _MOST_TASKS else found.moving_most(_MOST_TASKS)


_Line = tuple[str, Array]
"""A name, and values [E]."""


def _lines(
    found: WeightCourses, of_tasks: Sequence[_Line], of_gradients: Sequence[_Line], blocks: Blocks, width: int | None
) -> list[str]:
    """The header and a line for each course."""
    each = [*of_tasks, *of_gradients]
    numbers = [[_number(v) for v in (values[0], values[-1], *bounds(values))] for _, values in each]
    columns = [[head, *column] for head, column in zip(_NUMBERS, zip(*numbers, strict=True), strict=True)]
    widths = [widest(column) + _GAP for column in columns]
    names = [one_line(name) for name, _ in each]
    name, course = _layout(widest([*names, "task"]), sum(widths), len(found.epochs), width)
    scale = bounds(np.concatenate([values for _, values in of_tasks])) if of_tasks else (np.nan, np.nan)
    scales = [scale if i < len(of_tasks) else bounds(values) for i, (_, values) in enumerate(each)]
    courses = [_course(values, course, *low_high, blocks) for (_, values), low_high in zip(each, scales, strict=True)]
    courses = [_header(found, course, blocks), *courses]
    first = [set_cell_size(shortened(text, name), name) for text in ("task" if of_tasks else "", *names)]
    rows = zip(first, zip(*columns, strict=True), courses, strict=True)
    return [
        label + "".join(text.rjust(wide) for text, wide in zip(texts, widths, strict=True)) + " " * _GAP + drawn
        for label, texts, drawn in rows
    ]


def _layout(longest: int, numbers: int, n_epochs: int, width: int | None) -> tuple[int, int]:
    """Columns of names and of courses: names give way first, down to a few signs, then courses."""
    name = min(longest, _LONGEST_NAME)
    course = min(n_epochs, _LONGEST_COURSE)
    if width is None:
        return name, course
    room = width - numbers - _GAP
    name = max(min(name, room - min(course, 2 * _SHORTEST_COURSE)), min(name, _SHORTEST_NAME))
    return name, max(min(course, room - name), min(course, _SHORTEST_COURSE))


def _binned(n_epochs: int, columns: int) -> list[Array]:
    """Positions of the epochs that each column stands for."""
    return np.array_split(np.arange(n_epochs), columns)


def _header(found: WeightCourses, columns: int, blocks: Blocks) -> str:
    """The first and the last epoch, and a mark at the best one."""
    position = int(np.searchsorted(found.epochs, found.best_epoch, side="right")) - 1
    bins = _binned(len(found.epochs), columns)
    at = next((i for i, some in enumerate(bins) if max(position, 0) in some), 0)
    first, last = str(found.epochs[0]), str(found.epochs[-1])
    signs = [" "] * columns
    if columns > len(first + last):
        # Where the mark is in the way of a number, the note below says which epoch it stands for.
        for text, place in ((first, 0), (last, columns - len(last))):
            if at not in range(place, place + len(text)):
                signs[place : place + len(text)] = text
    if columns > 1:
        signs[at] = blocks.best
    return "".join(signs)


def _course(values: Array, columns: int, low: float, high: float, blocks: Blocks) -> str:
    """A course from the lowest sign to the highest; one that does not move, in the middle."""
    means = [float(mean_of_known(values[some])) for some in _binned(len(values), columns)]
    top = len(blocks.levels) - 1
    flat = not high - low > _LEVEL * max(abs(low), abs(high))
    shares = [0.5 if flat else (mean - low) / (high - low) for mean in means]
    return "".join(
        blocks.levels[round(share * top)] if math.isfinite(mean) else blocks.missing
        for mean, share in zip(means, shares, strict=True)
    )


def _notes(found: WeightCourses, shown: Sequence[int], blocks: Blocks) -> list[str]:
    notes = [f"B{found.best_line[1:]}{f' ({blocks.best})' if len(found.epochs) > 1 else ''}."]
    if found.trials_line:
        notes.append(f"{found.trials_line}: each mean is over the trials that still trained.")
    if found.weights is None:
        notes.append(f"The weighting {found.weighting} makes one gradient of the tasks' and has no weights.")
    else:
        low, high = map(_number, bounds(found.weights[:, shown]))
        if low != high:
            notes.append(f"Courses of weights are drawn from {low} to {high}.")
    if found.cosine is not None:
        notes.append("cosine: mean cosine between the gradients of two tasks, drawn from its least to its largest.")
    if found.conflicts is not None:
        notes.append("conflicts: share of pairs of tasks whose gradients point in opposite directions, likewise.")
    rest = sorted(set(range(len(found.tasks))) - set(shown))
    if rest:
        most = _number(float(np.max(np.nan_to_num(found.moves[rest]))))
        verb = "task moves" if len(rest) == 1 else "tasks move"
        notes.append(f"{len(rest)} more {verb} less, by {most} at most; --all shows them.")
    return notes


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"


def as_csv(found: WeightCourses) -> str:
    """A line for each epoch: trials that still trained, what is known of gradients, then the weight of each task."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["epoch", "trials", "gradient_cosine", "gradient_conflicts", *map(one_line, found.tasks)])
    weights = [[]] * len(found.epochs) if found.weights is None else _plain(found.weights)
    none = [None] * len(found.epochs)
    known = [none if values is None else _plain(values) for values in (found.cosine, found.conflicts)]
    writer.writerows(
        [epoch, n, cosine, conflicts, *row]
        for epoch, n, cosine, conflicts, row in zip(
            found.epochs.tolist(), found.n_trials.tolist(), *known, weights, strict=True
        )
    )
    return out.getvalue()


def as_json(found: WeightCourses) -> str:
    """One object with the numbers, and where they come from; `null` for what is not known."""
    record: dict[str, Any] = {
        "method": found.method,
        "dataset": found.dataset,
        "weighting": found.weighting,
        "tasks": list(found.tasks),
        "epochs": found.epochs.tolist(),
        "weights": None if found.weights is None else _plain(found.weights),
        "gradient_cosine": None if found.cosine is None else _plain(found.cosine),
        "gradient_conflicts": None if found.conflicts is None else _plain(found.conflicts),
        "trials": found.n_trials.tolist(),
        "best_epochs": list(found.best_epochs),
        "splits": list(found.splits),
        "refit": found.refit,
        "selection": found.selection,
        "warnings": list(found.warnings),
    }
    return json.dumps(record, indent=2, allow_nan=False) + "\n"


def _plain(values: Array) -> list[Any]:
    """Numbers as Python's, None for those that are not finite."""
    found: list[Any] = np.where(np.isfinite(values), values.astype(object), np.array(None, object)).tolist()
    return found
