"""MRN: task-specific layers under a prior that learns how tasks, inputs and outputs of these layers are related.

Paper: Long, Cao, Wang and Yu, Learning Multiple Tasks with Multilinear Relationship Networks, NIPS 2017.

Shapes: B rows, T tasks, k features, h units of the task-specific hidden layer, C outputs of a task. Z = backbone(X)
[B, k], shared; H_t = relu(Z V_t + c_t) [B, h] and outputs H_t S_t + b_t [B, C] belong to task t. Each stack of weights
W [T, p, q] (V: p = k, q = h; S: p = h, q = C) has the prior vec(W) ~ N(0, S_t x S_p x S_q), a Kronecker product of
covariances [T, T], [p, p], [q, q]. The penalty vec(W)' (S_t x S_p x S_q)^-1 vec(W) takes three products along the axes
of W, never the [T p q, T p q] matrix.

Every 100 steps the covariances are re-estimated one after the other (the flip-flop algorithm): with W_(t) [T, p q] the
unfolding along tasks,

    S_t <- W_(t) (S_p x S_q)^-1 W_(t)' / (p q) + eps I,  eps = 1e-5,

S_p and S_q likewise. They start as identities, with which the penalty is weight decay.

Departures: a covariance [n, n] is scaled to trace n after each estimate, because the prior fixes only the product of
the scales; that is left to gamma. The head has the prior where all tasks have equally many outputs, weight decay where
not. All tasks start from the same hidden layer, as they do in networks that are fine-tuned: hidden units of independent
starts correspond to each other in no way that a covariance between tasks could see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, Terms, hookimpl, tunable
from mtbench.contracts.terms import PerTask
from mtbench.nn.backbones import backbone, backbone_support
from mtbench.nn.decay import half_squares
from mtbench.nn.heads import Heads, by_task

_EPSILON = 1e-5
_AXES = ("tasks", "inputs", "outputs")


@dataclass(frozen=True, kw_only=True)
class MRNParams:
    """Hyperparameters of MRN.

    Attributes:
        h: Units of each task's hidden layer.
        gamma: Weight of half the prior's quadratic form.
        lambda_: Weight of half the squared norms of what has no such prior.
    """

    h: int = tunable(64, choices=(32, 64, 128), help="units of each task's hidden layer")
    gamma: float = tunable(
        1e-3, grid=(1e-1, 1e-2, 1e-3, 1e-4), low=1e-5, high=1e-1, per="task_loss", help="weight of the prior"
    )
    lambda_: float = tunable(1e-4, low=1e-6, high=1e-2, per="loss", help="l2 on all other layers")


class TensorNormal(nn.Module):
    """The prior of weights [T, p, q].

    Attributes:
        covariance_tasks, covariance_inputs, covariance_outputs: [T, T], [p, p], [q, q], each of trace n.
        precision_tasks, precision_inputs, precision_outputs: Their inverses, kept so that no step inverts anything.
    """

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        for axis, n in zip(_AXES, sizes, strict=True):
            self.register_buffer(f"covariance_{axis}", torch.eye(n))
            self.register_buffer(f"precision_{axis}", torch.eye(n))

    def penalty(self, W: Tensor) -> Tensor:
        """vec(W)' (S_t x S_p x S_q)^-1 vec(W): a scalar."""
        # In full precision throughout: rounded to bfloat16 a precision matrix need not be positive definite.
        with torch.autocast(W.device.type, enabled=False):
            pulled = _along_axes(W.detach(), self.precisions())
            # The matrix is symmetric, so the gradient is twice `pulled`: it needs no second pass through the products.
            return (pulled * (2 * W - W.detach())).sum()

    def updated(self, W: Tensor) -> dict[str, Tensor]:
        """The buffers after one round of the flip-flop algorithm, by name."""
        wide = W.double()
        precisions = [p.double() for p in self.precisions()]
        found = {}
        for i, axis in enumerate(_AXES):
            others = [p if j != i else None for j, p in enumerate(precisions)]
            n = W.shape[i]
            unfolded = wide.movedim(i, 0).reshape(n, -1)
            weighted = _along_axes(wide, others).movedim(i, 0).reshape(n, -1)
            covariance = weighted @ unfolded.mT / unfolded.shape[1]
            covariance = (covariance + covariance.mT) / 2
            identity = torch.eye(n, dtype=wide.dtype, device=W.device)
            covariance = covariance + _EPSILON * identity
            covariance = covariance * (n / covariance.diagonal().sum())
            precisions[i] = torch.cholesky_solve(identity, torch.linalg.cholesky_ex(covariance).L)
            found[f"covariance_{axis}"] = covariance.to(W.dtype)
            found[f"precision_{axis}"] = precisions[i].to(W.dtype)
        return found

    def precisions(self) -> list[Tensor]:
        """In the order of the axes of W."""
        return [getattr(self, f"precision_{axis}") for axis in _AXES]


def _along_axes(W: Tensor, matrices: list[Tensor] | list[Tensor | None]) -> Tensor:
    """W [T, p, q] times a symmetric matrix along each axis that has one."""
    tasks, inputs, outputs = matrices
    if outputs is not None:
        W = W @ outputs
    if inputs is not None:
        W = inputs @ W
    return W if tasks is None else torch.tensordot(tasks, W, 1)


class RelationshipNet(PerTask):
    """A shared backbone, and a hidden layer and a head for each task.

    Attributes:
        backbone: The recipe's.
        V: [T, k, h], Glorot-uniform, the same for all tasks.
        c: [T, h], at 0.
        heads: S [T, h, C] and b.
        hidden_prior: Of V.
        head_prior: Of S; None where tasks differ in their number of outputs.
    """

    task_axes: Mapping[str, int] = {"V": 0, "c": 0}

    def __init__(self, problem: Problem, recipe: Recipe, h: int) -> None:
        super().__init__()
        n_tasks = problem.n_tasks
        self.backbone = backbone(problem, recipe)
        k = self.backbone.n_features
        self.V = nn.Parameter(nn.init.xavier_uniform_(torch.empty(k, h)).repeat(n_tasks, 1, 1))
        self.c = nn.Parameter(torch.zeros(n_tasks, h))
        self.heads = Heads(problem, h)
        self.hidden_prior = TensorNormal(n_tasks, k, h)
        widths = {task.n_outputs for task in problem.tasks}
        self.head_prior = TensorNormal(n_tasks, h, *widths) if len(widths) == 1 else None
        self._linear = recipe.activation == "identity"

    def forward(self, batch: Batch) -> Tensor:
        """Outputs [B, O]."""
        Z = self.backbone(batch.inputs)
        rows = by_task(Z, batch) if batch.per_task else Z
        hidden = rows @ self.V + self.c[:, None]
        return self.heads(hidden if self._linear else torch.relu(hidden), batch)

    def priors(self) -> dict[str, tuple[TensorNormal, Tensor]]:
        """Priors and what they are of, by the prior's name."""
        found = {"hidden_prior": (self.hidden_prior, self.V)}
        return found if self.head_prior is None else {**found, "head_prior": (self.head_prior, self.heads.S)}

    def decay(self) -> Tensor:
        """Half the sum of squares of all weights without a prior, and of the biases below the heads."""
        rest = half_squares(self.backbone) + self.c.square().sum() / 2
        return rest if self.head_prior is not None else rest + self.heads.S.square().sum() / 2


class MRN(GradientMethod):
    """Tasks have layers of their own, close to each other as far as a learned covariance says they are related."""

    name = "mrn"
    reference = Reference(
        "Learning Multiple Tasks with Multilinear Relationship Networks", "NIPS 2017", arxiv="1506.02117"
    )
    Params = MRNParams
    update_every = 100

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Rows that the recipe's backbone takes."""
        return backbone_support(problem, recipe)

    def build(self, problem: Problem, params: MRNParams, recipe: Recipe) -> nn.Module:
        """The recipe's backbone, and two layers per task."""
        return RelationshipNet(problem, recipe, params.h)

    def terms(self, model: RelationshipNet, batch: Batch, params: MRNParams) -> Terms:
        """L_t, and gamma / 2 sum_W vec(W)' (S_t x S_p x S_q)^-1 vec(W) + lambda / 2 |all else|^2."""
        prior = torch.stack([prior.penalty(W) for prior, W in model.priors().values()]).sum()
        penalty = params.gamma / 2 * prior + params.lambda_ * model.decay()
        return Terms(batch.task_losses(model(batch)), penalty)

    def after_step(self, model: RelationshipNet, batch: Batch, params: MRNParams) -> Mapping[str, Tensor]:
        """The covariances, from the weights as they are now."""
        return {
            f"{name}.{buffer}": value
            for name, (prior, W) in model.priors().items()
            for buffer, value in prior.updated(W).items()
        }

    def learned(self, model: RelationshipNet, params: MRNParams) -> Mapping[str, Tensor]:
        """The covariance between tasks [T, T], the mean over layers; 1 on average on its diagonal."""
        covariances = [prior.covariance_tasks for prior, _ in model.priors().values()]
        return {"task_covariance": torch.stack(covariances).mean(0)}


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The method of this file."""
    return [MRN]
