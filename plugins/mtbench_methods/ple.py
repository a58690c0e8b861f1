"""CGC and PLE: experts that all tasks share beside experts of each task, and gates that mix the two.

Paper: Tang, Liu, Zhao and Gong, Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for
Personalized Recommendations, RecSys 2020, eqs. (2) to (7).

Shapes: B rows, T tasks, m_s shared experts and m experts of each task, E = m + m_s, N levels, d numbers of a gate's
input, k features, h units of a tower, C outputs of the widest task. CGC has one level: with S_t(x) [E, k] the features
of the task's own experts and of the shared ones, and G_t [d, E],

    g_t(x) = w_t(x) S_t(x)          (2)
    w_t(x) = softmax(x G_t)         (3)
    y_t    = tower_t(g_t(x))        (5)

and S_t as in (4). PLE has N levels. The experts and the gate of task t at level j take g_t of the level below in the
place of x (6), the last g_t goes to the tower (7). The shared experts of a level take g_s of the level below, which
a gate over all experts of that level makes, the shared ones and those of every task: H [d, T m + m_s]. The last level
has no such gate.

At the first level an expert is a backbone of the recipe's kind and gates see rows laid flat; above, an expert is a
dense layer k -> k with a ReLU (section 5.1.3: single layers), and gates see features. A tower is relu(z V_t + c_t) with
a dense head.

In CGC a row goes through the experts of its own task and the shared ones, where batches come in rows of each task; in
PLE through all experts, because all of them reach the shared gate.

Departures: gates start at 0, so that all experts count the same at first; the paper leaves their start open. Gates have
no weight decay. Tasks count the same; the loss weights of section 4.3, which change from epoch to epoch, belong to
weightings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtbench import Batch, GradientMethod, Problem, Recipe, Reference, Terms, hookimpl, tunable
from mtbench.contracts.terms import PerTask
from mtbench.nn.backbones import backbone, backbone_support
from mtbench.nn.copies import Copies
from mtbench.nn.decay import half_squares
from mtbench.nn.experts import Towers, mixed, note_means
from mtbench.nn.heads import Heads, by_task
from mtbench.nn.layers import Linear

_DECAYS = (1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(frozen=True, kw_only=True)
class CGCParams:
    """Hyperparameters of CGC.

    Attributes:
        shared_experts: m_s.
        task_experts: m, experts of each task.
        tower: h, units of each task's hidden layer.
        lambda_: Weight of half the squared norms of all layers but the gates.
    """

    shared_experts: int = tunable(2, grid=(1, 2, 4), minimum=1, help="experts that all tasks share, at each level")
    task_experts: int = tunable(1, grid=(1, 2, 4), help="experts of each task, at each level")
    tower: int = tunable(64, choices=(16, 64, 256), help="units of each task's tower")
    lambda_: float = tunable(1e-4, grid=_DECAYS, low=1e-6, high=1e-2, per="loss", help="l2 on all layers")


@dataclass(frozen=True, kw_only=True)
class PLEParams(CGCParams):
    """Hyperparameters of PLE.

    Attributes:
        levels: N.
    """

    levels: int = tunable(2, choices=(2, 3), help="levels of experts")


class DenseExpert(nn.Module):
    """A dense layer k -> k, Glorot-uniform with zero bias, with a ReLU but in a linear network."""

    def __init__(self, k: int, linear: bool) -> None:
        super().__init__()
        self.layer = Linear(k, k)
        nn.init.xavier_uniform_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self._linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """[B, k] -> [B, k]."""
        z: Tensor = self.layer(x)
        return z if self._linear else torch.relu(z)


class Level(PerTask):
    """Shared experts, the experts of each task, and the gates above them.

    Args:
        make: Makes an expert.
        d: Numbers that gates see.
        n_tasks: T.
        params: Numbers of experts.
        n_above: Levels above this one.

    Attributes:
        shared: m_s experts.
        own: m times an expert for each task.
        G: [T, d, m + m_s], the tasks' gates, at 0; a task's own experts come first.
        H: [d, T m + m_s], the gate of the shared experts above, at 0: every task's first expert, then every task's
            second and so on, the shared ones last. None at the last level.
    """

    def __init__(self, make: Callable[[], nn.Module], d: int, n_tasks: int, params: CGCParams, n_above: int) -> None:
        super().__init__()
        m, m_s = params.task_experts, params.shared_experts
        self.shared = Copies(make, m_s)
        self.own = nn.ModuleList(Copies(make, n_tasks) for _ in range(m))
        self.G = nn.Parameter(torch.zeros(n_tasks, d, m + m_s))
        self.H = nn.Parameter(torch.zeros(d, n_tasks * m + m_s)) if n_above else None
        # A shared gate leads from all experts to all tasks. What a task's gate mixes reaches one by the task's experts
        # at the next level, where that has a shared gate.
        own_experts, own_gate = m > 0 and n_above == 0, m == 0 or n_above < 2
        self.task_axes = {name: 0 for name, alone in (("own", own_experts), ("G", own_gate)) if alone}

    def forward(self, x: Tensor, apart: bool, shared_x: Tensor, per_task: int) -> tuple[Tensor, Tensor, Tensor]:
        """Eqs. (2) and (3), or (6).

        Args:
            x: What the tasks' experts and gates take: [n, ...], the same for all tasks, or [T, n, ...].
            apart: Whether it has the axis of tasks.
            shared_x: What the shared ones take, [B, ...].
            per_task: b where x has that many rows for each task, its own; 0 where it has all B.

        Returns:
            g_t of each task [T, n, k]; g_s [B, k], or at the last level shared_x; and the tasks' gates [T, n, m + m_s].
        """
        gates = torch.softmax(x.flatten(2 if apart else 1) @ self.G, -1)
        shared, own = self.shared(shared_x), [experts(x, own=apart) for experts in self.own]
        g = mixed(gates[..., len(own) :], shared, per_task)
        for i, found in enumerate(own):
            g = g + gates[..., i, None] * found
        if self.H is None:
            return g, shared_x, gates
        weights = torch.softmax(shared_x.flatten(1) @ self.H, -1)
        return g, torch.einsum("be,ebk->bk", weights, torch.cat([*own, shared])), gates


class ExtractionNet(nn.Module):
    """Levels of experts, and a tower and a head for each task.

    Attributes:
        levels: N of them; one is CGC.
        towers: V [T, k, h] and c [T, h].
        heads: One for each task.
        gate_means: [T, m + m_s], running means of the last level's gates over the rows of each task in training.
    """

    gate_means: Tensor

    def __init__(self, problem: Problem, recipe: Recipe, params: CGCParams, n_levels: int) -> None:
        super().__init__()
        n_tasks, linear = problem.n_tasks, recipe.activation == "identity"
        k = backbone(problem, recipe).n_features
        first = Level(lambda: backbone(problem, recipe), problem.n_features, n_tasks, params, n_levels - 1)
        higher = [Level(lambda: DenseExpert(k, linear), k, n_tasks, params, n) for n in reversed(range(n_levels - 1))]
        self.levels = nn.ModuleList([first, *higher])
        self.towers = Towers(problem, k, params.tower, linear)
        self.heads = Heads(problem, params.tower)
        n_experts = params.task_experts + params.shared_experts
        self.register_buffer("gate_means", torch.full((n_tasks, n_experts), 1 / n_experts))

    def forward(self, batch: Batch) -> Tensor:
        """Outputs [B, O]."""
        x = shared = batch.inputs
        *lower, last = self.levels
        for i, level in enumerate(lower):
            x, shared, _ = level(x, i > 0, shared, 0)
        if batch.per_task:
            x = own_rows(x, batch) if lower else by_task(x, batch)
        g, _, gates = last(x, len(lower) > 0 or batch.per_task > 0, shared, batch.per_task)
        if self.training:
            note_means(self.gate_means, gates.detach(), batch)
        return self.heads(self.towers(g), batch)


def own_rows(x: Tensor, batch: Batch) -> Tensor:
    """Of rows that each task has made something of, the task's own: [T, B, k] -> [T, b, k]."""
    return x.unflatten(1, (-1, batch.per_task)).diagonal(dim1=0, dim2=1).movedim(-1, 0)


class CGC(GradientMethod):
    """Tasks mix experts of their own with experts that all share, anew for every row."""

    name = "cgc"
    reference = Reference(
        "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for Personalized "
        "Recommendations",
        "RecSys 2020",
    )
    Params = CGCParams

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Rows that the recipe's backbone takes."""
        return backbone_support(problem, recipe)

    def build(self, problem: Problem, params: CGCParams, recipe: Recipe) -> nn.Module:
        """One level of backbones as experts, and a tower and a head for each task."""
        return ExtractionNet(problem, recipe, params, 1)

    def terms(self, model: ExtractionNet, batch: Batch, params: CGCParams) -> Terms:
        """L_t, and lambda / 2 |experts, towers, S|^2."""
        experts = [part for level in model.levels for part in (level.shared, *level.own)]
        decay = half_squares(*experts, model.towers, model.heads.S)
        return Terms(batch.task_losses(model(batch)), params.lambda_ * decay)

    def learned(self, model: ExtractionNet, params: CGCParams) -> Mapping[str, Tensor]:
        """Mean gates of the last level [T, m + m_s] over the rows of each task, its own experts first."""
        return {"gates": model.gate_means}


class PLE(CGC):
    """CGC in several levels: what is shared is extracted from all experts of the level below."""

    name = "ple"
    Params = PLEParams

    def build(self, problem: Problem, params: PLEParams, recipe: Recipe) -> nn.Module:
        """Levels of experts, of backbones and then dense, and a tower and a head for each task."""
        return ExtractionNet(problem, recipe, params, params.levels)


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The methods of this file."""
    return [CGC, PLE]
