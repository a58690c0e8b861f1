"""Reading a whole store for a report: the small columns of every stack, without predictions or histories."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from mtbench.contracts.trials import CONTENT, FINAL
from mtbench.errors import StoreError
from mtbench.store.files import Source, path_of
from mtbench.store.store import Store
from mtbench.store.summary import read_named
from mtbench.store.verify import Checked
from mtbench.tasks import Array
from mtbench.tasks.fingerprint import Fingerprint


@dataclass(eq=False)
class StackColumns:
    """What reports read of one file, column by column. Each has the R trials first.

    Attributes:
        path: The file; one in a pack is named as if the pack were a folder.
        cell_key: `Cell.key` of the cell; equal for stacks of one cell.
        cell: The same, parsed; shared between stacks, not to be changed.
        ids: Trial ids, object [R].
        status: How each ended, object [R] of str.
        reason: Why, for those that did not finish, object [R] of str.
        phase: Of `mtbench.contracts.trials.PHASES`, object [R].
        split: int64 [R].
        seed: int64 [R].
        epochs: int64 [R], -1 in a search.
        params: By hyperparameter: int64, float64, uint8 (switches) or object [R].
        metrics: By part, then metric: float64 [R, T], or [R] for joint metrics.
        best_epoch: int64 [R], or None where nothing was trained.
        train_seconds: float64 [R], or None.
        n_parameters: int64 [R], or None.
        residual: float64 [R], or None.
        provenance: Versions, device, times.
        counts: bool [R], False where another record stands for the same trial: a later try, or another stack.
    """

    path: Path
    cell_key: str
    cell: Mapping[str, Any]
    ids: Array
    status: Array
    reason: Array
    phase: Array
    split: Array
    seed: Array
    epochs: Array
    params: dict[str, Array]
    metrics: dict[str, dict[str, Array]]
    best_epoch: Array | None
    train_seconds: Array | None
    n_parameters: Array | None
    residual: Array | None
    provenance: dict[str, Any]
    counts: Array = field(init=False)

    @cached_property
    def content(self) -> dict[int, Fingerprint]:
        """By split, the fingerprint of the problem that its trials were trained on; empty where nobody knows."""
        recorded = self.provenance.get(CONTENT)
        pairs = recorded.items() if isinstance(recorded, dict) else ()
        found = {int(split): Fingerprint.from_record(record) for split, record in pairs if split.isdecimal()}
        return {split: content for split, content in found.items() if content is not None}

    def __post_init__(self) -> None:
        self.counts = np.ones(len(self.ids), bool)


@dataclass(frozen=True, eq=False)
class Scan:
    """What a scan found.

    Attributes:
        stacks: In the order of their files' names, whether packed or not.
        unreadable: Files that could not be read, with the reason: to be counted aloud.
    """

    stacks: list[StackColumns]
    unreadable: list[Checked]

    def without(self, faults: Mapping[Path, str]) -> Scan:
        """The same where some files, by path, count as unreadable for a reason."""
        stacks = [replace(stack) for stack in self.stacks if stack.path not in faults]
        _settle(stacks)
        return Scan(stacks, [*self.unreadable, *(Checked(path, reason) for path, reason in faults.items())])


def scan(store: Store, known: Iterable[StackColumns] = ()) -> Scan:
    """Reads the report columns of all stacks.

    Args:
        store: The store.
        known: What an earlier scan read; files never change, so these are not read again.
    """
    read = {stack.path: stack for stack in known}

    def look(source: Source) -> StackColumns:
        # A copy, because which trials count depends on the files that came since.
        known_stack = read.get(path_of(source))
        return _stack(source) if known_stack is None else replace(known_stack)

    stacks, unreadable = [], []
    for path, found in store.files.each(look):
        if isinstance(found, StackColumns):
            stacks.append(found)
        else:
            unreadable.append(Checked(path, str(found)))
    stacks.sort(key=lambda stack: stack.path.name)
    _settle(stacks)
    return Scan(stacks, unreadable)


def _stack(source: Source) -> StackColumns:
    path = path_of(source)
    head, arrays = read_named(source)
    try:
        texts = {name: np.array(column, object) for name, column in head["texts"].items()}
        columns = {**texts, **arrays}
        metrics: dict[str, dict[str, Array]] = {}
        for name in arrays:
            if name.startswith("metrics/"):
                _, part, metric = map(unquote, name.split("/"))
                metrics.setdefault(part, {})[metric] = arrays[name]
        return StackColumns(
            path=path,
            cell_key=head["cell"],
            cell=_parsed(head["cell"]),
            ids=texts["trials/id"],
            params={unquote(name[7:]): column for name, column in columns.items() if name.startswith("params/")},
            metrics=metrics,
            provenance=json.loads(head["provenance"]),
            status=texts["trials/status"],
            reason=texts["trials/reason"],
            phase=texts["trials/phase"],
            split=arrays["trials/split"],
            seed=arrays["trials/seed"],
            epochs=arrays["trials/epochs"],
            best_epoch=arrays.get("best_epoch"),
            train_seconds=arrays.get("train_seconds"),
            n_parameters=arrays.get("n_parameters"),
            residual=arrays.get("residual"),
        )
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise StoreError(f"{path.name}: its summary lacks something a stack has: {error!r}") from None


@functools.lru_cache(maxsize=1024)
def _parsed(cell_key: str) -> Mapping[str, Any]:
    parsed = json.loads(cell_key)
    return {name: parsed[name] for name in ("method", "dataset", *parsed)}


def _settle(stacks: list[StackColumns]) -> None:
    """Lets one record of each trial count: a final one before others, a finished stack's before a failed try's.

    Of failed tries the last counts. Ties between stacks are decided by name, so that a report does not depend on the
    order of directories.
    """
    best: dict[str, tuple[tuple[bool, bool, int, int], StackColumns, int]] = {}
    for order, stack in enumerate(stacks):
        attempt = stack.path.stem.partition(".failed-")[2]
        tries = int(attempt) if attempt.isdecimal() else 0
        for row, (trial, status) in enumerate(zip(stack.ids, stack.status, strict=True)):
            rank = (status in FINAL, not tries, tries, order)
            other = best.get(trial)
            if other is None:
                best[trial] = rank, stack, row
            elif other[0] >= rank:
                stack.counts[row] = False
            else:
                other[1].counts[other[2]] = False
                best[trial] = rank, stack, row
