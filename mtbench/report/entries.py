"""Cells made ready for a table: labelled, and with a selection made in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mtbench.contracts.trials import WITH
from mtbench.plan.cells import CellResults
from mtbench.plan.selected import Selected, select
from mtbench.report.labels import labels


@dataclass(frozen=True, eq=False)
class Entry:
    """A cell with its labels and what was selected in it."""

    method: str
    dataset: str
    cell: CellResults
    selected: Selected

    @property
    def label(self) -> str:
        """For people: method x data set."""
        return f"{self.method} x {self.dataset}"

    @property
    def weighting(self) -> str | None:
        """Name of the weighting of its method; None for a method without one."""
        return self.cell.method.partition(WITH)[2] or None


def entries(cells: Sequence[CellResults], rule: str) -> list[Entry]:
    """Labels all cells and selects in each.

    Raises:
        UnknownName: There is no such rule.
    """
    named = labels(cells)
    return [Entry(*named[cell.key], cell, select(cell, rule)) for cell in cells]


def method_names(entry: Entry) -> tuple[str, str]:
    """What the method of a cell may be called by: its label, and its name."""
    return entry.method, entry.cell.method


def dataset_names(entry: Entry) -> tuple[str, str]:
    """Likewise of the data set."""
    return entry.dataset, entry.cell.dataset


def called(found: Sequence[Entry], name: str, names: Callable[[Entry], tuple[str, str]]) -> list[Entry]:
    """Cells with that label, else all with that name.

    Args:
        found: The cells.
        name: What the user says.
        names: `method_names` or `dataset_names`.
    """
    some = ([entry for entry in found if names(entry)[which] == name] for which in (0, 1))
    return next(filter(None, some), [])
