"""mtbench compares multi-task learning methods fairly. A plugin needs one import: `from mtbench import ...`.

Names are loaded on first use: commands that only read results never pay for importing torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mtbench.contracts.batch import Batch
    from mtbench.contracts.dataset import Dataset, NoOptions
    from mtbench.contracts.engine import Engine, Job, JobFailed
    from mtbench.contracts.examples import Examples, Predictor, Target, TargetPredictors
    from mtbench.contracts.hookspecs import hookimpl
    from mtbench.contracts.hyperparameters import NoParams, tunable
    from mtbench.contracts.method import FitMethod, GradientMethod, LinearSolution, Method, SolverMethod
    from mtbench.contracts.recipe import Recipe
    from mtbench.contracts.reference import Reference
    from mtbench.contracts.seeds import seed_from
    from mtbench.contracts.stages import Stage
    from mtbench.contracts.terms import Terms
    from mtbench.contracts.trials import Status
    from mtbench.contracts.weighting import GramWeighting, JacobianWeighting, LossWeighting, TaskStep, Weighting
    from mtbench.data.downloads import fetch, verified
    from mtbench.data.sources import Source
    from mtbench.data.splits import draw_by_group
    from mtbench.engines.in_process import run_job
    from mtbench.errors import DataError, MtbenchError, PluginError, StoreError, StudyError, UnknownName
    from mtbench.linear.data import LinearData
    from mtbench.metrics import Metric
    from mtbench.report.frames import load
    from mtbench.tasks import Layout, Part, Problem, Rows, Task, TaskKind

_HOMES = {
    "mtbench.contracts.batch": ("Batch",),
    "mtbench.contracts.dataset": ("Dataset", "NoOptions"),
    "mtbench.data.downloads": ("fetch", "verified"),
    "mtbench.contracts.engine": ("Engine", "Job", "JobFailed"),
    "mtbench.contracts.examples": ("Examples", "Predictor", "Target", "TargetPredictors"),
    "mtbench.engines.in_process": ("run_job",),
    "mtbench.errors": ("DataError", "MtbenchError", "PluginError", "StoreError", "StudyError", "UnknownName"),
    "mtbench.contracts.hookspecs": ("hookimpl",),
    "mtbench.contracts.hyperparameters": ("NoParams", "tunable"),
    "mtbench.contracts.method": ("FitMethod", "GradientMethod", "LinearSolution", "Method", "SolverMethod"),
    "mtbench.linear.data": ("LinearData",),
    "mtbench.metrics": ("Metric",),
    "mtbench.contracts.recipe": ("Recipe",),
    "mtbench.contracts.reference": ("Reference",),
    "mtbench.report.frames": ("load",),
    "mtbench.contracts.seeds": ("seed_from",),
    "mtbench.data.splits": ("draw_by_group",),
    "mtbench.data.sources": ("Source",),
    "mtbench.tasks": ("Layout", "Part", "Problem", "Rows", "Task", "TaskKind"),
    "mtbench.contracts.stages": ("Stage",),
    "mtbench.contracts.terms": ("Terms",),
    "mtbench.contracts.trials": ("Status",),
    "mtbench.contracts.weighting": (
        "GramWeighting",
        "JacobianWeighting",
        "LossWeighting",
        "TaskStep",
        "Weighting",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Batch", "DataError", "Dataset", "Engine", "Examples", "FitMethod", "GradientMethod", "GramWeighting",
    "JacobianWeighting", "Job", "JobFailed", "Layout", "LinearData", "LinearSolution", "LossWeighting", "Method",
    "Metric", "MtbenchError", "NoOptions", "NoParams", "Part", "PluginError", "Predictor", "Problem", "Recipe",
    "Reference", "Rows", "SolverMethod", "Source", "Stage", "Status", "StoreError", "StudyError", "Target",
    "TargetPredictors", "Task", "TaskKind", "TaskStep", "Terms", "UnknownName", "Weighting", "draw_by_group", "fetch",
    "hookimpl", "load", "run_job", "seed_from", "tunable", "verified",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mtbench' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
