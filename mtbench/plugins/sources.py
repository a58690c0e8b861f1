"""Where plugins come from: entry points of installed distributions, and single files. Nothing here judges a plugin."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from mtbench.errors import PluginError
from mtbench.plugins import imports as plugin_imports
from mtbench.plugins.imports import Folder

GROUP = "mtbench"
"""The entry-point group of every plugin, the built-in ones included."""

FILE = "file"
"""What stands in for the distribution of a plugin file."""


@dataclass(frozen=True)
class Owner:
    """Who provides something, so that credit and blame have an address.

    Attributes:
        plugin: The plugin's module, or the path of a plugin file.
        distribution: The distribution it was installed with, or "file".
        version: The distribution's version, or the first digits of the file's SHA-256, which
            covers what it imports from its folder.
    """

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        if self.distribution == FILE:
            return f"plugin file {self.plugin}"
        return f"plugin {self.plugin} of {self.distribution} {self.version}"


@dataclass(frozen=True)
class Found:
    """A plugin that was looked up.

    Attributes:
        owner: Who provides it.
        plugin: Its module or object; None where it could not be imported.
        fault: Why not, in one line.
        may_be_empty: Whether it may lack hooks: a module of a package may, an entry point of its own may not.
    """

    owner: Owner
    plugin: Any = None
    fault: str = ""
    may_be_empty: bool = False


def entry_points() -> list[metadata.EntryPoint]:
    """The entry points of the group: mtbench's own first, then by distribution and name."""
    return sorted(metadata.entry_points(group=GROUP), key=lambda e: (distribution_of(e)[0] != GROUP, e.value, e.name))


def distribution_of(entry: metadata.EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution behind an entry point."""
    return (entry.dist.name, entry.dist.version) if entry.dist is not None else ("unknown", "unknown")


def installed_plugins(only: Collection[str] | None = None) -> Iterator[Found]:
    """Every plugin that installed distributions offer, each imported on its own, each once.

    An entry point that names a package offers the package and each of its modules, but those whose name begins with an
    underscore, as plugins of their own: there, a new file is a new method.

    Args:
        only: Names of those to import; None for all. A package of theirs is imported, as Python must, and not given.
    """
    seen: set[str] = set()
    for entry in entry_points():
        if only is not None and not any(name == entry.value or name.startswith(entry.value + ".") for name in only):
            continue
        found = _import(entry.value, entry.load, *distribution_of(entry))
        names = [entry.value]
        if isinstance(found.plugin, ModuleType) and hasattr(found.plugin, "__path__"):
            found = Found(found.owner, found.plugin, may_be_empty=True)
            inside = [m.name for m in pkgutil.iter_modules(found.plugin.__path__) if not m.name.startswith("_")]
            names += [f"{found.plugin.__name__}.{name}" for name in inside]
        for name in names:
            if name not in seen and (only is None or name in only):
                seen.add(name)
                yield found if name == entry.value else _module(name, found.owner)


def _module(name: str, package: Owner) -> Found:
    found = _import(name, lambda: importlib.import_module(name), package.distribution, package.version)
    return Found(found.owner, found.plugin, found.fault, may_be_empty=True)


def _import(name: str, load: Any, distribution: str, version: str) -> Found:
    owner = Owner(name, distribution, version)
    try:
        return Found(owner, load())
    except (Exception, SystemExit) as error:
        return Found(owner, fault=describe_fault(error))


def plugin_file(path: Path) -> Found:
    """A plugin that is one file, run under a module name of its own. It may import files beside it.

    Raises:
        PluginError: It cannot be read, or running it fails; with the line.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise PluginError(f"Plugin file {path} must be a readable Python file; found: {error.strerror}.") from None
    folder = Folder.of(path.resolve())
    name = f"mtbench_file_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    module = ModuleType(name)
    module.__file__, module.__package__ = str(path), folder.package
    module.__dict__["__builtins__"] = folder.builtins
    # Dataclasses and type hints look their module up. Compiled here, not by importlib: its cache of compiled files
    # misses an edit within the same second, and would be written beside the user's file.
    sys.modules[name] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PluginError(f"Plugin file {path} could not be run: {describe_fault(error)}") from error
    return Found(Owner(str(path), FILE, _digest(source, folder.files(source))[:12]), module)


def _digest(source: bytes, beside: Mapping[str, bytes]) -> str:
    """SHA-256 of a plugin file; where it imports files beside it, of theirs and their names too."""
    digest = hashlib.sha256(source)
    if beside:
        digest = hashlib.sha256(digest.digest())
        for name in sorted(beside):
            digest.update(name.encode() + b"\0" + hashlib.sha256(beside[name]).digest())
    return digest.hexdigest()


def describe_fault(error: BaseException, file: str = "") -> str:
    """An exception in one line: its type, its message, and the innermost line of code it came from.

    Args:
        error: The exception.
        file: Whose lines are looked for first: where one of them led to the exception, it is the one named.
    """
    what = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    if isinstance(error, SyntaxError) and error.filename:
        where = (error.filename, error.lineno)
    else:
        # importlib's own frames and ours say nothing about the plugin.
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_machinery(f.filename)]
        frames = [frame for frame in frames if frame.filename == file] or frames
        where = (frames[-1].filename, frames[-1].lineno) if frames else ("", None)
    place = f" ({where[0]}, line {where[1]})" if where[0] else ""
    return f"{type(error).__name__}{': ' if what else ''}{what}{place}"


def _is_machinery(filename: str) -> bool:
    return filename.startswith("<frozen importlib") or filename in (
        __file__,
        plugin_imports.__file__,
        importlib.__file__,
        metadata.__file__,
    )
