"""Learned matrices as pictures: PNG, SVG or PDF.

Shapes: a matrix has M rows and N columns.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mtbench.printable import one_line
from mtbench.report.matrices import LearnedMatrix
from mtbench.report.pictures import NAMES_UP_TO, label_axis, rendered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

# Both are perceptually uniform: magma's inverse begins near white, and coolwarm (Moreland) is neutral at 0.
_MAGNITUDES, _SIGNED = "magma_r", "coolwarm"
_SIDE = 7.2  # inches that the longer side has room for
_CELL = (0.13, 0.55)  # inches
_NUMBERS_UP_TO = 12  # rows and columns of a matrix whose cells show their values


def picture(found: LearnedMatrix, kind: str) -> bytes:
    """A picture of a matrix.

    Absolute values go from light to dark; signed ones from blue through a neutral 0 to red.

    Args:
        found: The matrix.
        kind: "png", "svg" or "pdf".
    """
    return rendered(lambda: _figure(found), kind)


def _figure(found: LearnedMatrix) -> Figure:
    m, n = found.values.shape
    cell = min(max(_SIDE / max(m, n), _CELL[0]), _CELL[1])
    # Beyond what cells of a readable size have room for, cells shrink.
    height, width = (max(min(size * cell, 1.25 * _SIDE), 0.8) for size in (m, n))
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    # What is not drawn shows as hatching.
    axes.patch.set(hatch="//////", edgecolor="0.75", linewidth=0)
    mesh = _mesh(axes, found, small=max(m, n) <= NAMES_UP_TO)
    axes.set_title("\n".join(map(one_line, found.title)), loc="left", fontsize=9, parse_math=False)
    label_axis(axes, "y", found.rows, found.axis_titles[0], 72 * height / m)
    label_axis(axes, "x", found.columns, found.axis_titles[1], 72 * width / n)
    if max(m, n) <= _NUMBERS_UP_TO:
        _write_numbers(axes, found, mesh)
    bar = figure.add_axes((1 + 0.15 / width, 0.0, 0.14 / width, 1.0))
    beyond = ("both" if found.signed else "max") if found.exceeds_scale else "neither"
    figure.colorbar(mesh, cax=bar, extend=beyond).outline.set_linewidth(0.4)
    bar.tick_params(labelsize=8, width=0.6, length=2)
    return figure


def _mesh(axes: Axes, found: LearnedMatrix, small: bool) -> QuadMesh:
    """The cells, the first row on top."""
    low = -found.scale if found.signed else 0.0
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(found.drawn),
        cmap=_SIGNED if found.signed else _MAGNITUDES,
        norm=Normalize(low, found.scale),
        edgecolors="white" if small else "none",
        linewidth=0.4 if small else 0.0,
        rasterized=not small,
    )
    axes.invert_yaxis()
    for side in axes.spines.values():
        side.set_visible(False)
    return mesh


def _write_numbers(axes: Axes, found: LearnedMatrix, mesh: QuadMesh) -> None:
    """The values in their cells, where two digits of the strongest have room."""
    decimals = 1 - math.floor(math.log10(found.scale))
    if not 0 <= decimals <= 3:
        return
    colours = np.asarray(mesh.to_rgba(found.drawn))
    light = colours[..., :3] @ (0.299, 0.587, 0.114) > 0.5
    for (i, j), value in np.ndenumerate(found.drawn):
        if np.isfinite(value):
            text = f"{value:.{decimals}f}" if round(value, decimals) else "0"
            colour = "0.15" if light[i, j] else "white"
            axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=7, color=colour)
