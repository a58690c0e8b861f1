"""The contract of searches: settings in rounds, each chosen by how those before it did on the validation part."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from mtbench.contracts.values import Value

Setting = Mapping[str, Value]
"""Hyperparameters by name, complete."""

MOST = 10_000
"""Settings that a search may be asked for."""

FEWEST = {"random": 1, "tpe": 1, "halving": 4}
"""Searches of N settings, written "kind:N", and the least N."""

EXPECTED = f"default, grid, random:N, tpe:N (N from 1 to {MOST}) or halving:N (N from {FEWEST['halving']} to {MOST})"
"""What a study may ask for, in words."""


def parse_search(text: str) -> tuple[str, int]:
    """Takes "tpe:25" apart: the kind of search, and how many settings; 1 for "default" and "grid".

    Raises:
        ValueError: It is no search.
    """
    found = re.fullmatch(r"([a-z]+):([1-9][0-9]{0,4})", text)
    kind, n = (found[1], int(found[2])) if found else (text, 1)
    if kind not in (FEWEST if found else ("default", "grid")) or not FEWEST.get(kind, 1) <= n <= MOST:
        raise ValueError(EXPECTED)
    return kind, n


@dataclass(frozen=True)
class Round:
    """Settings that are tried side by side.

    Attributes:
        settings: The settings.
        epochs: How long each is trained; None for the whole budget of the recipe.
    """

    settings: Sequence[Setting]
    epochs: int | None = None


@dataclass(frozen=True)
class Size:
    """How large a round is planned to be: so many settings at most, for so many epochs (None for all)."""

    n_settings: int
    epochs: int | None = None


Rounds = Generator[Round, Sequence[float], None]
"""Gives rounds. For each it is sent the results of its settings, in their order: the lower the better, NaN for one that
failed."""


@dataclass(frozen=True, kw_only=True)
class Search(ABC):
    """The search of one method on one data set.

    Guarantees: what is tried follows from the search, the place and the results that are sent, and from nothing else,
    so that a run that goes on tries the same; test results are never sent.

    Attributes:
        known: Settings that are tried in any case, draw 0 first.
        sizes: The rounds, as planned; where settings run out they are smaller, or fewer.
        share: The share of its settings' full trainings that it costs; None for all of them.
    """

    known: Sequence[Setting]
    sizes: Sequence[Size]
    share: float | None = None

    @property
    def n_settings(self) -> int:
        """Settings in all, in each place, as planned."""
        return max(len(self.known), sum(size.n_settings for size in self.sizes if size.epochs is None))

    @abstractmethod
    def rounds(self, place: str) -> Rounds:
        """The rounds in a place, where results are compared: a split, or all splits together.

        Args:
            place: What distinguishes it, for random numbers.
        """


@dataclass(frozen=True, kw_only=True)
class Listed(Search):
    """Settings that are all known before anything is trained: the defaults, a grid, random draws."""

    def rounds(self, place: str) -> Rounds:
        """One round of all."""
        yield Round(self.known)


def listed(settings: Sequence[Setting], share: float | None = None) -> Listed:
    """A search of these settings, in one round."""
    return Listed(known=settings, sizes=[Size(len(settings))], share=share)
