"""What `list` and `show` tell of installed methods, remembered on disk: to look it up must not import torch.

A convenience, like the names that are completed: missing, stale or corrupt, it is made again, and what cannot be told
from it is found out by loading the plugins.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mtbench import __version__
from mtbench.contracts.hyperparameters import Hyperparameter, describe
from mtbench.contracts.scale import COUNTS, UNITS
from mtbench.contracts.trials import WITH
from mtbench.metrics import METRICS
from mtbench.plugins import names
from mtbench.plugins.host import Plugins
from mtbench.plugins.sources import FILE

Row = dict[str, Any]

_NEEDS = {
    "losses": "task losses",
    "gram": "inner products of the tasks' gradients",
    "jacobian": "tasks' gradients",
}


@dataclass(frozen=True)
class Catalogue:
    """What the installed plugins offer.

    Attributes:
        fingerprint: Of the files that it was made from.
        sources: Further files that methods inherit from, each with its time and size.
        homes: The plugin that offers a name, by name of a method, weighting, data set or plugin's metric.
        listeners: Plugins that hear of events.
        listed: By kind ("methods", "weightings", "metrics", "engines", "plugins"), what `list` shows.
        shown: By name of a method, weighting or metric, what `show` shows.
    """

    fingerprint: str
    sources: list[list[Any]]
    homes: dict[str, str]
    listeners: list[str]
    listed: dict[str, list[Row]]
    shown: dict[str, Row]

    @property
    def metric_plugins(self) -> list[str]:
        """Plugins that offer metrics."""
        return sorted({self.homes[row["name"]] for row in self.listed["metrics"] if row["name"] in self.homes})

    @property
    def dataset_plugins(self) -> list[str]:
        """Plugins that offer data sets, and metrics, which data sets name."""
        return sorted({home for name, home in self.homes.items() if name not in self.shown} | {*self.metric_plugins})

    def offering(self, wanted: Iterable[str]) -> list[str]:
        """Plugins that offer names, of "method+weighting" both, and those that listen or offer metrics."""
        parts = {part for name in wanted for part in name.split(WITH)}
        return sorted(
            {*self.listeners, *self.metric_plugins, *(self.homes[part] for part in parts if part in self.homes)}
        )


def remembered() -> Catalogue | None:
    """What was remembered, if it still holds."""
    try:
        record = json.loads(_file().read_text())
        found = Catalogue(**{f.name: record[f.name] for f in fields(Catalogue)})
        fresh = found.fingerprint == names.fingerprint() and all(
            _stamp(path) == [path, *s] for path, *s in found.sources
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if fresh else None


def remember(plugins: Plugins) -> None:
    """Remembers what installed plugins offer, unless one of them is at fault: then each command is to say so.

    Args:
        plugins: All installed plugins.
    """
    if plugins.warnings or any(owner.distribution == FILE for owner in plugins.owners):
        return
    found = Catalogue(
        plugins.fingerprint,
        [_stamp(path) for path in _inherited(plugins)],
        {name: plugins.owner(name).plugin for kind in _named(plugins) for name in kind},
        plugins.listeners(),
        {what: rows(plugins) for what, rows in LISTED.items()},
        {
            **{name: method_page(plugins, name) for name in plugins.methods},
            **{name: weighting_page(plugins, name) for name in plugins.weightings},
            **{name: metric_page(plugins, name) for name in (*METRICS, *plugins.metrics)},
        },
    )
    names.replace(_file(), json.dumps(asdict(found)))


def _named(plugins: Plugins) -> tuple[dict[str, Any], ...]:
    return plugins.methods, plugins.weightings, plugins.metrics, plugins.datasets


def _file() -> Path:
    return names.cache_file().with_name(names.cache_file().name.replace("names", "catalogue"))


def _stamp(path: str) -> list[Any]:
    found = os.stat(path)
    return [path, found.st_mtime_ns, found.st_size]


def _inherited(plugins: Plugins) -> list[str]:
    """The files in which methods, weightings and their hyperparameters are written, and what they inherit from."""
    offered: list[Any] = [*plugins.methods.values(), *plugins.weightings.values()]
    classes = {c for cls in offered for owner in (cls, cls.Params) for c in owner.__mro__}
    files = {getattr(sys.modules.get(c.__module__), "__file__", None) for c in classes}
    return sorted(file for file in files if file)


def method_rows(plugins: Plugins) -> list[Row]:
    """One record for each method, by name."""
    return [
        {
            "name": name,
            "kind": method.kind,
            "paper": method.reference.title,
            "venue": method.reference.venue,
            "hyperparameters": list(describe(method.Params)),
            "from": provider(plugins, name),
        }
        for name, method in sorted(plugins.methods.items())
    ]


def weighting_rows(plugins: Plugins) -> list[Row]:
    """One record for each weighting, by name."""
    return [
        {
            "name": name,
            "needs": weighting_needs(weighting),
            "paper": weighting.reference.title,
            "venue": weighting.reference.venue,
            "hyperparameters": list(describe(weighting.Params)),
            "from": provider(plugins, name),
        }
        for name, weighting in sorted(plugins.weightings.items())
    ]


def weighting_needs(weighting: type[Any]) -> str:
    """What a weighting is a function of: losses, their gradients' inner products, or the gradients."""
    from mtbench.contracts.weighting import GramWeighting, LossWeighting

    if issubclass(weighting, LossWeighting):
        return "losses"
    return "gram" if issubclass(weighting, GramWeighting) else "jacobian"


def metric_rows(plugins: Plugins) -> list[Row]:
    """One record for each metric: mtbench's own, then those of plugins by name."""
    return [
        {
            "name": metric.name,
            "title": metric.title,
            "better": "higher" if metric.higher_is_better else "lower",
            "kinds": [str(kind) for kind in metric.kinds],
            "from": provider(plugins, metric.name) if metric.name in plugins.metrics else f"mtbench {__version__}",
        }
        for metric in (*METRICS.values(), *(plugins.metrics[name] for name in sorted(plugins.metrics)))
    ]


def engine_rows(plugins: Plugins) -> list[Row]:
    """One record for each engine: mtbench's own, then those of plugins by name."""
    from mtbench.engines import LocalEngine

    rows = [{"name": LocalEngine.name, "title": _first_line(LocalEngine), "from": f"mtbench {__version__}"}]
    for name, engine in sorted(plugins.engines.items()):
        rows.append({"name": name, "title": _first_line(engine), "from": provider(plugins, name)})
    return rows


def plugin_rows(plugins: Plugins) -> list[Row]:
    """One record for each plugin that was loaded, in loading order."""
    offered = {name: plugins.owner(name) for kind in (*_named(plugins), plugins.engines) for name in kind}
    return [
        {
            "plugin": owner.plugin,
            "distribution": owner.distribution,
            "version": owner.version,
            "offers": sorted(name for name, by in offered.items() if by == owner),
        }
        for owner in plugins.owners
    ]


LISTED = {
    "methods": method_rows,
    "weightings": weighting_rows,
    "metrics": metric_rows,
    "engines": engine_rows,
    "plugins": plugin_rows,
}
"""What `list` lists, apart from data sets, of which it also says whether their data are there."""


def method_page(plugins: Plugins, name: str) -> Row:
    """What `show` tells of a method, or of a method under a weighting.

    Returns:
        "summary"; "facts" by name; "hyperparameters" as rows of a table; "units", what defaults and ranges are
        multiples of, by name.
    """
    from mtbench.contracts.refusal import honoured_weights
    from mtbench.contracts.weighted import takes_weightings

    method = plugins.method(name)
    rows = [hyperparameter_row(h) for h in describe(method.Params).values()]
    if method.in_epochs:
        rows.append(["learning_rate", "float", "the recipe's", "", "", "given by the data set's recipe"])
    facts = {
        "paper": str(method.reference),
        "kind": f"{method.kind} method",
        "version": method.version,
        "from": " and ".join(f"the {owner}" for owner in plugins.providers(name)),
    }
    facts["weights"] = _honoured(honoured_weights(method))
    if WITH not in name:
        reason = takes_weightings(method)
        facts["weightings"] = f"any: {name}{WITH}uw and the like" if reason is None else f"none: {reason}"
    units = _units(list(describe(method.Params).values()))
    return {"summary": _summary(method), "facts": facts, "hyperparameters": rows, "units": units}


def weighting_page(plugins: Plugins, name: str) -> Row:
    """What `show` tells of a weighting, in the form of `method_page`."""
    weighting = plugins.weighting(name)
    rows = list(describe(weighting.Params).values())
    facts = {
        "paper": str(weighting.reference),
        "kind": f"weighting, of the {_NEEDS[weighting_needs(weighting)]}",
        "version": weighting.version,
        "from": f"the {plugins.owner(name)}",
        "run as": f"mtbench run --methods hard_sharing{WITH}{name}",
    }
    return {
        "summary": _summary(weighting),
        "facts": facts,
        "hyperparameters": [hyperparameter_row(h) for h in rows],
        "units": _units(rows),
    }


def metric_page(plugins: Plugins, name: str) -> Row:
    """What `show` tells of a metric, in the form of `method_page`."""
    metric = plugins.metric(name)
    facts = {
        "better": "higher" if metric.higher_is_better else "lower",
        "tasks": ", ".join(metric.kinds),
        "value": "one a task; the headline is their mean" if metric.per_task else "one of all tasks together",
        "weights": "honoured" if metric.honours_weights else "not honoured",
        "from": f"the {plugins.owner(name)}" if name in plugins.metrics else f"mtbench {__version__}",
    }
    if definition := inspect.getdoc(metric.values):
        facts = {"definition": " ".join(definition.split()), **facts}
    return {"summary": metric.title, "facts": facts, "hyperparameters": [], "units": {}}


def _honoured(weights: Collection[str]) -> str:
    """Which weights a method honours that data sets may declare."""
    from mtbench.tasks.weights import in_words

    return f"honours {in_words(weights)} weights" if weights else "honours none"


def provider(plugins: Plugins, name: str) -> str:
    """Who offers a name, in short."""
    owner = plugins.owner(name)
    return owner.plugin if owner.distribution == FILE else f"{owner.distribution} {owner.version}"


def hyperparameter_row(h: Hyperparameter) -> list[str]:
    """Name, type, default, grid, range and meaning, as text."""
    grid, span = "", ""
    if h.range is not None:
        grid = ", ".join(map(str, h.range.grid)) + (f", up to the {h.up_to}" if h.up_to else "")
        if h.range.low is not None and h.range.high is not None:
            span = f"{h.range.low:g} to {h.range.high:g}{', logarithmic' if h.range.log else ''}"
    meaning = f"{h.help} (ramped)".lstrip() if h.ramped else h.help
    meaning = f"{meaning}; all in units of the {h.per}".lstrip("; ") if h.per else meaning
    return [h.name, h.kind.__name__, str(h.default), grid, span, meaning]


def _units(known: Sequence[Hyperparameter]) -> dict[str, str]:
    return {h.per: UNITS[h.per] for h in known if h.per} | {h.up_to: COUNTS[h.up_to] for h in known if h.up_to}


def _summary(cls: type) -> str:
    """The first paragraph of a class's docstring, in one line."""
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def _first_line(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]
