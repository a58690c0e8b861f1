"""The courses of task weights as pictures: PNG, SVG or PDF.

Shapes: E epochs, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mtbench.printable import one_line
from mtbench.report.courses import WeightCourses, bounds
from mtbench.report.matrices import Axis
from mtbench.report.pictures import label_axis, rendered, short
from mtbench.tasks import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES_UP_TO = 12
"""Tasks that get a line each; more become the rows of a heat map."""

# Six that people with any colour vision tell apart (Okabe and Ito), each as a whole and as a dashed line.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_DASHES = ("-", (0, (4, 1.5)))
_WIDTH, _HEIGHT, _LOWER, _BETWEEN = 6.4, 3.4, 1.3, 0.18  # inches
_ROW = (0.1, 0.2)  # inches of a row of the heat map
_MOST_HEIGHT = 9.0
_LABEL = 8  # points
_MAGNITUDES, _SIGNED = "magma_r", "coolwarm"


def picture(found: WeightCourses, kind: str) -> bytes:
    """A picture of the courses: a line for each task or, for many, a heat map; gradients in a panel below.

    Args:
        found: The courses.
        kind: "png", "svg" or "pdf".
    """
    return rendered(lambda: _figure(found), kind)


def _figure(found: WeightCourses) -> Figure:
    gradients = [
        (name, values)
        for name, values in (("mean cosine of gradients", found.cosine), ("share of conflicts", found.conflicts))
        if values is not None
    ]
    upper = 0.0 if found.weights is None else _upper_height(len(found.tasks))
    lower = (_LOWER if upper else _HEIGHT) if gradients else 0.0
    between = _BETWEEN if upper and lower else 0.0
    total = upper + between + lower
    figure = Figure(figsize=(_WIDTH, total))
    panels = []
    if found.weights is not None:
        panels.append(figure.add_axes((0.0, 1 - upper / total, 1.0, upper / total)))
        draw = _draw_lines if len(found.tasks) <= LINES_UP_TO else _draw_heat
        draw(figure, panels[0], found, found.weights, upper)
    if gradients:
        panels.append(figure.add_axes((0.0, 0.0, 1.0, lower / total)))
        _lines(panels[-1], found, gradients, lower)
        panels[-1].set_ylabel("gradients")
    for axes in panels:
        _mark_best(axes, found)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.tick_params(labelsize=8, width=0.6, length=2.5)
        axes.tick_params(axis="x", labelbottom=axes is panels[-1])
    panels[-1].set_xlabel("epoch")
    panels[0].set_title("\n".join(map(one_line, _title(found))), loc="left", fontsize=9, parse_math=False)
    return figure


def _upper_height(n_tasks: int) -> float:
    if n_tasks <= LINES_UP_TO:
        return _HEIGHT
    return min(max(n_tasks * _ROW[1], _HEIGHT), max(n_tasks * _ROW[0], _MOST_HEIGHT), _MOST_HEIGHT)


def _title(found: WeightCourses) -> list[str]:
    best = f"{found.best_line} (dashed)"
    return [*found.title, f"{best}; {found.trials_line}" if found.trials_line else best]


def _draw_lines(figure: Figure, axes: Axes, found: WeightCourses, weights: Array, height: float) -> None:
    _lines(axes, found, list(zip(found.tasks, weights.T, strict=True)), height)
    axes.set_ylabel("weight")


def _lines(axes: Axes, found: WeightCourses, courses: Sequence[tuple[str, Array]], height: float) -> None:
    """A line for each course, with its name at its end."""
    low, high = bounds(np.concatenate([values for _, values in courses]))
    middle, half = (low + high) / 2, max((high - low) / 2, 1e-3 * max(abs(low), abs(high)), 1e-9)
    axes.set_xlim(*_edges(found.epochs)[[0, -1]])
    if np.isfinite(middle):
        axes.set_ylim(middle - 1.08 * half, middle + 1.08 * half)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    marker = "o" if len(found.epochs) == 1 else ""
    ends: list[tuple[float, float, str, str]] = []
    for i, (name, values) in enumerate(courses):
        colour, dashes = _COLOURS[i % len(_COLOURS)], _DASHES[i // len(_COLOURS) % len(_DASHES)]
        axes.plot(found.epochs, values, color=colour, linestyle=dashes, linewidth=1.2, marker=marker, markersize=3)
        known = np.flatnonzero(np.isfinite(values))
        if known.size:
            (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
            at = (found.epochs[known[-1]] - left) / (right - left), (values[known[-1]] - bottom) / (top - bottom)
            ends.append((float(at[0]), float(at[1]), short(name), colour))
    _name_ends(axes, ends, 1.25 * _LABEL / (72 * height))


def _name_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]], gap: float) -> None:
    """Names beside the right ends of lines, none on another, each with a stroke to its line.

    Args:
        axes: Where.
        ends: Place of the end, across and up, name and colour of each line.
        gap: Least distance of two names; places and distances are shares of the panel.
    """
    ends = sorted(ends, key=lambda end: end[1])
    for (across, up, name, colour), place in zip(ends, spread([up for _, up, _, _ in ends], gap), strict=True):
        strokes = ([across, 1.01, 1.035], [up, up, place])
        axes.plot(*strokes, color=colour, linewidth=0.6, transform=axes.transAxes, clip_on=False)
        # Dark enough to be read: the stroke has the colour.
        axes.text(
            1.045, place, name, va="center", fontsize=_LABEL, color="0.15", transform=axes.transAxes, parse_math=False
        )


def spread(at: Sequence[float], gap: float) -> list[float]:
    """Places at least `gap` apart, as near to ascending wanted ones as that allows (in the sense of least squares).

    They lie from 0 to 1 where these have room for all.
    """
    # Less i gaps each, they need only ascend: isotonic regression, by pooling neighbours that do not.
    pools: list[tuple[float, int]] = []
    for i, wanted in enumerate(at):
        mean, n = wanted - i * gap, 1
        while pools and pools[-1][0] > mean:
            other, m = pools.pop()
            mean, n = (other * m + mean * n) / (m + n), m + n
        pools.append((mean, n))
    last = max(1 - (len(at) - 1) * gap, 0.0)
    means = [min(max(mean, 0.0), last) for mean, n in pools for _ in range(n)]
    return [mean + i * gap for i, mean in enumerate(means)]


def _draw_heat(figure: Figure, axes: Axes, found: WeightCourses, weights: Array, height: float) -> None:
    """A row for each task, the first on top."""
    low, high = bounds(weights)
    signed = low < 0 < high
    if signed:
        low, high = -max(-low, high), max(-low, high)
    mesh = axes.pcolormesh(
        _edges(found.epochs),
        np.arange(len(found.tasks) + 1),
        np.ma.masked_invalid(weights.T),
        cmap=_SIGNED if signed else _MAGNITUDES,
        norm=Normalize(low, high) if high > low else Normalize(low - 0.5, low + 0.5),
        rasterized=True,
    )
    axes.set_xlim(*_edges(found.epochs)[[0, -1]])
    axes.invert_yaxis()
    for side in axes.spines.values():
        side.set_visible(False)
    label_axis(axes, "y", Axis(found.tasks, True), "task", 72 * height / len(found.tasks))
    place = axes.get_position()
    bar = figure.add_axes((1 + 0.15 / _WIDTH, place.y0, 0.14 / _WIDTH, place.height))
    figure.colorbar(mesh, cax=bar).outline.set_linewidth(0.4)
    bar.tick_params(labelsize=8, width=0.6, length=2)
    bar.set_ylabel("weight")


def _edges(epochs: Array) -> Array:
    """Where the columns of a heat map begin and end, [E + 1]: half-way between epochs."""
    middle = (epochs[1:] + epochs[:-1]) / 2
    first, last = (epochs[0] - 0.5, epochs[-1] + 0.5) if not len(middle) else (epochs[0], epochs[-1])
    if len(middle):
        first, last = 1.5 * epochs[0] - 0.5 * epochs[1], 1.5 * epochs[-1] - 0.5 * epochs[-2]
    edges: Array = np.concatenate([[first], middle, [last]])
    return edges


def _mark_best(axes: Axes, found: WeightCourses) -> None:
    """A dashed line at the median of the best epochs, a stroke below the panel's top at that of each trial."""
    axes.axvline(found.best_epoch, color="0.3", linestyle="--", linewidth=0.8)
    if len(set(found.best_epochs)) > 1:
        each = sorted(set(found.best_epochs))
        axes.plot(each, [0.985] * len(each), "|", color="0.3", markersize=5, transform=axes.get_xaxis_transform())
