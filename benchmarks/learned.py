"""What the trials of a store learned, for the benchmarks that look at more than `mtbench show-transfer` draws."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mtbench.store import Store
from mtbench.tasks import Array


def learned_of(path: Path, trials: pd.DataFrame) -> dict[str, Mapping[str, Array]]:
    """The matrices that finished trials kept, by their id and name; every stack is read once.

    Args:
        path: The store.
        trials: Rows of `mtbench.load(path).trials`.
    """
    store, found = Store.open(path), {}
    for file, some in trials.groupby("file"):
        stack = store.read_stack(Path(str(file)).stem)
        wanted = set(some["id"])
        for r, trial in enumerate(stack.trials):
            if trial.id in wanted:
                found[trial.id] = stack.learned_by(r)
    return found
