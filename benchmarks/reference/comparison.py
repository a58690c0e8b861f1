"""What two implementations gave, and how far they are apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

TOLERANCE = 1e-6
"""Largest relative difference that passes for agreement."""


@dataclass(frozen=True)
class Comparison:
    """One number or array, computed twice.

    Attributes:
        subject: Name of the method or solver.
        problem: What it was tried on.
        quantity: What was computed: "objective", "gradient" and the like.
        difference: Norm of the difference over the norm of what the second implementation gave.
        tolerance: Largest difference that passes.
    """

    subject: str
    problem: str
    quantity: str
    difference: float
    tolerance: float = TOLERANCE

    @property
    def agrees(self) -> bool:
        """Whether the two are equal up to the tolerance; what is no number never is."""
        return self.difference <= self.tolerance


def compared(subject: str, problem: str, quantity: str, ours: ArrayLike, theirs: ArrayLike) -> Comparison:
    """The comparison of two arrays of any one shape; of unequal shapes none agrees."""
    one, other = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if one.shape != other.shape:
        return Comparison(subject, problem, quantity, float("inf"))
    scale = np.linalg.norm(other.ravel()) or 1.0
    return Comparison(subject, problem, quantity, float(np.linalg.norm((one - other).ravel()) / scale))
