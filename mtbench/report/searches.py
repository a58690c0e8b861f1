"""How the settings of a cell were searched for: in words, and what may be compared of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtbench.plan.cells import CellResults
from mtbench.plan.search import parse_search

ADAPTIVE = ("tpe", "halving")
"""Searches in which results decide what is trained next."""


@dataclass(frozen=True)
class Searched:
    """A search that a cell's trials were trained for.

    Attributes:
        kind: As a study names it.
        n_settings: N, or 1.
        share: The share of N full trainings that it costs; None for all of them.
        in_full: Settings that a method without epochs trains in full for that share.
    """

    kind: str
    n_settings: int
    share: float | None = None
    in_full: int | None = None

    def __str__(self) -> str:
        """As tables say it: "tpe:25", "halving:64 (32 %)", "halving:64 (32 %, 20 in full)"."""
        if self.kind in ("default", "grid"):
            return self.kind
        full = "" if self.in_full is None else f", {self.in_full} in full"
        return f"{self.kind}:{self.n_settings}" + ("" if self.share is None else f" ({100 * self.share:.0f} %{full})")


def searches(cell: CellResults) -> list[Searched]:
    """The searches of a cell as far as its stacks say, each kind once: that of the most settings."""
    found: dict[str, Searched] = {}
    stacks = {id(trial.stack): trial.stack for trial in (*cell.search, *cell.rungs)}
    for said in (_read(stack.provenance) for stack in stacks.values()):
        if said is not None and (said.kind not in found or said.n_settings > found[said.kind].n_settings):
            found[said.kind] = said
    return [found[kind] for kind in sorted(found)]


def in_words(cell: CellResults) -> str:
    """The searches of a cell, joined by commas; "" where its stacks do not say."""
    return ", ".join(map(str, searches(cell)))


def comparable_draws(cell: CellResults) -> list[int]:
    """Distinct numbers of settings that splits tried; full trainings that stand for N settings begun count as N."""
    stands_for = {found.in_full: found.n_settings for found in searches(cell) if found.in_full is not None}
    return sorted({stands_for.get(n, n) for n in cell.draws.values()})


def _read(provenance: dict[str, Any]) -> Searched | None:
    """What a provenance says, which may be anybody's; None where it names no search."""
    try:
        kind, n_settings = parse_search(str(provenance.get("search")))
    except ValueError:
        return None
    share, in_full = provenance.get("search_share"), provenance.get("search_in_full")
    if not isinstance(share, float) or not 0 < share <= 1:
        return Searched(kind, n_settings)
    return Searched(kind, n_settings, share, in_full if type(in_full) is int else None)
