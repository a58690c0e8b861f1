"""DMTRL written out: products of factors, and the truncated decompositions that they start from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.reference.plain import Weights, features, learned, rows_through, squares, task_losses, within
from benchmarks.reference.problems import Case

Array = NDArray[Any]


def laf(f: Weights, shape: tuple[int, ...]) -> Tensor:
    """Weights laid flat, task by task: w_t = L s_t."""
    made = [sum(f["L"][:, k] * f["S"][k, t] for k in range(len(f["S"]))) for t in range(f["S"].shape[1])]
    return torch.stack([w.reshape(shape) for w in made])  # type: ignore[union-attr]


def tucker(f: Weights, shape: tuple[int, ...]) -> Tensor:
    """A core times a matrix along each axis, tasks last."""
    found = f["core"]
    for axis in range(found.ndim):
        found = (found.movedim(axis, -1) @ f[f"matrices.{axis}"].T).movedim(-1, axis)
    return torch.stack(found.unbind(-1))


def train(f: Weights, shape: tuple[int, ...]) -> Tensor:
    """w[i_1, .., i_a, t] = G_1[i_1] .. G_a[i_a] G_task[t], a product of matrices for each number."""
    found = torch.ones(1, 1).double()
    for i in range(sum(name.startswith("cores.") for name in f)):
        found = torch.einsum("...r,rns->...ns", found, f[f"cores.{i}"])
    return torch.stack(found[0, ..., 0].unbind(-1))


PRODUCTS: dict[str, Callable[[Weights, tuple[int, ...]], Tensor]] = {
    "dmtrl_laf": laf,
    "dmtrl_tucker": tucker,
    "dmtrl_tt": train,
}


def layer_weights(name: str, w: Weights, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The weights [T, ...] of each factorised layer as torch's layers take them.

    Tensor trains hold those of a backbone in the order pixels, inputs, outputs.
    """
    found = {}
    for layer, shape in shapes.items():
        product = PRODUCTS[name](within(w, f"factors.{layer}"), shape)
        if name == "dmtrl_tt" and layer != "heads":
            product = torch.stack([one.permute(-1, -2, *range(one.ndim - 2)) for one in product])
        found[layer] = product
    return found


def objective(name: str, w: Weights, case: Case, p: Any, shapes: dict[str, tuple[int, ...]]) -> Tensor:
    """sum_t L_t + lambda / 2 |weights, biases and norms|^2."""
    weights = layer_weights(name, w, shapes)
    S = weights.get("heads", w.get("S"))
    assert S is not None
    outputs = {}
    for t, task in enumerate(case.problem.tasks):
        body = {layer.replace("__", "."): value[t] for layer, value in weights.items() if layer != "heads"}
        body |= {layer.replace("__", "."): value[t] for layer, value in within(w, "copies").items()}
        rows = list(rows_through(case, t))
        Z = dict(zip(rows, features(body, case, case.inputs()[rows]), strict=True))
        for i, s in case.pairs():
            if s == t:
                outputs[i, t] = (Z[i] @ S[t] + w["b"][t])[: task.n_outputs]
    decayed = [*weights.values(), *learned(within(w, "copies")), *([] if "heads" in weights else [S])]
    return sum(task_losses(case, outputs)) + p.lambda_ / 2 * squares(*decayed)  # type: ignore[return-value]


def least_rank(values: Array, allowed: float, most: int) -> int:
    """The fewest singular values but for which the rest has a norm of at most `allowed`."""
    for rank in range(1, most):
        if np.sqrt((values[rank:] ** 2).sum()) <= allowed:
            return rank
    return most


def truncated(matrix: Array, allowed: float, most: int) -> tuple[Array, Array]:
    """Left singular vectors that are kept, and singular values times right ones."""
    U, s, V = np.linalg.svd(matrix, full_matrices=False)
    rank = least_rank(s, allowed, min(most, len(s)))
    return U[:, :rank], s[:rank, None] * V[:rank]


def laf_start(weights: Array, tolerance: float, most: int) -> tuple[Array, int]:
    """The nearest weights [T, ...] of few bases, and how many bases."""
    flat = weights.reshape(len(weights), -1).T
    U, rest = truncated(flat, tolerance * float(np.linalg.norm(flat)), most)
    return (U @ rest).T.reshape(weights.shape), U.shape[1]


def tucker_start(weights: Array, tolerance: float, most: int) -> tuple[Array, int]:
    """One axis after the other projected on what is kept of it, tasks last; and the rank of the tasks."""
    found = np.moveaxis(weights, 0, -1)
    allowed = tolerance * float(np.linalg.norm(weights)) / np.sqrt(found.ndim)
    for axis in range(found.ndim):
        unfolded = np.moveaxis(found, axis, 0).reshape(found.shape[axis], -1)
        limit = most if axis == found.ndim - 1 else found.shape[axis]
        U, _ = truncated(unfolded, allowed, limit)
        found = np.moveaxis(np.tensordot(U @ U.T, found, (1, axis)), 0, axis)
    return np.moveaxis(found, -1, 0), U.shape[1]


def train_start(weights: Array, tolerance: float, most: int) -> tuple[Array, int]:
    """Axis after axis split off what is left, tasks last (Oseledets 2011, algorithm 1); and the rank of the tasks."""
    sizes = weights.shape[1:]
    rest, chain, rank = np.moveaxis(weights, 0, -1), np.ones((1, 1)), 1
    allowed = tolerance * float(np.linalg.norm(weights)) / np.sqrt(len(sizes))
    for i, n in enumerate(sizes):
        rest = rest.reshape(rank * n, -1)
        U, rest = truncated(rest, allowed, most if i == len(sizes) - 1 else min(rest.shape))
        chain = (chain @ U.reshape(rank, -1)).reshape(-1, U.shape[1])
        rank = U.shape[1]
    return np.moveaxis((chain @ rest).reshape(*sizes, len(weights)), -1, 0), rank


STARTS: dict[str, Callable[[Array, float, int], tuple[Array, int]]] = {
    "LAF": laf_start,
    "Tucker": tucker_start,
    "TensorTrain": train_start,
}
