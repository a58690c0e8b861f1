"""What every deep method keeps on images: it trains over backbones with and without batch norm, in both layouts.

A new deep method adds its name to METHODS. Each trains in every case and over either backbone, and every case over
either backbone; `--thorough` takes all combinations.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtbench import GradientMethod
from mtbench.contracts.hyperparameters import describe
from mtbench.contracts.trials import StackResult, Status
from mtbench.plugins.host import load_plugins
from mtbench.testing.methods import assert_same
from mtbench.testing.problems import Miniature, OwnImages, SharedImages, miniature_trials
from mtbench.training import train_stack

METHODS = (
    "hard_sharing",
    "stl_deep",
    "fine_tuned",
    "cross_stitch",
    "mmoe",
    "cgc",
    "ple",
    "dselect_k",
    "mtan",
    "mrn",
    "soft_order",
    "taan",
    "taan_trace_norm",
)
# The miniature, rows of a batch, rows of each task in a batch: two or three steps.
CASES: dict[str, tuple[type[Miniature], int, int]] = {
    "shared": (SharedImages, 12, 0),
    "own": (OwnImages, 36, 0),
    "own, rows of each task": (OwnImages, 12, 12),
}


@pytest.fixture(scope="module")
def methods() -> dict[str, Any]:
    return load_plugins().methods


@pytest.mark.parametrize(
    ("name", "case", "backbone"),
    [
        pytest.param(name, case, backbone, marks=() if (i + j + k) % 2 == 0 else pytest.mark.thorough)
        for i, name in enumerate(METHODS)
        for j, case in enumerate(CASES)
        for k, backbone in enumerate(("lenet", "conv4"))
    ],
)
def test_a_stack_trains_to_finite_results_that_are_each_trials_own(
    methods: dict[str, Any], name: str, case: str, backbone: Any
) -> None:
    miniature, rows, rows_per_task = CASES[case]
    method: GradientMethod = methods[name]()
    dataset = miniature()
    dataset.recipe = dataclasses.replace(
        miniature.recipe, backbone=backbone, rows_per_task=rows_per_task, batch_size=rows, max_epochs=1
    )
    problems = {split: dataset.load(Path(), split, None) for split in (0, 1)}
    reason = method.supports(problems[0], dataset.recipe)
    if reason is not None:
        pytest.skip(reason)
    settings = [{**smallest(method), "learning_rate": rate} for rate in (0.002, 0.003)]
    # Of two splits and two settings, two trials that have neither in common.
    trials = miniature_trials(method, dataset, settings, splits=(0, 1))[1:3]
    together = train_stack(method, problems, trials, dataset)
    assert together.status == [Status.FINISHED] * 2, together.reason
    assert all(np.isfinite(matrix).all() for matrix in together.learned.values())
    for r, trial in enumerate(trials):
        alone = train_stack(method, problems, [trial], dataset)
        assert_same(row_of(together, r), alone, tolerance=1e-8)
        for learned, matrix in alone.learned.items():
            np.testing.assert_allclose(together.learned[learned][r], matrix[0], 1e-8, 1e-8, err_msg=learned)


def smallest(method: GradientMethod) -> dict[str, Any]:
    """The smallest of each hyperparameter that comes in sizes: networks that are quick to train."""
    known = describe(type(method).Params)
    return {name: min(h.choices) for name, h in known.items() if h.kind is int and h.choices}


def row_of(result: StackResult, r: int) -> StackResult:
    """One trial of a stack whose trials all trained to the end."""
    metrics = {part: {name: v[r : r + 1] for name, v in found.items()} for part, found in result.metrics.items()}
    history = {name: rows[r : r + 1] for name, rows in result.history.items()}
    return StackResult(result.trials[r : r + 1], result.status[r : r + 1], result.reason[r : r + 1], metrics, history)
