"""How the selected trials of a method with a weighting weighed their tasks, epoch by epoch, averaged over splits.

Shapes: N trials, E epochs, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtbench.contracts.trials import WITH, StackResult
from mtbench.errors import StoreError, StudyError
from mtbench.plan.cells import TrialRow
from mtbench.report.courses import WeightCourses, mean_of_known
from mtbench.report.entries import Entry
from mtbench.report.kept import entry_named, results_of, selected_in, task_names
from mtbench.report.reading import read
from mtbench.store.store import Store
from mtbench.tasks import Array

_EPOCH = "epoch"
_NAMES = ("weights", "gradient_cosine", "gradient_conflicts")


@dataclass(frozen=True, eq=False)
class _Kept:
    """What one trial's history says.

    Attributes:
        split: Its split.
        best_epoch: Its best epoch.
        epochs: int64, those at which it was looked at while it trained.
        values: By name, a row for each of these epochs.
    """

    split: int
    best_epoch: int
    epochs: Array
    values: dict[str, Array]


def task_weights(
    directory: Path, method: str, dataset: str, split: int | None = None, rule: str | None = None
) -> WeightCourses:
    """The courses of the task weights in the trials of a cell which a report selects: the refits, where there are.

    Args:
        directory: The store.
        method: Name or label of a method with a weighting.
        dataset: Name or label of a data set.
        split: Only this split; None for the mean over all.
        rule: Name of the selection rule; None for the one that the store's runs name.

    Raises:
        StoreError: There is no store, no selected trial, or no history was kept.
        StudyError: The method has no weighting, nothing was selected in that split, or trials have different tasks.
        UnknownName: There is no such method, data set or rule.
    """
    found, board = read(directory, rule)
    entry = entry_named(found, method, dataset)
    if entry.weighting is None:
        raise StudyError(_unweighted(entry, found))
    row = next(row for row in board.rows if (row.method, row.dataset) == (entry.method, entry.dataset))
    trials = selected_in(entry, split, row.reason)
    results = results_of(Store.open(directory), trials)
    kept = [one for trial in trials if (one := _kept(trial, results[trial.stack.path])) is not None]
    if not kept:
        raise StoreError(
            f"{entry.label}: no history of its selected trials is in the store, which `mtbench store slim` drops of "
            "trials that were not selected at its time. A store's trials are not trained again for it: run into a new "
            "store."
        )
    return _averaged(entry, kept, len(trials), task_names(trials), row.selection)


def _unweighted(entry: Entry, found: Sequence[Entry]) -> str:
    known = [e.method for e in found if e.weighting is not None and e.dataset == entry.dataset]
    where = f"on {entry.dataset} in this store"
    if known:
        return f"METHOD must have a weighting ({where}: {', '.join(known)}); found '{entry.method}', which has none."
    return (
        f"METHOD must have a weighting, and none {where} has; found '{entry.method}'. "
        f"`mtbench run --methods {entry.cell.method}{WITH}NAME` trains it with one."
    )


def _kept(trial: TrialRow, result: StackResult) -> _Kept | None:
    """A trial's history; None where it has none.

    Raises:
        StoreError: Its arrays do not fit each other.
    """
    history = {name: rows for name, rows in result.history.items() if name in (_EPOCH, *_NAMES)}
    if not any(name in history for name in _NAMES):
        return None
    axes = [3 if name == "weights" else 2 for name in history]
    looks = {rows.shape[:2] for rows in history.values()}
    if _EPOCH not in history or len(looks) > 1 or [rows.ndim for rows in history.values()] != axes:
        listed = ", ".join(f"'{name}' {list(rows.shape)}" for name, rows in history.items())
        raise StoreError(
            f"{trial.stack.path.name}: histories must have a value of each trial for each 'epoch'; found {listed}."
        )
    epochs = history.pop(_EPOCH)[trial.row]
    trained = np.isfinite(epochs)
    values = {name: np.asarray(rows[trial.row][trained], float) for name, rows in history.items()}
    if not any(np.isfinite(rows).any() for rows in values.values()):
        return None
    return _Kept(trial.candidate.split, trial.candidate.best_epoch, epochs[trained].astype(np.int64), values)


def _averaged(
    entry: Entry, kept: Sequence[_Kept], n_selected: int, names: tuple[str, ...], selection: str
) -> WeightCourses:
    """The mean over splits of the mean over the seeds of each."""
    sizes = sorted({one.values["weights"].shape[1] for one in kept if "weights" in one.values})
    if len(sizes) > 1:
        listed = " and ".join(map(str, sizes))
        raise StudyError(
            f"{entry.label}: trials weigh {listed} tasks, of which there is no mean; `--split N` shows one split."
        )
    epochs = np.unique(np.concatenate([one.epochs for one in kept]))
    n_tasks = sizes[0] if sizes else 0
    means = {name: _mean(name, kept, epochs) for name in _NAMES if any(name in one.values for one in kept)}
    short = f"Weights were kept of {len(kept)} of the {n_selected} selected trials; the mean is over these."
    assert entry.weighting is not None
    return WeightCourses(
        method=entry.method,
        dataset=entry.dataset,
        weighting=entry.weighting,
        tasks=names if len(names) == n_tasks else tuple(map(str, range(n_tasks))),
        epochs=epochs,
        weights=means.get("weights"),
        cosine=means.get("gradient_cosine"),
        conflicts=means.get("gradient_conflicts"),
        n_trials=np.sum([np.isin(epochs, one.epochs) for one in kept], 0),
        best_epochs=tuple(sorted(one.best_epoch for one in kept)),
        splits=tuple(sorted({one.split for one in kept})),
        refit=entry.selected.refit,
        selection=selection,
        warnings=(short,) if len(kept) < n_selected else (),
    )


def _mean(name: str, kept: Sequence[_Kept], epochs: Array) -> Array:
    """Of one history, [E] or [E, T], at each epoch over the trials that still trained."""
    by_split: dict[int, list[Array]] = {}
    for one in kept:
        if (values := one.values.get(name)) is not None:
            rows = np.full((len(epochs), *values.shape[1:]), np.nan)
            rows[np.searchsorted(epochs, one.epochs)] = values
            by_split.setdefault(one.split, []).append(rows)
    return mean_of_known(np.stack([mean_of_known(np.stack(rows)) for rows in by_split.values()]))
