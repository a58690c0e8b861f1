"""What must hold of the arrays of a part: each refusal is one line that says where, what was found and what to do.

Shapes: n rows, d numbers of a row, T tasks, D label columns of the layout.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtbench.errors import DataError
from mtbench.tasks.conversion import as_array, as_float32, as_integers, chunks, frozen
from mtbench.tasks.kinds import Array, Task, TaskKind
from mtbench.tasks.parts import Rows

Known = dict[int, Array]
"""Arrays that parts share, as they are kept, by the identity of what was given."""

_MOST = float(np.finfo(np.float32).max)
_EXACT = {"b1", "u1", "i1", "u2", "i2", "f4"}  # types whose every value is a float32
_READ_AS_THEY_ARE = {*(_EXACT - {"u2"}), "f2", "f8", "i4", "i8"}  # types that torch gathers rows of
_ROUNDING = 0.01  # of a column's range: more is no rounding any more
_NOISE = 1e-12  # of a column's size: a range below it is rounding of float64


def checked_inputs(inputs: object, where: str, known: Known) -> Array | Rows:
    """Inputs as `Part` has them.

    Args:
        inputs: What a data set gave.
        where: Data set, split and part.
        known: Filled with the arrays that parts share.

    Raises:
        DataError: They are no rows of finite real numbers that float32 can hold.
    """
    found = _shared_rows(inputs, where, known) if isinstance(inputs, Rows) else as_array(inputs, "inputs", where)
    if found.ndim < 2 or found.shape[0] == 0 or 0 in found.shape[1:]:
        raise DataError(
            f"{where}: inputs must have shape [n, ...], with at least one row and one number in a row; found "
            f"{found.shape}. One number per row is [n, 1]: `x.reshape(-1, 1)`."
        )
    _check_numbers(found, where)
    if isinstance(found, Rows):
        return found
    if found.dtype == np.uint8 and found.ndim in (3, 4):
        return frozen(found)
    return frozen(as_float32(found))


def checked_task(task: object, n_rows: int, n_tasks: int, where: str) -> Array:
    """The task of each row, int64 [n].

    Raises:
        DataError: It is no such thing.
    """
    found = as_integers(task, "`task`", where)
    if found.shape != (n_rows,):
        raise DataError(f"{where}: `task` must have shape {(n_rows,)}, one number per row; found {found.shape}.")
    wrong = np.flatnonzero((found < 0) | (found >= n_tasks))
    if len(wrong):
        raise DataError(
            f"{where}: `task` must lie in 0 to {n_tasks - 1}, the places of its {n_tasks} tasks; row {wrong[0]} holds "
            f"{found[wrong[0]]}."
        )
    return frozen(found)


def checked_labels(labels: object, tasks: Sequence[Task], task: Array | None, n_rows: int, where: str) -> Array:
    """Labels as `Part` has them, float32 [n, D].

    Args:
        labels: What a data set gave.
        tasks: The T tasks.
        task: int64 [n], in the own layout.
        n_rows: n.
        where: Data set, split and part.

    Raises:
        DataError: A value is none that its task can have, or the shape is another.
    """
    found = as_array(labels, "labels", where)
    widths = [t.n_labels for t in tasks]
    expected = (n_rows, sum(widths) if task is None else max(widths))
    if found.shape != expected:
        columns = "the label columns of all tasks side by side" if task is None else "as many as the widest task has"
        raise DataError(f"{where}: labels must have shape {expected} ({columns}); found {found.shape}.")
    values = _Values(tasks, task)
    for rows in chunks(*expected):
        wrong = values.wrong(np.asarray(found[rows], np.float64), rows)
        if wrong.any():
            i, column = (int(place[0]) for place in np.nonzero(wrong))
            raise DataError(f"{where}, {values.refusal(found, rows.start + i, column)}")
    if _code(found) not in _EXACT:
        by_task = None if task is None else [np.flatnonzero(task == t) for t in np.unique(task)]
        _check_resolution(found, where, "labels", by_task)
    return frozen(as_float32(found))


def checked_sample_weight(given: object, n_rows: int, where: str) -> Array:
    """The sample weight of each row, float64 [n].

    Args:
        given: What a data set gave.
        n_rows: n.
        where: Data set, split and part.

    Raises:
        DataError: They are no finite numbers from 0, or all 0.
    """
    found = as_array(given, "sample_weight", where).astype(np.float64, copy=False)
    if found.shape != (n_rows,):
        raise DataError(f"{where}: sample_weight must have shape {(n_rows,)}, one number per row; found {found.shape}.")
    wrong = np.flatnonzero(~((found >= 0) & (found <= _MOST)))
    if len(wrong):
        raise DataError(
            f"{where}: sample_weight must be finite and at least 0; row {wrong[0]} holds {_shown(found[wrong[0]])}. "
            "Give 0 to rows that must not count, or leave them out."
        )
    if not found.any():
        raise DataError(f"{where}: sample_weight must not be 0 in all rows. Give None where all count the same.")
    return frozen(found)


class _Values:
    """Which values each label may have.

    Args:
        tasks: The T tasks.
        task: int64 [n], in the own layout.

    Attributes:
        owner: The task of each label column (shared layout), int64 [D].
        most: The largest class of each task, infinity for regression: [T].
        n_labels: Label columns of each task, [T].
    """

    def __init__(self, tasks: Sequence[Task], task: Array | None) -> None:
        self._tasks, self._task = tasks, task
        self.n_labels = np.array([t.n_labels for t in tasks])
        self.owner = np.repeat(np.arange(len(tasks)), self.n_labels)
        self.most = np.array([_largest(t) for t in tasks])

    def wrong(self, values: Array, rows: slice) -> Array:
        """Which values [n, D] of some rows are refused, bool [n, D]."""
        owner = self.owner[None] if self._task is None else self._task[rows, None]
        most = self.most[owner]
        whole = (values >= 0) & (values <= most) & (values == np.floor(values))
        allowed = np.isnan(values) | np.where(np.isinf(most), np.abs(values) <= _MOST, whole)
        if self._task is not None:
            beyond = np.arange(values.shape[1]) >= self.n_labels[owner]
            allowed &= ~beyond | np.isnan(values)
        return np.asarray(~allowed)

    def refusal(self, labels: Array, row: int, column: int) -> str:
        """Why the label in a row and column is refused, what must hold and what to do."""
        t = int(self.owner[column] if self._task is None else self._task[row])
        task, value = self._tasks[t], labels[row, column]
        name, first = f"task {task.name!r}", f"row {row} holds {_shown(value)}"
        if self._task is not None and column >= self.n_labels[t]:
            return (
                f"{name}: rows of this task have {self.n_labels[t]} label columns, and NaN beyond; {first} in column "
                f"{column}. Is `task` right?"
            )
        if task.kind is TaskKind.REGRESSION:
            rule = f"a target must be finite and at most {_MOST:.3g} in size, or NaN where it is missing"
            return f"{name}: {rule}; {first}. Rescale the target, or give NaN."
        if task.kind is TaskKind.MULTICLASS:
            rule, fix = f"labels must be whole numbers from 0 to {task.n_outputs - 1}", "Number its classes from 0"
        else:
            rule, fix = "labels must be 0 or 1", "Give 0 and 1"
        return f"{name}: {rule}, or NaN where one is missing; {first}. {fix} in `load`; NaN alone means missing."


def _largest(task: Task) -> float:
    if task.kind is TaskKind.REGRESSION:
        return np.inf
    return float(task.n_outputs - 1 if task.kind is TaskKind.MULTICLASS else 1)


def _shared_rows(rows: Rows, where: str, known: Known) -> Rows:
    index = as_integers(rows.index, "the index of `Rows`", where)
    key = id(rows.base)
    if key not in known:
        known[key] = frozen(as_array(rows.base, "inputs", where))
    base = known[key]
    if base.ndim < 2 or index.ndim != 1:
        raise DataError(
            f"{where}: `Rows` need an array [N, ...] and row numbers [n]; found {base.shape} and {index.shape}."
        )
    wrong = np.flatnonzero((index < 0) | (index >= len(base)))
    if len(wrong):
        raise DataError(
            f"{where}: `Rows` must name rows 0 to {len(base) - 1} of its array; place {wrong[0]} holds "
            f"{index[wrong[0]]}."
        )
    found = Rows(base, frozen(index))
    if _code(base) not in _READ_AS_THEY_ARE:
        _check_numbers(found, where)
        known[key] = frozen(as_float32(base))
        found = Rows(known[key], found.index)
    return found


def _check_numbers(inputs: Array | Rows, where: str) -> None:
    """Refuses inputs that are not finite, or that float32 cannot hold."""
    if _code(inputs) in _EXACT - {"f4"}:
        return
    for rows in chunks(inputs.shape[0], int(np.prod(inputs.shape[1:]))):
        block = np.asarray(inputs[rows])
        wrong = ~np.isfinite(block) if block.dtype.itemsize <= 4 else ~(np.abs(block.astype(np.float64)) <= _MOST)
        if wrong.any():
            i, *place = (int(axis[0]) for axis in np.nonzero(wrong))
            at = place[0] if len(place) == 1 else tuple(place)
            raise DataError(
                f"{where}: inputs must be finite and at most {_MOST:.3g} in size; row {rows.start + i} holds "
                f"{_shown(block[(i, *place)])} at {at}. Fill it in, rescale it or leave the row out in `load`."
            )
    if _code(inputs) not in _EXACT | {"f2"}:
        _check_resolution(inputs, where, "inputs", None)


def _check_resolution(array: Array | Rows, where: str, what: str, groups: Sequence[Array] | None) -> None:
    """Refuses columns whose differences float32 loses, such as dates in seconds."""
    width = int(np.prod(array.shape[1:]))
    for rows in [None] if groups is None else groups:
        n = array.shape[0] if rows is None else len(rows)
        low, high, lost = np.full(width, np.inf), np.full(width, -np.inf), np.zeros(width)
        for some in chunks(n, width):
            block = np.asarray(array[some if rows is None else rows[some]]).reshape(-1, width).astype(np.float64)
            with np.errstate(invalid="ignore"):  # NaN, which counts for nothing here
                low, high = np.fmin(low, np.fmin.reduce(block, 0)), np.fmax(high, np.fmax.reduce(block, 0))
                lost = np.fmax(lost, np.fmax.reduce(np.abs(block - as_float32(block)), 0))
        span = high - low
        wrong = np.flatnonzero((lost > _ROUNDING * span) & (span > _NOISE * np.fmax(np.abs(low), np.abs(high))))
        if len(wrong):
            c = wrong[0]
            raise DataError(
                f"{where}: {what} must be told apart by float32; column {c} runs from {float(low[c])!r} to "
                f"{float(high[c])!r}. Subtract an offset or rescale it in `load`."
            )


def _code(array: Array | Rows) -> str:
    return array.dtype.str[1:]


def _shown(value: object) -> str:
    number = float(value)  # type: ignore[arg-type]
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
