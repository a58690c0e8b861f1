"""`mtbench list`: what there is to run."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import click

from mtbench import __version__
from mtbench.cli.options import data_option, plugin_option, plugins_with_warnings
from mtbench.cli.tables import print_table
from mtbench.cli.terminal import say
from mtbench.dataset import Dataset
from mtbench.hyperparameters import describe
from mtbench.plugins import Plugins


@click.command("list")
@click.argument("what", type=click.Choice(["methods", "datasets", "engines", "plugins"]))
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
@plugin_option
@data_option
def list_(what: str, format_: str, plugin_files: tuple[Path, ...], root: Path) -> None:
    """Lists methods, data sets (and whether their data are there), engines or plugins.

    \b
    Examples:
      mtbench list methods
      mtbench list datasets --data ~/data --format json
      mtbench list plugins --plugin my_method.py
    """
    plugins = plugins_with_warnings(plugin_files)
    if what == "methods":
        rows = method_rows(plugins)
    elif what == "datasets":
        rows = dataset_rows(plugins, root)
    elif what == "engines":
        rows = engine_rows(plugins)
    else:
        rows = plugin_rows(plugins)
    if format_ == "json":
        say(json.dumps({what: rows, "warnings": plugins.warnings}, indent=2))
    elif rows:
        print_table(list(rows[0]), [[_text(value) for value in row.values()] for row in rows])
    else:
        say(f"There are no {what}.")


def method_rows(plugins: Plugins) -> list[dict[str, Any]]:
    """One record for each method, by name."""
    from mtbench.method import SolverMethod

    return [
        {
            "name": name,
            "kind": "solver" if issubclass(method, SolverMethod) else "gradient",
            "paper": method.reference.title,
            "venue": method.reference.venue,
            "hyperparameters": list(describe(method.Params)),
            "from": _provider(plugins, name),
        }
        for name, method in sorted(plugins.methods.items())
    ]


def dataset_rows(plugins: Plugins, root: Path) -> list[dict[str, Any]]:
    """One record for each data set, by name."""
    return [
        {
            "name": name,
            "title": dataset.title,
            "splits": dataset.n_splits,
            "metric": dataset.report_metric,
            "licence": dataset.licence,
            "data": data_state(dataset, root),
            "from": _provider(plugins, name),
        }
        for name, dataset in sorted(plugins.datasets.items())
    ]


def engine_rows(plugins: Plugins) -> list[dict[str, Any]]:
    """One record for each engine: mtbench's own, then those of plugins by name."""
    from mtbench.engines import LocalEngine

    rows = [{"name": LocalEngine.name, "title": _first_line(LocalEngine), "from": f"mtbench {__version__}"}]
    for name, engine in sorted(plugins.engines.items()):
        rows.append({"name": name, "title": _first_line(engine), "from": _provider(plugins, name)})
    return rows


def plugin_rows(plugins: Plugins) -> list[dict[str, Any]]:
    """One record for each plugin that was loaded, in loading order."""
    offered = {name: plugins.owner(name) for name in (*plugins.methods, *plugins.datasets, *plugins.engines)}
    return [
        {
            "plugin": owner.plugin,
            "distribution": owner.distribution,
            "version": owner.version,
            "offers": sorted(name for name, by in offered.items() if by == owner),
        }
        for owner in plugins.owners
    ]


def data_state(dataset: type[Dataset], root: Path, options: Any = None) -> str:
    """Whether the files that a data set reads are there: their content is not looked at."""
    files = dataset().files(root, options or dataset.Options())
    missing = [path for path in files if not (root / path).is_file()]
    if not files:
        return "none needed"
    return f"{len(missing)} of {len(files)} files missing" if missing else "present"


def _provider(plugins: Plugins, name: str) -> str:
    owner = plugins.owner(name)
    return owner.plugin if owner.distribution == "file" else f"{owner.distribution} {owner.version}"


def _first_line(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
