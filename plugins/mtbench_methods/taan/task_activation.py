"""Activation functions that tasks have of their own, and how they compare as functions.

Liu et al., Adaptive Activation Network and Functional Regularization for Efficient and Flexible Deep Multi-Task
Learning, AAAI 2020.

Shapes: T tasks, M basis functions, N rows, each on behalf of one task. Task t's function is
f_t(z) = relu(z) + sum_m alpha[t, m] phi_m(z), with phi_m(z) = relu(b_m - z), alpha [T, M] (its rows a_t) and b [M].

Functions compare under z ~ N(0, 1). With Phi and phi its distribution function and density, m and M the smaller and the
larger of b_i and b_j:

    K_ij = E[phi_i phi_j] = (1 + b_i b_j) Phi(m) + M phi(m)                           [M, M]
    u_i  = E[relu phi_i]  = b_i phi(0) + 1/2 - Phi(b_i) where b_i > 0, else 0         [M]
    <f_s, f_t> = 1/2 + (a_s + a_t)' u + a_s' K a_t
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_ALPHA_STD = 0.01
_B_RANGE = 0.5


class TaskActivation(nn.Module):
    """The functions f_t of one layer.

    Attributes:
        alpha: [T, M], N(0, 0.01^2). While the network runs, the rows' own: [N, M].
        b: [M], U(-0.5, 0.5).
    """

    def __init__(self, n_tasks: int, n_basis: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(_ALPHA_STD * torch.randn(n_tasks, n_basis))
        self.b = nn.Parameter(torch.empty(n_basis).uniform_(-_B_RANGE, _B_RANGE))

    def forward(self, z: Tensor) -> Tensor:
        """Every row through its own task's function: [N, ...] -> [N, ...], or [B, ...] -> [N, ...] with N = T B.

        B rows are the same for all tasks so far, task after task, and part here: layers below take each row once.
        """
        out = torch.relu(z)
        if len(z) < len(self.alpha):
            phi = torch.relu(self.b - z[..., None])
            own = self.alpha.view(-1, len(z), len(self.b))
            return (out + torch.einsum("tbm,b...m->tb...", own, phi)).flatten(0, 1)
        # No product of matrices: with one row to a task its reading and writing in another order costs more.
        for m in range(len(self.b)):
            out = out + self.alpha[:, m].view(-1, *[1] * (z.ndim - 1)) * torch.relu(self.b[m] - z)
        return out

    def distances(self) -> Tensor:
        """E[(f_s - f_t)^2] = (a_s - a_t)' K (a_s - a_t): [T, T]."""
        inner = self.alpha @ gram(self.b) @ self.alpha.mT
        squares = inner.diagonal()
        return squares[:, None] + squares[None, :] - 2 * inner

    def cosines(self) -> Tensor:
        """<f_s, f_t> / (|f_s| |f_t|): [T, T]."""
        along = self.alpha @ with_relu(self.b)
        inner = 0.5 + along[:, None] + along[None, :] + self.alpha @ gram(self.b) @ self.alpha.mT
        norms = inner.diagonal().sqrt()
        return inner / (norms[:, None] * norms[None, :])


def gram(b: Tensor) -> Tensor:
    """The matrix K [M, M]: inner products of relu(b_i - z) and relu(b_j - z) under z ~ N(0, 1)."""
    low, high = torch.minimum(b[:, None], b), torch.maximum(b[:, None], b)
    return (1 + b[:, None] * b) * _distribution(low) + high * _density(low)


def with_relu(b: Tensor) -> Tensor:
    """The vector u [M]: inner products of relu(z) and relu(b_i - z) under z ~ N(0, 1)."""
    # Clamped, not masked: the expression is 0 at 0.
    b = b.clamp(min=0.0)
    return b / math.sqrt(2 * math.pi) + 0.5 - _distribution(b)


def _distribution(x: Tensor) -> Tensor:
    probability: Tensor = torch.special.ndtr(x)
    return probability


def _density(x: Tensor) -> Tensor:
    return torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
