"""Fingerprints of problems: whether what a data set gives now is what it gave before.

A fingerprint has a SHA-256, which is equal only for equal numbers, and a sketch, which is close for numbers that differ
by rounding: a data set that multiplies matrices gives other last digits on another kind of processor, or with another
number of threads.

Shapes: n rows of a part, N rows of a larger array.
"""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtbench.tasks.kinds import Array, Task
from mtbench.tasks.parts import Rows
from mtbench.tasks.problem import Problem

WHOLE_BYTES = 1 << 28
"""Arrays of more bytes that parts share (`Rows`) are sampled: see `_pieces`."""

_PIECE = 1 << 16
_CHUNK = 1 << 18  # numbers at a time
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Fingerprint:
    """What stands for the content of a problem.

    Attributes:
        sha256: Over tasks, parts, inputs, labels, the task of each row, and weights where there are any.
        sketch: By array, e.g. "train inputs", two random projections of its numbers and their norm.
    """

    sha256: str
    sketch: Mapping[str, tuple[float, ...]] = field(compare=False, repr=False)

    def is_like(self, other: Fingerprint) -> bool:
        """Whether both stand for the same content, but for rounding."""
        if self.sha256 == other.sha256:
            return True
        return self.sketch.keys() == other.sketch.keys() and all(
            _close(mine, other.sketch[name]) for name, mine in self.sketch.items()
        )

    def to_record(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"sha256": self.sha256, "sketch": {name: list(values) for name, values in self.sketch.items()}}

    @classmethod
    def from_record(cls, record: Any) -> Fingerprint | None:
        """What `to_record` gave; None for anything else."""
        try:
            sketch = {str(name): tuple(map(float, values)) for name, values in record["sketch"].items()}
            return cls(str(record["sha256"]), sketch)
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def fingerprint(problem: Problem) -> Fingerprint:
    """The fingerprint of a problem, whatever its data set and split are called.

    What data sets know of the truth is left out: nothing is trained or scored with it.
    """
    total = hashlib.sha256()
    tasks = [[task.name, str(task.kind), task.n_outputs, *_weights(task)] for task in problem.tasks]
    total.update(json.dumps([tasks, list(problem.parts)]).encode())
    sketch: dict[str, tuple[float, ...]] = {}
    declared = [task for task in problem.tasks if _weights(task)]
    weights = [weight for task in declared for weight in (*(task.class_weights or ()), task.weight)]
    if weights:
        sketch["weights of tasks and classes"] = _sketch(np.array(weights))
    for name, part in problem.parts.items():
        arrays = {
            "inputs": part.inputs, "labels": part.labels, "task": part.task, "sample_weight": part.sample_weight
        }  # fmt: skip
        for what, array in arrays.items():
            if array is None:
                continue
            if isinstance(array, Rows):
                digest, values = _of_base(array.base)
                sketch[f"{name} {what}"] = values
                total.update(digest)
                array, what = array.index, "rows"
            total.update(_digest(array))
            sketch[f"{name} {what}"] = _sketch(array)
    return Fingerprint(total.hexdigest(), sketch)


def _weights(task: Task) -> list[Any]:
    """The weights that a task declares; nothing for others, whose fingerprints are older than weights."""
    return [] if (task.class_weights, task.weight) == (None, 1.0) else [task.class_weights, task.weight]


def _close(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    if len(one) != 3 or len(other) != 3:
        return False
    size = max(abs(one[2]), abs(other[2]), 1e-30)
    return all(abs(a - b) <= _TOLERANCE * size for a, b in zip(one, other, strict=True))


def _digest(array: Array) -> bytes:
    found = hashlib.sha256(json.dumps([array.dtype.str, list(array.shape)]).encode())
    for piece in _pieces(array, whole=True):
        found.update(np.ascontiguousarray(piece).data)
    return found.digest()


def _sketch(array: Array, whole: bool = True) -> tuple[float, ...]:
    """Two random projections of an array's numbers, and their norm; NaN counts as 0."""
    signs = np.random.default_rng(0)
    sums = np.zeros(3)
    for piece in _pieces(array, whole):
        flat = piece.reshape(-1)
        for start in range(0, len(flat), _CHUNK):
            values = np.nan_to_num(flat[start : start + _CHUNK].astype(np.float64), copy=False)
            for i in range(2):
                bits = np.unpackbits(np.frombuffer(signs.bytes(-(-len(values) // 8)), np.uint8), count=len(values))
                # Added without a matrix product, whose last digits depend on the number of threads.
                sums[i] += 2 * values[bits.view(bool)].sum() - values.sum()
            sums[2] += np.square(values).sum()
    sums[2] = np.sqrt(sums[2])
    return tuple(float(value) for value in sums)


def _pieces(array: Array, whole: bool) -> Iterator[Array]:
    """Some rows of an array at a time: all of them, or of a large one some 4096 that lie evenly."""
    if not array.size:
        return
    if array.ndim == 0 or (whole and array.nbytes <= _PIECE):
        yield array
        return
    row_bytes = max(array.nbytes // len(array), 1)
    step = max(_PIECE // row_bytes, 1)
    starts = range(0, len(array), step)
    if not whole and array.nbytes > WHOLE_BYTES:
        n_pieces = max(WHOLE_BYTES // (step * row_bytes), 2)
        starts = range(0, len(array), max(len(array) // n_pieces, 1))
    for start in starts:
        yield array[start : start + step]


_bases: dict[tuple[object, ...], tuple[weakref.ref[Any] | None, bytes, tuple[float, ...]]] = {}


def _of_base(base: Array) -> tuple[bytes, tuple[float, ...]]:
    """Digest and sketch of an array that parts and splits share: made once for it in a process."""
    key, owner = _key(base)
    known = _bases.get(key)
    if known is not None and (known[0] is None or known[0]() is owner):
        return known[1], known[2]
    found = hashlib.sha256(json.dumps([base.dtype.str, list(base.shape)]).encode())
    for piece in _pieces(base, whole=False):
        found.update(np.ascontiguousarray(piece).data)
    digest, sketch = found.digest(), _sketch(base, whole=False)
    _bases[key] = (None if owner is None else weakref.ref(owner), digest, sketch)
    return digest, sketch


def _key(base: Array) -> tuple[tuple[object, ...], Array | None]:
    """What tells an array from others in this process, and the array that must be alive for that to hold.

    Of a memory-mapped file: the file as it is now. Else the memory it lies in.
    """
    place = base.__array_interface__["data"][0]
    owner = base
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    if isinstance(owner, np.memmap) and owner.filename is not None:
        file = os.stat(owner.filename)
        offset = place - owner.__array_interface__["data"][0] + owner.offset
        stamp = (file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns)
        return (*stamp, offset, base.shape, base.strides, base.dtype.str), None
    return (place, base.shape, base.strides, base.dtype.str), owner
