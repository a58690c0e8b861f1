"""Means with 95 % intervals, over splits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean of independent values, and the half-width of its 95 % interval by Student's t.

    Args:
        values: At least one, finite.

    Returns:
        The mean, and the half-width; None for a single value, which says nothing about spread.
    """
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return mean, None
    variance = math.fsum((v - mean) ** 2 for v in values) / (n - 1)
    return mean, _t_quantile(n - 1) * math.sqrt(variance / n)


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> tuple[float, float | None] | None:
    """Mean and 95 % half-width of ours minus theirs over the splits both have, or None where they share none."""
    differences = [ours[split] - theirs[split] for split in sorted(ours.keys() & theirs.keys())]
    return mean_and_interval(differences) if differences else None


def _t_quantile(degrees: int) -> float:
    # scipy.special costs a fraction of scipy.stats to import.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))
