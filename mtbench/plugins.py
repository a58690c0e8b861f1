"""The plugin host: loads plugins one by one, checks them, and blames each fault on the plugin it came from.

Guarantees: one broken plugin never keeps another from loading; a name offered twice never decides silently; a listener
that raises never changes a result. Importing this module does not import torch; loading methods does.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from mtbench import hookspecs, names
from mtbench.errors import PluginError, UnknownName
from mtbench.plugin_contracts import check_dataset, check_engine, check_method
from mtbench.plugin_sources import GROUP, Found, Owner, describe_fault, installed_plugins, plugin_file

if TYPE_CHECKING:
    from mtbench.dataset import Dataset
    from mtbench.method import Method

_HOOK_PREFIX = "mtbench_"


def load_plugins(files: Sequence[Path] = ()) -> Plugins:
    """Loads all installed plugins, then plugin files.

    Args:
        files: Plugin files, in the order given by the user.

    Returns:
        What they provide. Faults of installed plugins are in its `warnings`.

    Raises:
        PluginError: A plugin file is at fault: the user asked for it, so going on without it would mislead.
    """
    plugins = Plugins()
    fingerprint = names.fingerprint()
    for found in installed_plugins():
        try:
            plugins.add(found)
        except PluginError as error:
            plugins.warn(str(error))
    names.write(names.Names(fingerprint, sorted(plugins.methods), sorted(plugins.datasets)))
    for path in {path.resolve(): path for path in files}.values():
        n_warnings = len(plugins.warnings)
        plugins.add(plugin_file(path))
        if len(plugins.warnings) > n_warnings:
            raise PluginError(plugins.warnings[n_warnings])
    return plugins


class Plugins:
    """What the loaded plugins provide.

    Attributes:
        methods: Method classes by name.
        datasets: Data set classes by name.
        engines: Engine classes by name.
        owners: The owner of every plugin that implements a hook, in loading order.
        warnings: One line for each fault of a plugin, in the order they were found.
    """

    def __init__(self) -> None:
        self.methods: dict[str, type[Method]] = {}
        self.datasets: dict[str, type[Dataset]] = {}
        self.engines: dict[str, type[Any]] = {}
        self.owners: list[Owner] = []
        self.warnings: list[str] = []
        self._offered: dict[str, list[Owner]] = {}
        self._blamed: set[tuple[Owner, str]] = set()
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._kinds: tuple[tuple[str, dict[str, Any], Callable[[Any], None]], ...] = (
            ("mtbench_methods", self.methods, check_method),
            ("mtbench_datasets", self.datasets, check_dataset),
            ("mtbench_engines", self.engines, check_engine),
        )

    def add(self, found: Found) -> None:
        """Registers a plugin and what it provides; faults of single classes become warnings.

        Raises:
            PluginError: The plugin as a whole is at fault, and was left out.
        """
        owner = found.owner
        try:
            if found.fault:
                raise PluginError(found.fault)
            if found.plugin is None:
                raise PluginError("It must be a module or an object with hooks; found None.")
            if any(plugin is found.plugin for _, plugin in self._manager.list_name_plugin()):
                return
            self._register(found)
        except PluginError as error:
            raise PluginError(f"The {owner} was left out: {error}") from error
        if not self._manager.get_hookcallers(found.plugin):
            return
        self.owners.append(owner)
        for hook_name, registry, check in self._kinds:
            for implementation in self._implementations(hook_name, found.plugin):
                for cls in self._provided(owner, hook_name, implementation):
                    self._take(owner, cls, registry, check)

    def method(self, name: str) -> type[Method]:
        """The method of that name.

        Raises:
            UnknownName: There is none.
            PluginError: Several plugins offer it.
        """
        return self._only(name, "method", self.methods)  # type: ignore[no-any-return]

    def dataset(self, name: str) -> type[Dataset]:
        """The data set of that name.

        Raises:
            UnknownName: There is none.
            PluginError: Several plugins offer it.
        """
        return self._only(name, "data set", self.datasets)  # type: ignore[no-any-return]

    def owner(self, name: str) -> Owner:
        """Who provides the method, data set or engine of that name.

        Raises:
            UnknownName: There is none of that name.
        """
        if name not in self._offered:
            raise UnknownName.among("method or data set", name, self._offered, "`mtbench list plugins` shows all.")
        return self._offered[name][0]

    def notify(self, hook_name: str, **kwargs: Any) -> None:
        """Tells every listener of an event, one by one.

        A listener gets copies, so that it cannot change what the run goes on with; if it raises, it is blamed in
        `warnings` once, and the others are still told.

        Args:
            hook_name: One of the events of `mtbench.hookspecs`.
            kwargs: The event's arguments.
        """
        for implementation in self._implementations(hook_name):
            arguments = copy.deepcopy({name: kwargs[name] for name in implementation.argnames})
            try:
                implementation.function(**arguments)
            except (Exception, SystemExit) as error:
                self._blame(implementation.plugin, hook_name, error)

    def warn(self, message: str) -> None:
        """Notes a fault, in one line."""
        self.warnings.append(" ".join(message.split()))

    def _register(self, found: Found) -> None:
        """Registers with pluggy, or leaves no trace.

        Raises:
            PluginError: A hook is misspelt, unmarked, takes an argument that does not exist, or is a wrapper.
        """
        manager, plugin = self._manager, found.plugin
        try:
            manager.register(plugin, name=found.owner.plugin)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(" ".join(str(error).split())) from error
        try:
            callers = manager.get_hookcallers(plugin) or []
            known = [caller.name for caller in self._specified()]
            for caller in callers:
                if not (caller.has_spec() or all(i.optionalhook for i in caller.get_hookimpls())):
                    raise PluginError(str(UnknownName.among("hook", caller.name, known)))
            if any(i.wrapper or i.hookwrapper for name in known for i in self._implementations(name, plugin)):
                raise PluginError("Hook wrappers are refused: they could change what other plugins provide or hear.")
            unmarked = [name for name in _hook_functions(plugin) if name not in {caller.name for caller in callers}]
            if unmarked:
                raise PluginError(f"{unmarked[0]} must be marked with @hookimpl (from mtbench import hookimpl).")
            if not (callers or found.may_be_empty):
                raise PluginError(f"It must implement a hook: {', '.join(known)}; found none.")
        except PluginError:
            manager.unregister(plugin)
            raise

    def _specified(self) -> Iterable[pluggy.HookCaller]:
        return [c for name, c in vars(self._manager.hook).items() if name.startswith(_HOOK_PREFIX) and c.has_spec()]

    def _implementations(self, hook_name: str, plugin: Any = None) -> list[pluggy.HookImpl]:
        """Implementations of a hook in pluggy's calling order, of one plugin or of all."""
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook_name)
        return [i for i in reversed(caller.get_hookimpls()) if plugin is None or i.plugin is plugin]

    def _provided(self, owner: Owner, hook_name: str, implementation: pluggy.HookImpl) -> list[Any]:
        try:
            classes: Any = implementation.function()
            return list(classes)
        except (Exception, SystemExit) as error:
            self.warn(f"The {owner} failed in {hook_name}: {describe_fault(error)}")
            return []

    def _take(self, owner: Owner, cls: Any, registry: dict[str, Any], check: Callable[[Any], None]) -> None:
        """Puts a class into its registry, or notes why not."""
        if any(cls is known for known in registry.values()):
            return  # a package that re-exports a module's class offers it twice
        try:
            check(cls)
        except PluginError as error:
            self.warn(f"The {owner} breaks the contract, and this class was left out: {error}")
            return
        owners = self._offered.setdefault(cls.name, [])
        owners.append(owner)
        if len(owners) > 1:
            self.warn(_taken(cls.name, owners))
            return
        registry[cls.name] = cls

    def _only(self, name: str, kind: str, registry: dict[str, Any]) -> Any:
        if name not in registry:
            hint = f"`mtbench list {kind.replace(' ', '')}s` shows all {len(registry)}."
            raise UnknownName.among(kind, name, registry, hint)
        if len(self._offered[name]) > 1:
            raise PluginError(_taken(name, self._offered[name]))
        return registry[name]

    def _blame(self, plugin: Any, hook_name: str, error: BaseException) -> None:
        owner = next(o for o in self.owners if self._manager.get_plugin(o.plugin) is plugin)
        if (owner, hook_name) not in self._blamed:
            self._blamed.add((owner, hook_name))
            self.warn(f"The {owner} failed in {hook_name}, which changes no result: {describe_fault(error)}")


def _hook_functions(plugin: Any) -> list[str]:
    members = getattr(plugin, "__dict__", {})
    return [name for name, value in members.items() if name.startswith(_HOOK_PREFIX) and inspect.isfunction(value)]


def _taken(name: str, owners: Sequence[Owner]) -> str:
    who = " and ".join(f"the {owner}" for owner in owners)
    return f"A name must belong to one plugin, but '{name}' is offered by {who}; uninstall or rename one of them."
