"""The terminal, if there is one, and everything that is said to it: no name, path or message can command it."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import click

from mtbench.printable import lines, one_line


def say(text: Any = "", err: bool = False, newline: bool = True) -> None:
    """Prints a text on stdout, or stderr, with its control characters made visible but for line feeds."""
    click.echo(lines(str(text)), err=err, nl=newline)


def warn(text: str) -> None:
    """Prints a warning on stderr: one line, which a terminal shows wrapped between words."""
    line = f"Warning: {one_line(text)}"
    if sys.stderr.isatty():
        from mtbench.report.narrow import wrapped

        line = wrapped(line, shutil.get_terminal_size().columns or None, "  ")
    click.echo(line, err=True)


def width() -> int | None:
    """Columns of the terminal that stdout is; None where it is none, or one that does not tell."""
    if not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns or None


def is_styled() -> bool:
    """Whether stdout is a terminal that knows bold, colours and moving the cursor; a dumb one does not."""
    return sys.stdout.isatty() and not is_dumb()


def is_dumb() -> bool:
    """Whether TERM says that the terminal can do nothing but print lines."""
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")
