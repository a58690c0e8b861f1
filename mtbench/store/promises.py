"""What the summary of a stack's file must be for reports and runs to use it: checked before anything else looks at it.

Summaries may come from anybody, and their hashes say only that nothing changed since.

Shapes: R trials, T tasks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mtbench.contracts.trials import FINAL, PHASES, Status, stack_id
from mtbench.errors import StoreError
from mtbench.store.pack_format import NAME
from mtbench.tasks import Array

_TEXTS = ("trials/id", "trials/status", "trials/reason", "trials/phase")
_WHOLE = ("trials/split", "trials/seed", "trials/epochs")
_KINDS = {"best_epoch": "iu", "train_seconds": "f", "n_parameters": "iu", "residual": "f"}
_CELL = ("method", "method_version", "distribution", "dataset", "dataset_version", "content")
_PROVENANCE: Mapping[str, type] = {
    "report_metric": str, "selection_metric": str, "also_report": list, "metrics": dict, "task_names": list,
    "metric_by_kind": dict, "weights": list, "task_weights": list, "recipe_overrides": dict, "options_default": dict,
}  # fmt: skip


def check_summary(head: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Makes sure of all that reports take for granted.

    Args:
        head: With "cell", "provenance" and "texts".
        arrays: By path.

    Raises:
        StoreError: Something does not hold.
    """
    texts = head["texts"]
    _require(isinstance(texts, dict), "its texts must be columns by path", texts)
    for path, column in texts.items():
        good = isinstance(column, list) and all(isinstance(text, str) for text in column)
        _require(good, "each text column of a summary must be a list of texts", path)
    rows = {len(column) for column in texts.values()} | {len(array) if array.ndim else -1 for array in arrays.values()}
    _require(len(rows) == 1 and min(rows) > 0, "each column of a summary must have a row per trial", sorted(rows))
    lacking = [path for path in (*_TEXTS, *_WHOLE) if path not in (texts if path in _TEXTS else arrays)]
    _require(not lacking, "a summary must have the columns of its trials", f"none at {', '.join(lacking)}")
    _check_columns(texts, arrays)
    check_cell(json.loads(head["cell"]))
    check_provenance(json.loads(head["provenance"]))


def check_name(name: str, ids: Sequence[str], statuses: Sequence[str]) -> None:
    """Makes sure that a stack's file is named by what it holds.

    Raises:
        StoreError: It is not.
    """
    if not NAME.fullmatch(name):
        raise StoreError(f"{name}: it must be named after its stack.")
    stack, _, try_ = name.removesuffix(".h5").partition(".")
    found = stack_id(ids)
    if stack != found:
        raise StoreError(f"{name}: it must be named after its stack; that is {found}.")
    if try_.startswith("failed-") == all(status in FINAL for status in statuses):
        raise StoreError(
            f"{name}: only a stack with a trial that is to be tried again is named 'failed'; found statuses "
            f"{', '.join(sorted(set(statuses)))}."
        )


def check_cell(cell: Any) -> None:
    """Makes sure that something is the identity of a cell, as far as reports look at it.

    Raises:
        StoreError: It is not.
    """
    _require(isinstance(cell, dict), "its cell must be an object", cell)
    for field in _CELL:
        _require(isinstance(cell.get(field), str), f"the '{field}' of its cell must be a text", cell.get(field))
    for field in ("options", "recipe"):
        _require(isinstance(cell.get(field), dict), f"the '{field}' of its cell must be an object", cell.get(field))
    for field in ("role", "base"):
        _require(isinstance(cell.get(field, ""), str), f"the '{field}' of its cell must be a text", cell.get(field))


def check_provenance(provenance: Any) -> None:
    """Makes sure that a provenance says what reports read of it, if anything, in the form they expect.

    Raises:
        StoreError: It does not.
    """
    _require(isinstance(provenance, dict), "its provenance must be an object", provenance)
    for field, kind in _PROVENANCE.items():
        found = provenance.get(field, kind())
        _require(isinstance(found, kind), f"the '{field}' of its provenance must be of type {kind.__name__}", found)
    for field in ("also_report", "task_names", "metric_by_kind", "weights"):
        found = provenance.get(field, [])
        names = list(found.values()) if isinstance(found, dict) else found
        _require(all(isinstance(name, str) for name in names), f"the '{field}' of its provenance must be texts", names)
    numbers = provenance.get("task_weights", [])
    good = all(type(number) in (int, float) and 0 <= number < math.inf for number in numbers)
    _require(good, "the 'task_weights' of its provenance must be numbers from 0", numbers)
    metrics = provenance.get("metrics", {})
    good = all(isinstance(about, dict) for about in metrics.values())
    _require(good, "the 'metrics' of its provenance must be objects", metrics)


def _check_columns(texts: Mapping[str, Sequence[str]], arrays: Mapping[str, Array]) -> None:
    known = {str(status) for status in Status}
    strange = next((status for status in texts["trials/status"] if status not in known), None)
    _require(strange is None, f"the status of a trial must be one of {', '.join(sorted(known))}", strange)
    phase = next((phase for phase in texts["trials/phase"] if phase not in PHASES), None)
    _require(phase is None, f"the phase of a trial must be one of {', '.join(PHASES)}", phase)
    for path, array in arrays.items():
        root = path.split("/")[0]
        kinds = "iu" if path in _WHOLE else _KINDS.get(root, "f" if root == "metrics" else "iuf")
        found = f"{path}, {array.dtype} {list(array.shape)}"
        axes = (1, 2) if root == "metrics" and path.count("/") == 2 else (1,) if root != "metrics" else ()
        good = array.ndim in axes
        _require(good and array.dtype.kind in kinds, "each column must have the type and shape of its kind", found)


def _require(holds: bool, must: str, found: object) -> None:
    if not holds:
        text = " ".join(str(found).split())
        raise StoreError(f"{must}; found {text[:80]}.")
