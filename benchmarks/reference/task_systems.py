"""Objectives of networks in which tasks have layers, mixtures, gates or activations of their own.

Each takes the weights by name, a case and the hyperparameters, and gives a scalar. A row goes through one network at a
time; but batch norm, where there is any, needs all rows that go through a network at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.reference.plain import (
    Outputs,
    Weights,
    copy_of,
    features,
    kind_of,
    learned,
    n_stages,
    relu,
    rows_through,
    squares,
    stage,
    task_losses,
    within,
)
from benchmarks.reference.problems import Case


def heads(w: Weights, case: Case, found: Callable[[int, int], Tensor]) -> Outputs:
    """For the features z that a row has for a task, z S_t + b_t."""
    return {
        (i, t): (found(i, t) @ w["heads.S"][t] + w["heads.b"][t])[: case.problem.tasks[t].n_outputs]
        for i, t in case.pairs()
    }


def objective_of(w: Weights, case: Case, p: Any, outputs: Outputs, *decayed: Tensor) -> Tensor:
    """sum_t L_t + lambda / 2 |S and all that is decayed besides|^2."""
    return sum(task_losses(case, outputs)) + p.lambda_ / 2 * squares(w["heads.S"], *decayed)  # type: ignore[return-value]


def stl_deep(w: Weights, case: Case, p: Any) -> Tensor:
    """A network for each task."""
    through = {}
    for t in range(case.problem.n_tasks):
        rows = list(rows_through(case, t))
        made = features(copy_of(w, "towers", t), case, case.inputs()[rows])
        through |= {(i, t): z for i, z in zip(rows, made, strict=True)}
    outputs = heads(w, case, lambda i, t: through[i, t])
    return objective_of(w, case, p, outputs, *learned(within(w, "towers")))


def fine_tuned(w: Weights, case: Case, p: Any) -> Tensor:
    """A network for each task, whose decays have the weight that one network's has together."""
    return stl_deep(w, case, dataclasses.replace(p, lambda_=p.lambda_ / case.problem.n_tasks))


def cross_stitch(w: Weights, case: Case, p: Any) -> Tensor:
    """Eq. (1) after every stage, one weight a pair or one a channel."""
    n_tasks = case.problem.n_tasks
    x = [case.inputs()] * n_tasks
    for i in range(n_stages(kind_of(case), case.recipe.layers)):
        made = [stage(copy_of(w, "towers", u), kind_of(case), i, x[u]) for u in range(n_tasks)]
        alpha = w[f"alpha.{i}"]
        x = []
        for t in range(n_tasks):
            shape = [1, -1] + [1] * (made[0].ndim - 2)
            x.append(sum(alpha[t, u].reshape(shape) * made[u] for u in range(n_tasks)))
    outputs = heads(w, case, lambda i, t: x[t][i])
    return objective_of(w, case, p, outputs, *learned(within(w, "towers")))


def towers(w: Weights) -> list[Tensor]:
    """The weights and biases of the tasks' hidden layers."""
    return [w["towers.V"], w["towers.c"]]


def mmoe(w: Weights, case: Case, p: Any) -> Tensor:
    """Eqs. (6) to (8)."""
    n_experts = w["G"].shape[2]
    made = [features(copy_of(w, "experts", e), case, case.inputs()) for e in range(n_experts)]

    def tower(i: int, t: int) -> Tensor:
        scores = torch.exp(case.inputs()[i].flatten() @ w["G"][t])
        mixed = sum(scores[e] / scores.sum() * made[e][i] for e in range(n_experts))
        return relu(mixed @ w["towers.V"][t] + w["towers.c"][t])

    return objective_of(w, case, p, heads(w, case, tower), *learned(within(w, "experts")), *towers(w))


def prior(w: Weights, name: str, W: Tensor) -> Tensor:
    """vec(W)' (S_t x S_p x S_q)^-1 vec(W), with the whole Kronecker product."""
    S_t, S_p, S_q = (w[f"{name}.covariance_{axis}"] for axis in ("tasks", "inputs", "outputs"))
    whole = torch.kron(S_t, torch.kron(S_p, S_q))
    vec = W.reshape(-1, 1)
    return (vec.T @ torch.linalg.solve(whole, vec))[0, 0]


def mrn(w: Weights, case: Case, p: Any) -> Tensor:
    """A shared backbone, and a hidden layer and a head for each task under tensor-normal priors."""
    Z = features(within(w, "backbone"), case, case.inputs())
    outputs = heads(w, case, lambda i, t: relu(Z[i] @ w["V"][t] + w["c"][t]))
    total = sum(task_losses(case, outputs)) + p.gamma / 2 * prior(w, "hidden_prior", w["V"])
    decayed = [*learned(within(w, "backbone")), w["c"]]
    if len({task.n_outputs for task in case.problem.tasks}) == 1:
        total = total + p.gamma / 2 * prior(w, "head_prior", w["heads.S"])
    else:
        decayed.append(w["heads.S"])
    return total + p.lambda_ / 2 * squares(*decayed)


def flip_flop(w: Weights, name: str, W: Tensor) -> dict[str, Tensor]:
    """Covariances after one round: each from the others, tasks first, of trace n."""
    S = [w[f"{name}.covariance_{axis}"].numpy() for axis in ("tasks", "inputs", "outputs")]
    values = W.detach().numpy()
    for axis in range(3):
        n = values.shape[axis]
        unfolded = np.moveaxis(values, axis, 0).reshape(n, -1)
        one, other = (S[j] for j in range(3) if j != axis)
        made = unfolded @ np.linalg.inv(np.kron(one, other)) @ unfolded.T / unfolded.shape[1] + 1e-5 * np.eye(n)
        S[axis] = made * n / np.trace(made)
    named = zip(("tasks", "inputs", "outputs"), S, strict=True)
    return {f"{name}.covariance_{axis}": torch.from_numpy(value) for axis, value in named}


def soft_order(w: Weights, case: Case, p: Any) -> Tensor:
    """Eq. (7), without dropout: y_l = sum_j softmax_j(s[t, l, j]) F_j(y_{l-1})."""
    W, b, s = w["layers.W"], w["layers.b"], w["s"]
    E, e = w["layers.encoders.0"], w["layers.encoders.1"]

    def ordered(i: int, t: int) -> Tensor:
        x = case.inputs()[i]
        if kind_of(case) == "mlp":
            y = x.flatten() @ E[t] + e[t]
        else:
            x = x if x.ndim == 3 else x[None]
            y = torch.stack([sum(E[t, k, c] * x[c] for c in range(len(x))) + e[t, k] for k in range(E.shape[1])])
        for depth in range(len(W)):
            share = torch.exp(s[t, depth]) / torch.exp(s[t, depth]).sum()
            if kind_of(case) == "mlp":
                y = sum(share[j] * relu(y @ W[j].T + b[j]) for j in range(len(W)))
            else:
                y = sum(share[j] * relu(F.conv2d(y[None], W[j], b[j], padding=1)) for j in range(len(W)))
                y = F.max_pool2d(y, 2, ceil_mode=True)[0]
        return y.flatten()

    return objective_of(w, case, p, heads(w, case, ordered), *learned(within(w, "layers")))


def taan(w: Weights, case: Case, p: Any) -> Tensor:
    """Shared weights and f_t(z) = relu(z) + sum_m alpha[t, m] relu(b_m - z)."""
    body = within(w, "backbone")
    # Task by task where tasks share rows: which row is whose is all that its place says.
    order = case.pairs() if case.own else sorted(case.pairs(), key=lambda pair: pair[1])

    def own(z: Tensor, place: str) -> Tensor:
        """Each row's by its own task; rows that are still the same for all tasks become one for each."""
        alpha, b = body[f"{place}.alpha"], body[f"{place}.b"]
        parted = len(z) == len(order)
        made = []
        for place_of, (i, t) in enumerate(order):
            row = z[place_of] if parted else z[i]
            made.append(relu(row) + sum(alpha[t, m] * relu(b[m] - row) for m in range(len(b))))
        return torch.stack(made)

    Z = dict(zip(order, features(body, case, case.inputs(), own), strict=True))
    shared = [value for name, value in body.items() if name.rsplit(".", 1)[1] in ("weight", "bias")]
    return objective_of(w, case, p, heads(w, case, lambda i, t: Z[i, t]), *shared)


def functions(w: Weights) -> list[tuple[Tensor, Tensor]]:
    """Of each layer, alpha and b."""
    return [(value, w[name[:-5] + "b"]) for name, value in w.items() if name.endswith(".alpha")]


def inner(alpha: Tensor, b: Tensor, s: int, t: int, relu_too: bool) -> Tensor:
    """<f_s, f_t> under z ~ N(0, 1); without their relu(z), <f_s - relu, f_t - relu>."""
    normal = torch.distributions.Normal(torch.zeros(()).double(), 1.0)
    found = torch.full((), 0.5 if relu_too else 0.0).double()
    for i in range(len(b)):
        for j in range(len(b)):
            low, high = (b[i], b[j]) if b[i] < b[j] else (b[j], b[i])
            density = torch.exp(normal.log_prob(low))
            K = (1 + b[i] * b[j]) * normal.cdf(low) + high * density
            found = found + alpha[s, i] * alpha[t, j] * K
        if relu_too and b[i] > 0:
            u = b[i] / np.sqrt(2 * np.pi) + 0.5 - normal.cdf(b[i])
            found = found + (alpha[s, i] + alpha[t, i]) * u
    return found


def different_pairs(n_tasks: int) -> list[tuple[int, int]]:
    """Ordered pairs of different tasks."""
    return [(s, t) for s in range(n_tasks) for t in range(n_tasks) if s != t]


def taan_distance(w: Weights, case: Case, p: Any) -> Tensor:
    """And c times the mean over pairs of E[(f_s - f_t)^2]."""
    total = taan(w, case, p)
    pairs = different_pairs(case.problem.n_tasks)
    for alpha, b in functions(w):
        for s, t in pairs:
            apart = (alpha[s] - alpha[t])[None]
            total = total + p.c / len(pairs) * inner(apart, b, 0, 0, relu_too=False)
    return total


def taan_cosine(w: Weights, case: Case, p: Any) -> Tensor:
    """And minus c times the mean over pairs of the cosine of two functions."""
    total = taan(w, case, p)
    pairs = different_pairs(case.problem.n_tasks)
    for alpha, b in functions(w):
        for s, t in pairs:
            norms = torch.sqrt(inner(alpha, b, s, s, True) * inner(alpha, b, t, t, True))
            total = total - p.c / len(pairs) * inner(alpha, b, s, t, True) / norms
    return total


def taan_trace_norm(w: Weights, case: Case, p: Any) -> Tensor:
    """And c times the sum of the singular values of alpha."""
    total = taan(w, case, p)
    for alpha, _ in functions(w):
        short = alpha @ alpha.T if alpha.shape[0] <= alpha.shape[1] else alpha.T @ alpha
        total = total + p.c * torch.sqrt(torch.linalg.eigvalsh(short)).sum()
    return total


OBJECTIVES = {
    "stl_deep": stl_deep,
    "fine_tuned": fine_tuned,
    "cross_stitch": cross_stitch,
    "mmoe": mmoe,
    "mrn": mrn,
    "soft_order": soft_order,
    "taan": taan,
    "taan_distance": taan_distance,
    "taan_cosine": taan_cosine,
    "taan_trace_norm": taan_trace_norm,
}
