"""`mtbench list`: what there is to run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mtbench.cli.catalogue import LISTED, Row, provider, remembered
from mtbench.cli.options import data_option, plugin_option, plugins_with_warnings
from mtbench.cli.tables import print_table
from mtbench.cli.terminal import say
from mtbench.contracts.dataset import Dataset
from mtbench.plugins.host import Plugins, load_modules


@click.command("list")
@click.argument("what", type=click.Choice(["methods", "weightings", "metrics", "datasets", "engines", "plugins"]))
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
@plugin_option
@data_option
def list_(what: str, format_: str, plugin_files: tuple[Path, ...], root: Path) -> None:
    """Lists methods, weightings, metrics, data sets (and whether their data are there), engines or plugins.

    \b
    Examples:
      mtbench list methods
      mtbench list datasets --data ~/data --format json
      mtbench list plugins --plugin my_method.py
    """
    rows, warnings = _rows(what, plugin_files, root)
    if format_ == "json":
        say(json.dumps({what: rows, "warnings": warnings}, indent=2))
    elif rows:
        print_table(list(rows[0]), [[_text(value) for value in row.values()] for row in rows])
    else:
        say(f"There are no {what}.")


def _rows(what: str, plugin_files: tuple[Path, ...], root: Path) -> tuple[list[Row], list[str]]:
    """What is to be listed, and the plugins' faults: from what is remembered, where that is enough."""
    known = None if plugin_files else remembered()
    if known is not None and what in known.listed:
        return known.listed[what], []
    if known is not None:
        return dataset_rows(load_modules(known.dataset_plugins), root), []
    plugins = plugins_with_warnings(plugin_files)
    rows = dataset_rows(plugins, root) if what == "datasets" else LISTED[what](plugins)
    return rows, plugins.warnings


def dataset_rows(plugins: Plugins, root: Path) -> list[dict[str, Any]]:
    """One record for each data set, by name."""
    return [
        {
            "name": name,
            "title": dataset.title,
            "splits": dataset.n_splits,
            "metric": dataset.report_metric or "by kind",
            "licence": dataset.licence,
            "data": data_state(dataset, root),
            "from": provider(plugins, name),
        }
        for name, dataset in sorted(plugins.datasets.items())
    ]


def data_state(dataset: type[Dataset], root: Path, options: Any = None) -> str:
    """Whether the files that a data set reads are there: their content is not looked at."""
    files = dataset().files(root, options or dataset.Options())
    missing = [path for path in files if not (root / path).is_file()]
    if not files:
        return "none needed"
    return f"{len(missing)} of {len(files)} files missing" if missing else "present"


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
