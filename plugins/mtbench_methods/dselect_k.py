"""DSelect-k: experts that all tasks share, of which every task learns to select k by a smooth, sparse gate.

Paper: Hazimeh, Zhao, Chowdhery, Sathiamoorthy, Chen, Mazumder, Hong and Chi, DSelect-k: Differentiable Selection in the
Mixture of Experts with Applications to Multi-Task Learning, NeurIPS 2021.

Shapes: B rows, T tasks, E = 2^m experts, d numbers of a row laid flat, h units of a tower, C outputs of the widest
task. A selector is m numbers z, one for each binary digit of an expert's number. The smooth step of width gamma

    S(t) = 0 where t <= -gamma / 2, 1 where t >= gamma / 2, else -2 t^3 / gamma^3 + 3 t / (2 gamma) + 1/2

makes digits of them, and the selector gives expert e, whose number has the digits e_1 .. e_m,

    r(S(z))_e = prod_j S(z_j) where e_j = 1, 1 - S(z_j) where e_j = 0,

which sums to 1 and is 0 for all experts but one once every z_j is beyond gamma / 2. Task t has k selectors z_i and
weights alpha, Z [T, k, m] and alpha [T, k], and the gate

    q(alpha, Z) = sum_i softmax(alpha)_i r(S(z_i)).

With `per_example` both are linear in the row, alpha = G x and z_i = W_i x. Tasks' features are sum_e q_e f_e(x), with
experts f_e and towers as in MMoE. The objective has an entropy regulariser, which drives selectors to single experts:
`entropy` times, summed over tasks,

    Omega = - sum_i sum_e r(S(z_i))_e log r(S(z_i))_e,

with `per_example` its mean over the task's rows.

Departures: the logarithm is of r + 1e-6, as in the authors' code (github.com/google-research/google-research,
dselect_k_moe), whose uniform starts are taken, too: Z and W within gamma / 100 of 0, alpha and G within 0.05. The
number of experts is a power of two, so that every code is an expert's. Weight decay is on all layers but the gates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, Terms, hookimpl, tunable
from mtbench.contracts.terms import PerTask
from mtbench.nn.backbones import backbone, backbone_support
from mtbench.nn.copies import Copies
from mtbench.nn.decay import half_squares
from mtbench.nn.experts import Towers, mixed, note_means, rows_of_tasks
from mtbench.nn.heads import Heads, by_task

_EPSILON = 1e-6
_ALPHA_START, _Z_START = 0.05, 0.01


@dataclass(frozen=True, kw_only=True)
class DSelectKParams:
    """Hyperparameters of DSelect-k.

    Attributes:
        experts: E.
        k: Experts that a task selects, at most.
        per_example: Whether a gate depends on the row.
        gamma: Width of the smooth step.
        entropy: Weight of the entropy of the selectors, for each task.
        tower: h, units of each task's hidden layer.
        lambda_: Weight of half the squared norms of all layers but the gates.
    """

    experts: int = tunable(8, choices=(4, 8, 16), help="experts")
    k: int = tunable(2, grid=(1, 2, 4), minimum=1, help="experts that a task selects, at most")
    per_example: bool = False
    gamma: float = tunable(
        1.0, grid=(0.1, 1.0, 10.0), low=0.1, high=10.0, minimum=0.01, help="width of the smooth step"
    )
    entropy: float = tunable(
        0.01, grid=(1.0, 0.1, 0.01, 0.001), low=1e-4, high=1.0, per="task_loss", help="weight of the selectors' entropy"
    )
    tower: int = tunable(64, choices=(16, 64, 256), help="units of each task's tower")
    lambda_: float = tunable(
        1e-4, grid=(1e-2, 1e-3, 1e-4, 1e-5), low=1e-6, high=1e-2, per="loss", help="l2 on all layers"
    )


class SelectorGates(PerTask):
    """The gates of all tasks.

    Attributes:
        alpha: [T, k], or G as [T, d, k].
        Z: [T, k, m], or W as [T, d, k m].
        gamma: Width of the smooth step, a scalar.
        codes: bool [E, m], the digits of the experts' numbers, the largest first.
    """

    gamma: Tensor
    codes: Tensor

    def __init__(self, problem: Problem, params: DSelectKParams) -> None:
        super().__init__()
        n_tasks, d, k, m = problem.n_tasks, problem.n_features, params.k, params.experts.bit_length() - 1
        z_start = _Z_START * params.gamma
        shapes = [(n_tasks, d, k), (n_tasks, d, k * m)] if params.per_example else [(n_tasks, k), (n_tasks, k, m)]
        self.alpha, self.Z = (
            nn.Parameter(torch.empty(shape).uniform_(-start, start))
            for shape, start in zip(shapes, (_ALPHA_START, z_start), strict=True)
        )
        self.register_buffer("gamma", torch.tensor(params.gamma, dtype=torch.float64))
        digits = [[number >> j & 1 for j in reversed(range(m))] for number in range(params.experts)]
        self.register_buffer("codes", torch.tensor(digits, dtype=torch.bool))
        self._k = k

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The gates of each task, and the selectors they are made of.

        Args:
            rows: [n, d], the same for all tasks, or [T, n, d].

        Returns:
            q [T, n, E] and r [T, n, k, E]; n = 1 where gates do not depend on rows.
        """
        if self.alpha.ndim == 3:
            alpha, z = rows @ self.alpha, (rows @ self.Z).unflatten(-1, (self._k, -1))
        else:
            alpha, z = self.alpha[:, None], self.Z[:, None]
        r = selected(smooth_step(z, self.gamma), self.codes)
        return (torch.softmax(alpha, -1)[..., None] * r).sum(-2), r


def smooth_step(t: Tensor, gamma: Tensor | float) -> Tensor:
    """S(t), of any shape."""
    t = (t / gamma).clamp(-0.5, 0.5)
    return 0.5 + 1.5 * t - 2 * t**3


def selected(digits: Tensor, codes: Tensor) -> Tensor:
    """r: digits [..., m] between 0 and 1 and the codes [E, m] of all experts -> [..., E]."""
    found = torch.ones_like(digits[..., :1])
    # Digit by digit: the gradient of torch's product divides by what may be 0.
    for j in range(codes.shape[1]):
        found = found * torch.where(codes[:, j], digits[..., j, None], 1 - digits[..., j, None])
    return found


def entropy(r: Tensor) -> Tensor:
    """Omega: selectors [..., k, E] -> [...]."""
    return -(r * torch.log(r + _EPSILON)).sum((-2, -1))


class SelectiveNet(nn.Module):
    """Experts, and a gate, a tower and a head for each task.

    Attributes:
        experts: E backbones of the recipe's kind.
        gates: Of the tasks.
        towers: V [T, k, h] and c [T, h].
        heads: One for each task.
        gate_means: [T, E], running means of the gates over the rows of each task in training.
    """

    gate_means: Tensor

    def __init__(self, problem: Problem, recipe: Recipe, params: DSelectKParams) -> None:
        super().__init__()
        self.experts = Copies(lambda: backbone(problem, recipe), params.experts)
        self.gates = SelectorGates(problem, params)
        n_features = int(self.experts.template.n_features)
        self.towers = Towers(problem, n_features, params.tower, linear=recipe.activation == "identity")
        self.heads = Heads(problem, params.tower)
        self.register_buffer("gate_means", torch.full((problem.n_tasks, params.experts), 1 / params.experts))

    def forward(self, batch: Batch) -> Tensor:
        """Outputs [B, O]."""
        return self.with_entropy(batch)[0]

    def with_entropy(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Outputs [B, O], and the entropy of each task's selectors [T]."""
        found, rows = self.experts(batch.inputs), batch.inputs.flatten(1)
        rows = by_task(rows, batch) if batch.per_task else rows
        q, r = self.gates(rows)
        per_row = entropy(r)
        q = q.expand(-1, rows.shape[-2], -1)
        if self.training:
            note_means(self.gate_means, q.detach(), batch)
        outputs = self.heads(self.towers(mixed(q, found, batch.per_task)), batch)
        if per_row.shape[1] == 1 or batch.task is None or batch.per_task:
            return outputs, per_row.mean(1)
        own = rows_of_tasks(batch, per_row)
        return outputs, (own * per_row).sum(1) / own.sum(1).clamp(min=1.0)


class DSelectK(GradientMethod):
    """Tasks share experts, and each learns which few of them to use."""

    name = "dselect_k"
    reference = Reference(
        "DSelect-k: Differentiable Selection in the Mixture of Experts with Applications to Multi-Task Learning",
        "NeurIPS 2021",
        arxiv="2106.03760",
    )
    Params = DSelectKParams

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Rows that the recipe's backbone takes."""
        return backbone_support(problem, recipe)

    def build(self, problem: Problem, params: DSelectKParams, recipe: Recipe) -> nn.Module:
        """Backbones as experts, and a gate, a tower and a head for each task."""
        return SelectiveNet(problem, recipe, params)

    def terms(self, model: SelectiveNet, batch: Batch, params: DSelectKParams) -> Terms:
        """L_t, and entropy sum_t Omega_t + lambda / 2 |experts, towers, S|^2."""
        outputs, omega = model.with_entropy(batch)
        decay = half_squares(model.experts, model.towers, model.heads.S)
        return Terms(batch.task_losses(outputs), params.entropy * omega.sum() + params.lambda_ * decay)

    def learned(self, model: SelectiveNet, params: DSelectKParams) -> Mapping[str, Tensor]:
        """Mean gates [T, E] over the rows of each task."""
        return {"gates": model.gate_means}


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The method of this file."""
    return [DSelectK]
