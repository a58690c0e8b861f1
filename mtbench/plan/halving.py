"""Successive halving: all settings train a little, the better half of them twice as long, and so on to the end.

Rungs are synchronous: a rung ends when all its trials have, and then its worse half leaves; so who stays depends on no
order. What stays is trained anew to the next rung's end, which repeats what it had learned. That costs less than twice
what going on would, is told in the share, and leaves every trial a training of its own, in whichever stack.

Source: Jamieson, Talwalkar: Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016
(arXiv:1502.07943). Departures: at most five rungs, the first at a sixteenth of the budget; settings that stay are
trained anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mtbench.plan.search import Round, Rounds, Search, Setting, Size, listed

_HALVINGS = 4


def ladder(n_settings: int, max_epochs: int) -> list[Size]:
    """The rungs for so many settings: half as many trials from rung to rung, for twice the epochs; the last in full.

    Args:
        n_settings: N.
        max_epochs: The recipe's budget. The first of k + 1 rungs has 2^-k of it, rounded up; k is 4, or less where N or
            the budget cannot be halved as often.
    """
    k = min(_HALVINGS, int(math.log2(n_settings)), int(math.log2(max_epochs)))
    sizes = [Size(-(-n_settings // 2**i), -(-max_epochs // 2 ** (k - i))) for i in range(k)]
    return [*sizes, Size(-(-n_settings // 2**k))]


def cost(n_settings: int, max_epochs: int) -> int:
    """Epochs of all trials of all rungs, at most."""
    rungs = ladder(n_settings, max_epochs)
    return sum(rung.n_settings * (max_epochs if rung.epochs is None else rung.epochs) for rung in rungs)


def halving(drawn: Sequence[Setting], n_settings: int, max_epochs: int, in_epochs: bool) -> Search:
    """Successive halving among random draws; of a method without epochs as many full trainings as the same share buys.

    Args:
        drawn: The draws, N or, where there are no more, fewer.
        n_settings: N.
        max_epochs: The recipe's budget.
        in_epochs: Whether the method trains in epochs.
    """
    epochs = cost(n_settings, max_epochs)
    share = epochs / (n_settings * max_epochs)
    if not in_epochs:
        return listed(drawn[: epochs // max_epochs], share)
    return Halving(known=drawn, sizes=_needed(ladder(n_settings, max_epochs), len(drawn)), share=share)


def _needed(rungs: Sequence[Size], n_settings: int) -> list[Size]:
    """The rungs that somebody leaves at, where there are fewer settings than asked for; and the last."""
    sizes = [min(rung.n_settings, n_settings) for rung in rungs]
    found = [Size(sizes[i], rungs[i].epochs) for i in range(len(rungs) - 1) if sizes[i + 1] < sizes[i]]
    return [*found, Size(sizes[-1])]


@dataclass(frozen=True, kw_only=True)
class Halving(Search):
    """Successive halving of a method that trains in epochs; its rounds are rungs."""

    def rounds(self, place: str) -> Rounds:
        """Rung by rung. A failed setting does worse than any other; of equal ones the earlier draw is the better."""
        staying, results = list(self.known), [0.0] * len(self.known)
        for rung in self.sizes:
            best = sorted(range(len(staying)), key=lambda i: (math.isnan(results[i]), results[i], i))
            staying = [staying[i] for i in sorted(best[: rung.n_settings])]
            results = list((yield Round(staying, rung.epochs)))
