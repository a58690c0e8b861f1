"""Objectives of networks that all tasks share below their outputs, written out from the papers.

Each takes the weights by name, a case and the hyperparameters, and gives a scalar.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.reference.plain import (
    Outputs,
    Weights,
    columns,
    features,
    learned,
    offsets,
    pooled_loss,
    relu,
    squares,
    task_losses,
    within,
)
from benchmarks.reference.problems import Case


def split(case: Case, all_outputs: Tensor) -> Outputs:
    """Outputs [B, O] by row and task."""
    return {(i, t): all_outputs[i, list(columns(case, t))] for i, t in case.pairs()}


def shallow(w: Weights, case: Case) -> tuple[Tensor, Tensor]:
    """Z = relu(X L + c) and Z S + b."""
    Z = torch.stack([relu(x.flatten() @ w["L"] + w["c"]) for x in case.inputs()])
    return Z, Z @ w["S"] + w["b"]


def deep(w: Weights, case: Case) -> tuple[Tensor, Tensor]:
    """Z from the backbone and Z S + b."""
    Z = features(within(w, "backbone"), case, case.inputs())
    return Z, Z @ w["S"] + w["b"]


def nn(w: Weights, case: Case, p: Any) -> Tensor:
    """T times the mean over rows, l2 on both layers, l1 on the first."""
    loss = case.problem.n_tasks * pooled_loss(case, split(case, shallow(w, case)[1]))
    return loss + p.lambda_ * squares(w["L"], w["S"]) + p.nu * w["L"].abs().sum()


def mt_nn(w: Weights, case: Case, p: Any) -> Tensor:
    """Task means, l1 on S, l2 and l1 on L."""
    loss = sum(task_losses(case, split(case, shallow(w, case)[1])))
    return loss + p.mu * w["S"].abs().sum() + p.lambda_ * squares(w["L"]) + p.nu * w["L"].abs().sum()


def with_feedback(w: Weights, case: Case, p: Any, Z: Tensor, outputs: Tensor) -> Tensor:
    """The sum over tasks and the reconstruction of eqs. (6) and (7)."""
    total = torch.zeros(()).double()
    for t, loss in enumerate(task_losses(case, split(case, outputs))):
        fed_back = sum(w["feedback.A"][o].abs().sum() for o in columns(case, t))
        spread = sum(w["S"][:, o].abs().sum() for o in columns(case, t))
        total = total + (1 + p.alpha * fed_back) * (loss + offsets(case, p.delta)[t]) + p.mu * spread
    for z, o in zip(Z, outputs, strict=True):
        total = total + p.gamma * ((z - relu(o @ w["feedback.A"] + w["feedback.b"])) ** 2).sum() / len(Z)
    return total


def amtfl(w: Weights, case: Case, p: Any) -> Tensor:
    """Eq. (6), with biases and l1 on L."""
    return with_feedback(w, case, p, *shallow(w, case)) + p.lambda_ * squares(w["L"]) + p.nu * w["L"].abs().sum()


def deep_amtfl(w: Weights, case: Case, p: Any) -> Tensor:
    """Eq. (7), with biases."""
    return with_feedback(w, case, p, *deep(w, case)) + p.lambda_ / 2 * squares(*learned(within(w, "backbone")))


def cnn(w: Weights, case: Case, p: Any) -> Tensor:
    """The base network."""
    loss = case.problem.n_tasks * pooled_loss(case, split(case, deep(w, case)[1]))
    return loss + p.lambda_ / 2 * squares(*learned(within(w, "backbone")), w["S"])


def mt_cnn(w: Weights, case: Case, p: Any) -> Tensor:
    """Task means, l1 on the last layer."""
    loss = sum(task_losses(case, split(case, deep(w, case)[1])))
    return loss + p.mu * w["S"].abs().sum() + p.lambda_ / 2 * squares(*learned(within(w, "backbone")))


def deep_amtl(w: Weights, case: Case, p: Any) -> Tensor:
    """Eq. (4) on the last layer; outputs of one task give each other nothing."""
    S, n = w["S"], case.problem.n_outputs
    owner = [t for t, task in enumerate(case.problem.tasks) for _ in range(task.n_outputs)]
    B = [[w["B"][i, j] if owner[i] != owner[j] else torch.zeros(()).double() for j in range(n)] for i in range(n)]
    total = p.mu * S.abs().sum() + p.lambda_ / 2 * squares(*learned(within(w, "backbone")))
    for t, loss in enumerate(task_losses(case, split(case, deep(w, case)[1]))):
        given = sum(B[i][j].abs() for i in columns(case, t) for j in range(n))
        total = total + (1 + p.alpha * given) * (loss + offsets(case, p.delta)[t])
    for j in range(n):
        total = total + p.gamma * squares(S[:, j] - sum(S[:, i] * B[i][j] for i in range(n)))
    return total


def projected(B: Tensor, case: Case) -> Tensor:
    """Nothing negative, and nothing between outputs of one task."""
    owner = [t for t, task in enumerate(case.problem.tasks) for _ in range(task.n_outputs)]
    rows = [[max(float(B[i, j]), 0.0) * (owner[i] != owner[j]) for j in range(len(owner))] for i in range(len(owner))]
    return torch.tensor(rows, dtype=torch.float64)


def hard_sharing(w: Weights, case: Case, p: Any) -> Tensor:
    """One backbone, a head for each task."""
    Z = features(within(w, "backbone"), case, case.inputs())
    outputs = {}
    for i, t in case.pairs():
        width = case.problem.tasks[t].n_outputs
        outputs[i, t] = (Z[i] @ w["heads.S"][t] + w["heads.b"][t])[:width]
    loss = sum(task_losses(case, outputs))
    return loss + p.lambda_ / 2 * squares(*learned(within(w, "backbone")), w["heads.S"])


OBJECTIVES = {
    "nn": nn,
    "mt_nn": mt_nn,
    "amtfl": amtfl,
    "cnn": cnn,
    "mt_cnn": mt_cnn,
    "deep_amtl": deep_amtl,
    "deep_amtfl": deep_amtfl,
    "hard_sharing": hard_sharing,
}
