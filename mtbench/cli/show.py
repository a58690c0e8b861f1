"""`mtbench show`: all that is known of one method or data set."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtbench.cli.completion import complete_either
from mtbench.cli.listing import data_state
from mtbench.cli.options import data_option, plugin_option, plugins_with_warnings
from mtbench.cli.tables import in_bytes, print_table
from mtbench.cli.terminal import say
from mtbench.dataset import Dataset
from mtbench.errors import UnknownName
from mtbench.hyperparameters import Hyperparameter, describe
from mtbench.plugins import Plugins
from mtbench.scale import COUNTS, UNITS

if TYPE_CHECKING:
    from mtbench.method import Method


@click.command()
@click.argument("name", metavar="METHOD|DATASET", shell_complete=complete_either)
@plugin_option
@data_option
def show(name: str, plugin_files: tuple[Path, ...], root: Path) -> None:
    """Shows a method's paper and hyperparameters, or a data set's recipe, licence, sources, splits and metrics.

    \b
    Examples:
      mtbench show amtfl
      mtbench show school
    """
    plugins = plugins_with_warnings(plugin_files)
    if name in plugins.methods:
        show_method(plugins, plugins.method(name))
    elif name in plugins.datasets:
        show_dataset(plugins, plugins.dataset(name), root)
    else:
        hint = "`mtbench list methods` and `mtbench list datasets` show all."
        raise UnknownName.among("method or data set", name, [*plugins.methods, *plugins.datasets], hint)


def show_method(plugins: Plugins, method: type[Method]) -> None:
    """Prints a method."""
    from mtbench.method import GradientMethod

    say(f"{method.name}: {_summary(method)}\n")
    _facts(
        {
            "paper": str(method.reference),
            "kind": "gradient method" if issubclass(method, GradientMethod) else "solver method",
            "version": method.version,
            "from": f"the {plugins.owner(method.name)}",
        }
    )
    rows = [_hyperparameter_row(h) for h in describe(method.Params).values()]
    if issubclass(method, GradientMethod):
        rows.append(["learning_rate", "float", "the recipe's", "", "", "given by the data set's recipe"])
    if rows:
        print_table(["name", "type", "default", "grid", "range", "meaning"], rows, "\nHyperparameters")
    _explain_units(list(describe(method.Params).values()))


def show_dataset(plugins: Plugins, dataset: type[Dataset], root: Path) -> None:
    """Prints a data set."""
    say(f"{dataset.name}: {dataset.title}\n")
    _facts(
        {
            "citation": str(dataset.citation),
            "licence": dataset.licence,
            "version": dataset.version,
            "from": f"the {plugins.owner(dataset.name)}",
            "splits": f"{dataset.n_splits}, of which a run takes {dataset.default_splits} unless told otherwise",
            "selection metric": dataset.selection_metric,
            "report metric": dataset.report_metric,
            "also reported": ", ".join(dataset.also_report) or "nothing",
            "data": f"{data_state(dataset, root)} (data root {root})",
        }
    )
    options = [_hyperparameter_row(h) for h in describe(dataset.Options).values()]
    if options:
        print_table(["name", "type", "default", "grid", "range", "meaning"], options, "\nOptions")
    recipe = [[f.name, str(getattr(dataset.recipe, f.name))] for f in dataclasses.fields(dataset.recipe)]
    print_table(["field", "value"], recipe, "\nRecipe")
    if dataset.sources:
        rows = [[s.path, in_bytes(s.n_bytes), s.url or "not public", s.digest] for s in dataset.sources]
        print_table(["path", "size", "from", "SHA-256 or MD5"], rows, "\nSources")


def _summary(cls: type) -> str:
    """The first paragraph of a class's docstring, in one line."""
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def _facts(facts: dict[str, str]) -> None:
    width = max(map(len, facts))
    for name, value in facts.items():
        say(f"{name:<{width}}  {value}")


def _explain_units(known: Sequence[Hyperparameter]) -> None:
    """Says what defaults and ranges are multiples of, where they are."""
    words = {h.per: UNITS[h.per] for h in known if h.per} | {h.up_to: COUNTS[h.up_to] for h in known if h.up_to}
    if words:
        click.echo("\nBy the training rows of split 0 of the data set, rounded to one digit:")
        for word, meaning in words.items():
            click.echo(f"  {word}: {meaning}")


def _hyperparameter_row(h: Hyperparameter) -> list[str]:
    """Name, type, default, grid, range and meaning, as text."""
    grid, span = "", ""
    if h.range is not None:
        grid = ", ".join(map(str, h.range.grid)) + (f", up to the {h.up_to}" if h.up_to else "")
        if h.range.low is not None and h.range.high is not None:
            span = f"{h.range.low:g} to {h.range.high:g}{', logarithmic' if h.range.log else ''}"
    meaning = f"{h.help} (ramped)".lstrip() if h.ramped else h.help
    meaning = f"{meaning}; all in units of the {h.per}".lstrip("; ") if h.per else meaning
    return [h.name, h.kind.__name__, str(h.default), grid, span, meaning]
