"""The rows of a stack on its device: one copy per split, gathered per batch for the trials that use it.

Shapes: R trials, U splits among them, B batch rows, n rows of a part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mtbench.batch import Batch, TaskLayout
from mtbench.errors import DataError
from mtbench.seeds import seed_from
from mtbench.tasks import Array, Part, Problem
from mtbench.trials import Trial

Columns = dict[str, Tensor]
"""Tensors of a batch by name ("inputs", "labels", and where there are any "mask", "task"), plus "n_train"."""


class PartData:
    """One part of the U splits' problems, as tensors [U, n, ...].

    Args:
        problems: The U problems.
        name: Which part.
        device: Where the tensors live.
        dtype: Of inputs and labels; uint8 inputs stay uint8 until they are used.
    """

    def __init__(self, problems: Sequence[Problem], name: str, device: torch.device, dtype: torch.dtype) -> None:
        parts = [problem.parts[name] for problem in problems]
        self.n_rows = parts[0].n_rows
        if any(part.n_rows != self.n_rows for part in parts):
            raise DataError(f"{problems[0].dataset}: splits of one stack must have equally many rows in part '{name}'.")
        self._dtype = dtype
        self._inputs = _stacked([np.asarray(part.inputs) for part in parts], device, dtype)
        masks = [_mask(problem, part) for problem, part in zip(problems, parts, strict=True)]
        self._columns = {"labels": _stacked([np.nan_to_num(part.labels) for part in parts], device, dtype)}
        if any(mask is not None and not mask.all() for mask in masks):
            self._columns["mask"] = _stacked([m for m in masks if m is not None], device, dtype)
        if parts[0].task is not None:
            self._columns["task"] = torch.stack([torch.as_tensor(part.task) for part in parts]).to(device)
        self._n_train = _stacked([problem.task_sizes() for problem in problems], device, dtype)

    def rows(self, split: Tensor | int, rows: Tensor | slice) -> Columns:
        """Rows as the columns of a batch.

        Args:
            split: int64 [R] with `rows` [R, B], or one split with `rows` [B] or a slice.
            rows: Which rows.

        Returns:
            Columns [R, B, ...], or [B, ...] for one split.
        """
        where = split[:, None] if isinstance(split, Tensor) and isinstance(rows, Tensor) else split
        inputs = self._inputs[where, rows]
        if not inputs.is_floating_point():
            inputs = inputs.to(self._dtype) / 255
        columns = {name: column[where, rows] for name, column in self._columns.items()}
        return {"inputs": inputs, **columns, "n_train": self._n_train[split]}


def batch_of(columns: Mapping[str, Tensor], layout: TaskLayout) -> Batch:
    """One trial's batch from its columns."""
    return Batch(
        columns["inputs"], columns["labels"], columns.get("mask"), columns.get("task"), columns["n_train"], layout
    )


def epoch_rows(trials: Sequence[Trial], n_rows: int) -> Iterator[Array]:
    """Row orders epoch by epoch, one per stream, so that trials of equal split and seed see equal batches.

    Args:
        trials: One trial of each stream.
        n_rows: Rows of the training part.

    Yields:
        int64 [streams, n_rows], a permutation in each row.
    """
    generators = [
        np.random.default_rng(seed_from(trial.cell.dataset, trial.split, trial.seed, "order")) for trial in trials
    ]
    while True:
        yield np.stack([generator.permutation(n_rows) for generator in generators])


def _mask(problem: Problem, part: Part) -> Array | None:
    if part.task is not None:
        return None
    return np.asarray(~np.isnan(part.labels[:, [s.start for s in problem.label_slices]]))


def _stacked(arrays: Sequence[Array], device: torch.device, dtype: torch.dtype) -> Tensor:
    tensor = torch.stack([torch.as_tensor(array) for array in arrays])
    return tensor.to(device) if tensor.dtype == torch.uint8 else tensor.to(device, dtype)
