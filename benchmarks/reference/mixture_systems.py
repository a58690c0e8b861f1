"""Objectives of networks whose tasks choose among what others found: by gates over experts, by masks over features.

Each takes the weights by name, a case and the hyperparameters, and gives a scalar. Rows, tasks, experts and digits are
taken one at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.reference.plain import (
    Weights,
    copy_of,
    features,
    kind_of,
    learned,
    n_stages,
    normalised,
    relu,
    rows_through,
    stage,
    within,
)
from benchmarks.reference.problems import Case
from benchmarks.reference.task_systems import heads, objective_of, towers

Expert = Callable[[Weights, Tensor], Tensor]


def shares(scores: Tensor) -> Tensor:
    """Softmax of a few numbers."""
    powers = torch.exp(scores - scores.max())
    return powers / powers.sum()


def weighted(gate: Tensor, found: list[Tensor]) -> Tensor:
    """The sum of vectors, each times its share."""
    return sum(gate[e] * one for e, one in enumerate(found))  # type: ignore[return-value]


def through_towers(w: Weights, case: Case, found: Callable[[int, int], Tensor]) -> Any:
    """Outputs from the mixture that a row has for a task."""
    return heads(w, case, lambda i, t: relu(found(i, t) @ w["towers.V"][t] + w["towers.c"][t]))


def count(w: Weights, prefix: str) -> int:
    """How many numbered modules there are below a name."""
    return len({name.split(".")[1] for name in w if name.startswith(prefix + ".")})


def ple(w: Weights, case: Case, p: Any) -> Tensor:
    """Eqs. (2) to (7) of Tang et al.; with one level CGC.

    At the last level the experts of a task see the rows that go through its network.
    """
    n_tasks, n_levels, everyone = case.problem.n_tasks, count(w, "levels"), range(len(case.rows))

    def backbone(own: Weights, x: Tensor) -> Tensor:
        return features(own, case, x)

    def dense(own: Weights, x: Tensor) -> Tensor:
        return relu(x @ own["layer.weight"].T + own["layer.bias"])

    g, g_shared = [case.inputs()] * n_tasks, case.inputs()
    last: dict[tuple[int, int], Tensor] = {}
    for j in range(n_levels):
        own, expert = within(w, f"levels.{j}"), dense if j else backbone
        m = count(own, "own")
        common = [expert(copy_of(own, "shared", e), g_shared) for e in range(own["G"].shape[2] - m)]
        specific: dict[tuple[int, int, int], Tensor] = {}
        for t in range(n_tasks):
            rows = list(rows_through(case, t) if j == n_levels - 1 else everyone)
            for e in range(m):
                made = expert(copy_of(own, f"own.{e}", t), g[t][rows])
                specific |= {(i, t, e): z for i, z in zip(rows, made, strict=True)}
            for i in rows:
                selected = [specific[i, t, e] for e in range(m)] + [made[i] for made in common]
                last[i, t] = weighted(shares(g[t][i].flatten() @ own["G"][t]), selected)
        if j < n_levels - 1:
            every = [[specific[i, t, e] for e in range(m) for t in range(n_tasks)] for i in everyone]
            gates = [shares(g_shared[i].flatten() @ own["H"]) for i in everyone]
            g_shared = torch.stack([weighted(gates[i], every[i] + [made[i] for made in common]) for i in everyone])
            g = [torch.stack([last[i, t] for i in everyone]) for t in range(n_tasks)]
    outputs = through_towers(w, case, lambda i, t: last[i, t])
    experts = {name: value for name, value in w.items() if ".shared." in name or ".own." in name}
    return objective_of(w, case, p, outputs, *learned(experts), *towers(w))


def step(t: Tensor, gamma: Tensor) -> Tensor:
    """The smooth step, of one number."""
    if t <= -gamma / 2:
        return torch.zeros_like(t)
    if t >= gamma / 2:
        return torch.ones_like(t)
    return -2 / gamma**3 * t**3 + 3 / (2 * gamma) * t + 0.5


def dselect_k(w: Weights, case: Case, p: Any) -> Tensor:
    """Selectors by digits, one gate a task or one a task and row, and the selectors' entropy."""
    n_experts, m = w["gates.codes"].shape
    made = [features(copy_of(w, "experts", e), case, case.inputs()) for e in range(n_experts)]

    def selectors(i: int, t: int) -> tuple[Tensor, list[list[Tensor]]]:
        alpha, Z = w["gates.alpha"][t], w["gates.Z"][t]
        if alpha.ndim == 2:
            x = case.inputs()[i].flatten()
            alpha, Z = x @ alpha, (x @ Z).reshape(-1, m)
        found = []
        for z in Z:
            digits = [step(one, w["gates.gamma"]) for one in z]
            products = []
            for e in range(n_experts):
                product = torch.ones(()).double()
                for digit, bit in zip(digits, f"{e:0{m}b}", strict=True):
                    product = product * (digit if bit == "1" else 1 - digit)
                products.append(product)
            found.append(products)
        return shares(alpha), found

    def mixture(i: int, t: int) -> Tensor:
        weights, found = selectors(i, t)
        gate = [sum(weights[s] * found[s][e] for s in range(len(found))) for e in range(n_experts)]
        return sum(gate[e] * made[e][i] for e in range(n_experts))  # type: ignore[return-value]

    outputs = through_towers(w, case, mixture)
    total = objective_of(w, case, p, outputs, *learned(within(w, "experts")), *towers(w))
    for t in range(case.problem.n_tasks):
        rows = [i for i, s in case.pairs() if s == t] if w["gates.alpha"].ndim == 3 else [0]
        for i in rows:
            for products in selectors(i, t)[1]:
                for r in products:
                    total = total - p.entropy / len(rows) * r * torch.log(r + 1e-6)
    return total


def affine(w: Weights, name: str, x: Tensor) -> Tensor:
    """A convolution of images or a dense layer, and its batch norm where it has one."""
    weight, bias = w[f"{name}.0.weight"], w.get(f"{name}.0.bias")
    if weight.ndim == 2:
        return F.linear(x, weight, bias)
    made = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
    scale = w.get(f"{name}.1.weight")
    return made if scale is None else normalised(made, scale, w[f"{name}.1.bias"])


def shrunk(x: Tensor, height: int, width: int) -> Tensor:
    """Means over as many parts of the pixels of images, part by part."""
    found = [
        x[:, :, i * x.shape[2] // height : -(-(i + 1) * x.shape[2] // height)][
            ..., j * x.shape[3] // width : -(-(j + 1) * x.shape[3] // width)
        ].mean((2, 3))
        for i in range(height)
        for j in range(width)
    ]
    return torch.stack(found, 2).reshape(*x.shape[:2], height, width)


def passed(w: Weights, x: Tensor, p: Tensor) -> Tensor:
    """What f makes of one task's features x, with the size of p."""
    weight, bias = w["layer.weight"], w.get("layer.bias")
    if weight.ndim == 2:
        return relu(F.linear(x, weight, bias))
    made = F.conv2d(x, weight, bias, padding=1)
    if "scale" in w:
        made = normalised(made, w["scale"].flatten(), w["shift"].flatten())
    return shrunk(relu(made), *(p.shape[2:] or (1, 1))).reshape(len(x), *p.shape[1:])


def mtan(w: Weights, case: Case, p: Any) -> Tensor:
    """Eqs. (1) and (2) of Liu et al., task by task."""
    shared = [case.inputs()]
    for j in range(n_stages(kind_of(case), case.recipe.layers)):
        shared.append(stage(within(w, "backbone"), kind_of(case), j, shared[-1]))
    Z = {}
    for t in range(case.problem.n_tasks):
        rows = list(rows_through(case, t))
        attended = torch.empty(0)
        for j, features_of_all in enumerate(shared[1:]):
            u = features_of_all[rows]
            seen = torch.cat([u, passed(within(w, f"passing.{j - 1}"), attended, u)], 1) if j else u
            own = copy_of(w, f"attention.{j}", t)
            scores = affine(own, "h", relu(affine(own, "g", seen)))
            # The logistic function 1 / (1 + exp(-x)), by its logarithm, which does not overflow.
            attended = u * torch.exp(-torch.logaddexp(torch.zeros_like(scores), -scores))
        Z |= {(i, t): z for i, z in zip(rows, attended, strict=True)}
    outputs = heads(w, case, lambda i, t: Z[i, t])
    trained = {name: value for name, value in w.items() if not name.endswith((".rows", ".columns"))}
    decayed = [value for part in ("backbone", "attention", "passing") for value in learned(within(trained, part))]
    return objective_of(w, case, p, outputs, *decayed)


OBJECTIVES = {"cgc": ple, "ple": ple, "dselect_k": dselect_k, "mtan": mtan}
