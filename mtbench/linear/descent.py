"""Rounds of a block-wise solver, repeated until every trial is optimal, and accelerated on the way.

Shapes: R trials, R' of them still under way, n numbers of a trial's state, m remembered rounds.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

State = tuple[Tensor, ...]

Step = Callable[[Tensor, State], tuple[State, Tensor, Tensor]]
"""(positions of the trials int64 [R'], where they begin) -> next state, its objectives [R'] and residuals [R']."""

_REMEMBERED = 10  # m
_LAST_DIGITS = 1e-14  # of an objective: what is less apart is level, and the residual decides
_SINGULAR = 1e-4  # of the scaled normal equations' diagonal, added to it: less lets rounding choose between ways


def descend(
    step: Step, state: State, tolerance: float, max_rounds: int, accelerated: bool = True
) -> tuple[State, Tensor]:
    """Repeats a step for every trial until its residual is small.

    Alternating between blocks of variables is slow where they depend on each other. So a step begins where Anderson's
    method expects the last ones to lead. A step that raises a trial's objective is undone, and what was remembered of
    the trial forgotten: the objectives of the states kept never rise, but for their last digits.

    Args:
        step: One round; see `Step`.
        state: Tensors [R, ...].
        tolerance: A trial stops where its residual is no larger.
        max_rounds: Stops at the latest. A trial also stops where rounding lets its objective fall no further.
        accelerated: Whether steps begin ahead; else they begin where the last one ended.

    Returns:
        The last state of every trial, and its residual [R]; infinite where no step was taken.
    """
    state = tuple(tensor.clone() for tensor in state)
    lowest = state[0].new_full((len(state[0]),), torch.inf)
    residuals = lowest.clone()
    past = _Past(state) if accelerated else None
    trials = torch.arange(len(lowest), device=lowest.device)
    begin = state
    for _ in range(max_rounds):
        found, objective, residual = step(trials, begin)
        level = objective <= lowest[trials] + _LAST_DIGITS * lowest[trials].abs()
        nearer = level & (residual < residuals[trials])
        better, fell = (objective <= lowest[trials]) | nearer, (objective < lowest[trials]) | nearer
        for tensor, new in zip(state, found, strict=True):
            tensor[trials[better]] = new[better]
        lowest[trials[better]] = objective[better].minimum(lowest[trials[better]])
        residuals[trials[better]] = residual[better]
        ahead = torch.zeros_like(better) if past is None else past.extrapolated[trials]
        if past is not None:
            past.note(trials, begin, found, better)
        # Written so that an objective that is not a number stops its trial.
        trials = trials[(fell & (residual > tolerance)) | (~fell & ahead)]
        if len(trials) == 0:
            break
        here = tuple(tensor[trials] for tensor in state)
        begin = here if past is None else past.ahead(trials, here)
    return state, residuals


class _Past:
    """The last rounds of every trial, and where they lead.

    Anderson's method (Walker and Ni, SIAM Journal on Numerical Analysis 49, 2011, algorithm AA): of the points between
    which the last rounds went, the combination whose change would be least in a linear problem.

    Args:
        state: Tensors [R, ...].

    Attributes:
        extrapolated: Whether each trial's present round began ahead, bool [R].
    """

    def __init__(self, state: State) -> None:
        n = sum(tensor[0].numel() for tensor in state)
        self._begins = state[0].new_zeros(_REMEMBERED + 1, len(state[0]), n)
        self._ends = torch.zeros_like(self._begins)
        self._age = torch.zeros(len(state[0]), dtype=torch.int64, device=state[0].device)
        self._round = 0
        self.extrapolated = torch.zeros_like(self._age, dtype=torch.bool)

    def note(self, trials: Tensor, begin: State, end: State, good: Tensor) -> None:
        """Remembers a round of some trials; those that it did not do good forget all."""
        slot = self._round % (_REMEMBERED + 1)
        self._begins[slot, trials], self._ends[slot, trials] = _flat(begin), _flat(end)
        self._age[trials] = torch.where(good, (self._age[trials] + 1).clamp(max=_REMEMBERED + 1), 0)
        self._round += 1

    def ahead(self, trials: Tensor, here: State) -> State:
        """Where the next round of some trials should begin, whose states are `here`."""
        recent = [(self._round - 1 - j) % (_REMEMBERED + 1) for j in range(_REMEMBERED + 1)]
        begins, ends = self._begins[recent][:, trials], self._ends[recent][:, trials]
        changes = ends - begins
        known = torch.arange(1, _REMEMBERED + 1, device=trials.device)[:, None] < self._age[trials]
        bends = (changes[:1] - changes[1:]) * known[..., None]  # [m, R', n]
        system = torch.einsum("irn,jrn->rij", bends, bends)
        right = torch.einsum("irn,rn->ri", bends, changes[0])
        diagonal = system.diagonal(dim1=1, dim2=2)
        scale = torch.where(diagonal > 0, diagonal, 1.0).rsqrt()
        scaled = system * scale[:, :, None] * scale[:, None]
        scaled.diagonal(dim1=1, dim2=2)[:] += torch.where(diagonal > 0, _SINGULAR, 1.0)
        weights, _ = torch.linalg.solve_ex(scaled, (right * scale)[..., None])
        weights = weights[..., 0] * scale
        point = ends[0] - torch.einsum("ri,irn->rn", weights, (ends[:1] - ends[1:]) * known[..., None])
        good = (self._age[trials] > 1) & torch.isfinite(point).all(1)
        self.extrapolated[trials] = good
        return _parted(torch.where(good[:, None], point, _flat(here)), here)


def _flat(state: State) -> Tensor:
    return torch.cat([tensor.flatten(1) for tensor in state], 1)


def _parted(flat: Tensor, like: State) -> State:
    sizes = [tensor[0].numel() for tensor in like]
    return tuple(part.view_as(tensor) for part, tensor in zip(torch.split(flat, sizes, 1), like, strict=True))
