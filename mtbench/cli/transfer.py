"""`mtbench show-transfer`: what a method learned between tasks, drawn."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtbench.cli.completion import complete_stored_dataset, complete_stored_method
from mtbench.cli.drawing import kind_of, out_option, print_text, select_option, split_option, write_picture
from mtbench.cli.terminal import is_styled, say, warn, width

if TYPE_CHECKING:
    from mtbench.report.matrices import LearnedMatrix


@click.command("show-transfer")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("method", shell_complete=complete_stored_method)
@click.argument("dataset", shell_complete=complete_stored_dataset)
@click.option(
    "--matrix",
    metavar="NAME",
    help="Which of the learned matrices.  [default: transfer; without one, the only one between or of tasks]",
)
@split_option
@click.option("--signed", is_flag=True, help="Keep signs; else absolute values are averaged and shown.")
@select_option
@out_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(["view", "json", "csv"]),
    help="Print shaded cells, or numbers.  [default: view, without --out]",
)
def show_transfer(
    directory: Path,
    method: str,
    dataset: str,
    matrix: str | None,
    split: int | None,
    signed: bool,
    rule: str | None,
    out: Path | None,
    format_: str | None,
) -> None:
    """Draws what METHOD learned between the tasks of DATASET, as the results store in DIR keeps it.

    It is the mean over splits of what the trials learned whose test results `mtbench report` shows. Row gives to
    column. The shading of a matrix between tasks is scaled to what lies off its diagonal.

    \b
    Examples:
      mtbench show-transfer results/amtfl_synthetic amtfl amtfl_synthetic
      mtbench show-transfer results/amtfl_synthetic amtl amtfl_synthetic --split 0 --signed --out transfer.png
      mtbench show-transfer results/amtfl_synthetic amtfl amtfl_synthetic --matrix bases --split 0 --format csv
    """
    # Imported here, because numpy would make `--help` slow.
    from mtbench.report.transfer import learned_matrix

    found = learned_matrix(directory, method, dataset, matrix, split, signed, rule)
    for warning in found.warnings:
        warn(warning)
    if format_ is not None or out is None:
        _print(found, format_ or "view")
    if out is not None:
        _draw(found, out, quiet=format_ is not None)


def _print(found: LearnedMatrix, form: str) -> None:
    from mtbench.report import matrix_text

    if form == "view":
        text = matrix_text.as_view(found, matrix_text.shades_for(sys.stdout.encoding), is_styled(), width())
    else:
        text = matrix_text.as_json(found) if form == "json" else matrix_text.as_csv(found)
    print_text(text)


def _draw(found: LearnedMatrix, out: Path, quiet: bool) -> None:
    # Imported here, because matplotlib takes longer to import than the rest of this command to run.
    from mtbench.report.figures import picture

    write_picture(picture(found, kind_of(out)), out, quiet)
    if found.direction_line and not quiet:
        say(found.direction_line)
