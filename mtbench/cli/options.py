"""Options that several commands share, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mtbench.cli.terminal import warn
from mtbench.data.root import data_root
from mtbench.errors import StudyError

if TYPE_CHECKING:
    from mtbench.contracts.dataset import Dataset
    from mtbench.plugins.host import Plugins

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

data_option: Decorator = click.option(
    "--data",
    "root",
    type=click.Path(file_okay=False, path_type=Path),
    callback=lambda ctx, param, value: data_root(value),
    help="Folder that holds the data sets.  [default: MTBENCH_DATA, else the user's data folder]",
)
"""Gives the command `root`, the data root."""

plugin_option: Decorator = click.option(
    "--plugin",
    "plugin_files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A Python file with a method, data set or the like of your own; may be given several times.",
)
"""Gives the command `plugin_files`, a tuple of paths."""


def pairs(texts: Sequence[str], option: str) -> list[tuple[str, str]]:
    """Each "NAME.FIELD=VALUE" as "NAME.FIELD" and "VALUE".

    Raises:
        StudyError: One does not read so.
    """
    found = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key.count(".") != 1 or not value:
            raise StudyError(f"{option} must read NAME.FIELD=VALUE; found '{text}'.")
        found.append((key, value))
    return found


def by_dataset(base: Mapping[str, Mapping[str, Any]], changes: Sequence[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """Values by data set and field: those of `base` and, over them, the changes."""
    values = {name: dict(fields) for name, fields in base.items()}
    for key, value in changes:
        dataset, _, field = key.partition(".")
        values.setdefault(dataset, {})[field] = value
    return values


def options_of(dataset: type[Dataset], changes: Mapping[str, Any]) -> Any:
    """A data set's options with some changed; torch is imported only where some are."""
    if not changes:
        return dataset.Options()
    from mtbench.plan.grid import parse_options

    return parse_options(dataset(), changes)


def plugins_with_warnings(files: Sequence[Path] = (), wanted: Sequence[str] | None = None) -> Plugins:
    """Loads plugins and says on stderr which are broken.

    Args:
        files: Plugin files.
        wanted: Names of methods and data sets: where it is known who offers them, others are loaded when they are
            needed. None for all plugins.

    Raises:
        PluginError: A plugin file is at fault.
    """
    # Imported here: `report` does without numpy for its help, and without plugins unless it is asked for metrics.
    from mtbench.cli.catalogue import remember, remembered
    from mtbench.plugins.host import load_modules, load_plugins

    known = remembered()
    if known is not None and wanted is not None:
        plugins = load_modules(known.offering(wanted), files, known.homes)
    else:
        plugins = load_plugins(files)
        if known is None and not files:
            remember(plugins)
    for warning in plugins.warnings:
        warn(warning)
    return plugins
