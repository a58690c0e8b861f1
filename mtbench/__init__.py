"""mtbench compares multi-task learning methods fairly. A plugin needs one import: `from mtbench import ...`.

Names are loaded on first use: commands that only read results never pay for importing torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mtbench.batch import Batch
    from mtbench.data.downloads import fetch, verified
    from mtbench.data.sources import Source
    from mtbench.data.splits import draw_by_group
    from mtbench.dataset import Dataset, NoOptions
    from mtbench.engines.base import Engine, Job, JobFailed
    from mtbench.engines.here import run_job
    from mtbench.errors import DataError, MtbenchError, PluginError, StoreError, StudyError, UnknownName
    from mtbench.hookspecs import hookimpl
    from mtbench.hyperparameters import tunable
    from mtbench.linear.data import LinearData
    from mtbench.method import GradientMethod, LinearSolution, Method, NoParams, SolverMethod
    from mtbench.recipe import Recipe
    from mtbench.reference import Reference
    from mtbench.report.frames import load
    from mtbench.seeds import seed_from
    from mtbench.tasks import Layout, Part, Problem, Rows, Task, TaskKind
    from mtbench.trials import Status

_HOMES = {
    "mtbench.batch": ("Batch",),
    "mtbench.dataset": ("Dataset", "NoOptions"),
    "mtbench.data.downloads": ("fetch", "verified"),
    "mtbench.engines.base": ("Engine", "Job", "JobFailed"),
    "mtbench.engines.here": ("run_job",),
    "mtbench.errors": ("DataError", "MtbenchError", "PluginError", "StoreError", "StudyError", "UnknownName"),
    "mtbench.hookspecs": ("hookimpl",),
    "mtbench.hyperparameters": ("tunable",),
    "mtbench.method": ("GradientMethod", "LinearSolution", "Method", "NoParams", "SolverMethod"),
    "mtbench.linear.data": ("LinearData",),
    "mtbench.recipe": ("Recipe",),
    "mtbench.reference": ("Reference",),
    "mtbench.report.frames": ("load",),
    "mtbench.seeds": ("seed_from",),
    "mtbench.data.splits": ("draw_by_group",),
    "mtbench.data.sources": ("Source",),
    "mtbench.tasks": ("Layout", "Part", "Problem", "Rows", "Task", "TaskKind"),
    "mtbench.trials": ("Status",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Batch", "DataError", "Dataset", "Engine", "GradientMethod", "Job", "JobFailed", "Layout", "LinearData",
    "LinearSolution", "Method", "MtbenchError", "NoOptions", "NoParams", "Part", "PluginError", "Problem", "Recipe",
    "Reference", "Rows", "SolverMethod", "Source", "Status", "StoreError", "StudyError", "Task", "TaskKind",
    "UnknownName", "draw_by_group", "fetch", "hookimpl", "load", "run_job", "seed_from", "tunable", "verified",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mtbench' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
