"""What commands share that show what trials kept: in the terminal, as numbers, or in a picture."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mtbench.cli.terminal import say

_KINDS = ("png", "svg", "pdf")


def _picture_path(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and kind_of(value) not in _KINDS:
        raise click.BadParameter(f"must end in .{', .'.join(_KINDS[:-1])} or .{_KINDS[-1]}; found '{value.name}'.")
    return value


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

split_option: Decorator = click.option(
    "--split", type=int, metavar="N", help="Show this split.  [default: the mean over all]"
)
"""Gives the command `split`."""

select_option: Decorator = click.option(
    "--select",
    "rule",
    type=click.Choice(["per_split", "across_splits"]),
    help="As in `mtbench report`.  [default: that of the runs]",
)
"""Gives the command `rule`."""

out_option: Decorator = click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_picture_path,
    help="Draw it into this file, .png, .svg or .pdf.",
)
"""Gives the command `out`, a path or None."""


def kind_of(out: Path) -> str:
    """The kind of picture that a file's name asks for."""
    return out.suffix.lower().removeprefix(".")


def print_text(text: str) -> None:
    """Prints a view or numbers on stdout, whatever it has signs for."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of tasks may hold what the terminal has no sign for.
        sys.stdout.reconfigure(errors="replace")
    click.echo(text, nl=False)


def write_picture(image: bytes, out: Path, quiet: bool) -> None:
    """Writes a picture, and says so: on stderr where stdout is for numbers.

    Raises:
        click.ClickException: It cannot be written.
    """
    try:
        out.write_bytes(image)
    except OSError as error:
        raise click.ClickException(f"Cannot write {out}: {error.strerror}.") from None
    say(f"Drew {out}.", err=quiet)
