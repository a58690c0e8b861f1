"""A leaderboard as text for terminals: as many columns as fit, the most important ones."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

from mtbench.printable import one_line
from mtbench.report.leaderboard import Leaderboard
from mtbench.report.narrow import columns_that_fit, shortened, widest, wrapped
from mtbench.report.tables import Table, tables

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_GAP = 2  # between columns
_LEAST_NAME = 20  # columns that a name has at least


def as_text(board: Leaderboard, per_task: bool = False, colour: bool = False, width: int | None = None) -> str:
    """Tables for a terminal.

    Args:
        board: What to print.
        per_task: Also print a table by task for each data set.
        colour: Set the best in bold.
        width: Columns of the terminal: what has no room is left out, and named. None leaves nothing out.
    """
    # Imported here: the other formats do without.
    from rich.console import Console
    from rich.text import Text

    out = io.StringIO()
    console = Console(
        file=out, width=100_000, force_terminal=colour, no_color=not colour, highlight=False, markup=False
    )
    for table in tables(board, per_task):
        shown = _narrowed(table, width)
        console.print(Text(wrapped(one_line(shown.title), width), style="bold"))
        console.print(_grid(shown))
        console.print("\n".join(wrapped(one_line(note), width, "  ") for note in shown.notes) + "\n")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).rstrip("\n") + "\n"


def _grid(table: Table) -> RichTable:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for i, name in enumerate(table.header):
        grid.add_column(Text(name), justify="left" if i < table.n_names else "right", no_wrap=True)
    for i, row in enumerate(table.rows):
        grid.add_row(*map(Text, row), style="bold" if i in table.best else None)
    return grid


def _narrowed(table: Table, width: int | None) -> Table:
    """A table with marks behind its best scores, and with the columns that fit; a note says what is missing."""
    header = tuple(map(one_line, table.header))
    rows = [tuple(map(one_line, row)) for row in _starred(table)]
    columns = [(name, *(row[i] for row in rows)) for i, name in enumerate(header)]
    widths = [widest(column) + _GAP for column in columns]
    if width is None or sum(widths) <= width:
        return replace(table, header=header, rows=tuple(rows))
    most = max(_LEAST_NAME, width // 3)
    shown = [tuple(shortened(name, most) for name in names) for names in columns[: table.n_names]]
    widths[: table.n_names] = [widest(names) + _GAP for names in shown]
    kept = columns_that_fit(widths, table.least, width)
    left_out = [name for i, name in enumerate(header) if i not in kept]
    note = _told(left_out, shown != columns[: table.n_names])
    head, *found = zip(*[*shown, *(columns[i] for i in kept if i >= table.n_names)], strict=True)
    return replace(table, header=head, rows=tuple(found), notes=(*table.notes, note))


def _told(left_out: list[str], shortened_any: bool) -> str:
    """What a narrow terminal does not show, and how to see it."""
    what = [f"the columns {', '.join(left_out)}"] if left_out else []
    what += ["the middle of long names"] if shortened_any else []
    return f"Left out for want of width: {'; '.join(what)}. A wider terminal, `| less -S` or --format csv shows all."


def _starred(table: Table) -> list[tuple[str, ...]]:
    """The rows, with a mark behind the best scores; all scores stay aligned."""
    if not table.best:
        return list(table.rows)
    n = table.n_names
    return [(*row[:n], row[n] + (" *" if i in table.best else "  "), *row[n + 1 :]) for i, row in enumerate(table.rows)]
