"""Projections that are fitted to rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def principal_components(rows: NDArray[np.float64], k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean and the first k principal directions of rows, largest variance first.

    A direction's sign is fixed by its largest loading, so that every machine finds the same one.

    Args:
        rows: The rows it is fitted to, [n, d].
        k: How many directions, at most d.

    Returns:
        The mean [d] and the directions [d, k]; `(rows - mean) @ directions` are the components [n, k].
    """
    from scipy.linalg import eigh  # imported where it is used: most data sets need none of it

    centre = rows.mean(0)
    centred = rows - centre
    d = centred.shape[1]
    _, directions = eigh(centred.T @ centred, subset_by_index=(d - k, d - 1))
    components = directions[:, ::-1]
    largest = np.abs(components).argmax(0)
    return centre, components * np.sign(components[largest, np.arange(k)])
