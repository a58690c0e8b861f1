"""From whatever a data set gives to numpy arrays: the same values, or one line that says why not.

Shapes: n rows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from mtbench.errors import DataError
from mtbench.tasks.kinds import Array

_NUMBERS = "biuf"  # numpy's kinds of types: bool, integers, floats
_AT_ONCE = 2**20  # numbers that are looked at at once: a large array must not be copied whole
_DENSE_BYTES = 2**32  # the most that a sparse matrix may take as an array of float32


def as_array(value: object, what: str, where: str) -> Array:
    """A numeric array of native byte order that torch can read, with the values of what was given.

    Args:
        value: An array, a list, a data frame, a torch tensor or a sparse matrix.
        what: Names it in an error, e.g. "inputs".
        where: Whose it is, e.g. "school, split 0, part 'train'".

    Raises:
        DataError: It holds anything but real numbers.
    """
    try:
        array = np.asarray(_dense(value, what, where))
    except DataError:
        raise
    except Exception as error:  # whatever a foreign class raises
        raise DataError(
            f"{where}: {what} must be an array of numbers; found {_named(value)}, which cannot be made one: "
            f"{_first_line(error)}"
        ) from error
    if array.dtype.kind not in _NUMBERS:
        held = "" if isinstance(value, np.ndarray) else f" in {_named(value)}"
        raise DataError(
            f"{where}: {what} must be real numbers; found values of type {array.dtype}{held}. Convert them in `load`."
        )
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    steps = array.strides
    if not array.flags.aligned or any(step < 0 or step % array.itemsize for step in steps):
        array = array.copy()
    return array


def frozen(array: Array) -> Array:
    """A read-only view of an array."""
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def chunks(n_rows: int, row_size: int) -> Iterator[slice]:
    """Slices of rows that are looked at at once."""
    step = max(1, _AT_ONCE // max(row_size, 1))
    return (slice(a, min(a + step, n_rows)) for a in range(0, n_rows, step))


def as_float32(array: Array) -> Array:
    """The array itself, or rounded; what does not fit must have been refused before."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float32, copy=False)


def as_integers(value: object, what: str, where: str) -> Array:
    """An array of integers as int64.

    Raises:
        DataError: It holds anything else.
    """
    array = as_array(value, what, where)
    if array.dtype.kind not in "iu":
        raise DataError(f"{where}: {what} must be integers; found values of type {array.dtype}.")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise DataError(f"{where}: {what} must be row or task numbers; found {array.max()}.")
    return array.astype(np.int64, copy=False)


def _dense(value: Any, what: str, where: str) -> Any:
    """Values of classes that numpy does not read, or reads wrongly, as something that it does."""
    # A class that is not imported has no instances.
    torch, sparse = sys.modules.get("torch"), sys.modules.get("scipy.sparse")
    if torch is not None and isinstance(value, torch.Tensor):
        return _of_tensor(torch, value)
    if sparse is not None and sparse.issparse(value):
        if value.shape[0] * value.shape[-1] * 4 > _DENSE_BYTES:
            raise DataError(
                f"{where}: {what} are a sparse matrix {value.shape}, too large as an array. Give fewer columns, or "
                "`Rows` of a memory-mapped array."
            )
        return value.toarray()
    if isinstance(value, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(value).any()
        if masked and value.dtype.kind in _NUMBERS:
            return np.where(np.ma.getmaskarray(value), np.nan, value.data.astype(np.float64))
        return value.data
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series):
        return _of_frame(pandas, value, what, where)
    return value


def _of_tensor(torch: Any, tensor: Any) -> Any:
    plain = tensor.detach().cpu()
    if plain.layout is not torch.strided:
        plain = plain.to_dense()
    if plain.dtype == torch.bfloat16:
        plain = plain.float()
    return plain.resolve_conj().resolve_neg().numpy()


def _of_frame(pandas: Any, table: Any, what: str, where: str) -> Array:
    columns = list(table.items()) if table.ndim == 2 else [(table.name, table)]
    for name, column in columns:
        if not pandas.api.types.is_numeric_dtype(column.dtype) or pandas.api.types.is_complex_dtype(column.dtype):
            raise DataError(
                f"{where}: {what} must be real numbers; found column {name!r} of type {column.dtype}. Convert it in "
                "`load`."
            )
    found: Array = table.to_numpy()
    if found.dtype.kind == "O":  # columns of several types, or of a type with a missing value of its own
        whole = all(pandas.api.types.is_integer_dtype(column.dtype) for _, column in columns)
        if whole and not table.isna().to_numpy().any():
            return np.asarray(table.to_numpy(dtype=np.int64))
        return np.asarray(table.to_numpy(dtype=np.float64, na_value=np.nan))
    return found


def _named(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
