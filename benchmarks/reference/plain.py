"""Losses, backbones and penalties as their papers have them: a row and a task at a time, nothing of mtbench's networks.

Weights are read from a model by their names. Shapes: B rows, T tasks, k features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.reference.problems import Case
from mtbench import TaskKind

Weights = Mapping[str, Tensor]
Outputs = Mapping[tuple[int, int], Tensor]
"""By row and task: what the task's network gives for the row, [C_t]."""
Activation = Callable[[Tensor, str], Tensor]
"""What follows an affine layer; told the name of its place."""


def losses(case: Case, outputs: Outputs) -> list[list[list[Tensor]]]:
    """By task, by row of the batch that has any of its labels, by label: the loss."""
    found: list[list[list[Tensor]]] = [[] for _ in case.problem.tasks]
    for i, t in case.pairs():
        task, label, out = case.problem.tasks[t], case.label(i, t), outputs[i, t]
        if task.kind is TaskKind.MULTICLASS:
            own = [] if np.isnan(label[0]) else [torch.logsumexp(out, 0) - out[int(label[0])]]
        elif task.kind is TaskKind.REGRESSION:
            own = [(o - y) ** 2 for o, y in zip(out, label, strict=True) if not np.isnan(y)]
        else:
            own = [
                torch.logaddexp(torch.zeros_like(o), -o if y else o)
                for o, y in zip(out, label, strict=True)
                if not np.isnan(y)
            ]
        if own:
            found[t].append(own)
    return found


def task_losses(case: Case, outputs: Outputs) -> list[Tensor]:
    """L_t: the mean over a task's labels; 0 where the batch has none."""
    flat = [[loss for row in rows for loss in row] for rows in losses(case, outputs)]
    return [sum(one) / len(one) if one else torch.zeros(()).double() for one in flat]  # type: ignore[misc]


def pooled_loss(case: Case, outputs: Outputs) -> Tensor:
    """The mean over rows and tasks that have labels of the mean over these labels."""
    pairs = [sum(row) / len(row) for rows in losses(case, outputs) for row in rows]
    return sum(pairs) / len(pairs)  # type: ignore[return-value]


def offsets(case: Case, delta: float) -> list[float]:
    """By task, delta / sqrt(N_t / N_mean)."""
    n = case.examples()
    return [delta / (n_t / (sum(n) / len(n))) ** 0.5 for n_t in n]


def columns(case: Case, t: int) -> range:
    """Which of all outputs belong to a task."""
    first = sum(task.n_outputs for task in case.problem.tasks[:t])
    return range(first, first + case.problem.tasks[t].n_outputs)


def within(weights: Weights, prefix: str) -> dict[str, Tensor]:
    """Those below a module, by the names they have there."""
    return {name[len(prefix) + 1 :]: value for name, value in weights.items() if name.startswith(prefix + ".")}


def copy_of(weights: Weights, prefix: str, t: int) -> dict[str, Tensor]:
    """The t-th of several copies of a backbone, by the backbone's own names."""
    return {name.replace("__", "."): value[t] for name, value in within(weights, prefix).items()}


def squares(*of: Tensor) -> Tensor:
    """The sum of all squares."""
    return sum(((value**2).sum() for value in of), torch.zeros(()).double())


def learned(weights: Weights) -> list[Tensor]:
    """Weights without running statistics."""
    return [value for name, value in weights.items() if "running" not in name and "num_batches" not in name]


def relu(x: Tensor, place: str = "") -> Tensor:
    """The default activation."""
    return torch.where(x > 0, x, torch.zeros_like(x))


def n_stages(kind: str, layers: int) -> int:
    """Of a backbone."""
    return {"mlp": layers, "lenet": 3, "conv4": 5}[kind]


def kind_of(case: Case) -> str:
    """The case's backbone."""
    return "mlp" if case.recipe.backbone == "auto" else case.recipe.backbone


def stage(w: Weights, kind: str, i: int, x: Tensor, activation: Activation = relu) -> Tensor:
    """One stage of a backbone in training: rows [B, ...] of one network."""
    if kind == "mlp":
        return activation(x.flatten(1) @ w[f"layers.{i}.weight"].T + w[f"layers.{i}.bias"], f"activations.{i}")
    x = x[:, None] if x.ndim == 3 else x
    if kind == "lenet":
        if i == 2:
            return activation(x.flatten(1) @ w["fc.weight"].T + w["fc.bias"], "act3")
        made = F.conv2d(x, w[f"conv{i + 1}.weight"], w[f"conv{i + 1}.bias"])
        return F.max_pool2d(activation(made, f"act{i + 1}"), 2)
    if i == 4:
        return activation(x.flatten(1) @ w["fc.weight"].T + w["fc.bias"], "activations.4")
    made = normalised(F.conv2d(x, w[f"convs.{i}.weight"], padding=1), w[f"norms.{i}.weight"], w[f"norms.{i}.bias"])
    return F.max_pool2d(activation(made, f"activations.{i}"), 2, ceil_mode=True)


def features(w: Weights, case: Case, x: Tensor, activation: Activation = relu) -> Tensor:
    """All stages."""
    for i in range(n_stages(kind_of(case), case.recipe.layers)):
        x = stage(w, kind_of(case), i, x, activation)
    return x


def normalised(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Batch norm by the statistics of these rows, channel by channel."""
    made = []
    for c in range(x.shape[1]):
        mean = x[:, c].mean()
        variance = ((x[:, c] - mean) ** 2).mean()
        made.append((x[:, c] - mean) / torch.sqrt(variance + 1e-5) * scale[c] + shift[c])
    return torch.stack(made, 1)


def rows_through(case: Case, t: int) -> Sequence[int]:
    """Rows of the batch that go through the network of one task: its own where batches come in tasks, else all."""
    if case.per_task:
        return [i for i, s in case.pairs() if s == t]
    return range(len(case.rows))
