"""A learned matrix in text: shaded cells for a terminal, CSV and JSON.

Shapes: a matrix has M rows and N columns.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from mtbench.printable import can_be_encoded, one_line
from mtbench.report.matrices import Axis, LearnedMatrix

_BLANK_BELOW = 0.05  # of the scale
_MAX_LABEL = 24
_MIN_LABEL = 8


@dataclass(frozen=True)
class Shades:
    """The signs that stand for values, each one column wide.

    Attributes:
        positive: Four, from the weakest to the strongest.
        negative: Likewise.
        left_out: Stands for a cell that is not drawn.
    """

    positive: str
    negative: str
    left_out: str


UNICODE = Shades("░▒▓█", "·-=≡", "╲")
ASCII = Shades(".:*#", "'-=%", "\\")


def shades_for(encoding: str | None) -> Shades:
    """The best signs that a stream of this encoding can print."""
    return UNICODE if can_be_encoded(UNICODE.positive + UNICODE.negative + UNICODE.left_out, encoding) else ASCII


def as_view(found: LearnedMatrix, shades: Shades = UNICODE, colour: bool = False, width: int | None = None) -> str:
    """The matrix as shaded cells, two columns wide where they fit and one where not.

    Args:
        found: The matrix.
        shades: The signs.
        colour: Set positive values of a signed matrix in red and negative ones in blue.
        width: Columns of the terminal; None for as many as it takes.
    """
    out = io.StringIO()
    console = Console(
        file=out, width=100_000, force_terminal=colour, no_color=not colour, highlight=False, markup=False
    )
    for line in found.title:
        console.print(one_line(line))
    titles = found.axis_titles
    if titles[0] != titles[1]:
        console.print(
            ", ".join(
                f"{which}: {one_line(title)}" for which, title in zip(("rows", "columns"), titles, strict=True) if title
            )
        )
    console.print()
    layout = _layout(found, width)
    if layout is None:
        n = len(found.columns.labels)
        console.print(
            f"{n} columns do not fit into {width} characters: --out FILE.png draws them, --format csv prints."
        )
    else:
        console.print("\n".join(_header(len(found.columns.labels), *layout)))
        for row in _rows(found, shades, *layout):
            console.print(row)
        console.print()
        console.print(_legend(found, shades))
    if found.direction_line:
        console.print(one_line(found.direction_line))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _layout(found: LearnedMatrix, width: int | None) -> tuple[int, int] | None:
    """Widths of the rows' labels and of a cell; None where no layout fits."""
    longest = min(max(map(cell_len, _row_labels(found.rows))), _MAX_LABEL)
    n = len(found.columns.labels)
    for cell in (2, 1):
        room = longest if width is None else min(longest, width - n * cell - 1)
        if room >= min(longest, _MIN_LABEL):
            return room, cell
    return None


def _row_labels(rows: Axis) -> list[str]:
    """Number and name of each row: columns have room for numbers only."""
    last = len(str(len(rows.labels) - 1))
    return [f"{i:>{last}} {one_line(name)}" if rows.tasks else f"{i:>{last}}" for i, name in enumerate(rows.labels)]


def _header(n: int, label: int, cell: int) -> Iterator[str]:
    """Numbers of the columns, their digits below each other."""
    digits = len(str(n - 1))
    numbers = [str(j).rjust(digits) for j in range(n)]
    for line in range(digits):
        yield " " * (label + 1) + "".join(number[line].ljust(cell) for number in numbers)


def _rows(found: LearnedMatrix, shades: Shades, label: int, cell: int) -> Iterator[Text]:
    for name, values in zip(_row_labels(found.rows), found.drawn.tolist(), strict=True):
        line = Text(set_cell_size(name, label) + " ")
        for value in values:
            sign, style = _shade(value, found.scale, found.signed, shades)
            line.append(sign * cell, style)
        yield line


def _shade(value: float, scale: float, signed: bool, shades: Shades) -> tuple[str, str]:
    """The sign of a value, and its style."""
    if not math.isfinite(value):
        return shades.left_out, "dim"
    share = min(abs(value) / scale, 1.0)
    if share < _BLANK_BELOW:
        return " ", ""
    strength = math.ceil(share * 4) - 1
    if not signed:
        return shades.positive[strength], ""
    return (shades.negative[strength], "blue") if value < 0 else (shades.positive[strength], "red")


def _legend(found: LearnedMatrix, shades: Shades) -> Text:
    """Up to which value each sign stands for."""
    bounds = [f"{found.scale * share:.2g}" for share in (_BLANK_BELOW, 0.25, 0.5, 0.75, 1.0)]
    line = Text(f"blank below {bounds[0]}")
    for i, bound in enumerate(bounds[1:]):
        line.append(", ")
        line.append(shades.positive[i] * 2, "red" if found.signed else "")
        if found.signed:
            line.append(" ")
            line.append(shades.negative[i] * 2, "blue")
        line.append(f" to {'±' if found.signed and shades is UNICODE else ''}{bound}")
    return line.append(" and more" if found.exceeds_scale else "")


def as_csv(found: LearnedMatrix) -> str:
    """A line for each row: its label, then its numbers; before them the matrix's name and the columns' labels."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(one_line, [found.name, *found.columns.labels]))
    for label, values in zip(found.rows.labels, found.values.tolist(), strict=True):
        writer.writerow([one_line(label), *values])
    return out.getvalue()


def as_json(found: LearnedMatrix) -> str:
    """One object with the numbers, their axes, and where they come from."""
    record: dict[str, Any] = {
        "method": found.method,
        "dataset": found.dataset,
        "matrix": found.name,
        "signed": found.signed,
        "rows": list(found.rows.labels),
        "columns": list(found.columns.labels),
        "values": [[v if math.isfinite(v) else None for v in row] for row in found.values.tolist()],
        "early_to_late": found.directions[0] if found.directions else None,
        "late_to_early": found.directions[1] if found.directions else None,
        "splits": list(found.splits),
        "n_trials": found.n_trials,
        "refit": found.refit,
        "selection": found.selection,
        "warnings": list(found.warnings),
    }
    return json.dumps(record, indent=2, allow_nan=False) + "\n"
