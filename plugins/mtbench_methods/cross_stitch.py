"""Cross-stitch networks: a network for each task, which after every stage takes some of what the others found.

Paper: Misra, Shrivastava, Gupta and Hebert, Cross-stitch Networks for Multi-task Learning, CVPR 2016, eq. (1).

Shapes: B rows, T tasks (as many towers), L stages of the backbone, k features, C outputs of the widest task. After each
stage, with x_u what stage l of tower u gave, and alpha [L, T, T],

    x_t <- sum_u alpha[l, t, u] x_u,

which is the input of stage l + 1 of tower t; the last mixture goes to the head of task t. Mixtures start at 0.9 of a
task's own and 0.1 / (T - 1) of each other's (section 5.1: a convex combination). Under SGD they learn at 100 times the
learning rate of all else, as published (section 5.2, table 2: the best were 100 to 1000).

Every row goes through all T towers, once, whatever its task; of a row that belongs to one task only that task's last
mixture is made.

Departures: under Adam mixtures learn as fast as all else unless `rate` says otherwise, which searches vary. A step of
Adam is about as long as its learning rate whatever the gradient, so that a factor of 100 moves every mixture by 100
learning rates a step: within twenty steps a task's own share goes from 0.9 to 3. One weight for each pair of tasks and
stage where the paper has one for each channel, which `per_channel` gives. Weights of mixtures are not decayed. Towers
start from random weights, or all from the recipe's base network where it names one; the paper found it better to start
from networks that were trained on one task each. Batch norm of every tower sees the rows of all tasks.
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
from mtbench.nn.heads import Heads

_OWN = 0.9
_RATES = {"sgd": 100, "adam": 1}


@dataclass(frozen=True, kw_only=True)
class CrossStitchParams:
    """Hyperparameters of cross-stitch networks.

    Attributes:
        per_channel: Mixtures of each channel by itself.
        rate: Learning rate of the mixtures, in learning rates of all else; 0 takes 100 under SGD and 1 under Adam.
        lambda_: Weight of half the squared norms of all layers.
    """

    per_channel: bool = False
    rate: int = tunable(
        0,
        grid=(1, 10, 100),
        choices=(0, 1, 10, 100),
        help="learning rate of the mixtures over that of all else; 0: 100 under SGD, 1 under Adam",
    )
    lambda_: float = tunable(
        1e-4, grid=(1e-2, 1e-3, 1e-4, 1e-5), low=1e-6, high=1e-2, per="task_loss", help="l2 on all layers"
    )


class StitchedNets(PerTask):
    """A network for each task, mixed after each stage.

    Attributes:
        towers: T backbones of the recipe's kind.
        alpha: What mixes them: for each stage [T, T] or, per channel, [T, T, channels]; row t makes x_t.
        heads: One for each task.
        rate: Learning rate of alpha over that of all else.
    """

    def __init__(self, problem: Problem, recipe: Recipe, per_channel: bool, rate: int) -> None:
        super().__init__()
        n_tasks = problem.n_tasks
        self.towers = Copies(lambda: backbone(problem, recipe), n_tasks)
        widths = stage_widths(self.towers.template, problem.input_shape)
        own = _OWN if n_tasks > 1 else 1.0
        start = torch.full((n_tasks, n_tasks), (1 - own) / max(n_tasks - 1, 1)).fill_diagonal_(own)
        self.alpha = nn.ParameterList(
            start[:, :, None].repeat(1, 1, width) if per_channel else start.clone() for width in widths
        )
        self.heads = Heads(problem, widths[-1])
        self.rate = rate or _RATES[recipe.optimiser]
        # Behind the last mixture nothing is mixed any more: its row t is task t's own.
        self.task_axes = {f"alpha.{len(widths) - 1}": 0}

    def forward(self, batch: Batch) -> Tensor:
        """Outputs [B, O]."""
        x = batch.inputs
        *inner, last = self.alpha
        for i, alpha in enumerate(inner):
            x = mixed(alpha, self.towers(x, own=i > 0, only=i))
        x = self.towers(x, own=len(inner) > 0, only=len(inner))
        return self.heads(_last_mixed(last, x, batch), batch)


def mixed(alpha: Tensor, x: Tensor) -> Tensor:
    """Eq. (1) for all tasks: sum_u alpha[t, u] x_u from x [T, B, channels, ...]."""
    channel = "" if alpha.ndim == 2 else "c"
    # Channels last, as towers on CPUs have them in memory.
    return torch.einsum(f"tu{channel},u...c->t...c", alpha, x.movedim(2, -1)).movedim(-1, 2)


def _last_mixed(alpha: Tensor, x: Tensor, batch: Batch) -> Tensor:
    """Eq. (1) for the tasks whose outputs are read, from features x [T, B, k], in a form that `Heads` takes."""
    channel = "" if alpha.ndim == 2 else "k"
    if batch.task is None:
        return mixed(alpha, x)
    if batch.per_task:
        own = x.unflatten(1, (-1, batch.per_task))
        return torch.einsum(f"tu{channel},utbk->tbk", alpha, own)
    return torch.einsum(f"bu{channel},ubk->bk", alpha[batch.task], x)


def stage_widths(template: nn.Module, input_shape: tuple[int, ...]) -> list[int]:
    """Channels, or features, that each stage of a backbone without values gives."""
    x, widths = torch.empty(2, *input_shape, device="meta"), []
    for i in range(int(template.n_stages)):
        x = template(x, only=i)
        widths.append(x.shape[1])
    return widths


class CrossStitch(GradientMethod):
    """Tasks have networks of their own and learn, stage by stage, how much to take from each other's."""

    name = "cross_stitch"
    version = "2"
    reference = Reference("Cross-stitch Networks for Multi-task Learning", "CVPR 2016", arxiv="1604.03539")
    Params = CrossStitchParams

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Rows that the recipe's backbone takes."""
        return backbone_support(problem, recipe)

    def build(self, problem: Problem, params: CrossStitchParams, recipe: Recipe) -> nn.Module:
        """A backbone and a head for each task, and what mixes them."""
        return StitchedNets(problem, recipe, params.per_channel, params.rate)

    def learning_rate_factors(self, model: StitchedNets) -> Mapping[str, float]:
        """The mixtures learn faster."""
        return {"alpha": float(model.rate)}

    def terms(self, model: StitchedNets, batch: Batch, params: CrossStitchParams) -> Terms:
        """L_t, and lambda / 2 sum_t (|below_t|^2 + |S_t|^2)."""
        return Terms(batch.task_losses(model(batch)), params.lambda_ * half_squares(model.towers, model.heads.S))

    def learned(self, model: StitchedNets, params: CrossStitchParams) -> Mapping[str, Tensor]:
        """Mixtures [L, T, T], means over channels; as transfer [T, T] their mean size: the row gives to the column."""
        size = [alpha.abs() if alpha.ndim == 2 else alpha.abs().mean(2) for alpha in model.alpha]
        signed = [alpha if alpha.ndim == 2 else alpha.mean(2) for alpha in model.alpha]
        return {"transfer": torch.stack(size).mean(0).mT, "mixtures": torch.stack(signed)}


@hookimpl
def mtbench_methods() -> list[type[GradientMethod]]:
    """The method of this file."""
    return [CrossStitch]
