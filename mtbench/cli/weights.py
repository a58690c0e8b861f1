"""`mtbench show-weights`: how a weighting weighed the tasks, epoch by epoch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtbench.cli.completion import complete_stored_dataset, complete_weighted_method
from mtbench.cli.drawing import kind_of, out_option, print_text, select_option, split_option, write_picture
from mtbench.cli.terminal import warn, width

if TYPE_CHECKING:
    from mtbench.report.courses import WeightCourses


@click.command("show-weights")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("method", shell_complete=complete_weighted_method)
@click.argument("dataset", shell_complete=complete_stored_dataset)
@split_option
@click.option("--all", "every_task", is_flag=True, help="List all tasks, not only the twelve that move most.")
@select_option
@out_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(["view", "json", "csv"]),
    help="Print a line for each task, or numbers.  [default: view, without --out]",
)
def show_weights(
    directory: Path,
    method: str,
    dataset: str,
    split: int | None,
    every_task: bool,
    rule: str | None,
    out: Path | None,
    format_: str | None,
) -> None:
    """Shows how METHOD, which has a weighting, weighed the tasks of DATASET, as the results store in DIR keeps it.

    These are the weights in the trials whose test results `mtbench report` shows: the mean over splits, at each epoch
    over those that still trained. Where gradients were formed, their cosines and conflicts are shown as well.

    \b
    Examples:
      mtbench show-weights results/default hard_sharing+uw digits
      mtbench show-weights results/default hard_sharing+uw digits --split 0 --all
      mtbench show-weights results/default hard_sharing+uw digits --out weights.png --format csv
    """
    # Imported here, because numpy would make `--help` slow.
    from mtbench.report.weights import task_weights

    found = task_weights(directory, method, dataset, split, rule)
    for warning in found.warnings:
        warn(warning)
    if format_ is not None or out is None:
        _print(found, format_ or "view", every_task)
    if out is not None:
        # Imported here, because matplotlib takes longer to import than the rest of this command to run.
        from mtbench.report.course_figures import picture

        write_picture(picture(found, kind_of(out)), out, quiet=format_ is not None)


def _print(found: WeightCourses, form: str, every_task: bool) -> None:
    from mtbench.report import course_text

    if form == "view":
        print_text(course_text.as_view(found, course_text.blocks_for(sys.stdout.encoding), width(), every_task))
    else:
        print_text(course_text.as_json(found) if form == "json" else course_text.as_csv(found))
