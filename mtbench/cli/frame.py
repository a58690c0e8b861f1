"""One picture of a run for a terminal of some size: nothing vital is cut, and no word is broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mtbench.cli.counts import Line, View
from mtbench.printable import one_line
from mtbench.report.narrow import shortened, widest, wrapped

if TYPE_CHECKING:
    from rich.text import Text

_GAP = "  "
_LEAST_NAME = 16
_ORDER = ("running", "waiting", "done", "skipped")  # which cells are shown first where not all have room


def frame(view: View, width: int, height: int | None = None) -> Text:
    """The cells of a run, and below them the totals.

    Args:
        view: The run.
        width: Columns of the terminal.
        height: Its lines; None for as many as it takes.
    """
    from rich.text import Text

    totals = wrapped(one_line(", ".join(view.totals)), width)
    room = None if height is None else max(height - 6 - totals.count("\n"), 1)  # heading, rule, rest, blanks
    shown = _most_wanted(view.lines, room)
    text = Text(no_wrap=True, overflow="crop")
    for i, row in enumerate(_rows(shown, width)):
        text.append(row + "\n", "bold" if i == 0 else "red" if i > 1 and shown[i - 2].n_failed else "")
    rest = [line for line in view.lines if line not in shown]
    if rest:
        counts = ", ".join(f"{n} {state}" for state in _ORDER if (n := sum(line.state == state for line in rest)))
        text.append(wrapped(f"and {len(rest)} more: {counts}", width) + "\n")
    return text.append("\n" + totals)


def _most_wanted(lines: Sequence[Line], room: int | None) -> list[Line]:
    """The cells that a number of lines has room for: those that run, then those to come; in their own order."""
    if room is None or len(lines) <= room:
        return list(lines)
    ranked = sorted(range(len(lines)), key=lambda i: (not lines[i].n_failed, _ORDER.index(lines[i].state), i))
    ranked = sorted(ranked, key=lambda i: lines[i].state != "running")
    return [lines[i] for i in sorted(ranked[:room])]


def _rows(lines: Sequence[Line], width: int) -> list[str]:
    """Heading, rule, and a row for each cell, at most so wide."""
    names = ["cell", *(one_line(line.label) for line in lines)]
    done = ["done", *(f"{line.n_done} of {line.n_trials}" if line.state != "skipped" else "-" for line in lines)]
    columns = [done]
    if any(line.n_failed for line in lines):
        columns.append(["failed", *(str(line.n_failed) for line in lines)])
    taken = sum(widest(column) + len(_GAP) for column in columns)
    now = _notes(lines, width - taken - len(_GAP) - min(widest(names), max(_LEAST_NAME, width // 2)))
    names = [shortened(name, max(width - taken - widest(now) - len(_GAP), 1)) for name in names]
    columns = [[text.rjust(widest(column)) for text in column] for column in columns]
    rows = [_GAP.join(row).rstrip() for row in zip(_padded(names), *columns, now, strict=True)]
    return [rows[0], "─" * max(map(len, rows)), *rows[1:]]


def _notes(lines: Sequence[Line], room: int) -> list[str]:
    """Where the cells are, all in the longest form that fits."""
    most = max((len(line.notes) for line in lines), default=1)
    found = []
    for form in range(most):
        found = ["now", *(line.notes[min(form, len(line.notes) - 1)] for line in lines)]
        if widest(found) <= room:
            break
    return found


def _padded(texts: Sequence[str]) -> list[str]:
    from rich.cells import set_cell_size

    return [set_cell_size(text, widest(texts)) for text in texts]
