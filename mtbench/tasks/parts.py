"""Parts of a problem: rows with their labels.

Shapes: n rows of a part, N rows of a larger array, D label columns.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtbench.errors import PluginError
from mtbench.tasks.kinds import Array, Task

_SAMPLED = 2**20  # numbers of an array that its checksum takes in


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a larger array, such as a memory-mapped image cache, that parts and splits share without a copy.

    Indexing gives the rows as an array: `rows[3:5]` is `base[index[3:5]]`.

    Attributes:
        base: [N, ...], the larger array.
        index: int64 [n], numbers of the selected rows, in order.
    """

    base: Array
    index: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, ...), as if the rows were an array of their own."""
        return (len(self.index), *self.base.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the base's numbers."""
        return self.base.dtype

    @property
    def ndim(self) -> int:
        """Number of axes, as of the base."""
        return self.base.ndim

    @property
    def place(self) -> tuple[object, ...]:
        """Address, shape, strides and type of the base: equal for `Rows` of the same array."""
        base = self.base
        return base.__array_interface__["data"][0], base.shape, base.strides, base.dtype.str

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: Any) -> Array:
        return np.asarray(self.base[self.index[key]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype)


@dataclass(frozen=True)
class Part:
    """Rows of a problem that serve one purpose: training, validation or test.

    A data set may give arrays of any numeric type, byte order and memory order, lists, data frames, torch tensors or
    sparse matrices; the parts of a `Problem` have them as said here, read-only.

    Attributes:
        inputs: [n, ...], float32; or uint8 for images, rows [H, W] or [C, H, W] that are taken as values / 255. `Rows`
            of an array that all parts and splits share keep its type, and are read and converted batch by batch.
        labels: float32. Shared layout: [n, D], the label columns of all tasks side by side, NaN for "no label".
            Own layout: [n, max of the tasks' label columns], each row the labels of its own task, NaN for "no label"
            and beyond.
        task: int64 [n], the task of each row; None in the shared layout.
        sample_weight: float64 [n], what each row counts for in losses and metrics, from 0; None where all count the
            same.
    """

    inputs: Array | Rows
    labels: Array
    task: Array | None = None
    sample_weight: Array | None = None
    checked_for: tuple[Task, ...] | None = field(default=None, init=False, repr=False, compare=False)
    """The tasks that a problem has checked it for; None for a part that no problem has."""
    content: int | None = field(default=None, init=False, repr=False, compare=False)
    """Its `fingerprint` when it was checked."""

    @property
    def n_rows(self) -> int:
        """Number of rows n."""
        return len(self.inputs)

    @property
    def is_image(self) -> bool:
        """Whether inputs are images of bytes (uint8), whose values are divided by 255 before use."""
        return self.inputs.dtype == np.uint8 and self.inputs.ndim in (3, 4)

    def fingerprint(self) -> int:
        """A CRC-32 of labels, tasks, inputs and weights; of large arrays it reads a sample of the rows."""
        found = 0
        for array in (self.labels, self.task, self.inputs, self.sample_weight):
            if array is not None:
                step = max(1, int(np.prod(array.shape)) // _SAMPLED)
                found = zlib.crc32(np.ascontiguousarray(array[::step]).data, found)
        return found

    def joined(self, other: Part) -> Part:
        """A part with the rows of both, this part's first.

        Args:
            other: A part of the same layout and shape of rows.
        """
        task = None if self.task is None or other.task is None else np.concatenate([self.task, other.task])
        weights = None
        if self.sample_weight is not None or other.sample_weight is not None:
            weights = np.concatenate([_weights(self), _weights(other)])
        return Part(_joined(self.inputs, other.inputs), np.concatenate([self.labels, other.labels]), task, weights)

    def numbers(self, key: Any = slice(None)) -> Array:
        """Inputs of some rows as numbers a model takes.

        Args:
            key: Which rows: a slice, or an array of row numbers; all of them unless given.

        Returns:
            float32 [n, ...], images as values / 255.
        """
        found = np.asarray(self.inputs[key])
        return found.astype(np.float32) / np.float32(255) if self.is_image else found.astype(np.float32)


class Parts(Mapping[str, Part]):
    """The parts of a problem by name; cannot be changed.

    Args:
        parts: Those that are there.
        withheld: Whether there are others that are not handed out.
    """

    def __init__(self, parts: Mapping[str, Part], withheld: bool = False) -> None:
        self._parts, self._withheld = dict(parts), withheld

    def __getitem__(self, name: str) -> Part:
        if self._withheld and name not in self._parts:
            raise PluginError(
                f"A method must not look at test rows, and is handed none: a part {name!r} is withheld. It has "
                f"{', '.join(repr(there) for there in self._parts)}."
            )
        return self._parts[name]

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __repr__(self) -> str:
        return f"Parts({', '.join(self._parts)})"


def _weights(part: Part) -> Array:
    """The sample weights of a part, 1 where it has none: [n]."""
    return np.ones(part.n_rows) if part.sample_weight is None else part.sample_weight


def _joined(one: Array | Rows, other: Array | Rows) -> Array | Rows:
    if isinstance(one, Rows) and isinstance(other, Rows) and one.place == other.place:
        return Rows(one.base, np.concatenate([one.index, other.index]))
    return np.concatenate([np.asarray(one), np.asarray(other)])
