"""Problems of both layouts and both losses, and data on them for the trials of a stack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mtbench import LinearData, Part, Problem, Task, TaskKind
from mtbench.linear.problems import linear_data
from mtbench.testing.problems import OwnRegression, SharedOneVsAll, SharedRegression

CPU = torch.device("cpu")


def binary(problem: Problem) -> Problem:
    """The same rows, a label above the median being 1, one in ten flipped so that no task is separable."""
    rng = np.random.default_rng(0)

    def part(old: Part) -> Part:
        above = (old.labels > np.nanmedian(old.labels)) ^ (rng.uniform(size=old.labels.shape) < 0.1)
        return replace(old, labels=np.where(np.isnan(old.labels), np.nan, above).astype(np.float32))

    tasks = tuple(Task(task.name, TaskKind.BINARY) for task in problem.tasks)
    return replace(problem, tasks=tasks, parts={name: part(rows) for name, rows in problem.parts.items()})


def complete(problem: Problem) -> Problem:
    """The same with a label wherever one was missing."""
    parts = {name: replace(rows, labels=np.nan_to_num(rows.labels)) for name, rows in problem.parts.items()}
    return replace(problem, parts=parts)


PROBLEMS: dict[str, Callable[[int], Problem]] = {
    "own regression": lambda split: OwnRegression().load(Path(), split, None),
    "masked regression": lambda split: SharedRegression().load(Path(), split, None),
    "shared regression": lambda split: complete(SharedRegression().load(Path(), split, None)),
    "own binary": lambda split: binary(OwnRegression().load(Path(), split, None)),
    "masked binary": lambda split: binary(SharedRegression().load(Path(), split, None)),
    "shared binary": lambda split: SharedOneVsAll().load(Path(), split, None),
}


@pytest.fixture(params=PROBLEMS)
def problems(request: pytest.FixtureRequest) -> list[Problem]:
    """Two splits of one data set."""
    return [PROBLEMS[request.param](split) for split in (0, 1)]


@pytest.fixture(params=[False, True], ids=["no intercept", "intercept"])
def data(problems: list[Problem], request: pytest.FixtureRequest) -> LinearData:
    """Three trials on two splits."""
    return linear_data(problems, [1, 0, 1], request.param, CPU)
