"""AMTL: every task's predictor is close to a sparse combination of the others', and bad ones cost more to use.

Paper: Lee, Yang and Hwang, Asymmetric Multi-task Learning Based on Task Relatedness and Loss, ICML 2016; eq. (4) of
Deep Asymmetric Multi-task Feature Learning, ICML 2018.

Shapes: R trials, T tasks, d features. W [d, T] holds the predictors w_t as columns. B [T, T] is the transfer: row s of
column t says how much of w_s goes into w_t; its row b_t is what task t gives to others, its diagonal is 0. L_t is the
mean loss of task t (squared or logistic) over its labelled rows, plus an offset that falls as 1 / sqrt(N_t).

Departures: the offset is delta L_0 sqrt(N_mean / N_t), with L_0 the mean loss of predicting 0 and N_mean the mean N_t,
instead of a delta in the units of the loss, which the paper tunes to "similar scale" by hand. Without any, (4) has no
minimum to speak of once the training losses vanish: transfer costs nothing, and predictors that reconstruct each other
are not regularised at all. `mu` adds an l1 norm of W, which the 2018 paper uses on its synthetic data only; it is 0
unless set. Intercepts, where a problem has them, are neither penalised nor transferred. Neither paper says how long to
alternate or how exactly to fit a curriculum's candidates: here until the stated residual, in at most the stated rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mtbench import LinearData, LinearSolution, Problem, Recipe, Reference, SolverMethod, hookimpl, tunable
from mtbench.linear.descent import State, Step, descend
from mtbench.linear.optimality import relative, smallest_subgradient
from mtbench.linear.problems import linear_support
from mtbench.linear.ridge import features_only, light_ridge, ridge, ridge_residuals, sparse_ridge
from mtbench_methods.amtl.reconstruction import jointly_improved, reconstructed_weights, sparse_combinations


@dataclass(frozen=True, kw_only=True)
class AMTLParams:
    """Hyperparameters of AMTL.

    Attributes:
        alpha: Cost of transfer from a task, per unit of its loss.
        gamma: Weight of |W - W B|_F^2.
        delta: Offset of each task's loss, in units of the loss of predicting 0: small tasks' transfer costs more.
        mu: Weight of the l1 norm of W; searches leave it at 0.
        nonnegative: Whether B must be; the 2018 paper lets go of it on its synthetic data.
        imbalance: Multiplies the cost of transfer from task t by 1 / sqrt(N_t), the 2016 paper's variant.
        solver: "alternating" between W and B, or "curriculum": tasks enter one at a time, and never change after.
        newton_rounds: Most steps of Newton's method on W and B together, which follow on alternating where mu is 0. Up
            to 50 tasks, 30 are enough as a rule; for the 139 of School they are not, and the residual says so.
    """

    alpha: float = tunable(0.1, grid=(1e-2, 1e-1, 1.0), low=0.01, high=30.0, help="cost of transfer")
    gamma: float = tunable(
        1.0, grid=(1e-2, 1e-1, 1.0, 10.0), low=1e-4, high=3e3, per="task_curvature", help="weight of |W - W B|^2"
    )
    delta: float = tunable(0.3, grid=(0.3,), low=0.03, high=3.0, help="loss added to tasks, the smaller the more")
    mu: float = tunable(0.0, help="l1 norm of the weights")
    nonnegative: bool = tunable(True, help="B >= 0")
    imbalance: bool = tunable(False, help="transfer from task t costs 1 / sqrt(N_t)")
    solver: str = tunable("alternating", grid=("alternating",), choices=("alternating", "curriculum"))
    newton_rounds: int = tunable(30, help="most steps of Newton's method")


class AMTL(SolverMethod):
    """Asymmetric multi-task learning: min over W, B of sum_t (1 + alpha |b_t|_1) L_t + gamma |W - W B|_F^2."""

    name = "amtl"
    reference = Reference("Asymmetric Multi-task Learning Based on Task Relatedness and Loss", "ICML 2016")
    version = "2"
    Params = AMTLParams

    tolerance = 1e-5
    first_rounds = 30
    max_rounds = 2000

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Binary tasks, or regressions with one output."""
        return linear_support(problem)

    def solve(self, data: LinearData, params: AMTLParams) -> LinearSolution:
        """By the solver that the hyperparameters name.

        The residual is that of W at the best B for it, which is found exactly: the norm of the smallest subgradient of
        (4) by W, over that of the gradient of the weighted losses at W = 0. The curriculum's is the largest of its
        tasks', each as it enters.
        """
        solver = self._alternate if params.solver == "alternating" else self._curriculum
        weights, transfer, residual = solver(data, params)
        n_parameters = data.n_tasks * (data.n_features + data.n_tasks - 1)
        return LinearSolution(weights, n_parameters, learned={"transfer": transfer}, residual=residual)

    def _alternate(self, data: LinearData, params: AMTLParams) -> tuple[Tensor, Tensor, Tensor]:
        """W given B, B given W, and then both together, until W is optimal for the B that is best for it.

        It begins at lightly penalised single-task weights. At B = 0 eq. (4) is a ridge of weight gamma, whose solution
        for a large gamma is near 0: transfer from such predictors is of no use, and a start there would stay there.
        """
        weights = light_ridge(data)
        others = 1.0 - torch.eye(data.n_tasks, dtype=weights.dtype, device=weights.device)

        def combined(some: LinearData, here: AMTLParams, weights: Tensor, transfer: Tensor) -> Tensor:
            v, costs = weights[:, : data.n_features], _costs(some, here) * _losses(some, here, weights)
            return sparse_combinations(v, v, here.gamma, costs, others, transfer, here.nonnegative)

        def step(trials: Tensor, state: State) -> tuple[State, Tensor, Tensor]:
            some, here = data.select(trials), _of_trials(params, trials)
            transfer = combined(some, here, *state)
            weights = state[0]
            scale = 1.0 + _costs(some, here) * transfer.abs().sum(2)
            weights = reconstructed_weights(some, scale, here.gamma, here.mu, transfer, weights, 30)
            transfer = combined(some, here, weights, transfer)
            residual = stationarity(some, weights, transfer, here)
            return (weights, transfer), objective(some, weights, transfer, here), residual

        def newton(trials: Tensor, state: State) -> tuple[State, Tensor, Tensor]:
            some, here = data.select(trials), _of_trials(params, trials)
            weights, transfer, lower = jointly_improved(
                some,
                *state,
                _costs(some, here),
                here.gamma,
                lambda w, b: objective(some, w, b, here),
                lambda w, b: combined(some, here, w, b),
            )
            if not lower.all():
                worse = torch.nonzero(~lower)[:, 0]
                (other, given), _, _ = step(trials[worse], (weights[worse], transfer[worse]))
                weights, transfer = weights.clone(), transfer.clone()
                weights[worse], transfer[worse] = other, given
            residual = stationarity(some, weights, transfer, here)
            return (weights, transfer), objective(some, weights, transfer, here), residual

        transfer = combined(data, params, weights, weights.new_zeros(len(weights), data.n_tasks, data.n_tasks))
        state = (weights, transfer)
        residual = weights.new_zeros(len(weights))
        for smooth, members in ((True, params.mu == 0), (False, params.mu > 0)):
            own = torch.nonzero(members)[:, 0]
            if len(own) == 0:
                continue
            # The l1 norm's kinks leave Newton's method nothing to work on.
            first = min(self.first_rounds, self.max_rounds) if smooth else self.max_rounds
            found = tuple(tensor[own] for tensor in state)
            found, ends = descend(_of(step, own), found, self.tolerance, first)
            rest = min(self.max_rounds - first, params.newton_rounds)
            if rest > 0:
                found, ends = descend(_of(newton, own), found, self.tolerance, rest, accelerated=False)
            for tensor, new in zip(state, found, strict=True):
                tensor[own] = new
            residual[own] = ends
        return *state, residual

    def _curriculum(self, data: LinearData, params: AMTLParams) -> tuple[Tensor, Tensor, Tensor]:
        """Tasks enter one at a time, as combinations of those before them; the next is the one of least loss."""
        weights = sparse_ridge(data, params.gamma, params.mu, start=ridge(data, params.gamma))
        entered = torch.zeros_like(data.n_train)
        transfer = weights.new_zeros(len(weights), data.n_tasks, data.n_tasks)
        worst = weights.new_zeros(len(weights))
        every = torch.arange(len(weights), device=weights.device)
        for _ in range(data.n_tasks):
            weights, transfer, residuals = self._candidates(data, params, weights, transfer, entered)
            losses = _losses(data, params, weights).masked_fill(entered > 0, torch.inf)
            chosen = losses.argmin(1)
            entered[every, chosen] = 1.0
            worst = worst.maximum(residuals[every, chosen])
        return weights, transfer, worst

    def _candidates(
        self, data: LinearData, params: AMTLParams, weights: Tensor, transfer: Tensor, entered: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tasks still outside: min of L_t + gamma |w_t - W b|^2 + alpha sum_s |b_s| L_s, W and s those that entered.

        Returns:
            Weights, transfer, and the residual of every task [R, T], 0 of those that had entered.
        """
        d = data.n_features
        outside = 1.0 - entered[:, None]
        known, allowed = weights * entered[:, None], entered[:, :, None] * outside
        costs = _costs(data, params) * _losses(data, params, weights)
        residuals = weights.new_zeros(len(weights), data.n_tasks)

        def step(trials: Tensor, state: State) -> tuple[State, Tensor, Tensor]:
            some, here, out = data.select(trials), _of_trials(params, trials), outside[trials]
            w, b = state
            bases, dear = known[trials], costs[trials]
            moved = ridge(some, here.gamma, bases @ b, w)
            moved = sparse_ridge(some, here.gamma, here.mu, moved, bases @ b)
            w = torch.where(out > 0, moved, w)
            v = w[:, :d]
            b = sparse_combinations(bases[:, :d], v, here.gamma, dear, allowed[trials], b, here.nonnegative)
            apart = torch.nn.functional.pad((v - bases[:, :d] @ b) * out, (0, 0, 0, data.n_rows - d))
            each = ridge_residuals(some, here.gamma, here.mu, w, bases @ b) * out[:, 0]
            residuals[trials] = each
            l1 = here.mu[:, None, None] * features_only(some, w)
            value = (some.losses(w) * out[:, 0]).sum(1) + here.gamma * apart.square().sum((1, 2))
            value = value + (dear[:, :, None] * b.abs()).sum((1, 2)) + (l1 * (w * out).abs()).sum((1, 2))
            return (w, b), value, each.amax(1)

        # An error of one task passes to all that enter after it.
        enough = 0.01 * self.tolerance
        (weights, found), _ = descend(step, (weights, transfer * outside), enough, self.max_rounds)
        return weights, torch.where(outside > 0, found, transfer), residuals


def _of(step: Step, own: Tensor) -> Step:
    """The step for some of the trials, which it knows by their positions among these."""
    return lambda trials, state: step(own[trials], state)


def _of_trials(params: AMTLParams, trials: Tensor) -> AMTLParams:
    """The hyperparameters of some trials."""
    floats = {name: getattr(params, name)[trials] for name in ("alpha", "gamma", "delta", "mu")}
    return replace(params, **floats)


def _losses(data: LinearData, params: AMTLParams, weights: Tensor) -> Tensor:
    """L_t and its offset: [R, T]."""
    sizes = data.n_train.clamp(min=1.0)
    nothing = data.losses(torch.zeros_like(weights)).mean(1, keepdim=True)
    return data.losses(weights) + params.delta[:, None] * nothing * (sizes.mean(1, keepdim=True) / sizes).sqrt()


def _costs(data: LinearData, params: AMTLParams) -> Tensor:
    """What transfer from each task costs per unit of its loss: [R, T]."""
    balance = data.n_train.clamp(min=1.0).rsqrt() if params.imbalance else torch.ones_like(data.n_train)
    return params.alpha[:, None] * balance


def objective(data: LinearData, weights: Tensor, transfer: Tensor, params: AMTLParams) -> Tensor:
    """Eq. (4): W [R, p, T] and B [R, T, T] -> [R]."""
    w = weights[:, : data.n_features]
    scale = 1.0 + _costs(data, params) * transfer.abs().sum(2)
    apart = (w - w @ transfer).square().sum((1, 2))
    return (scale * _losses(data, params, weights)).sum(1) + params.gamma * apart + params.mu * w.abs().sum((1, 2))


def stationarity(data: LinearData, weights: Tensor, transfer: Tensor, params: AMTLParams) -> Tensor:
    """The relative residual of (4) by W, where B is optimal: [R]."""
    w, d = weights[:, : data.n_features], data.n_features
    scale = 1.0 + _costs(data, params) * transfer.abs().sum(2)
    apart = w - w @ transfer
    pull = 2.0 * params.gamma[:, None, None] * (apart - apart @ transfer.mT)
    slope = scale[:, None] * data.losses_and_gradient(weights)[1]
    slope = slope + torch.nn.functional.pad(pull, (0, 0, 0, data.n_rows - d))
    l1 = params.mu[:, None, None] * features_only(data, weights)
    return relative(smallest_subgradient(slope, weights, l1), scale[:, None] * data.gradient_at_zero(), (1, 2))


@hookimpl
def mtbench_methods() -> list[type[SolverMethod]]:
    """The methods of this file."""
    return [AMTL]
