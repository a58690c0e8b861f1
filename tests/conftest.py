"""Stores whose every number a test has chosen, and what only `--thorough` runs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtbench.contracts.recipe import Recipe
from mtbench.contracts.trials import Cell, StackResult, Status, Trial
from mtbench.store import Store

RMSE = {"higher_is_better": False, "per_task": True, "title": "root mean squared error, mean over tasks"}
POOLED = {"higher_is_better": False, "per_task": False, "title": "root mean squared error over all rows"}


def pytest_configure() -> None:
    """One thread for torch, which is not imported yet: on busy cores its threads wait for each other."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make test-thorough` takes all combinations, `make test` a selection that covers each with each."""
    parser.addoption("--thorough", action="store_true", help="run the tests marked thorough as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out tests that are marked thorough, where they are not asked for."""
    if config.getoption("--thorough"):
        return
    left_out = [item for item in items if item.get_closest_marker("thorough")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not item.get_closest_marker("thorough")]


@dataclass(frozen=True)
class Outcome:
    """A trial and what came of it. A metric given as one number is that of both tasks."""

    split: int = 0
    alpha: float = 1.0
    validation: float | Sequence[float] = 1.0
    test: float | Sequence[float] = 1.0
    seed: int = 0
    epochs: int | None = None
    best_epoch: int = 7
    status: Status = Status.FINISHED
    reason: str = ""
    pooled: float = 5.0
    seconds: float = 2.0
    n_parameters: int = 10
    residual: float | None = None


@dataclass
class StoreWriter:
    """Publishes stacks as the runner does."""

    path: Path
    tasks: tuple[str, str] = ("a", "b")
    provenance: dict[str, Any] = field(default_factory=dict)

    def cell(self, method: str = "amtl", dataset: str = "school", **changes: Any) -> Cell:
        recipe = Recipe(**changes.pop("recipe", {}))
        return dataclasses.replace(
            Cell(method, "1", "mtbench", dataset, "1", {"noise": 0.5}, "c0ffee00" * 8, recipe), **changes
        )

    def write(self, cell: Cell, *outcomes: Outcome, **provenance: Any) -> Path:
        """Publishes one stack; returns its file."""
        store = Store.create(self.path)
        before = set(store.stack_paths())
        store.publish_stack(self.result(cell, outcomes, provenance))
        (path,) = set(store.stack_paths()) - before
        return path

    def result(self, cell: Cell, outcomes: Sequence[Outcome], provenance: Mapping[str, Any]) -> StackResult:
        trials = [Trial(cell, {"alpha": o.alpha}, o.split, o.seed, o.epochs) for o in outcomes]
        good = [o.status is Status.FINISHED for o in outcomes]
        result = StackResult(trials, [o.status for o in outcomes], [o.reason for o in outcomes])
        if any(good):
            test = {
                "rmse": self._column(outcomes, "test"),
                "pooled_rmse": np.array([o.pooled for o in outcomes], float),
            }
            result.metrics = {"validation": {"rmse": self._column(outcomes, "validation")}, "test": test}
            result.best_epoch = np.array([o.best_epoch for o in outcomes])
            result.train_seconds = np.array([o.seconds for o in outcomes])
            result.n_parameters = np.array([o.n_parameters for o in outcomes])
            if outcomes[0].residual is not None:
                result.residual = np.array([o.residual for o in outcomes], float)
        result.provenance = {**self._facts(), **self.provenance, **provenance}
        return result

    def _column(self, outcomes: Sequence[Outcome], name: str) -> np.ndarray:
        values = [
            np.broadcast_to(getattr(o, name), 2) if o.status is Status.FINISHED else [np.nan] * 2 for o in outcomes
        ]
        return np.array(values, float)

    def _facts(self) -> dict[str, Any]:
        return {
            "device": "cpu",
            "torch": "2.13.0",
            "mtbench": "0.1.0",
            "task_names": list(self.tasks),
            "selection_metric": "rmse",
            "report_metric": "rmse",
            "also_report": [],
            "metrics": {"rmse": RMSE, "pooled_rmse": POOLED},
            "recipe_overrides": {},
            "options_default": {"noise": 0.5},
            "search": "random:2",
            "refit": False,
        }


@pytest.fixture
def outcome() -> type[Outcome]:
    return Outcome


@pytest.fixture
def results_store(tmp_path: Path) -> StoreWriter:
    return StoreWriter(tmp_path / "results")
