"""Linear solvers against scipy: every objective written again from its paper, over plain rows, minimised by L-BFGS-B.

    python -m benchmarks.reference.solvers

Convex problems are solved from 0 and compared by objective. Those that are not are gone on with from where the solver
ended: at a local minimum there is nothing to gain. GO-MTL's end is also compared with the best of many random starts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from mtbench_methods.amtl import AMTL
from mtbench_methods.go_mtl import GOMTL
from mtbench_methods.stl import STL
from scipy.optimize import minimize, nnls
from torch import Tensor

from benchmarks.reference.comparison import Comparison
from mtbench import LinearSolution, Part, Problem, SolverMethod, Task, TaskKind
from mtbench.contracts.hyperparameters import describe
from mtbench.linear.active_set import nonnegative_least
from mtbench.linear.problems import linear_data
from mtbench.linear.solvers import conjugate_gradients

N_TASKS, N_FEATURES, N_STARTS = 4, 5, 12
ALLOWED = 1e-6
ALLOWED_BETWEEN_STARTS = 1e-3
ROUNDS = 400  # of Newton's method in AMTL: tasks that a plane separates take more than its default


class Row(NamedTuple):
    """One comparison: what, our value, the reference's, how much worse ours is, relative; the largest that passes."""

    what: str
    ours: float
    reference: float
    difference: float
    allowed: float = ALLOWED

    @property
    def agrees(self) -> bool:
        """Whether it passes; what is not a number does not."""
        return self.difference <= self.allowed


class Rows(NamedTuple):
    """A problem as plain rows: of each task its inputs [N_t, d] and labels [N_t]."""

    name: str
    problem: Problem
    intercept: bool
    logistic: bool
    inputs: list[Tensor]
    labels: list[Tensor]

    def losses(self, W: Tensor, c: Tensor) -> Tensor:
        """Mean loss of each task, [T], of predictors W [d, T] and intercepts c [T]."""
        return torch.stack([self._loss(x @ W[:, t] + c[t], t) for t, x in enumerate(self.inputs)])

    def _loss(self, z: Tensor, t: int) -> Tensor:
        y = self.labels[t]
        if self.logistic:
            return (torch.logaddexp(z, torch.zeros_like(z)) - y * z).mean()
        return (y - z).square().mean()

    @property
    def sizes(self) -> Tensor:
        """N_t, [T]."""
        return torch.tensor([float(len(y)) for y in self.labels], dtype=torch.float64)


def problems() -> Iterator[Rows]:
    """Both losses and layouts, with and without missing labels and intercept."""
    for logistic, (layout, missing), intercept in product(
        (False, True), (("own", False), ("shared", False), ("shared", True)), (False, True)
    ):
        words = ["logistic" if logistic else "squared", layout, *["missing labels"] * missing]
        yield _problem(
            ", ".join([*words, *["intercept"] * intercept]), logistic, layout == "shared", missing, intercept
        )


def _problem(name: str, logistic: bool, shared: bool, missing: bool, intercept: bool) -> Rows:
    rng = np.random.default_rng([logistic, shared, missing, intercept])
    W = rng.normal(size=(N_FEATURES, 2)) @ rng.normal(size=(2, N_TASKS)) + 0.1 * rng.normal(size=(N_FEATURES, N_TASKS))
    task = None if shared else np.repeat(np.arange(N_TASKS), [12, 18, 24, 30])
    x = rng.normal(size=(30 if task is None else len(task), N_FEATURES)).astype(np.float32)
    z = x @ W + 0.7 + rng.normal(size=(len(x), N_TASKS))
    y = (z > 0).astype(np.float32) if logistic else z.astype(np.float32)
    if missing:
        y[rng.uniform(size=y.shape) < 0.2] = np.nan
    if task is None:
        kept = [np.flatnonzero(~np.isnan(y[:, t])) for t in range(N_TASKS)]
        part = Part(x, y)
    else:
        kept = [np.flatnonzero(task == t) for t in range(N_TASKS)]
        part = Part(x, y[np.arange(len(x)), task][:, None], task)
    kind = TaskKind.BINARY if logistic else TaskKind.REGRESSION
    tasks = tuple(Task(f"task_{t}", kind) for t in range(N_TASKS))
    problem = Problem("random", 0, tasks, dict.fromkeys(("train", "validation", "test"), part))
    inputs = [torch.as_tensor(x[rows], dtype=torch.float64) for rows in kept]
    labels = [torch.as_tensor(y[rows, t], dtype=torch.float64) for t, rows in enumerate(kept)]
    return Rows(name, problem, intercept, logistic, inputs, labels)


def solved(method: SolverMethod, rows: Rows, **settings: Any) -> LinearSolution:
    """What the harness' solver finds, with the intercepts as last row of the weights."""
    data = linear_data([rows.problem], [0], rows.intercept, torch.device("cpu"))
    known = describe(method.Params)
    values = {name: settings.get(name, h.default) for name, h in known.items()}
    floats = {n: torch.tensor([float(v)], dtype=torch.float64) for n, v in values.items() if known[n].stackable}
    found = method.solve(data, method.Params(**{**values, **floats}))
    weights = data.with_intercept(found.weights)
    if not rows.intercept:
        weights = torch.cat([weights, torch.zeros_like(weights[:, :1])], 1)
    return LinearSolution(weights, found.n_parameters, found.learned, residual=found.residual)


class Unknowns:
    """Blocks of numbers as one vector for scipy; a block with a kink at 0 is two, what is above 0 and what is below."""

    def __init__(self, **blocks: tuple[Tensor, str]) -> None:
        """Takes each block's start and kind: "free", "kinked", "nonnegative" or "fixed"."""
        self._blocks = blocks

    def minimum(self, objective: Callable[..., Tensor]) -> tuple[float, float, dict[str, Tensor]]:
        """The objective at the start, at the minimum found, and the blocks there.

        `objective` is called with the blocks and, by name + "_size", the absolute values of kinked ones.
        """
        start, bounds = [], []
        for block, kind in self._blocks.values():
            flat = block.numpy().ravel()
            if kind == "kinked":
                start += [np.maximum(flat, 0), np.maximum(-flat, 0)]
                bounds += [(0, None)] * (2 * len(flat))
            elif kind != "fixed":
                start.append(flat)
                bounds += [(0, None) if kind == "nonnegative" else (None, None)] * len(flat)

        def value(x: np.ndarray) -> tuple[float, np.ndarray]:
            at = torch.tensor(x, dtype=torch.float64, requires_grad=True)
            found = objective(**self._parted(at))
            (slope,) = torch.autograd.grad(found, at)
            return found.item(), slope.numpy()

        begin = np.concatenate(start)
        x = begin
        for _ in range(5):  # a fresh start forgets what L-BFGS-B took for curvature
            options = {"maxiter": 20000, "maxfun": 40000, "ftol": 1e-16, "gtol": 1e-11, "maxcor": 50}
            x = minimize(value, x, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
        return value(begin)[0], value(x)[0], self._parted(torch.as_tensor(x))

    def _parted(self, x: Tensor) -> dict[str, Tensor]:
        found, at = {}, 0
        for name, (block, kind) in self._blocks.items():
            n = block.numel()
            if kind == "fixed":
                found[name] = block
                continue
            one = x[at : at + n].view_as(block)
            at += n
            if kind == "kinked":
                other = x[at : at + n].view_as(block)
                at += n
                found[name], found[f"{name}_size"] = one - other, one + other
            else:
                found[name] = one
        return found


def _blocks(rows: Rows, W: Tensor, c: Tensor, kinked: bool) -> dict[str, tuple[Tensor, str]]:
    return {"W": (W, "kinked" if kinked else "free"), "c": (c, "free" if rows.intercept else "fixed")}


def _row(what: str, ours: float, reference: float, allowed: float = ALLOWED) -> Row:
    return Row(what, ours, reference, (ours - reference) / abs(reference), allowed)


def _residual(what: str, method: SolverMethod, found: LinearSolution) -> Row:
    assert found.residual is not None
    assert method.tolerance is not None
    residual = found.residual.item()
    return Row(f"{what}: residual, against its tolerance", residual, method.tolerance, residual, method.tolerance)


def of_stl(rows: Rows) -> Iterator[Row]:
    """STL from 0."""
    for lambda_, mu in ((0.05, 0.0), (0.02, 0.1)):
        found = solved(STL(), rows, lambda_=lambda_, mu=mu)

        def objective(
            W: Tensor, c: Tensor, W_size: Tensor | None = None, l2: float = lambda_, l1: float = mu
        ) -> Tensor:
            sizes = W.abs() if W_size is None else W_size
            return rows.losses(W, c).sum() + l2 * W.square().sum() + l1 * sizes.sum()

        W, c = found.weights[0, :-1], found.weights[0, -1]
        _, least, _ = Unknowns(**_blocks(rows, 0 * W, 0 * c, mu > 0)).minimum(objective)
        what = f"stl, {rows.name}, mu {mu:g}"
        yield _row(what, objective(W, c).item(), least)
        yield _residual(what, STL(), found)


def of_go_mtl(rows: Rows) -> Iterator[Row]:
    """GO-MTL: descent from its end, and the best of random starts."""
    k, mu, lambda_ = 2, 0.05, 0.03
    found = solved(GOMTL(), rows, k=k, mu=mu, lambda_=lambda_)

    def objective(L: Tensor, S: Tensor, S_size: Tensor, c: Tensor) -> Tensor:
        return rows.losses(L @ S, c).sum() + mu * S_size.sum() + lambda_ * L.square().sum()

    def descent(L: Tensor, S: Tensor, c: Tensor) -> tuple[float, float]:
        free = (c, "free" if rows.intercept else "fixed")
        return Unknowns(L=(L, "free"), S=(S, "kinked"), c=free).minimum(objective)[:2]

    c = found.weights[0, -1]
    ours, least = descent(found.learned["bases"][0], found.learned["coefficients"][0], c)
    yield _row(f"go_mtl, {rows.name}", ours, least)
    rng = np.random.default_rng(0)
    starts = [(rng.normal(size=(N_FEATURES, k)), rng.normal(size=(k, N_TASKS))) for _ in range(N_STARTS)]
    best = min(descent(torch.as_tensor(L), torch.as_tensor(S), 0 * c)[1] for L, S in starts)
    yield _row(f"go_mtl, {rows.name}: best of {N_STARTS} random starts", ours, best, ALLOWED_BETWEEN_STARTS)
    yield _residual(f"go_mtl, {rows.name}", GOMTL(), found)


class AMTLObjective(NamedTuple):
    """Eq. (4) with an offset delta L_0 sqrt(N_mean / N_t) of each loss."""

    rows: Rows
    alpha: float
    gamma: float
    delta: float
    mu: float

    def costs(self, W: Tensor, c: Tensor) -> Tensor:
        """L_t and its offset, [T]. L_0 is the loss of predicting 0; with squared losses, of the mean."""
        nothing = self.rows.losses(0 * W, self._nothing()).mean()
        sizes = self.rows.sizes
        return self.rows.losses(W, c) + self.delta * nothing * (sizes.mean() / sizes).sqrt()

    def _nothing(self) -> Tensor:
        means = torch.stack([y.mean() for y in self.rows.labels])
        return means if self.rows.intercept and not self.rows.logistic else 0 * means

    def __call__(self, W: Tensor, c: Tensor, B: Tensor, B_size: Tensor | None = None, W_size: Any = None) -> Tensor:
        """All tasks."""
        B, size = _without_own(B), _without_own(B if B_size is None else B_size)
        apart = W - W @ B
        l1 = self.mu * (W.abs() if W_size is None else W_size).sum()
        scale = 1 + self.alpha * size.sum(1)
        return (scale * self.costs(W, c)).sum() + self.gamma * apart.square().sum() + l1

    def of_candidate(self, t: int, known: Tensor, dear: Tensor) -> Callable[..., Tensor]:
        """The curriculum's objective of a task: known W [d, s], what each of its tasks costs [s]."""

        def objective(W: Tensor, c: Tensor, b: Tensor, b_size: Tensor | None = None, W_size: Any = None) -> Tensor:
            size = b if b_size is None else b_size
            l1 = self.mu * (W.abs() if W_size is None else W_size).sum()
            return (
                self.loss(t, W, c) + self.gamma * (W - known @ b).square().sum() + self.alpha * (dear * size).sum() + l1
            )

        return objective

    def loss(self, t: int, w: Tensor, c: Tensor) -> Tensor:
        """L_t of one predictor w [d]."""
        return self.rows._loss(self.rows.inputs[t] @ w + c, t)


def _without_own(B: Tensor) -> Tensor:
    return B * (1 - torch.eye(len(B), dtype=B.dtype))


def of_amtl(rows: Rows) -> Iterator[Row]:
    """AMTL's two solvers, B >= 0 and free, with and without l1 on W."""
    for nonnegative, mu in ((True, 0.0), (False, 0.0), (True, 0.03)):
        objective = AMTLObjective(rows, alpha=0.05, gamma=2.0, delta=0.2, mu=mu)
        setting = {**objective._asdict(), "nonnegative": nonnegative}
        del setting["rows"]
        kind = "nonnegative" if nonnegative else "kinked"
        what = f"{rows.name}, B {'>= 0' if nonnegative else 'free'}, mu {mu:g}"
        found = solved(AMTL(), rows, newton_rounds=ROUNDS, **setting)
        blocks = _blocks(rows, found.weights[0, :-1], found.weights[0, -1], mu > 0)
        ours, least, _ = Unknowns(**blocks, B=(found.learned["transfer"][0], kind)).minimum(objective)
        yield _row(f"amtl, {what}", ours, least)
        yield _residual(f"amtl, {what}", AMTL(), found)
        found = solved(AMTL(), rows, **setting, solver="curriculum")
        ours = _curriculum_value(objective, found)
        yield _row(f"amtl curriculum, {what}", ours, _curriculum(objective, kind))
        yield _residual(f"amtl curriculum, {what}", AMTL(), found)


def _curriculum_value(objective: AMTLObjective, found: LinearSolution) -> float:
    """The sum of the objectives that our tasks entered with."""
    W, c, B = found.weights[0, :-1], found.weights[0, -1], found.learned["transfer"][0]
    dear = objective.costs(W, c)
    each = (objective.of_candidate(t, W, dear)(W[:, t], c[t], B[:, t], B[:, t].abs()) for t in range(N_TASKS))
    return float(sum(each))


def _curriculum(objective: AMTLObjective, kind: str) -> float:
    """The same of tasks that enter one at a time, each candidate minimised from 0, the one of least loss chosen."""
    rows = objective.rows
    W, c = torch.zeros(N_FEATURES, N_TASKS).double(), torch.zeros(N_TASKS).double()
    inside: list[int] = []
    total = 0.0
    while len(inside) < N_TASKS:
        dear = objective.costs(W, c)
        tried = {}
        for t in set(range(N_TASKS)) - set(inside):
            blocks = _blocks(rows, W[:, t] * 0, c[t : t + 1] * 0, objective.mu > 0)
            b = torch.zeros(len(inside)).double()
            value = objective.of_candidate(t, W[:, inside], dear[inside])
            tried[t] = Unknowns(**blocks, b=(b, kind)).minimum(value)[1:]
        offsets = objective.costs(W, c) - rows.losses(W, c)
        losses = {t: objective.loss(t, at["W"], at["c"]) + offsets[t] for t, (_, at) in tried.items()}
        chosen = min(losses, key=lambda t: losses[t].item())
        least, at = tried[chosen]
        W[:, chosen], c[chosen] = at["W"], at["c"][0]
        inside.append(chosen)
        total += least
    return total


def of_parts() -> Iterator[Row]:
    """The solvers inside: active sets against scipy's, conjugate gradients against a factorisation."""
    rng = np.random.default_rng(0)
    for n_rows, size in ((12, 8), (5, 15)):
        A, y = rng.normal(size=(n_rows, size)), rng.normal(size=(n_rows, 1)) + 1
        K, q = torch.as_tensor(A.T @ A)[None], torch.as_tensor(A.T @ y)[None]
        x = nonnegative_least(K, q, torch.ones_like(q, dtype=torch.bool), torch.zeros_like(q))[0].numpy()
        ours, least = np.linalg.norm(A @ x - y), nnls(A, y[:, 0])[1]
        # Where a fit is perfect both distances are rounding: they are compared with what was to be fitted.
        yield Row(f"active sets, {n_rows} by {size}", ours, least, (ours - least) / np.linalg.norm(y))
    K = torch.as_tensor(rng.normal(size=(3, 6, 9)))
    K, right = K @ K.mT, torch.as_tensor(rng.normal(size=(3, 6)))
    x = conjugate_gradients(lambda v: (K @ v[..., None])[..., 0], right, 0 * right, lambda v: v, (1,), 1e-12)
    exact = torch.linalg.solve(K, right)
    difference = ((x - exact).norm() / exact.norm()).item()
    yield Row("conjugate gradients", x.norm().item(), exact.norm().item(), difference)


def rows(asked: Collection[str] = ()) -> Iterator[tuple[str, Row]]:
    """All comparisons with the method each is of, as they are made; of the methods asked for, where any are."""
    if not asked:
        yield from (("solvers", row) for row in of_parts())
    for problem in problems():
        for name, of in (("stl", of_stl), ("go_mtl", of_go_mtl), ("amtl", of_amtl)):
            if not asked or name in asked:
                yield from ((name, row) for row in of(problem))


def comparisons(asked: Collection[str]) -> Iterator[Comparison]:
    """The same for `python -m benchmarks.reference`."""
    for name, row in rows(asked):
        quantity = "residual" if "residual" in row.what else "objective"
        yield Comparison(name, row.what, quantity, row.difference, row.allowed)


def main() -> None:
    """Prints all comparisons and ends with 1 where one does not agree."""
    found = []
    for _, row in rows():
        found.append(row)
        verdict = "" if row.agrees else "  DIFFERS"
        print(f"{row.what:95} {row.ours:14.8g} {row.reference:14.8g} {row.difference:9.1e}{verdict}", flush=True)
    bad = sum(not row.agrees for row in found)
    print(f"{len(found)} comparisons, {bad} apart by more than allowed ({ALLOWED:g}; between starts, a thousandth).")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
