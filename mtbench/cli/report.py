"""`mtbench report`: the leaderboard of a results store."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtbench.cli.completion import (
    complete_metrics,
    complete_stored_datasets,
    complete_stored_method,
    complete_stored_methods,
)
from mtbench.cli.lists import ListsWithBlanks, split_list
from mtbench.cli.options import data_option, plugin_option, plugins_with_warnings
from mtbench.cli.terminal import is_styled, warn, width

if TYPE_CHECKING:
    from mtbench.report.further import Further

DEFAULT_STORE = Path("results/default")


def _names(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(split_list(value))


@click.command(cls=ListsWithBlanks)
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), default=DEFAULT_STORE)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "markdown", "latex", "csv", "json"]),
    default="table",
    show_default=True,
    help="How to print it.",
)
@click.option("--per-task", is_flag=True, help="Also print the results of each task (in CSV: instead).")
@click.option(
    "--select",
    "rule",
    type=click.Choice(["per_split", "across_splits"]),
    help="How validation results choose a setting: one for each split, or one for all.  [default: that of the runs, "
    "per_split where they differ]",
)
@click.option(
    "--methods",
    metavar="A,B",
    default="",
    callback=_names,
    shell_complete=complete_stored_methods,
    help="Show these methods only, each by exactly this name: hard_sharing, hard_sharing+uw.",
)
@click.option(
    "--datasets",
    metavar="X,Y",
    default="",
    callback=_names,
    shell_complete=complete_stored_datasets,
    help="Show these data sets only.",
)
@click.option(
    "--baseline",
    metavar="METHOD",
    shell_complete=complete_stored_method,
    help="Measure gains against this method.  [default: stl, or stl_deep on data sets without it]",
)
@click.option(
    "--metrics",
    metavar="A,B",
    default="",
    callback=_names,
    shell_complete=complete_metrics,
    help="Also show these metrics, computed from the predictions that the selected trials kept. Needs the data.",
)
@plugin_option
@data_option
def report(
    directory: Path,
    format_: str,
    per_task: bool,
    rule: str | None,
    methods: tuple[str, ...],
    datasets: tuple[str, ...],
    baseline: str | None,
    metrics: tuple[str, ...],
    plugin_files: tuple[Path, ...],
    root: Path,
) -> None:
    """Prints the leaderboard of the results store in DIR, results/default unless told otherwise.

    A score is the mean over splits of the test results of the setting that validation results chose, with half of its
    95 % interval. Warnings go to stderr; Markdown, LaTeX and JSON hold them too.

    \b
    Examples:
      mtbench report
      mtbench report results/school --per-task --methods stl,amtfl
      mtbench report results/mnist_imbalanced --baseline cnn
      mtbench report results/school --format json > school.json
      mtbench report results/school --metrics r2,my_metric --plugin my_metric.py
    """
    # Imported here, because numpy would make `--help` slow.
    from mtbench.report import formats
    from mtbench.report.reading import read
    from mtbench.report.text import as_text

    if plugin_files and not metrics:
        raise click.UsageError(
            "--plugin is for the files of --metrics, and of the data sets that they are computed on."
        )
    further = _further(metrics, plugin_files, root) if metrics else None
    _, board = read(directory, rule, methods, datasets, baseline, further)
    if format_ == "table":
        text = as_text(board, per_task, colour=is_styled(), width=width())
    else:
        text = formats.FORMATS[format_](board, per_task)
    if not board.rows:
        warn(f"{directory} holds no finished stack yet; `mtbench run --out {directory}` trains.")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that has no sign for "±" still gets its table.
        sys.stdout.reconfigure(errors="replace")
    click.echo(text, nl=False)
    for warning in board.warnings:
        warn(warning)


def _further(metrics: Sequence[str], plugin_files: Sequence[Path], root: Path) -> Further:
    """The metrics that are asked for, and the data sets that they are computed on.

    Raises:
        UnknownName: There is no such metric.
        PluginError: A plugin file is at fault.
    """
    from mtbench.plugins.names import known_names
    from mtbench.report.further import Further

    # All data sets: which of them the store has is not known yet, and to load their modules takes little.
    plugins = plugins_with_warnings(plugin_files, known_names().datasets)
    return Further({name: plugins.metric(name.partition("@")[0]) for name in metrics}, plugins.dataset, root)
