"""Tables: ruled where somebody looks, plain columns where another program reads."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Prints a table on stdout.

    Args:
        columns: Headings.
        rows: One text per column.
        title: Printed above, unless empty.
    """
    if sys.stdout.isatty():
        _print_ruled(columns, rows, title)
        return
    if title:
        click.echo(title)
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    for row in (columns, *rows):
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _print_ruled(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


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
