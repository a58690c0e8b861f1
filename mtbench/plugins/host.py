"""The plugin host: loads plugins one by one, checks them, and blames each fault on the plugin it came from.

Guarantees: one broken plugin never keeps another from loading; a name offered twice never decides silently; a listener
that raises never changes a result. Importing this module does not import torch; loading methods does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from mtbench.contracts.scoring import metrics_named
from mtbench.contracts.trials import WITH
from mtbench.errors import PluginError, UnknownName
from mtbench.metrics import METRICS, Metric, register
from mtbench.plugins import names
from mtbench.plugins.checks import (
    LOCAL_ENGINE,
    check_dataset,
    check_engine,
    check_method,
    check_metric,
    check_weighting,
)
from mtbench.plugins.hooks import Hooks
from mtbench.plugins.sources import Found, Owner, describe_fault, installed_plugins, plugin_file

if TYPE_CHECKING:
    from mtbench.contracts.dataset import Dataset
    from mtbench.contracts.method import Method
    from mtbench.contracts.weighting import Weighting


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
    plugins.fingerprint = names.fingerprint()
    plugins.add_all(installed_plugins())
    plugins.check_metrics()
    metrics = {**METRICS, **plugins.metrics}
    offered = (sorted(found) for found in (plugins.methods, plugins.weightings, plugins.datasets, metrics))
    names.write(names.Names(plugins.fingerprint, *offered))
    plugins.add_files(files)
    return plugins


def load_modules(
    modules: Collection[str], files: Sequence[Path] = (), others: Collection[str] | None = None
) -> Plugins:
    """Loads some installed plugins, by name, then plugin files: no other is imported.

    Args:
        modules: Names of the installed plugins.
        files: Plugin files, in the order given by the user.
        others: The names that other installed plugins offer, where these are to be loaded, too, as soon as one of those
            names is offered by a file, or any is asked for that is not known; None for never.

    Raises:
        PluginError: A plugin file is at fault.
    """
    plugins = Plugins()
    plugins.add_all(installed_plugins(modules))
    if others is not None:
        plugins.put_off_the_rest(others)
    plugins.check_metrics()
    plugins.add_files(files)
    return plugins


class Plugins:
    """What the loaded plugins provide.

    Attributes:
        methods: Method classes by name.
        weightings: Weighting classes by name.
        metrics: Metrics by name, but for mtbench's own. They are registered with `mtbench.metrics` as well.
        datasets: Data set classes by name.
        engines: Engine classes by name.
        owners: The owner of every plugin that implements a hook, in loading order.
        warnings: One line for each fault of a plugin, in the order they were found.
        fingerprint: Of the installed plugins, where all were loaded; else "".
    """

    def __init__(self) -> None:
        self.methods: dict[str, type[Method]] = {}
        self.weightings: dict[str, type[Weighting]] = {}
        self.metrics: dict[str, Metric] = {}
        self.datasets: dict[str, type[Dataset]] = {}
        self.engines: dict[str, type[Any]] = {}
        self.owners: list[Owner] = []
        self.warnings: list[str] = []
        self.fingerprint = ""
        self._rest: frozenset[str] | None = None  # names that plugins offer which are not loaded yet
        self._unchecked: list[tuple[Owner, type[Dataset]]] = []  # data sets whose metrics may be still to come
        self._offered: dict[str, list[Owner]] = {}
        self._blamed: set[tuple[Owner, str]] = set()
        self._hooks = Hooks()
        self._kinds: tuple[tuple[str, dict[str, Any], Callable[[Any], None]], ...] = (
            ("mtbench_methods", self.methods, check_method),
            ("mtbench_weightings", self.weightings, check_weighting),
            ("mtbench_metrics", self.metrics, check_metric),
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
            if self._hooks.knows(found.plugin):
                return
            self._hooks.register(found)
        except PluginError as error:
            raise PluginError(f"The {owner} was left out: {error}") from error
        if not self._hooks.implemented_by(found.plugin):
            return
        self.owners.append(owner)
        for hook_name, registry, check in self._kinds:
            for implementation in self._hooks.implementations(hook_name, found.plugin):
                for cls in self._provided(owner, hook_name, implementation):
                    self._take(owner, cls, registry, check)

    def add_all(self, plugins: Iterable[Found]) -> None:
        """Registers plugins; the fault of one becomes a warning."""
        for found in plugins:
            try:
                self.add(found)
            except PluginError as error:
                self.warn(str(error))

    def put_off_the_rest(self, names: Collection[str]) -> None:
        """Loads all other installed plugins, which offer these names, once they are needed."""
        self._rest = frozenset(names)

    def check_metrics(self) -> None:
        """Leaves out data sets that name a metric which nobody offers: asked once the plugins at hand are loaded."""
        while self._unchecked:
            owner, cls = self._unchecked.pop(0)
            try:
                for name in metrics_named(cls):
                    self.metric(name)
            except UnknownName as error:
                self.warn(f"The {owner} breaks the contract, and this class was left out: {cls.__qualname__}: {error}")
                del self.datasets[cls.name], self._offered[cls.name]
            except PluginError:
                continue  # offered twice, which is told where it is asked for

    def listeners(self) -> list[str]:
        """Plugins that do more than offer methods, weightings, metrics, data sets and engines."""
        offers = {hook_name for hook_name, _, _ in self._kinds}
        return [o.plugin for o in self.owners if not offers.issuperset(self._hooks.implemented_by_name(o.plugin))]

    def add_files(self, files: Sequence[Path]) -> None:
        """Registers plugin files, each once.

        Raises:
            PluginError: One is at fault.
        """
        for path in {path.resolve(): path for path in files}.values():
            n_warnings = len(self.warnings)
            self.add(plugin_file(path))
            if len(self.warnings) > n_warnings:
                raise PluginError(self.warnings[n_warnings])
        n_warnings = len(self.warnings)
        self.check_metrics()
        if files and len(self.warnings) > n_warnings:
            raise PluginError(self.warnings[n_warnings])

    def method(self, name: str) -> type[Method]:
        """The method of that name, or of a name "method+weighting" the method under that weighting.

        Raises:
            UnknownName: There is none.
            PluginError: Several plugins offer it.
            StudyError: The method takes no weighting.
        """
        name, sign, rule = name.partition(WITH)
        method = self._only(name, "method", self.methods)
        if not sign:
            return method  # type: ignore[no-any-return]
        from mtbench.contracts.weighted import weighted

        return weighted(method, self.weighting(rule))

    def weighting(self, name: str) -> type[Weighting]:
        """The weighting of that name.

        Raises:
            UnknownName: There is none.
            PluginError: Several plugins offer it.
        """
        return self._only(name, "weighting", self.weightings)  # type: ignore[no-any-return]

    def metric(self, name: str) -> Metric:
        """The metric of that name: mtbench's own, or a plugin's.

        Raises:
            UnknownName: There is none.
            PluginError: Several plugins offer it.
        """
        if name in METRICS:
            return METRICS[name]
        return self._only(name, "metric", self.metrics, *METRICS)  # type: ignore[no-any-return]

    def dataset(self, name: str) -> type[Dataset]:
        """The data set of that name, whose metrics are loaded too.

        Raises:
            UnknownName: There is none.
            PluginError: Several plugins offer it, or a metric that it names.
        """
        found: type[Dataset] = self._only(name, "data set", self.datasets)
        for named in metrics_named(found):
            self.metric(named)
        return found

    def engine(self, name: str) -> type[Any]:
        """The engine of that name that a plugin offers.

        Raises:
            UnknownName: There is none.
            PluginError: Several plugins offer it.
        """
        return self._only(name, "engine", self.engines, LOCAL_ENGINE)  # type: ignore[no-any-return]

    def owner(self, name: str) -> Owner:
        """Who provides the method, weighting, metric, data set or engine of that name.

        Raises:
            UnknownName: There is none of that name.
        """
        if name not in self._offered:
            self._load_the_rest()
        if name not in self._offered:
            raise UnknownName.among(
                "method, weighting or data set", name, self._offered, "`mtbench list plugins` shows all."
            )
        return self._offered[name][0]

    def providers(self, name: str) -> list[Owner]:
        """Who provides what a name is made of: of "method+weighting" those of both.

        Raises:
            UnknownName: There is nothing of that name.
        """
        return [self.owner(part) for part in name.split(WITH)]

    def metric_owners(self, dataset: str) -> dict[str, Owner]:
        """Who provides the metrics that a data set names, by metric, but for mtbench's own.

        Raises:
            UnknownName: There is no such data set.
        """
        return {name: self.owner(name) for name in metrics_named(self.dataset(dataset)) if name not in METRICS}

    def notify(self, hook_name: str, **kwargs: Any) -> None:
        """Tells every listener of an event, one by one.

        A listener gets copies, so that it cannot change what the run goes on with; if it raises, it is blamed in
        `warnings` once, and the others are still told.

        Args:
            hook_name: One of the events of `mtbench.contracts.hookspecs`.
            kwargs: The event's arguments.
        """
        for implementation in self._hooks.implementations(hook_name):
            arguments = copy.deepcopy({name: kwargs[name] for name in implementation.argnames})
            try:
                implementation.function(**arguments)
            except (Exception, SystemExit) as error:
                self._blame(implementation.plugin, hook_name, error)

    def warn(self, message: str) -> None:
        """Notes a fault, in one line."""
        self.warnings.append(" ".join(message.split()))

    def _provided(self, owner: Owner, hook_name: str, implementation: pluggy.HookImpl) -> list[Any]:
        try:
            classes: Any = implementation.function()
        except (Exception, SystemExit) as error:
            self.warn(f"The {owner} failed in {hook_name}: {describe_fault(error)}")
            return []
        if not isinstance(classes, list | tuple):
            wanted = "metrics" if hook_name == "mtbench_metrics" else "classes"
            self.warn(
                f"The {owner} breaks the contract: {hook_name} must return a list of {wanted}; found {classes!r}."
            )
            return []
        return list(classes)

    def _take(self, owner: Owner, cls: Any, registry: dict[str, Any], check: Callable[[Any], None]) -> None:
        """Puts a class, or a metric, into its registry, or notes why not."""
        if any(cls is known for known in registry.values()):
            return  # a package that re-exports a module's class offers it twice
        try:
            check(cls)
        except PluginError as error:
            what = "metric" if registry is self.metrics else "class"
            self.warn(f"The {owner} breaks the contract, and this {what} was left out: {error}")
            return
        if self._rest is not None and cls.name in self._rest:
            self._load_the_rest()
        owners = self._offered.setdefault(cls.name, [])
        owners.append(owner)
        if len(owners) > 1:
            self.warn(_taken(cls.name, owners))
            return
        registry[cls.name] = cls
        if registry is self.metrics:
            register(cls)
        if registry is self.datasets:
            self._unchecked.append((owner, cls))

    def _only(self, name: str, kind: str, registry: dict[str, Any], *built_in: str) -> Any:
        if name not in registry:
            self._load_the_rest()
        if name not in registry:
            known = [*built_in, *registry]
            hint = f"`mtbench list {kind.replace(' ', '')}s` shows all {len(known)}."
            raise UnknownName.among(kind, name, known, hint)
        if len(self._offered[name]) > 1:
            raise PluginError(_taken(name, self._offered[name]))
        return registry[name]

    def _load_the_rest(self) -> None:
        if self._rest is not None:
            self._rest = None
            self.add_all(installed_plugins())
            self.check_metrics()

    def _blame(self, plugin: Any, hook_name: str, error: BaseException) -> None:
        owner = next(o for o in self.owners if o.plugin == self._hooks.name_of(plugin))
        if (owner, hook_name) not in self._blamed:
            self._blamed.add((owner, hook_name))
            self.warn(f"The {owner} failed in {hook_name}, which changes no result: {describe_fault(error)}")


def _taken(name: str, owners: Sequence[Owner]) -> str:
    who = " and ".join(f"the {owner}" for owner in owners)
    return f"A name must belong to one plugin, but '{name}' is offered by {who}; uninstall or rename one of them."
