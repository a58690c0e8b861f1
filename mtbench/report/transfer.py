"""What methods learned besides their predictors: the matrices that the selected trials kept, averaged over splits.

Shapes: T tasks; a matrix has M rows and N columns, which may be tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mtbench.contracts.trials import StackResult
from mtbench.errors import StoreError, StudyError, UnknownName
from mtbench.plan.cells import TrialRow
from mtbench.report.entries import Entry
from mtbench.report.kept import entry_named, results_of, selected_in, task_names
from mtbench.report.matrices import TRANSFER, LearnedMatrix, axes_of, transfer_directions
from mtbench.report.reading import read
from mtbench.store.store import Store
from mtbench.tasks import Array

_Kept = tuple[int, Mapping[str, Array]]
"""The split of a trial, and its matrices by name."""


def learned_matrix(
    directory: Path,
    method: str,
    dataset: str,
    matrix: str | None = None,
    split: int | None = None,
    signed: bool = False,
    rule: str | None = None,
) -> LearnedMatrix:
    """The matrix that the trials of a cell learned which a report selects: the refits, where there are.

    Args:
        directory: The store.
        method: Name or label of a method.
        dataset: Name or label of a data set.
        matrix: Name of the matrix; None for "transfer" or, without one, the only matrix between tasks, or of tasks.
        split: Only this split; None for the mean over all.
        signed: Keep signs in the mean.
        rule: Name of the selection rule; None for the one that the store's runs name.

    Raises:
        StoreError: There is no store, no selected trial, or no matrix was kept.
        StudyError: Nothing was selected in that split, or matrices of different shapes cannot be averaged.
        UnknownName: There is no such method, data set, matrix or rule.
    """
    found, board = read(directory, rule)
    entry = entry_named(found, method, dataset)
    row = next(row for row in board.rows if (row.method, row.dataset) == (entry.method, entry.dataset))
    trials = selected_in(entry, split, row.reason)
    kept = _kept(Store.open(directory), entry, trials)
    names = task_names(trials)
    name = _name(entry, matrix, kept, names)
    return _averaged(entry, name, kept, names, signed, row.selection)


def _kept(store: Store, entry: Entry, trials: Sequence[TrialRow]) -> list[_Kept]:
    """What each trial kept; a trial that kept nothing has an empty mapping.

    Raises:
        StoreError: None kept anything, or a file cannot be read.
    """
    stacks = results_of(store, trials)
    kept: list[_Kept] = [(t.candidate.split, _matrices(stacks[t.stack.path], t.row)) for t in trials]
    if any(learned for _, learned in kept):
        return kept
    dataset, overrides = entry.cell.dataset, entry.cell.provenance.get("recipe_overrides", {})
    if overrides.get("keep") in ("learned", "all") or any(result.predictions for result in stacks.values()):
        raise StoreError(f"{entry.label}: this method learns no matrix that can be shown.")
    raise StoreError(
        f"{entry.label}: no matrices of its selected trials were kept. The recipe's field 'keep' decides that, and a "
        f"store's trials are not trained again for it: run into a new store with --recipe {dataset}.keep=learned."
    )


def _matrices(result: StackResult, row: int) -> dict[str, Array]:
    """A trial's learned matrices; arrays of three axes as matrices "name.0", "name.1" and so on."""
    found: dict[str, Array] = {}
    for name, array in result.learned_by(row).items():
        if array.ndim == 2:
            found[name] = array
        elif array.ndim == 3:
            found |= {f"{name}.{i}": matrix for i, matrix in enumerate(array)}
    return {name: matrix for name, matrix in found.items() if matrix.size}


def _name(entry: Entry, wanted: str | None, kept: Sequence[_Kept], names: tuple[str, ...]) -> str:
    """The matrix to show."""
    shapes = {name: matrix.shape for _, learned in reversed(kept) for name, matrix in learned.items()}
    name = wanted or (TRANSFER if TRANSFER in shapes else _only_one(shapes, names))
    if name not in shapes:
        hint = f"`--matrix NAME` shows one of {', '.join(_listed(shapes))}."
        raise UnknownName.among("matrix", name, shapes, hint, where=f"of {entry.label}")
    return name


def _only_one(shapes: Mapping[str, Sequence[int]], names: tuple[str, ...]) -> str:
    """The only matrix between tasks or, without any, the only one whose rows are tasks; else "transfer"."""
    axes = {name: axes_of(name, shape, names) for name, shape in shapes.items()}
    of_tasks = [name for name, (rows, _) in axes.items() if rows.tasks]
    between = [name for name in of_tasks if axes[name][1].tasks]
    found = between or of_tasks
    return found[0] if len(found) == 1 else TRANSFER


def _listed(shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """Names and shapes; the matrices of one array together."""
    arrays: dict[tuple[str, Sequence[int]], list[str]] = {}
    for name, shape in shapes.items():
        arrays.setdefault((name.partition(".")[0], shape), []).append(name)
    return [
        f"{names[0] if len(names) == 1 else f'{names[0]} to {names[-1]}'} {list(shape)}"
        for (_, shape), names in arrays.items()
    ]


def _averaged(
    entry: Entry, name: str, kept: Sequence[_Kept], names: tuple[str, ...], signed: bool, selection: str
) -> LearnedMatrix:
    """The mean of one matrix over the trials that kept it."""
    held = [(split, np.asarray(learned[name], float)) for split, learned in kept if name in learned]
    shapes = sorted({values.shape for _, values in held})
    if len(shapes) > 1:
        listed = " and ".join(str(list(shape)) for shape in shapes)
        raise StudyError(f"'{name}' has shapes {listed}, of which there is no mean; `--split N` shows that of a split.")
    rows, columns = axes_of(name, shapes[0], names)
    between = rows.tasks and columns.tasks
    sizes = _mean([(split, np.abs(values)) for split, values in held])
    return LearnedMatrix(
        method=entry.method,
        dataset=entry.dataset,
        name=name,
        values=_mean(held) if signed else sizes,
        rows=rows,
        columns=columns,
        signed=signed,
        splits=tuple(sorted({split for split, _ in held})),
        n_trials=len(held),
        refit=entry.selected.refit,
        selection=selection,
        directions=transfer_directions(sizes) if name == TRANSFER and between and len(sizes) > 1 else None,
        warnings=tuple(_warnings(name, len(held), len(kept), between)),
    )


def _mean(matrices: Sequence[tuple[int, Array]]) -> Array:
    """Of (split, matrix) pairs, the mean over splits of the mean over seeds [M, N]."""
    by_split: dict[int, list[Array]] = {}
    for split, matrix in matrices:
        by_split.setdefault(split, []).append(matrix)
    means: Array = np.mean([np.mean(some, 0) for some in by_split.values()], 0)
    return means


def _warnings(name: str, n_held: int, n_selected: int, between_tasks: bool) -> list[str]:
    found = []
    if n_held < n_selected:
        found.append(f"'{name}' was kept of {n_held} of the {n_selected} selected trials; the mean is over these.")
    if n_held > 1 and not between_tasks:
        found.append(
            f"'{name}' has an axis that is not of tasks, and units of one trial need not be those of another; "
            "`--split N` shows one split."
        )
    return found
