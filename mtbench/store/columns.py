"""A stack's result as flat columns, and back.

R trials come first in every array. Columns are named by their path in the file, e.g. "metrics/test/rmse".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from mtbench.contracts.trials import StackResult, Status, Trial
from mtbench.errors import StoreError
from mtbench.store.hdf5 import Column
from mtbench.store.promises import check_provenance
from mtbench.tasks import Array

_PER_TRIAL = ("best_epoch", "train_seconds", "n_parameters", "residual")


def to_columns(result: StackResult) -> dict[str, Column]:
    """The columns of a stack's result.

    Raises:
        StoreError: The result is not that of R trials of one cell.
    """
    trials = list(result.trials)
    if not trials or any(trial.cell.key != trials[0].cell.key for trial in trials):
        raise StoreError("A stack must hold trials of one cell, at least one; found none, or several cells.")
    columns: dict[str, Column] = {
        "trials/id": [trial.id for trial in trials],
        "trials/identity": [trial.identity for trial in trials],
        "trials/status": [str(status) for status in result.status],
        "trials/reason": [_clean(reason) for reason in result.reason],
        "trials/split": np.array([trial.split for trial in trials], "<i8"),
        "trials/seed": np.array([trial.seed for trial in trials], "<i8"),
        "trials/phase": [trial.phase for trial in trials],
        "trials/epochs": np.array([-1 if trial.epochs is None else trial.epochs for trial in trials], "<i8"),
        **_params(trials),
    }
    for part, metrics in result.metrics.items():
        columns |= {_path("metrics", part, name): _plain(values) for name, values in metrics.items()}
    columns |= {_path("history", name): _plain(values) for name, values in result.history.items()}
    for name in _PER_TRIAL:
        values = getattr(result, name)
        if values is not None:
            columns[name] = _plain(values)
    columns |= {_path("predictions", part): _plain(values) for part, values in result.predictions.items()}
    columns |= {_path("learned", name): _plain(values) for name, values in result.learned.items()}
    columns["provenance"] = json.dumps(result.provenance, default=_json_value)
    columns["log"] = _clean(result.log)
    _check_rows(columns, len(trials))
    return dict(sorted(columns.items()))


def from_columns(columns: Mapping[str, Column]) -> StackResult:
    """The result whose columns these are.

    Raises:
        StoreError: They are not the columns of a stack.
    """
    try:
        trials = _trials(_texts(columns, "trials/identity"))
        statuses = [Status(status) for status in _texts(columns, "trials/status")]
        result = StackResult(trials, statuses, _texts(columns, "trials/reason"))
        for path, column in columns.items():
            _place(result, path.split("/"), column)
        result.provenance = json.loads(str(columns["provenance"]))
        check_provenance(result.provenance)
        result.log = str(columns["log"])
    except (KeyError, ValueError, RecursionError, StoreError) as error:
        raise StoreError(f"These are not the columns of a stack: {error}") from None
    _check_rows(columns, len(trials))
    return result


def _place(result: StackResult, path: list[str], column: Column) -> None:
    """Puts an array where it belongs in a result."""
    if not isinstance(column, np.ndarray):
        return
    names = [unquote(name) for name in path[1:]]
    match path[0], len(names):
        case "metrics", 2:
            result.metrics.setdefault(names[0], {})[names[1]] = column
        case ("history" | "predictions" | "learned") as field, 1:
            getattr(result, field)[names[0]] = column
        case field, 0 if field in _PER_TRIAL:
            setattr(result, field, column)


def _trials(identities: Sequence[str]) -> list[Trial]:
    trials: list[Trial] = []
    for identity in identities:
        trials.append(Trial.from_identity(identity, trials[-1].cell if trials else None))
    return trials


def _texts(columns: Mapping[str, Column], path: str) -> list[str]:
    column = columns[path]
    if not isinstance(column, list):
        raise ValueError(f"'{path}' must hold one text per trial.")
    return column


def _params(trials: Sequence[Trial]) -> dict[str, Column]:
    """One column per hyperparameter, for readers: numbers where all its values are, else texts."""
    names = list(trials[0].params)
    if any(set(trial.params) != set(names) for trial in trials):
        raise StoreError("Trials of one stack must have the same hyperparameters; found different ones.")
    columns: dict[str, Column] = {}
    for name in names:
        values = [trial.params[name] for trial in trials]
        kinds = {type(value) for value in values}
        if kinds == {bool}:
            columns[_path("params", name)] = np.array(values, "|u1")
        elif kinds == {int} and all(abs(value) < 2**63 for value in values):  # type: ignore[arg-type]
            columns[_path("params", name)] = np.array(values, "<i8")
        elif kinds <= {int, float}:
            columns[_path("params", name)] = np.array(values, "<f8")
        else:
            columns[_path("params", name)] = [_clean(str(value)) for value in values]
    return columns


def _check_rows(columns: Mapping[str, Column], n_trials: int) -> None:
    for path, column in columns.items():
        rows = len(column) if isinstance(column, list) or np.ndim(column) else None
        if rows != n_trials and path not in ("provenance", "log", "summary"):
            raise StoreError(f"'{path}' must have a row for each of the {n_trials} trials; found {rows}.")


def _path(*names: str) -> str:
    if any(name in ("", ".") for name in names):
        raise StoreError(f"Names of metrics, matrices and the like must not be empty or '.'; found {names}.")
    # Names are the plugins' own: a slash in one must not become a group.
    return "/".join(quote(name, safe=" @()[],:;+=^~!$'") for name in names)


def _plain(values: Array) -> Array:
    """Numbers in little-endian order, so that files do not depend on the machine."""
    array = np.asarray(values)
    if array.dtype == np.bool_:
        array = array.astype("|u1")
    if array.dtype.kind not in "iuf":
        raise StoreError(f"Arrays in a store must hold numbers; found {array.dtype}.")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)


def _clean(text: str) -> str:
    """Text that fits a field of fixed length: UTF-8 without NUL."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _json_value(value: Any) -> Any:
    """What JSON has no word for, in provenance: numpy's numbers and arrays as Python's, the rest as text."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
