"""What the selected trials of a cell kept in their store: which trials these are, their files, their tasks' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mtbench.contracts.trials import StackResult
from mtbench.errors import StoreError, StudyError, UnknownName
from mtbench.plan.cells import TrialRow
from mtbench.report.entries import Entry, called, dataset_names, method_names
from mtbench.store.store import Store


def entry_named(found: Sequence[Entry], method: str, dataset: str) -> Entry:
    """The cell of that method on that data set, each by name or label.

    Raises:
        UnknownName: There is none, or there are several.
    """
    on_data = _named(found, dataset, "data set", "in this store", dataset_names)
    both = _named(on_data, method, "method", f"on {dataset} in this store", method_names)
    if len(both) > 1:
        listed = ", ".join(f"'{entry.method}' on '{entry.dataset}'" for entry in both)
        raise UnknownName(f"'{method}' on '{dataset}' could be any of {listed}. Name one as it stands here.")
    return both[0]


def _named(
    found: Sequence[Entry], name: str, kind: str, where: str, names: Callable[[Entry], tuple[str, str]]
) -> list[Entry]:
    """The cells that are called so, of which there is at least one."""
    if some := called(found, name, names):
        return some
    raise UnknownName.among(kind, name, {label for entry in found for label in names(entry)}, where=where)


def selected_in(entry: Entry, split: int | None, reason: str | None) -> list[TrialRow]:
    """The selected trials of a cell: the refits, where there are.

    Args:
        entry: The cell.
        split: Only those of this split; None for all.
        reason: Why the cell has no score, if it has none.

    Raises:
        StoreError: None was selected.
        StudyError: None was selected in that split.
    """
    trials = list(entry.selected.final)
    if not trials:
        raise StoreError(f"{entry.label} has no selected trial, so nothing learned to show: {reason}")
    splits = sorted({trial.candidate.split for trial in trials})
    if split is not None and split not in splits:
        listed = ", ".join(map(str, splits))
        raise StudyError(f"--split must be one in which {entry.label} has a selected trial ({listed}); found {split}.")
    return [trial for trial in trials if split in (None, trial.candidate.split)]


def results_of(store: Store, trials: Sequence[TrialRow]) -> Mapping[Path, StackResult]:
    """The stacks that trials are in, by path.

    Raises:
        StoreError: A file cannot be read, or is not what its summary says.
    """
    stacks = {path: store.read(path) for path in dict.fromkeys(trial.stack.path for trial in trials)}
    for trial in trials:
        if stacks[trial.stack.path].trials[trial.row].id != trial.candidate.id:
            name = trial.stack.path.name
            raise StoreError(f"{name}: its summary is not that of its columns; `mtbench store verify` says more.")
    return stacks


def task_names(trials: Sequence[TrialRow]) -> tuple[str, ...]:
    """The tasks' names; numbers where they differ between splits."""
    named = {tuple(map(_printable, trial.stack.provenance.get("task_names", ()))) for trial in trials}
    longest = max(named, key=len)
    return longest if len(named) == 1 else tuple(map(str, range(len(longest))))


def _printable(name: object) -> str:
    """A name as it can be shown: a foreign store may hold anything."""
    return "".join(c if c.isprintable() else " " for c in str(name))
