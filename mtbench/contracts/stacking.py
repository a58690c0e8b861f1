"""Which trials can share a stack, and how a group of them is cut into stacks of a size."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from mtbench.contracts.trials import Stack, Trial

_FEWEST = 4  # trials of a stack, below which a group is not cut further to keep more workers busy
_MOST_CUTS = 8  # stacks that a group is cut into to keep workers busy


def groups(trials: Iterable[Trial], shapes: Mapping[int, object], shared: Collection[str] = ()) -> list[list[Trial]]:
    """Trials that can share a stack: equal in all hyperparameters that are not real numbers, and in shapes.

    Args:
        trials: Of one cell.
        shapes: By split, what problems must share to be trained in one stack.
        shared: Real numbers in which they must be equal, too.

    Returns:
        The groups, each ordered by split and seed, so that neighbours share their batches.
    """
    found: dict[tuple[object, ...], list[Trial]] = {}
    for trial in trials:
        fixed = tuple((k, v) for k, v in trial.params.items() if not isinstance(v, float) or k in shared)
        found.setdefault((fixed, shapes[trial.split], trial.phase), []).append(trial)
    return [sorted(group, key=lambda t: (t.split, t.seed)) for group in found.values()]


def divide(group: Sequence[Trial], size: int, n_slots: int) -> list[Stack]:
    """Cuts a group into stacks of about equal size: at most `size` trials each, and enough stacks for all slots."""
    n_stacks = max(_fewest_stacks(len(group), size), min(n_slots, len(group) // _FEWEST, _MOST_CUTS))
    return [Stack(tuple(group[a:b])) for a, b in itertools.pairwise(_bounds(len(group), n_stacks))]


def sizes_of_stacks(n_trials: int, size: int) -> list[int]:
    """The sizes, of several trials, that the stacks of so many trials may have, whatever the number of slots.

    Args:
        n_trials: Trials of a group.
        size: Of its largest stack.
    """
    fewest = _fewest_stacks(n_trials, size)
    counts = range(fewest, max(fewest, _MOST_CUTS) + 1)
    found = {b - a for n in counts for a, b in itertools.pairwise(_bounds(n_trials, n))}
    return sorted(n for n in found if n > 1)


def _fewest_stacks(n_trials: int, size: int) -> int:
    return -(-n_trials // size)


def _bounds(n_trials: int, n_stacks: int) -> list[int]:
    """Where stacks begin and end, as positions in a group; no stack is empty."""
    return sorted(set(np.linspace(0, n_trials, n_stacks + 1).round().astype(int).tolist()))
