"""The rows of a stack on its device: one copy per split, or one of all, gathered per batch for the trials that use it.

Shapes: R trials, U splits among them, B batch rows, n rows of a part, N rows of an array that parts share.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtbench.contracts.batch import Batch, TaskColumns
from mtbench.errors import DataError
from mtbench.tasks import Array, Problem, Rows
from mtbench.tasks.weights import row_weights

Columns = dict[str, Tensor]
"""Tensors of a batch by name: "inputs", "labels", sizes of tasks; if there are any "mask", "task", "weight", "key"."""

SHARE = 0.5  # of a device's free memory that an array of rows may take; larger ones are gathered on the CPU


class PartData:
    """One part of the U splits' problems, as tensors [U, n, ...].

    Args:
        problems: The U problems.
        name: Which part.
        device: Where the tensors live.
        dtype: Of inputs and labels; uint8 inputs stay uint8 until they are used.
        shared: Arrays that parts share, on the device, by their place; filled as they are met.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        name: str,
        device: torch.device,
        dtype: torch.dtype,
        shared: dict[object, Tensor] | None = None,
    ) -> None:
        parts = [problem.parts[name] for problem in problems]
        self.n_rows = parts[0].n_rows
        if any(part.n_rows != self.n_rows for part in parts):
            raise DataError(f"{problems[0].dataset}: splits of one stack must have equally many rows in part '{name}'.")
        self._device, self._dtype = device, dtype
        self._index: Tensor | None = None
        self._images = parts[0].is_image
        rows = [part.inputs for part in parts if isinstance(part.inputs, Rows)]
        if len(rows) == len(parts) and len({one.place for one in rows}) == 1:
            self._inputs = _shared(rows[0], device, {} if shared is None else shared)
            self._index = torch.stack([_tensor(one.index) for one in rows]).to(self._inputs.device)
        else:
            self._inputs = _stacked([np.asarray(part.inputs) for part in parts], device, dtype)
        missing = [problem.missing(part) for problem, part in zip(problems, parts, strict=True)]
        self._columns = {"labels": _stacked([np.nan_to_num(part.labels) for part in parts], device, dtype)}
        if any(gaps is not None for gaps in missing):
            self._columns["mask"] = _stacked([~np.isnan(part.labels) for part in parts], device, dtype)
        if parts[0].task is not None:
            self._columns["task"] = torch.stack([_tensor(part.task) for part in parts]).to(device)
        weights = [row_weights(problem, part) for problem, part in zip(problems, parts, strict=True)]
        if any(found is not None for found in weights):
            shape = next(some.shape for some in weights if some is not None)
            self._columns["weight"] = _stacked([np.ones(shape) if w is None else w for w in weights], device, dtype)
        self._sizes = {
            "n_train": _stacked([problem.task_sizes() for problem in problems], device, dtype),
            "n_examples": _stacked([problem.task_examples() for problem in problems], device, dtype),
        }

    @property
    def apart(self) -> bool:
        """Whether inputs stay on the CPU while batches are used elsewhere."""
        return self._index is not None and self._index.device.type != self._device.type

    @property
    def devices(self) -> set[torch.device]:
        """Where its tensors live: inputs, the other columns, sizes of tasks."""
        return {tensor.device for tensor in (self._inputs, *self._columns.values(), *self._sizes.values())}

    def rows(
        self,
        split: Tensor | int,
        rows: Tensor | slice,
        raw: bool = False,
        there: tuple[Tensor | int, Tensor | slice] | None = None,
    ) -> Columns:
        """Rows as the columns of a batch.

        Args:
            split: int64 [R] with `rows` [R, B], or one split with `rows` [B] or a slice.
            rows: Which rows.
            raw: Leave images in bytes, for `as_numbers`.
            there: The same split and rows on the CPU, where inputs are kept `apart`: to fetch them from the device is
                to wait for it.

        Returns:
            Columns [R, B, ...], or [B, ...] for one split.
        """
        where = _beside(split, rows)
        columns = {name: column[where, rows] for name, column in self._columns.items()}
        sizes = {name: size[split] for name, size in self._sizes.items()}
        place = (where, rows) if there is None else (_beside(*there), there[1])
        found = {"inputs": self._gathered(*place), **columns, **sizes}
        return found if raw else self.as_numbers(found)

    def _gathered(self, where: Tensor | int, rows: Tensor | slice) -> Tensor:
        if self._index is None:
            return self._inputs[where, rows]
        home = self._index.device
        place = self._index[_on(where, home), _on(rows, home)]
        gathered = self._inputs.index_select(0, place.reshape(-1))
        return sent(gathered.view(*place.shape, *self._inputs.shape[1:]), self._device)

    def as_numbers(self, columns: Columns) -> Columns:
        """The columns with inputs as numbers: the bytes of images become fractions of 255."""
        inputs = columns["inputs"]
        bytes_of_images = self._images and inputs.dtype == torch.uint8
        numbers = inputs.to(self._dtype)
        return {**columns, "inputs": numbers.div_(255) if bytes_of_images else numbers}


def part_bytes(problem: Problem, name: str, dtype: torch.dtype) -> int:
    """What `PartData` needs for one problem's part, without an array that parts share."""
    part, size = problem.parts[name], dtype.itemsize
    inputs = part.n_rows * problem.n_features * (1 if part.inputs.dtype == np.uint8 else size)
    if isinstance(part.inputs, Rows):
        inputs = part.inputs.index.nbytes
    columns = part.labels.size * size + (0 if part.task is None else part.task.nbytes)
    mask = 0 if problem.missing(part) is None else part.labels.size * size
    weights = row_weights(problem, part)
    weight = 0 if weights is None else weights.size * size
    return inputs + columns + mask + weight + 2 * problem.n_tasks * size


def shared_bytes(problem: Problem, device: torch.device) -> int:
    """What an array that all parts share needs on a device: nothing where it stays on the CPU as it is."""
    inputs = problem.parts["train"].inputs
    return inputs.base.nbytes if isinstance(inputs, Rows) and _moves(inputs.base.nbytes, device) else 0


def rows_on(rows: slice | Array, device: torch.device) -> slice | Tensor:
    """Row numbers as something that tensors on a device can be indexed by."""
    return rows if isinstance(rows, slice) else torch.as_tensor(rows, device=device)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; the CPU goes on at once, whatever a GPU is busy with."""
    if device.type != "cuda" or tensor.device == device:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def batch_of(tensors: Mapping[str, Tensor], columns: TaskColumns, per_task: int = 0) -> Batch:
    """One trial's batch from its tensors by name; `columns` and `per_task` as in `Batch`."""
    return Batch(
        tensors["inputs"],
        tensors["labels"],
        tensors.get("mask"),
        tensors.get("task"),
        tensors["n_train"],
        columns,
        per_task,
        tensors.get("key"),
        tensors["n_examples"],
        tensors.get("weight"),
    )


def _shared(rows: Rows, device: torch.device, known: dict[object, Tensor]) -> Tensor:
    """The array that rows are of as a tensor, without a copy on the CPU, once on a GPU that has room for it."""
    if rows.place not in known:
        tensor = _tensor(rows.base)
        if _moves(tensor.nbytes, device):
            tensor = tensor.to(device)
        known[rows.place] = tensor
    return known[rows.place]


def _tensor(array: Array | None) -> Tensor:
    """An array as a tensor of the same memory."""
    with warnings.catch_warnings():
        # A problem's arrays cannot be written to, and are not.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.as_tensor(array)


def _moves(n_bytes: int, device: torch.device) -> bool:
    """Whether an array of so many bytes is copied to a device."""
    return device.type == "cuda" and n_bytes < SHARE * torch.cuda.mem_get_info(device)[0]


def _beside(split: Tensor | int, rows: Tensor | slice) -> Tensor | int:
    """Splits [R] as an index beside rows [R, B]."""
    return split[:, None] if isinstance(split, Tensor) and isinstance(rows, Tensor) else split


def _on(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def _stacked(arrays: Sequence[Array], device: torch.device, dtype: torch.dtype) -> Tensor:
    tensor = torch.stack([_tensor(array) for array in arrays])
    return tensor.to(device) if tensor.dtype == torch.uint8 else tensor.to(device, dtype)
