"""What a result records besides its identity: reports need nothing else, neither plugins nor data."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import mtbench
from mtbench.grid import PlannedCell
from mtbench.hyperparameters import describe
from mtbench.metrics import split_name
from mtbench.plugins import Plugins
from mtbench.study import Study


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
        dataset = planned.dataset
        named = (dataset.selection_metric, dataset.report_metric, *dataset.also_report)
        metrics = {m.name: m for m, _ in map(split_name, named)}
        return {
            **self._code,
            "method_plugin": str(self._plugins.owner(planned.cell.method)),
            "dataset_plugin": str(self._plugins.owner(planned.cell.dataset)),
            "engine": self._engine,
            "dtype": planned.cell.recipe.dtype,
            "selection_metric": dataset.selection_metric,
            "report_metric": dataset.report_metric,
            "also_report": list(dataset.also_report),
            "metrics": {
                name: {"higher_is_better": m.higher_is_better, "per_task": m.per_task, "title": m.title}
                for name, m in metrics.items()
            },
            "recipe_overrides": dict(planned.recipe_changes),
            "options_default": {name: h.default for name, h in describe(dataset.Options).items()},
            "search": self._study.search,
            "refit": planned.refit,
            "selection": self._study.selection,
        }


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
