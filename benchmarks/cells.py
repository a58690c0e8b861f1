"""The cells that benchmarks go through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mtbench.errors import DataError
from mtbench.plan.grid import PlannedCell, plan_cells
from mtbench.plan.study import Study
from mtbench.plugins.host import Plugins


def supported_cells(
    plugins: Plugins, methods: Sequence[str], dataset: str, draws: int, root: Path
) -> list[PlannedCell]:
    """The cells of one data set whose methods support it; none, and a line that says why, where data are missing."""
    try:
        study = Study(methods=list(methods), datasets=[dataset], search=f"random:{draws}")
        return [cell for cell in plan_cells(study, plugins, root) if cell.skipped is None]
    except DataError as error:
        print(f"{dataset:18} left out: {error}")
        return []
