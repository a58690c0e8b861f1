"""Options that several commands share, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from mtbench.data_root import data_root
from mtbench.plugins import Plugins, load_plugins

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
    help="A Python file with a method or data set of your own; may be given several times.",
)
"""Gives the command `plugin_files`, a tuple of paths."""


def plugins_with_warnings(files: Sequence[Path] = ()) -> Plugins:
    """Loads all plugins and says on stderr which are broken.

    Raises:
        PluginError: A plugin file is at fault.
    """
    plugins = load_plugins(files)
    for warning in plugins.warnings:
        click.echo(f"Warning: {warning}", err=True)
    return plugins
