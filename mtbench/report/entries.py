"""Cells made ready for a table: labelled, and with a selection made in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mtbench.report.cells import CellResults
from mtbench.report.labels import labels
from mtbench.report.selected import Selected, select


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


def entries(cells: Sequence[CellResults], rule: str) -> list[Entry]:
    """Labels all cells and selects in each.

    Raises:
        UnknownName: There is no such rule.
    """
    named = labels(cells)
    return [Entry(*named[cell.key], cell, select(cell, rule)) for cell in cells]
