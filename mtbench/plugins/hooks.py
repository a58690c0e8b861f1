"""The hooks that plugins implement: pluggy, made strict. A plugin with a fault is refused and leaves no trace."""

from __future__ import annotations

import inspect
from typing import Any

import pluggy

from mtbench.contracts import hookspecs
from mtbench.errors import PluginError, UnknownName
from mtbench.plugins.sources import GROUP, Found

_PREFIX = "mtbench_"


class Hooks:
    """The registered plugins and what they implement."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._known = [
            name for name, c in vars(self._manager.hook).items() if name.startswith(_PREFIX) and c.has_spec()
        ]

    def register(self, found: Found) -> None:
        """Registers a plugin.

        Raises:
            PluginError: A hook is misspelt, unmarked, takes an argument that does not exist, or is a wrapper; or its
                name is taken.
        """
        try:
            self._manager.register(found.plugin, name=found.owner.plugin)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(" ".join(str(error).split())) from error
        try:
            self._check(found)
        except PluginError:
            self._manager.unregister(found.plugin)
            raise

    def knows(self, plugin: Any) -> bool:
        """Whether the plugin is registered."""
        return any(known is plugin for _, known in self._manager.list_name_plugin())

    def name_of(self, plugin: Any) -> str | None:
        """The name a plugin was registered under."""
        return self._manager.get_name(plugin)

    def implemented_by(self, plugin: Any) -> list[str]:
        """Names of the hooks that a plugin implements."""
        return [caller.name for caller in self._manager.get_hookcallers(plugin) or []]

    def implemented_by_name(self, name: str) -> list[str]:
        """Names of the hooks that the plugin of that name implements."""
        return self.implemented_by(self._manager.get_plugin(name))

    def implementations(self, hook_name: str, plugin: Any = None) -> list[pluggy.HookImpl]:
        """Implementations of a hook in pluggy's calling order, of one plugin or of all."""
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook_name)
        return [i for i in reversed(caller.get_hookimpls()) if plugin is None or i.plugin is plugin]

    def _check(self, found: Found) -> None:
        plugin = found.plugin
        callers = self._manager.get_hookcallers(plugin) or []
        for caller in callers:
            if not (caller.has_spec() or all(i.optionalhook for i in caller.get_hookimpls())):
                raise PluginError(str(UnknownName.among("hook", caller.name, self._known)))
        if any(i.wrapper or i.hookwrapper for name in self._known for i in self.implementations(name, plugin)):
            raise PluginError("Hook wrappers are refused: they could change what other plugins provide or hear.")
        unmarked = [name for name in _hook_functions(plugin) if name not in {caller.name for caller in callers}]
        if unmarked:
            raise PluginError(f"{unmarked[0]} must be marked with @hookimpl (from mtbench import hookimpl).")
        if not (callers or found.may_be_empty):
            raise PluginError(f"It must implement a hook: {', '.join(self._known)}; found none.")


def _hook_functions(plugin: Any) -> list[str]:
    members = getattr(plugin, "__dict__", {})
    return [name for name, value in members.items() if name.startswith(_PREFIX) and inspect.isfunction(value)]
