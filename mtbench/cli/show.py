"""`mtbench show`: all that is known of one method, weighting, data set or metric."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from mtbench.cli.catalogue import Row, hyperparameter_row, method_page, metric_page, remembered, weighting_page
from mtbench.cli.completion import complete_either
from mtbench.cli.listing import data_state
from mtbench.cli.options import data_option, plugin_option, plugins_with_warnings
from mtbench.cli.tables import in_bytes, print_table
from mtbench.cli.terminal import say
from mtbench.contracts.dataset import Dataset
from mtbench.contracts.hyperparameters import describe
from mtbench.contracts.trials import WITH, plain_name
from mtbench.errors import UnknownName
from mtbench.metrics import METRICS, MIXED
from mtbench.plugins.host import Plugins, load_modules

_BY_KIND = f"the metric of their kind where all tasks are of one, else {MIXED}"


@click.command()
@click.argument("name", metavar="METHOD|WEIGHTING|DATASET|METRIC", shell_complete=complete_either)
@plugin_option
@data_option
def show(name: str, plugin_files: tuple[Path, ...], root: Path) -> None:
    """Shows a method's or weighting's paper and hyperparameters, what a data set is made of, or what a metric is.

    \b
    Examples:
      mtbench show amtfl
      mtbench show hard_sharing+cagrad
      mtbench show school
      mtbench show auc
    """
    known = None if plugin_files else remembered()
    if known is not None and name in known.shown:
        show_method(name, known.shown[name])
        return
    if known is not None and all(part in known.homes for part in name.split(WITH)):
        plugins = load_modules(known.offering([name]))
    else:
        plugins = plugins_with_warnings(plugin_files)
    if plain_name(name) in plugins.methods:
        show_method(name, method_page(plugins, name))
    elif name in plugins.weightings:
        show_method(name, weighting_page(plugins, name))
    elif name in plugins.datasets:
        show_dataset(plugins, plugins.dataset(name), root)
    elif name in plugins.metrics or name in METRICS:
        show_method(name, metric_page(plugins, name))
    else:
        hint = "`mtbench list methods`, and `weightings`, `datasets` and `metrics` in its place, show all."
        known_names = [*plugins.methods, *plugins.weightings, *plugins.datasets, *plugins.metrics, *METRICS]
        raise UnknownName.among("method, weighting, data set or metric", name, known_names, hint)


def show_method(name: str, page: Row) -> None:
    """Prints a method, weighting or metric: see `catalogue.method_page`."""
    say(f"{name}: {page['summary']}\n")
    _facts(page["facts"])
    if page["hyperparameters"]:
        columns = ["name", "type", "default", "grid", "range", "meaning"]
        print_table(columns, page["hyperparameters"], "\nHyperparameters")
    if page["units"]:
        say("\nBy the training rows of split 0 of the data set, rounded to one digit:")
        for word, meaning in page["units"].items():
            say(f"  {word}: {meaning}")


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
            "selection metric": dataset.selection_metric or _BY_KIND,
            "report metric": dataset.report_metric or _BY_KIND,
            **({"metric by kind": _by_kind(dataset)} if dataset.metric_by_kind else {}),
            "also reported": ", ".join(dataset.also_report) or "nothing",
            "data": f"{data_state(dataset, root)} (data root {root})",
        }
    )
    options = [hyperparameter_row(h) for h in describe(dataset.Options).values()]
    if options:
        print_table(["name", "type", "default", "grid", "range", "meaning"], options, "\nOptions")
    recipe = [[f.name, str(getattr(dataset.recipe, f.name))] for f in dataclasses.fields(dataset.recipe)]
    print_table(["field", "value"], recipe, "\nRecipe")
    if dataset.sources:
        rows = [[s.path, in_bytes(s.n_bytes), s.url or "not public", s.digest] for s in dataset.sources]
        print_table(["path", "size", "from", "SHA-256 or MD5"], rows, "\nSources")


def _by_kind(dataset: type[Dataset]) -> str:
    return ", ".join(f"{metric} of {kind} tasks" for kind, metric in dataset.metric_by_kind.items())


def _facts(facts: dict[str, str]) -> None:
    width = max(map(len, facts))
    for name, value in facts.items():
        say(f"{name:<{width}}  {value}")
