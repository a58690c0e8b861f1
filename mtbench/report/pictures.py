"""What all pictures share: how they look, how they become the bytes of a file, and how their axes are labelled."""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import matplotlib

from mtbench.printable import one_line
from mtbench.report.matrices import Axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES_UP_TO = 60
"""Labels of an axis that shows them all."""

_STYLE: dict[Any, Any] = {
    # DejaVu comes with matplotlib: it stands in for characters that the others lack.
    "font.family": ["sans-serif", "DejaVu Sans"],
    "font.sans-serif": ["Helvetica", "Helvetica Neue", "Nimbus Sans", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 9,
    "axes.linewidth": 0.6,
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,
    "svg.hashsalt": "mtbench",  # the same numbers give the same bytes
}
_MAX_NAME = 28
_WITHOUT_DATE: dict[str, dict[str, Any]] = {
    "png": {},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


def rendered(make: Callable[[], Figure], kind: str) -> bytes:
    """The bytes of a picture; the same for the same numbers.

    Args:
        make: Draws it.
        kind: "png", "svg" or "pdf".
    """
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # A name in a script that no font at hand covers is drawn as boxes; that is no reason to complain.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        out = io.BytesIO()
        make().savefig(out, format=kind, dpi=200, bbox_inches="tight", pad_inches=0.08, metadata=_WITHOUT_DATE[kind])
    return out.getvalue()


def label_axis(axes: Axes, which: Literal["x", "y"], axis: Axis, title: str, points: float) -> None:
    """Names of the rows or columns, each of which has so many points; of very many, some."""
    step = next(m * 10**k for k in itertools.count() for m in (1, 2, 5) if len(axis.labels) <= NAMES_UP_TO * m * 10**k)
    at = range(0, len(axis.labels), step)
    names = [short(axis.labels[i]) for i in at]
    upright = which == "y" or max(map(len, names)) <= 2
    size = min(9.0, max(0.8 * points * step, 4.0))
    place = axes.set_yticks if which == "y" else axes.set_xticks
    place([i + 0.5 for i in at], names, fontsize=size, rotation=0 if upright else 90, parse_math=False)
    axes.tick_params(which, length=0, pad=2)
    (axes.set_ylabel if which == "y" else axes.set_xlabel)(title)


def short(name: str) -> str:
    """A name in one line that a label has room for."""
    name = one_line(name)
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"
