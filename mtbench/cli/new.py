"""`mtbench new`: a plugin package to start from, complete and passing its own tests."""

from __future__ import annotations

import keyword
import re
import shlex
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

import click

from mtbench.cli.terminal import say
from mtbench.errors import MtbenchError, PluginError
from mtbench.plugins.checks import NAME
from mtbench.plugins.names import known_names

directory_option = click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where the package's folder is made.  [default: here]",
)


@click.group()
def new() -> None:
    """Writes a plugin package to start from: a module, its tests, a README and a pyproject.

    \b
    Example:
      mtbench new method my_method
    """


@new.command()
@click.argument("name")
@directory_option
def method(name: str, directory: Path) -> None:
    """Writes a package with a method, NAME: lower-case words joined by underscores.

    \b
    Example:
      mtbench new method my_method --directory ~/code
    """
    _announce("method", name, write_package("method", name, directory))


@new.command()
@click.argument("name")
@directory_option
def fit_method(name: str, directory: Path) -> None:
    """Writes a package with a method that fits and predicts in numpy, NAME, such as one of scikit-learn.

    \b
    Example:
      mtbench new fit-method my_forest --directory ~/code
    """
    _announce("fit_method", name, write_package("fit_method", name, directory))


@new.command()
@click.argument("name")
@directory_option
def weighting(name: str, directory: Path) -> None:
    """Writes a package with a weighting, NAME: lower-case words joined by underscores.

    \b
    Example:
      mtbench new weighting my_weighting --directory ~/code
    """
    _announce("weighting", name, write_package("weighting", name, directory))


@new.command()
@click.argument("name")
@directory_option
def metric(name: str, directory: Path) -> None:
    """Writes a package with a metric, NAME: lower-case words joined by underscores.

    \b
    Example:
      mtbench new metric my_metric --directory ~/code
    """
    _announce("metric", name, write_package("metric", name, directory))


@new.command()
@click.argument("name")
@directory_option
def dataset(name: str, directory: Path) -> None:
    """Writes a package with a data set, NAME: lower-case words joined by underscores.

    \b
    Example:
      mtbench new dataset my_data --directory ~/code
    """
    _announce("dataset", name, write_package("dataset", name, directory))


def write_package(kind: str, name: str, directory: Path) -> Path:
    """Writes a plugin package.

    Args:
        kind: "method", "fit_method", "weighting", "metric" or "dataset".
        name: Of the method, weighting, metric or data set.
        directory: Where its folder is made.

    Returns:
        The folder.

    Raises:
        PluginError: The name is malformed or taken, or the folder is there already.
        MtbenchError: It cannot be written.
    """
    if not NAME.fullmatch(name):
        raise PluginError(f"A name must be lower-case words joined by underscores, like 'my_method'; found '{name}'.")
    if keyword.iskeyword(name):
        raise PluginError(f"A name must not be a word of Python's own; found '{name}'.")
    known = known_names()
    if name in known.all:
        raise PluginError(f"A name must belong to one plugin, but '{name}' is taken: see `mtbench show {name}`.")
    distribution = re.sub("^mtbench-", "", name.replace("_", "-"))
    words = {
        "name": name,
        "class_name": "".join(word.capitalize() for word in name.split("_")),
        "distribution": f"mtbench-{distribution}",
        "module": f"mtbench_{distribution.replace('-', '_')}",
    }
    target = directory / words["distribution"]
    if target.exists():
        raise PluginError(
            f"The package's folder must be new, but {target} is there already; remove it or choose another."
        )
    try:
        _fill(resources.files("mtbench.cli").joinpath("templates", kind), target, words)
    except OSError as error:
        raise MtbenchError(
            f"Cannot write {target}: {error.strerror}. Choose another place with --directory."
        ) from error
    return target


def _fill(source: Traversable, target: Path, words: dict[str, str]) -> None:
    """Copies a folder of templates with their words filled in, in names of files as in their content."""
    target.mkdir(parents=True)
    for entry in source.iterdir():
        name = entry.name.removesuffix(".template").replace("MODULE", words["module"]).replace("NAME", words["name"])
        if entry.is_dir():
            _fill(entry, target / name, words)
        else:
            (target / name).write_text(Template(entry.read_text()).substitute(words))


_COMMANDS = {
    "method": ("run --plugin {file} --methods stl,{name} --datasets digits --splits 2", "report"),
    "fit_method": ("run --plugin {file} --methods stl,{name} --datasets digits --splits 2", "report"),
    "weighting": (
        "run --plugin {file} --methods hard_sharing,hard_sharing+{name} --datasets digits --splits 2",
        "report",
    ),
    "metric": (
        "run --methods stl,constant --datasets amtfl_synthetic --splits 2",
        "report --plugin {file} --metrics {name}",
    ),
    "dataset": ("run --plugin {file} --methods stl,nn --datasets {name} --splits 2", "report"),
}
"""By what is written, commands that put it on a leaderboard without installing it."""


def _announce(kind: str, name: str, target: Path) -> None:
    (file,) = target.glob("*.py")
    say(f"Wrote {target}. To see it at work:")
    say(f"  cd {shlex.quote(str(target))}")
    for command in _COMMANDS[kind]:
        say(f"  mtbench {command.format(file=file.name, name=name)}")
    say("To install it, and to run its tests:")
    say("  python -m pip install -e '.[test]' && python -m pytest")
