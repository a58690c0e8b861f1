"""Handwritten digits bundled with scikit-learn: ten one-vs-all tasks, no download.

Source: the test part of the UCI "Optical Recognition of Handwritten Digits" data, `sklearn.datasets.load_digits`.
Licence: CC BY 4.0 (UCI Machine Learning Repository).
Preprocessing: pixels are counts from 0 to 16, divided by 16. Nothing is fitted.
Shapes: 1,797 images of 8 x 8 pixels, rows [64]. Each split draws 20 images per class for training and 20 for
validation; the other 1,397 test. Labels [n, 10], 1 for the digit shown and 0 elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mtbench import Dataset, Part, Problem, Recipe, Reference, Task, TaskKind, draw_by_group, hookimpl, seed_from


class Digits(Dataset):
    """The embedded default: small enough that a grid over it takes seconds."""

    name = "digits"
    title = "Handwritten digits, 8 x 8 pixels, one-vs-all"
    licence = "CC BY 4.0"
    citation = Reference(
        "Optical Recognition of Handwritten Digits", "UCI Machine Learning Repository 1998",
        url="https://doi.org/10.24432/C50P49",
    )  # fmt: skip
    self_contained = True
    recipe = Recipe(hidden=64, learning_rate=5e-3, batch_size=100, max_epochs=60, patience=10)
    selection_metric = "one_vs_all_error"
    report_metric = "one_vs_all_error"
    n_splits = 20
    default_splits = 5

    def load(self, root: Path, split: int, options: Any) -> Problem:
        """Draws a split; reads nothing below the root."""
        self.check_split(split)
        from sklearn.datasets import load_digits  # scikit-learn takes a second to import

        pixels, classes = load_digits(return_X_y=True)
        inputs = (pixels / 16).astype(np.float32)
        labels = np.eye(10, dtype=np.float32)[classes]
        rng = np.random.default_rng(seed_from(self.name, split, "split"))
        drawn = zip(("train", "validation", "test"), draw_by_group(classes, (20, 20), rng), strict=True)
        tasks = tuple(Task(f"digit_{digit}", TaskKind.BINARY) for digit in range(10))
        return Problem(self.name, split, tasks, {part: Part(inputs[rows], labels[rows]) for part, rows in drawn})


@hookimpl
def mtbench_datasets() -> list[type[Dataset]]:
    """The data set of this file."""
    return [Digits]
