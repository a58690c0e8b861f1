"""What is known of each trial of a stack while it trains.

Shapes: K trials of the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from mtbench.tasks import Array
from mtbench.training.stacked import StackState

EpochListener = Callable[[int, int], None]
"""Called with (epoch, trials that still train)."""


@dataclass
class Progress:
    """What is known of each of the K trials, whether it still trains or not.

    Attributes:
        snapshot: The state at each trial's best epoch.
        best: Best validation headline so far.
        best_epoch: The epoch it was seen at.
        diverged: Whether its loss or parameters stopped being finite.
        seconds: Its share of the training time.
        history: By name, one array [K] per look.
        unjudged: Of those that diverged, which had no value of the validation metric though all was finite; None where
            that is not known.
    """

    snapshot: StackState
    best: Array
    best_epoch: Array
    diverged: Array
    seconds: Array
    history: dict[str, list[Array]] = field(default_factory=dict)
    unjudged: Array | None = None

    @classmethod
    def start(cls, initial: StackState) -> Progress:
        """Before the first epoch."""
        k = len(initial.theta)
        return cls(initial.clone(), np.full(k, np.nan), np.zeros(k, np.int64), np.zeros(k, bool), np.zeros(k))

    def note(self, name: str, trials: Array, values: Array | float) -> None:
        """Adds one look's values of some trials, [..., ] or [..., T], to the history."""
        row = np.full((len(self.best), *np.shape(values)[1:]), np.nan)
        row[trials] = values
        self.history.setdefault(name, []).append(row)

    def arrays(self) -> dict[str, Array]:
        """All but the snapshot, by name."""
        own = {"best": self.best, "best_epoch": self.best_epoch, "diverged": self.diverged, "seconds": self.seconds}
        return own | {f"history/{name}": np.stack(rows) for name, rows in self.history.items()}

    def restore(self, arrays: Mapping[str, Array], snapshot: Mapping[str, Tensor]) -> None:
        """Goes on from `arrays`, and the tensors of a snapshot."""
        self.snapshot = StackState.of(snapshot)
        self.best, self.best_epoch = arrays["best"], arrays["best_epoch"]
        self.diverged, self.seconds = arrays["diverged"], arrays["seconds"]
        self.history = {name[8:]: list(rows) for name, rows in arrays.items() if name.startswith("history/")}
