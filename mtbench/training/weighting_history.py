"""What is told of a weighting's steps: its weights, and how the tasks' gradients agree, as means over steps.

Shapes: S steps, R held trials, T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_NOTED = 2**16  # numbers that are noted before they are added up, 512 KiB


class WeightingHistory:
    """Sums over the steps in which a task was present.

    Args:
        n_trials: R.
        n_tasks: T.
        device: Where sums are kept.
    """

    def __init__(self, n_trials: int, n_tasks: int, device: torch.device) -> None:
        of_tasks, of_trials = (n_trials, n_tasks), (n_trials,)
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("losses", "trained", "weights", "present"), of_tasks)
        shapes |= dict.fromkeys(("cosine", "conflicts", "pairs"), of_trials)
        self._sums = {name: torch.zeros(shape, device=device, dtype=torch.float64) for name, shape in shapes.items()}
        self._noted: list[dict[str, Tensor]] = []  # steps that are not in the sums yet

    def note(self, losses: Tensor, weights: Tensor | None, present: Tensor, gram: Tensor | None) -> None:
        """Notes a step.

        Args:
            losses: [R, T].
            weights: [R, T], or None where there are none.
            present: [R, T], 1 or 0.
            gram: [R, T, T], 0 for absent tasks; None where gradients are not formed.
        """
        known = {"losses": losses, "weights": weights, "present": present, "gram": gram}
        self._noted.append({name: value.detach() for name, value in known.items() if value is not None})
        if len(self._noted) * sum(value.numel() for value in self._noted[-1].values()) > _NOTED:
            self._add_up()

    def epoch_losses(self) -> Tensor:
        """Mean losses of the tasks since the last call, float64 [R, T]; 0 for a task that was never present."""
        self._add_up()
        losses = self._sums["losses"] / self._sums["trained"].clamp(min=1.0)
        self._empty("losses", "trained")
        return losses

    def means(self) -> dict[str, Tensor]:
        """Means since the last call, by name, float64; those of what was not noted are 0.

        "weights" [R, T]; the mean cosine between the gradients of two tasks, "gradient_cosine" [R]; and the share of
        pairs of tasks whose gradients point in opposite directions, "gradient_conflicts" [R].
        """
        self._add_up()
        sums = self._sums
        pairs = sums["pairs"].clamp(min=1.0)
        found = {
            "weights": sums["weights"] / sums["present"].clamp(min=1.0),
            "gradient_cosine": sums["cosine"] / pairs,
            "gradient_conflicts": sums["conflicts"] / pairs,
        }
        self._empty("weights", "present", "cosine", "conflicts", "pairs")
        return found

    def select(self, keep: Tensor) -> None:
        """Keeps some trials: int64 positions."""
        self._add_up()
        self._sums = {name: value[keep] for name, value in self._sums.items()}

    def tensors(self) -> dict[str, Tensor]:
        """All that it remembers, by name."""
        self._add_up()
        return self._sums

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from `tensors`."""
        self._sums = dict(tensors)

    def _empty(self, *names: str) -> None:
        for name in names:
            self._sums[name].zero_()

    def _add_up(self) -> None:
        """Adds the steps that were noted to the sums, all at once: one by one they would take as long as the steps."""
        if not self._noted:
            return
        sums, steps = self._sums, {name: torch.stack([one[name] for one in self._noted]) for name in self._noted[0]}
        self._noted.clear()
        there = steps["present"].double()
        times = there.sum(0)
        sums["losses"] += (steps["losses"] * there).sum(0)
        sums["trained"] += times
        sums["present"] += times
        if "weights" in steps:
            sums["weights"] += torch.where(there > 0, steps["weights"].double(), 0.0).sum(0)
        if "gram" in steps:
            n_present = there.sum(2)
            sums["pairs"] += (n_present * (n_present - 1)).sum(0) / 2
            sums["cosine"] += _pair_cosines(steps["gram"]).sum(0)
            sums["conflicts"] += (steps["gram"] < 0).sum(0).triu(1).sum((1, 2))


def _pair_cosines(gram: Tensor) -> Tensor:
    """The sum of the cosines of all pairs of tasks: [S, R, T, T] -> [S, R]; a gradient of 0 has cosines of 0."""
    squares = gram.diagonal(dim1=-2, dim2=-1)
    inverse = torch.where(squares > 0, squares, torch.inf).rsqrt()
    # All cosines at once, u'Gu, would be infinite times 0 for tiny gradients: one side after the other.
    of_all = (inverse * (gram @ inverse[..., None])[..., 0]).sum(-1)
    return (of_all - (squares > 0).sum(-1)) / 2
