"""Gradients of the tasks' losses where every row belongs to one task: sums over the task's rows, all in one pass.

Shapes: R trials, B rows of a batch, T tasks, d inputs and k outputs of a dense layer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtbench.training.data import Columns
from mtbench.training.over_trials import Named


class RowTaps:
    """Follows the rows of a batch through dense layers.

    With inputs x [B, d] of a layer and derivatives D [B, k] of the losses by its outputs, the gradient of a task's loss
    on the layer's weights is the sum of D_b x_b' over the task's rows. Inputs are noted on the way forward, and
    derivatives are those by zeros that are added to the outputs.

    Args:
        layers: By name in the model.
        n_trials: R.
        n_rows: B.
        like: A tensor of the dtype and on the device of training.

    Attributes:
        zeros: What is added to each layer's outputs, by its name, [R, B, k].
        inputs: What goes into each layer, by its name, [R, B, d]; to be set once they are known.
    """

    def __init__(self, layers: Mapping[str, nn.Linear], n_trials: int, n_rows: int, like: Tensor) -> None:
        self._layers = layers
        self.zeros = {
            name: like.new_zeros(n_trials, n_rows, layer.out_features).requires_grad_()
            for name, layer in layers.items()
        }
        self.inputs: Named = {}

    @contextlib.contextmanager
    def at_work(self, zeros: Mapping[str, Tensor]) -> Iterator[Named]:
        """Notes the inputs of one trial's layers while they run, by name, [B, d].

        A layer that runs more than once, or on anything but the rows of the batch, is left out.

        Args:
            zeros: Those of the trial, [B, k].
        """
        seen: dict[str, list[Tensor]] = {name: [] for name in self._layers}
        noted: Named = {}

        def follow(name: str, x: Tensor, output: Tensor) -> Tensor:
            seen[name].append(x)
            return output + zeros[name].to(output.dtype) if output.shape == zeros[name].shape else output

        hooks = [
            layer.register_forward_hook(lambda _, args, output, name=name: follow(name, args[0], output))
            for name, layer in self._layers.items()
        ]
        try:
            yield noted
        finally:
            for hook in hooks:
                hook.remove()
        noted |= {n: xs[0] for n, xs in seen.items() if len(xs) == 1 and xs[0].shape[:-1] == zeros[n].shape[:-1]}

    @property
    def complete(self) -> bool:
        """Whether all layers could be followed."""
        return self.inputs.keys() == self._layers.keys()

    def gradients(self, names: Sequence[str], tasks: Tensor, columns: Columns) -> Named:
        """The gradients of the tasks' losses, [R, T, ...] by name of a parameter.

        Args:
            names: Of weights and biases of the layers.
            tasks: The losses [R, T], as functions of the zeros.
            columns: The batch.
        """
        found = torch.autograd.grad(tasks.sum(), list(self.zeros.values()), retain_graph=True, materialize_grads=True)
        slopes = dict(zip(self.zeros, found, strict=True))
        task = columns["task"].expand(len(tasks), -1)

        def of(name: str) -> Tensor:
            layer, _, kind = name.rpartition(".")
            D, x = slopes[layer], self.inputs[layer]
            if kind == "bias":
                return task_sums(D, task, tasks.shape[1])
            rows = (D[..., None] * x[..., None, :]).flatten(2)
            return task_sums(rows, task, tasks.shape[1]).view(*tasks.shape, D.shape[-1], x.shape[-1])

        return {name: of(name) for name in names}


def dense_layers(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Linear]:
    """The dense layers that some parameters are of, by name; empty where one is of something else."""
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    owners = [name.rpartition(".")[0] for name in names]
    return {owner: layers[owner] for owner in owners} if all(owner in layers for owner in owners) else {}


class TaskMeans:
    """Means over the rows of each task, weighted by how many labels a row has.

    Args:
        columns: The batch, [R, B, ...], or [B, ...] where all trials share it.
        n_trials: R.
        dtype: Of what means are taken of.
    """

    def __init__(self, columns: Columns, n_trials: int, dtype: torch.dtype) -> None:
        self._task, self._n_tasks = columns["task"].expand(n_trials, -1), columns["n_train"].shape[-1]
        labels = columns["mask"].sum(-1) if "mask" in columns else torch.ones_like(columns["task"])
        self._labels = labels.expand(n_trials, -1).to(dtype)[..., None]
        self._totals = task_sums(self._labels, self._task, self._n_tasks).clamp(min=1.0)

    def of(self, rows: Tensor) -> Tensor:
        """Means of values of rows, [R, B, P] -> [R, T, P]."""
        return task_sums(rows * self._labels, self._task, self._n_tasks) / self._totals


def task_sums(rows: Tensor, task: Tensor, n_tasks: int) -> Tensor:
    """Sums of the rows of each task.

    Args:
        rows: [R, B, P].
        task: int64 [R, B].
        n_tasks: T.

    Returns:
        [R, T, P].
    """
    if rows.device.type == "cpu":
        found = rows.new_zeros(len(rows), n_tasks, rows.shape[2])
        return found.scatter_add_(1, task[..., None].expand_as(rows), rows)
    # A GPU adds in an order that changes from run to run; a product does not, and there takes no longer.
    return nn.functional.one_hot(task, n_tasks).to(rows.dtype).mT @ rows
