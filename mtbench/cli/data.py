"""`mtbench data`: what data there are, fetching them, and making sure of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from mtbench.cli.completion import complete_dataset
from mtbench.cli.listing import data_state
from mtbench.cli.options import by_dataset, data_option, options_of, pairs, plugin_option, plugins_with_warnings
from mtbench.cli.tables import in_bytes, print_table
from mtbench.dataset import Dataset
from mtbench.errors import DataError

names_argument = click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_dataset)


@click.group()
def data() -> None:
    """Lists, fetches and verifies the data of data sets; without NAMEs, of all.

    \b
    Example:
      mtbench data prepare mnist school --data ~/data
    """


@data.command("list")
@names_argument
@plugin_option
@data_option
def list_data(names: Sequence[str], plugin_files: tuple[Path, ...], root: Path) -> None:
    """Lists what data sets need, and what of it is there.

    \b
    Example:
      mtbench data list
    """
    rows = [
        [d.name, data_state(d, root), in_bytes(sum(s.n_bytes for s in d.sources)) if d.sources else "0 B", d.licence]
        for d in _chosen(names, plugin_files)
    ]
    print_table(["name", "data", "download", "licence"], rows, f"Data root: {root}")


@data.command()
@names_argument
@click.option(
    "--option", "options", multiple=True, metavar="DATASET.NAME=V", help="Prepares a data set with an option."
)
@plugin_option
@data_option
def prepare(names: Sequence[str], options: Sequence[str], plugin_files: tuple[Path, ...], root: Path) -> None:
    """Fetches what is missing, makes of it what trials read, and verifies it.

    Running it again after an interruption goes on where it stopped.

    \b
    Examples:
      mtbench data prepare mnist --data ~/data
      mtbench data prepare cub --option cub.classes=200
    """
    failed = False
    changes = by_dataset({}, pairs(options, "--option"))
    for dataset in _chosen(names, plugin_files):
        chosen = options_of(dataset, changes.get(dataset.name, {}))
        click.echo(f"{dataset.name}: {data_state(dataset, root, chosen)}; licence: {dataset.licence}")
        try:
            # A data set without options need not take any.
            dataset().prepare(root, chosen) if dataset.name in changes else dataset().prepare(root)
        except DataError as error:
            failed = _report(error)
            continue
        failed |= not _verify(dataset, root, chosen)
    sys.exit(1 if failed else 0)


@data.command()
@names_argument
@plugin_option
@data_option
def verify(names: Sequence[str], plugin_files: tuple[Path, ...], root: Path) -> None:
    """Compares every file that is there with its published hash.

    A missing file is an error only for data sets that are named.

    \b
    Example:
      mtbench data verify mnist
    """
    failed = False
    for dataset in _chosen(names, plugin_files):
        state = data_state(dataset, root)
        complete = state in ("present", "none needed")
        failed |= not _verify(dataset, root, missing_too=bool(names) or complete)
        if not (names or complete):
            click.echo(f"{dataset.name}: {state}")
    sys.exit(1 if failed else 0)


def _chosen(names: Sequence[str], plugin_files: Sequence[Path]) -> Iterable[type[Dataset]]:
    plugins = plugins_with_warnings(plugin_files)
    return [plugins.dataset(name) for name in names or sorted(plugins.datasets)]


def _verify(dataset: type[Dataset], root: Path, options: Any = None, missing_too: bool = True) -> bool:
    """Verifies each file that is read, and each source that is there, and says what was found; whether all is well."""
    well = True
    read = dataset().files(root, options or dataset.Options())
    there = [source.path for source in dataset.sources if (root / source.path).exists()]
    for path in dict.fromkeys([*read, *there]):
        if not missing_too and not (root / path).exists():
            continue
        try:
            dataset().check(root, path)
        except DataError as error:
            well = not _report(error)
    if well and missing_too:
        n = len(read)
        files = "1 file" if n == 1 else f"{n} files"
        click.echo(f"{dataset.name}: {files} verified" if n else f"{dataset.name}: needs no data")
    return well


def _report(error: DataError) -> bool:
    """Prints an error of one data set; the others go on. Returns True, that something failed."""
    click.echo(f"Error: {' '.join(str(error).split())}", err=True)
    return True
