"""Results and stores to test with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from mtbench.contracts.recipe import Recipe
from mtbench.contracts.trials import Cell, StackResult, Status, Trial
from mtbench.store import Store

MakeResult = Callable[..., StackResult]

CELL = Cell("amtfl", "1", "mtbench", "school", "2", {"noise": 0.5, "kind": "block"}, "0" * 64, Recipe(hidden=15))


def make_result(
    n_trials: int = 3, split: int = 0, statuses: list[Status] | None = None, full: bool = True
) -> StackResult:
    rng = np.random.default_rng(split)
    trials = [
        Trial(CELL, {"alpha": 0.1 * (i + 1), "hidden": 15, "act": "relu", "bias": True}, split, i, None if i else 7)
        for i in range(n_trials)
    ]
    statuses = statuses or [Status.FINISHED] * n_trials
    reasons = ["" if status is Status.FINISHED else f"it was {status}" for status in statuses]
    if not full:
        return StackResult(trials, statuses, reasons)
    test = rng.random((n_trials, 4))
    test[0, 1] = np.nan
    return StackResult(
        trials,
        statuses,
        reasons,
        metrics={"test": {"rmse": test, "pooled_rmse": rng.random(n_trials)}, "test 10/000": {"rmse": test + 1}},
        history={
            "epoch": np.arange(6.0)[None].repeat(n_trials, 0),
            "loss": rng.random((n_trials, 6)),
            "weights": rng.random((n_trials, 6, 4)),
        },
        best_epoch=np.arange(n_trials),
        train_seconds=rng.random(n_trials),
        n_parameters=np.full(n_trials, 99),
        residual=10.0 ** -np.arange(n_trials),
        predictions={"test": rng.random((n_trials, 200, 2)).astype(np.float32)},
        learned={"transfer": rng.random((n_trials, 4, 4)), "empty": np.zeros((n_trials, 0))},
        provenance={"torch": "2.13.0", "git": {"dirty": False}, "peak": 12, "seconds": 0.1},
        log="the last line\nwith a tab\t and a \u03b3",
    )


@pytest.fixture
def result() -> MakeResult:
    """Builds the result of a stack."""
    return make_result


def _different(copies: Iterable[Path]) -> list[Path]:
    """One of all copies of a store whose files hold the same: what is done next can be no other on the rest.

    Names below `tmp` are random, and a claim names its process.
    """
    found: dict[frozenset[tuple[str, str]], Path] = {}
    for copy in copies:
        held = set()
        for path in (path for path in copy.rglob("*") if path.is_file()):
            place = path.relative_to(copy)
            named = place.parent if place.parts[0] == "tmp" else place
            content = "" if place.parts[0] == "claims" else hashlib.sha256(path.read_bytes()).hexdigest()
            held.add((str(named), content))
        found.setdefault(frozenset(held), copy)
    return list(found.values())


@pytest.fixture(scope="session")
def different() -> Callable[[Iterable[Path]], list[Path]]:
    return _different


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.create(tmp_path / "store")
