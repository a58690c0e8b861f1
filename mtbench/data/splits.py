"""From rows to parts: drawn group by group, without replacement; and one-vs-all problems on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from mtbench.errors import DataError
from mtbench.tasks import Array, Part, Problem, Rows, Task, TaskKind


def draw_by_group(group: Array, sizes: Sequence[ArrayLike], rng: np.random.Generator) -> list[Array]:
    """Draws disjoint sets of rows, each with a given number of rows of every group.

    Args:
        group: The group of each row (its class or its task), integers 0 to G - 1, [n].
        sizes: For each set its rows per group: one number for all groups, or one per group [G].
        rng: Source of the draw.

    Returns:
        One array of row numbers per set, int64, groups in order; and last all rows that were not drawn.

    Raises:
        DataError: A group has fewer rows than are asked of it.
    """
    n_groups = int(group.max()) + 1
    wanted = np.stack([np.broadcast_to(np.asarray(size, dtype=np.int64), (n_groups,)) for size in sizes])
    drawn: list[list[Array]] = [[] for _ in range(len(sizes) + 1)]
    for g in range(n_groups):
        rows = rng.permutation(np.flatnonzero(group == g))
        if wanted[:, g].sum() > len(rows):
            raise DataError(f"Group {g} must have at least {wanted[:, g].sum()} rows to draw from; found {len(rows)}.")
        for part, chosen in zip(drawn, np.split(rows, np.cumsum(wanted[:, g])), strict=True):
            part.append(chosen)
    return [np.concatenate(part) for part in drawn]


def one_vs_all(
    dataset: str, split: int, base: Array, classes: Array, names: Sequence[str], drawn: Mapping[str, Array]
) -> Problem:
    """The problem of telling each class from all others, on rows of one array that all parts share.

    Args:
        dataset: Name of the data set.
        split: Which of its splits.
        base: All rows, [N, ...], float32 or uint8.
        classes: The class of each row, integers 0 to C - 1, [N].
        names: Names of the C classes; each is a binary task.
        drawn: Row numbers by part: "train", "validation" and "test".

    Returns:
        A problem in the shared layout, its labels [n, C] 1 for the row's class and 0 for all others.
    """
    one_hot = np.eye(len(names), dtype=np.float32)
    parts = {part: Part(Rows(base, rows), one_hot[classes[rows]]) for part, rows in drawn.items()}
    return Problem(dataset, split, tuple(Task(name, TaskKind.BINARY) for name in names), parts)
