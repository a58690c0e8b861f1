"""Pretrained backbones: trained once per split and seed, from which the other methods of a data set start.

A base is a cell of its own, trained and stored like any; cells that start from it wait until it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mtbench.contracts.trials import Status, Trial
from mtbench.errors import StoreError
from mtbench.plan.grid import PlannedCell
from mtbench.store import Store, scan
from mtbench.tasks import Array

Weights = dict[tuple[int, int], dict[str, Array]]
"""By split and seed, a backbone's parameters and buffers by name."""


class PretrainedBackbones:
    """The pretrained backbones of one run.

    Args:
        store: Where they are kept.
        cells: The run's grid. Those of its cells that start from a base wait for it from the beginning, since a base
            that an earlier run has trained is ready as soon as it is asked for.
    """

    def __init__(self, store: Store, cells: Iterable[PlannedCell]) -> None:
        self._store = store
        self._waiting: dict[str, list[PlannedCell]] = {}  # by key of the base's cell
        self._weights: dict[str, Weights] = {}
        for planned in cells:
            if planned.base is not None and planned.skipped is None:
                self._waiting.setdefault(planned.base.cell.key, []).append(planned)

    def asks(self, planned: PlannedCell) -> bool:
        """Whether a cell is the first of those that wait for its base, at whose turn the base is trained."""
        return planned.base is not None and planned is self._waiting[planned.base.cell.key][0]

    def ready(self, base: PlannedCell) -> list[PlannedCell]:
        """The cells that wait for a base, which is trained now as far as it can be."""
        self._weights[base.cell.key] = self._read(base)
        return self._waiting[base.cell.key]

    def of(self, planned: PlannedCell, trials: Sequence[Trial]) -> Weights:
        """What the trials of a cell start from; empty where they start from nothing."""
        if planned.base is None:
            return {}
        known = self._weights[planned.base.cell.key]
        return {place: known[place] for place in sorted({(trial.split, trial.seed) for trial in trials})}

    def missing(self, planned: PlannedCell, trials: Sequence[Trial]) -> str | None:
        """Why some of these trials cannot start, or None."""
        if planned.base is None:
            return None
        known = self._weights[planned.base.cell.key]
        lacking = sorted({(trial.split, trial.seed) for trial in trials} - known.keys())
        if not lacking:
            return None
        split, seed = lacking[0]
        return (
            f"It starts from {planned.base.cell.label}, whose trial of split {split} and seed {seed} did not finish. "
            "The same command tries it again."
        )

    def _read(self, base: PlannedCell) -> Weights:
        """The weights in the store. A stack that cannot be read counts as missing."""
        found: Weights = {}
        for stack in scan(self._store).stacks:
            if stack.cell_key != base.cell.key or Status.FINISHED not in set(stack.status):
                continue
            try:
                result = self._store.read(stack.path)
            except StoreError:
                continue
            for row, (trial, status) in enumerate(zip(result.trials, result.status, strict=True)):
                if status is Status.FINISHED and (learned := result.learned_by(row)):
                    found[trial.split, trial.seed] = learned
        return found
