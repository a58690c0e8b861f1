"""Examination scores of the Inner London Education Authority: 139 schools, one regression task each.

Source: the matrix and the ten random splits of Argyriou, Evgeniou and Pontil, as kept in github tjanez/PyMTL.
Licence: not stated with the data.
Preprocessing: none. The columns are binary codes and two percentages (0 to 91, 0 to 43), and the last column is
constant 1. They stay as they are: standardising costs linear methods about 0.1 in the published metric.
Shapes: 15,362 pupils, rows [28], own layout. Every split has 11,472 pupils for training, of whom a fifth of each school
validate (drawn here, per split), and 3,890 for testing, with the same numbers per school in all splits.
The published metric is the mean over schools of their RMSE; the RMSE over all pupils is reported beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mtbench import (
    Dataset,
    Part,
    Problem,
    Recipe,
    Reference,
    Source,
    Task,
    TaskKind,
    draw_by_group,
    hookimpl,
    seed_from,
    verified,
)

ADDRESS = "https://raw.githubusercontent.com/tjanez/PyMTL/97dfc15be3769240f2099d036ce2b55b30a56f5f/data/school/"


def _source(file: str, n_bytes: int, sha256: str) -> Source:
    return Source(f"school/{file}", sha256, ADDRESS + file, n_bytes)


MATRIX = _source("school_b.mat", 40592, "973f1ca99d0d41a838ec6ae86001a48e7b69391eb74646b9e4fc54f62866a146")
SPLITS = (
    _source("school_1_indexes.mat", 28567, "030c9ca0a73d6264aa1eeac49aba1d760a1b5692cd3124667e74a7a2b7751bc5"),
    _source("school_2_indexes.mat", 28570, "63d3a076a4cdd3de81825d3cf0c030b93bdc60e912eaed4763ee224efab163f8"),
    _source("school_3_indexes.mat", 28559, "f7f68e3adb50db8094e230c2b83d548790379cd93ad98fadb35ff2999762dbe6"),
    _source("school_4_indexes.mat", 28571, "02643928224056a61e25dec8d4841dba5195ed9affdc76fdc697854a2506d142"),
    _source("school_5_indexes.mat", 28569, "6ed00a453d582dce4397f6f49120cff803c22f53cfb2dd63a3826c359c24bcdf"),
    _source("school_6_indexes.mat", 28568, "ca853babe5b7f0f5812e7f4261f8b5e5728f1b3b06711e56a76b27b7f959f379"),
    _source("school_7_indexes.mat", 28568, "b72105509c70f94f48c7c8b0e1359c6c0ea630c7ac588337b412f946ede62283"),
    _source("school_8_indexes.mat", 28569, "8ad60073b135220f1a6f49fdd79b4430b6a0c8ce9925a22dcc5a09141f5b1c04"),
    _source("school_9_indexes.mat", 28573, "0de74247d93c413b690ebb65e2e7beb1c55f05b2a2d5db46469e673a552cccf2"),
    _source("school_10_indexes.mat", 28573, "b408742eab66cd124563493057b080fd39e5075f48b4c391c53e5f6a1a4c8df1"),
)


class School(Dataset):
    """139 schools; predict each pupil's examination score."""

    name = "school"
    title = "School examination scores, 139 schools"
    licence = "not stated"
    citation = Reference("Convex multi-task feature learning", "Machine Learning 2008")
    sources = (MATRIX, *SPLITS)
    recipe = Recipe(
        hidden=15, intercept=False, learning_rate=1e-2, batch_size=500, max_epochs=40, patience=10, refit=True
    )
    selection_metric = "rmse"
    report_metric = "rmse"
    also_report = ("pooled_rmse",)
    n_splits = 10
    default_splits = 5

    def load(self, root: Path, split: int, options: Any) -> Problem:
        """Reads the matrix and one of the published splits."""
        self.check_split(split)
        from scipy.io import loadmat  # imported where a file is read

        matrix = loadmat(verified(MATRIX, root, self.name))
        published = loadmat(verified(SPLITS[split], root, self.name))
        # Stored as uint8, in which sums and squares would wrap around.
        inputs = matrix["x"].T.astype(np.float32)
        scores = matrix["y"].astype(np.float32)
        first = matrix["task_indexes"].ravel().astype(np.int64) - 1
        school = np.searchsorted(first, np.arange(len(inputs)), side="right") - 1
        pool, test = (published[key].ravel().astype(np.int64) - 1 for key in ("tr", "tst"))
        rng = np.random.default_rng(seed_from(self.name, split, "validation"))
        pupils = np.bincount(school[pool])
        n_validation = np.maximum(np.rint(0.2 * pupils), pupils > 1)
        validation, train = (pool[rows] for rows in draw_by_group(school[pool], (n_validation,), rng))
        parts = {"train": train, "validation": validation, "test": test}
        tasks = tuple(Task(f"school_{t + 1}", TaskKind.REGRESSION) for t in range(len(first)))
        return Problem(
            self.name, split, tasks,
            {name: Part(inputs[rows], scores[rows], school[rows]) for name, rows in parts.items()},
        )  # fmt: skip


@hookimpl
def mtbench_datasets() -> list[type[Dataset]]:
    """The data set of this file."""
    return [School]
