"""Tables: ruled where somebody looks, plain columns where another program reads."""

from __future__ import annotations

from collections.abc import Sequence

from mtbench.cli.terminal import is_styled, say, width
from mtbench.printable import lines, one_line


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", least: Sequence[str] = ()
) -> None:
    """Prints a table on stdout.

    Args:
        columns: Headings, of which the first is never left out.
        rows: One text per column.
        title: Printed above, unless empty.
        least: Columns that a narrow terminal does without first, before the rest from the right.
    """
    shown = [[one_line(text) for text in row] for row in (columns, *rows)]
    if width() is not None:
        _print_ruled(shown, title, [*least, *reversed([c for c in columns[1:] if c not in least])])
        return
    if title:
        say(title)
    widths = [max(len(row[i]) for row in shown) for i in range(len(columns))]
    for row in shown:
        say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _print_ruled(shown: Sequence[Sequence[str]], title: str, least: Sequence[str]) -> None:
    """Cells are wrapped between words; columns whose longest words have no room together are left out, and named."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mtbench.report.narrow import columns_that_fit, widest, wrapped

    room, (header, *rows) = (width() or 80) - 1, shown  # a blank stands at the left edge
    # The first column is a name, which is never wrapped.
    needed = [widest(c[i] if i == 0 else word for c in shown for word in c[i].split()) for i in range(len(header))]
    kept = columns_that_fit([n + 3 for n in needed], [header.index(name) for name in least], room)
    table = Table(box=box.SIMPLE_HEAD, title=Text(lines(title)) if title else None, title_justify="left")
    wanted = [widest(cells[i] for cells in shown) for i in kept]
    for i, column_width in zip(kept, _shared([needed[i] for i in kept], wanted, room - 3 * len(kept)), strict=True):
        table.add_column(Text(header[i]), width=column_width, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[i]) for i in kept))
    # A width of its own: in a dumb terminal rich would take 80 columns whatever there are.
    Console(width=room + 1, force_terminal=is_styled(), color_system="auto").print(table)
    if len(kept) < len(header):
        left_out = ", ".join(name for i, name in enumerate(header) if i not in kept)
        say(wrapped(f"Left out for want of width: {left_out}. A wider terminal or `| less -S` shows all.", room))


def _shared(needed: Sequence[int], wanted: Sequence[int], room: int) -> list[int]:
    """Widths of columns: what each needs, and what is left to those that lack most."""
    widths = list(needed)
    for _ in range(room - sum(needed)):
        lacking = [want - width for want, width in zip(wanted, widths, strict=True)]
        if max(lacking) <= 0:
            break
        widths[lacking.index(max(lacking))] += 1
    return widths


def counted(count: int, thing: str, things: str = "") -> str:
    """A number of things, for people.

    Args:
        count: How many.
        thing: What one is called.
        things: What several are called, unless it is that with an s.
    """
    return f"{count} {thing if count == 1 else things or thing + 's'}"


def in_bytes(n_bytes: int) -> str:
    """A size for people, or a question mark where it is not known."""
    if not n_bytes:
        return "?"
    size, units = float(n_bytes), ("B", "kB", "MB", "GB", "TB")
    step = 0
    while size >= 1000 and step < len(units) - 1:
        size, step = size / 1000, step + 1
    return f"{size:.3g} {units[step]}"
