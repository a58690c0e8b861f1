"""What a result records besides its identity: reports need nothing else, neither plugins nor data."""

from __future__ import annotations

import importlib.metadata
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mtbench
from mtbench.contracts.hyperparameters import describe
from mtbench.contracts.trials import FINAL, METRIC_PLUGIN, Cell
from mtbench.metrics import metric
from mtbench.plan.grid import PlannedCell
from mtbench.plan.search import Listed, Search
from mtbench.plan.study import Study
from mtbench.plan.tpe import TPE
from mtbench.plugins.host import Plugins
from mtbench.plugins.sources import FILE, Owner
from mtbench.store import StackColumns

_DIGEST = ", SHA-256 "


class Facts:
    """What the driver of a run knows of its results.

    Args:
        study: The study.
        plugins: Tell who provides what.
        engine: Name of the engine.
    """

    def __init__(self, study: Study, plugins: Plugins, engine: str) -> None:
        self._study, self._plugins, self._engine = study, plugins, engine
        self._code = _code_version()

    def of(self, planned: PlannedCell) -> dict[str, Any]:
        """The provenance of a cell's results, as far as the driver knows it."""
        dataset, scoring = planned.dataset, planned.scoring
        metrics = {m.name: m for m in map(metric, scoring.names)}
        return {
            **self._code,
            **{field: _credit(owner) for field, owner in _owners(planned.cell, self._plugins)},
            "engine": self._engine,
            "dtype": planned.cell.recipe.dtype,
            "selection_metric": scoring.selection,
            "report_metric": scoring.report,
            "also_report": list(scoring.also_report),
            # Only where there are any: what stores hold of other data sets stays as it is.
            **({"metric_by_kind": dict(scoring.by_kind)} if scoring.by_kind else {}),
            **({"weights": list(planned.weights)} if planned.weights else {}),
            "metrics": {
                name: {"higher_is_better": m.higher_is_better, "per_task": m.per_task, "title": m.title}
                for name, m in metrics.items()
            },
            "recipe_overrides": dict(planned.recipe_changes),
            "options_default": {name: h.default for name, h in describe(dataset.Options).items()},
            "search": self._study.search,
            **_of_search(planned.search),
            "ranges": {name: dict(found) for name, found in planned.ranges.items()},
            "refit": planned.refit,
            "selection": self._study.selection,
        }


def changed_plugin_files(
    cells: Sequence[PlannedCell], plugins: Plugins, stacks: Iterable[StackColumns]
) -> Iterator[str]:
    """One sentence for each plugin file that has changed since trials of these cells were trained with it.

    Args:
        cells: A run's cells.
        plugins: Tell who provides what.
        stacks: What is in the store.
    """
    changed: dict[Owner, Counter[str]] = {}
    planned = {cell.cell.key: cell.cell for cell in cells}
    for stack in stacks:
        cell = planned.get(stack.cell_key)
        n_ended = sum(status in FINAL for status in stack.status[stack.counts])
        if cell is not None and n_ended:
            for owner in _changed_since(stack, cell, plugins):
                changed.setdefault(owner, Counter())[cell.label] += n_ended
    for owner, trials in changed.items():
        yield (
            f"The {owner} has changed since {trials.total()} trial(s) of {', '.join(trials)} were trained with it; "
            "they stay as they are. To train them again raise the `version` of what has changed, or name another store "
            "with --out."
        )


def changed_content(cells: Sequence[PlannedCell], stacks: Iterable[StackColumns]) -> Iterator[str]:
    """One sentence for each data set that gives something else than trials of these cells were trained on.

    Args:
        cells: A run's cells.
        stacks: What is in the store.
    """
    changed: dict[str, Counter[str]] = {}
    splits: dict[str, set[int]] = {}
    planned = {cell.cell.key: cell for cell in cells}
    for stack in stacks:
        cell = planned.get(stack.cell_key)
        if cell is None:
            continue
        for split, found in stack.content.items():
            now = cell.content.get(split)
            n_ended = int(((stack.split == split) & stack.counts & np.isin(stack.status, FINAL)).sum())
            if now is not None and n_ended and not now.is_like(found):
                name = cell.cell.dataset
                changed.setdefault(name, Counter())[cell.cell.label] += n_ended
                splits.setdefault(name, set()).add(split)
    for name, trials in changed.items():
        listed = ", ".join(map(str, sorted(splits[name])))
        yield (
            f"{name} gives something else in split(s) {listed} than {trials.total()} trial(s) of {', '.join(trials)} "
            "were trained on; they stay as they are. To train them again raise the data set's `version`, or name "
            "another store with --out."
        )


def _changed_since(stack: StackColumns, cell: Cell, plugins: Plugins) -> list[Owner]:
    """The plugin files that were not the same when a stack was trained, each once."""
    changed: list[Owner] = []
    for field, owner in _owners(cell, plugins):
        _, known, digest = str(stack.provenance.get(field)).rpartition(_DIGEST)
        if owner.distribution == FILE and known and digest != owner.version and owner not in changed:
            changed.append(owner)
    return changed


def _owners(cell: Cell, plugins: Plugins) -> list[tuple[str, Owner]]:
    """Who provides a cell's parts, each with the field of the provenance that says so."""
    found = zip(("method_plugin", "weighting_plugin"), plugins.providers(cell.method), strict=False)
    metrics = [(f"{METRIC_PLUGIN}{name}", owner) for name, owner in plugins.metric_owners(cell.dataset).items()]
    return [*found, ("dataset_plugin", plugins.owner(cell.dataset)), *metrics]


def _credit(owner: Owner) -> str:
    """Who provides something; of a file also what it hashes to, because it has no version that would tell a change."""
    return f"{owner}{_DIGEST}{owner.version}" if owner.distribution == FILE else str(owner)


def _of_search(search: Search) -> dict[str, Any]:
    """What a search costs and tries where that is not what its name says, and what its proposals depend on besides."""
    found: dict[str, Any] = {}
    if search.share is not None:
        found["search_share"] = search.share
        found |= {"search_in_full": len(search.known)} if isinstance(search, Listed) else {}
    return found | ({"optuna": importlib.metadata.version("optuna")} if isinstance(search, TPE) else {})


def _code_version() -> dict[str, Any]:
    """Version of mtbench and, in a git checkout of it, commit and whether files differ from it."""
    here = Path(mtbench.__file__).parent
    found: dict[str, Any] = {"mtbench": mtbench.__version__}
    try:
        for key, command in (("git_commit", ["rev-parse", "HEAD"]), ("git_dirty", ["status", "--porcelain", "-uno"])):
            out = subprocess.run(["git", "-C", str(here), *command], capture_output=True, text=True, timeout=10)
            if out.returncode:
                break
            found[key] = out.stdout.strip() if key == "git_commit" else bool(out.stdout.strip())
    except (OSError, subprocess.SubprocessError):
        pass
    return found
