"""`mtbench data`: what data there are, fetching them, and making sure of them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from mtbench.cli.completion import complete_dataset
from mtbench.cli.listing import data_state
from mtbench.cli.options import by_dataset, data_option, options_of, pairs, plugin_option, plugins_with_warnings
from mtbench.cli.preparing import agreed, progress_shown
from mtbench.cli.tables import counted, in_bytes, print_table
from mtbench.cli.terminal import say
from mtbench.contracts.dataset import Dataset
from mtbench.data.preparation import OFFLINE, kept_offline, offline
from mtbench.errors import DataError
from mtbench.plugins.host import Plugins

names_argument = click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_dataset)
options_option = click.option(
    "--option", "options", multiple=True, metavar="DATASET.NAME=V", help="Changes a data set's option."
)
COMPLETE = ("present", "none needed")


@click.group()
def data() -> None:
    """Lists, fetches and verifies the data of data sets.

    A NAME that is no data set stands for all whose names begin with it: awa for awa_a, awa_c and so on.

    \b
    Example:
      mtbench data prepare mnist school --data ~/data
    """


@data.command("list")
@names_argument
@options_option
@plugin_option
@data_option
def list_data(names: Sequence[str], options: Sequence[str], plugin_files: tuple[Path, ...], root: Path) -> None:
    """Lists what data sets (all unless named) need, what of it is there, and how much is to be downloaded.

    \b
    Examples:
      mtbench data list
      mtbench data list youtube8m --option youtube8m.shards=400
    """
    rows = [
        [dataset.name, data_state(dataset, root, chosen), _to_fetch(dataset, root, chosen), dataset.licence]
        for dataset, chosen, _ in _chosen(names, options, plugin_files)
    ]
    print_table(["name", "data", "download", "licence"], rows, f"Data root: {root}")


@data.command()
@names_argument
@options_option
@click.option("--all", "everything", is_flag=True, help="All data sets: hundreds of gigabytes.")
@click.option("--yes", is_flag=True, help="Accept licences without being asked.")
@click.option("--offline", "stay_offline", is_flag=True, help=f"Fetch nothing; say what is missing.  [or {OFFLINE}=1]")
@plugin_option
@data_option
def prepare(
    names: Sequence[str],
    options: Sequence[str],
    everything: bool,
    yes: bool,
    stay_offline: bool,
    plugin_files: tuple[Path, ...],
    root: Path,
) -> None:
    """Fetches what is missing, makes of it what trials read, and verifies it.

    Licences are shown before anything is fetched; where nobody can be asked, --yes accepts them. Running it again after
    an interruption goes on where it stopped.

    \b
    Examples:
      mtbench data prepare mnist --data ~/data
      mtbench data prepare cub --option cub.classes=200 --yes
      mtbench data prepare awa --offline
    """
    if bool(names) == everything:
        raise click.UsageError("Name the data sets to prepare, or say --all; `mtbench data list` shows what they need.")
    failed = False
    with kept_offline() if stay_offline else contextlib.nullcontext():
        for dataset, chosen, changed in _chosen(names, options, plugin_files):
            state = data_state(dataset, root, chosen)
            say(f"{dataset.name}: {state}; licence: {dataset.licence}")
            if not (state in COMPLETE or offline() or agreed(dataset, _to_fetch(dataset, root, chosen), yes)):
                failed = _report(
                    DataError(f"{dataset.name}: nothing was fetched: its licence was not accepted (--yes accepts it).")
                )
                continue
            try:
                with progress_shown():
                    # A data set without options need not take any.
                    dataset().prepare(root, chosen) if changed else dataset().prepare(root)
            except DataError as error:
                failed = _report(error)
                _tell_missing(dataset, root, str(error))
                continue
            failed |= not _verify(dataset, root, chosen)
    sys.exit(1 if failed else 0)


@data.command()
@names_argument
@options_option
@plugin_option
@data_option
def verify(names: Sequence[str], options: Sequence[str], plugin_files: tuple[Path, ...], root: Path) -> None:
    """Compares every file that is there with its published hash, or with the hash it was made with.

    Without NAMEs it looks at all data sets. A missing file is an error only for those that are named.

    \b
    Example:
      mtbench data verify mnist
    """
    failed = False
    for dataset, chosen, _ in _chosen(names, options, plugin_files):
        state = data_state(dataset, root, chosen)
        complete = state in COMPLETE
        failed |= not _verify(dataset, root, chosen, missing_too=bool(names) or complete)
        if not (names or complete):
            say(f"{dataset.name}: {state}")
    sys.exit(1 if failed else 0)


def _chosen(
    names: Sequence[str], options: Sequence[str], plugin_files: Sequence[Path]
) -> Iterator[tuple[type[Dataset], Any, bool]]:
    """The data sets that are meant, each once, with their options and whether any was changed."""
    plugins = plugins_with_warnings(plugin_files)
    changes = by_dataset({}, pairs(options, "--option"))
    for name in changes:
        plugins.dataset(name)
    meant = [known for name in names for known in _family(plugins, name)] if names else sorted(plugins.datasets)
    for name in dict.fromkeys(meant):
        dataset = plugins.dataset(name)
        yield dataset, options_of(dataset, changes.get(name, {})), name in changes


def _family(plugins: Plugins, name: str) -> list[str]:
    """A data set's name; or the names of those that it begins."""
    if name in plugins.datasets:
        return [name]
    return [known for known in sorted(plugins.datasets) if known.startswith(f"{name}_")] or [name]


def _to_fetch(dataset: type[Dataset], root: Path, options: Any) -> str:
    """How much is to be fetched, for people."""
    complete = data_state(dataset, root, options) in COMPLETE
    return "0 B" if complete else in_bytes(dataset().download_bytes(root, options))


def _tell_missing(dataset: type[Dataset], root: Path, told: str) -> None:
    """Offline: says of each further file that cannot be fetched where it comes from and where it goes."""
    for source in dataset.sources if offline() else ():
        path = root / source.path
        if not path.is_file() and str(path) not in told:
            say(f"  missing too: {path}, from {source.url or 'where its page says'}", err=True)


def _verify(dataset: type[Dataset], root: Path, options: Any, missing_too: bool = True) -> bool:
    """Verifies each file that is read, and each source that is there, and says what was found; whether all is well."""
    well = True
    read = dataset().files(root, options)
    there = [source.path for source in dataset.sources if (root / source.path).exists()]
    for path in dict.fromkeys([*read, *there]):
        if not missing_too and not (root / path).exists():
            continue
        try:
            with progress_shown():
                dataset().check(root, path)
        except DataError as error:
            well = not _report(error)
    if well and missing_too:
        files = f"{counted(len(read), 'file')} verified"
        say(f"{dataset.name}: {files if read else 'needs no data'}")
    return well


def _report(error: DataError) -> bool:
    """Prints an error of one data set; the others go on. Returns True, that something failed."""
    say(f"Error: {' '.join(str(error).split())}", err=True)
    return True
