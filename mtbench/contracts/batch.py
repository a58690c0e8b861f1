"""A batch as a method sees it, and the losses over it.

Shapes: B rows, T tasks, O outputs of all tasks, C the widest task's outputs, D label columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtbench.errors import PluginError
from mtbench.losses.training import label_losses
from mtbench.tasks import Problem, TaskKind


@dataclass(frozen=True, eq=False)
class TaskColumns:
    """Which output columns belong to which task, as tensors that all batches of a problem share.

    Attributes:
        problem: The problem (its tasks; rows are in the batches).
        of_task: int64 [T, C], output columns of each task, padded with its first column.
        valid: bool [T, C], False where `of_task` is padding.
        real: int64 [O], the positions of `of_task`, flattened to [T * C], that are no padding.
        kinds: The kinds of its tasks, each once.
        kind: int64 [T], index of each task's kind in `kinds`.
        weight: float64 [T], what each task counts for, of mean 1; None where all count the same.
    """

    problem: Problem
    of_task: Tensor
    valid: Tensor
    real: Tensor
    kinds: tuple[TaskKind, ...]
    kind: Tensor
    weight: Tensor | None

    @classmethod
    def of(cls, problem: Problem, device: torch.device) -> TaskColumns:
        """The columns of a problem, on a device.

        Args:
            problem: The problem.
            device: Where the tensors lie.
        """

        def tensor(values: object) -> Tensor:
            return torch.tensor(values, device=device)

        width = max(task.n_outputs for task in problem.tasks)
        columns = [[s.start + (j if s.start + j < s.stop else 0) for j in range(width)] for s in problem.output_slices]
        valid = [[s.start + j < s.stop for j in range(width)] for s in problem.output_slices]
        real = [i for i, there in enumerate(there for row in valid for there in row) if there]
        kinds = tuple(dict.fromkeys(task.kind for task in problem.tasks))
        kind = [kinds.index(task.kind) for task in problem.tasks]
        weight = None if problem.task_weights is None else tensor(problem.task_weights)
        return cls(problem, tensor(columns), tensor(valid), tensor(real), kinds, tensor(kind), weight)

    def per_task(self, values: Tensor) -> Tensor:
        """Sums a value per output column over the columns of each task.

        Args:
            values: [O].

        Returns:
            [T].
        """
        if self.of_task.shape[1] == 1:
            return values
        return (values[self.of_task] * self.valid).sum(-1)


@dataclass(frozen=True, eq=False)
class Batch:
    """The rows of one training step with their labels, and the losses over them.

    Attributes:
        inputs: [B, ...], in the recipe's floating-point type; images as values / 255.
        labels: Shared layout: [B, D]. Own layout: [B, max D_t], a row's own task's. 0 where there is no label.
        mask: As `labels`, 1 where there is a label; None where every row of the part has all the labels its tasks ask
            for.
        task: int64 [B], the task of each row (own layout), else None.
        n_train: [T], N_t: rows of the whole training part in which a task has at least one label.
        columns: Which output columns belong to which task.
        per_task: Own layout: rows of each task in this batch, where it holds equally many of all, in the order of the
            tasks; else 0.
        key: While a model trains, an int64 scalar that differs from step to step, the seed of `mtbench.nn.dropout`;
            None outside of training.
        n_examples: [T], as `n_train`, but of a binary task only the rows labelled 1: in one-vs-all problems those of
            each class. None for as many as `n_train`.
        weight: What each row's loss is multiplied by, where a data set weighs rows or classes: [B, T], or [B] in the
            own layout, of mean 1 over a task's labels in the part; None where all count the same.
    """

    inputs: Tensor
    labels: Tensor
    mask: Tensor | None
    task: Tensor | None
    n_train: Tensor
    columns: TaskColumns
    per_task: int = 0
    key: Tensor | None = None
    n_examples: Tensor | None = None
    weight: Tensor | None = None

    @property
    def problem(self) -> Problem:
        """The problem that the rows come from: its tasks and shapes."""
        return self.columns.problem

    @property
    def present(self) -> Tensor:
        """Which tasks have labels in this batch that count: [T], 1 or 0."""
        n_tasks, known, weight = self.problem.n_tasks, self.mask, self.weight
        if self.task is not None:
            labelled = torch.ones_like(self.task, dtype=torch.bool) if known is None else (known > 0).any(-1)
            if weight is not None:
                labelled = labelled & (weight > 0)
            counts = labelled.to(self.task.dtype)
            return (counts.new_zeros(n_tasks).scatter_add(0, self.task, counts) > 0).to(self.inputs.dtype)
        if weight is not None:
            return (weight > 0).any(0).to(self.inputs.dtype)  # it is 0 where there is no label
        if known is None:
            return self.inputs.new_ones(n_tasks)
        seen = [(known[:, columns] > 0).any() for columns in self.problem.label_slices]
        return torch.stack(seen).to(self.inputs.dtype)

    def size_offset(self, delta: Tensor | float) -> Tensor:
        """An offset for each task's loss that is larger where examples are few: delta / sqrt(N_t / N_mean).

        N_t is the task's `n_examples`, or its `n_train` ("Deep Asymmetric Multi-task Feature Learning", section 3.2).

        Args:
            delta: The offset of a task with as many examples as the mean.

        Returns:
            [T].
        """
        n = self.n_train if self.n_examples is None else self.n_examples
        return delta * (n.mean() / n.clamp(min=1.0)).sqrt()

    def own_outputs(self, outputs: Tensor) -> Tensor:
        """The outputs of each row's own task (own layout); in the shared layout the outputs as they are.

        Args:
            outputs: [B, O].

        Returns:
            [B, C], where columns beyond the task's own repeat its first; [B, O] in the shared layout.
        """
        if self.task is None or outputs.shape[-1] == 1:
            return outputs
        return torch.gather(outputs, -1, self.columns.of_task[self.task])

    def task_losses(self, outputs: Tensor) -> Tensor:
        """The mean loss of each task over its labels in this batch; 0 for a task without labels here.

        Where a data set declares weights, each loss is multiplied by that of its label, which is 1 on average over the
        task's labels of the part: a batch of all rows gives sum w l / sum w, and smaller ones give that on average.
        (To divide by the weights of the batch would make rows that are alone in theirs count the same.) The task's
        loss is multiplied by the weight of the task, which is 1 on average over tasks.

        A task of few rows is absent from many batches and then counts for nothing, so that over an epoch it weighs less
        than the mean over all its rows would; with `batch_size = 0` every batch holds all rows.

        Logistic loss for binary and multilabel tasks, cross-entropy for multiclass, squared error for regression
        (mean over a task's columns where it has several). Labels that are missing count for nothing.

        Args:
            outputs: [B, O], logits or values.

        Returns:
            [T].

        Raises:
            PluginError: The outputs have another shape.
        """
        row_losses, counts = self._row_losses(outputs)
        if self.task is None and self.mask is None:
            return self._weighted(row_losses.mean(0))  # the same in half as many operations: all numbers are 1
        return self._weighted((row_losses * counts).sum(0) / counts.sum(0).clamp(min=1.0))

    def pooled_loss(self, outputs: Tensor) -> Tensor:
        """The mean loss over all labelled (row, task) pairs of this batch: tasks weigh as they have rows.

        The loss of a pair is the mean over the task's labels in that row, times the weights of `task_losses`.

        Args:
            outputs: [B, O].

        Returns:
            A scalar.

        Raises:
            PluginError: The outputs have another shape.
        """
        return self.pooled_losses(outputs).sum()

    def pooled_losses(self, outputs: Tensor) -> Tensor:
        """What each task adds to `pooled_loss`; 0 for a task without labels in this batch.

        Args:
            outputs: [B, O].

        Returns:
            [T].

        Raises:
            PluginError: The outputs have another shape.
        """
        row_losses, counts = self._row_losses(outputs)
        pairs = (counts > 0).to(counts.dtype)
        return self._weighted((row_losses * pairs).sum(0) / pairs.sum().clamp(min=1.0))

    def checked(self, outputs: Tensor) -> Tensor:
        """The outputs, once their shape is known to be right.

        Args:
            outputs: What a model returned, to be [B, O].

        Returns:
            The same tensor.

        Raises:
            PluginError: It is no tensor of shape [B, O].
        """
        expected = (len(self.inputs), self.problem.n_outputs)
        found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        if found != expected:
            raise PluginError(
                f"A model must give the outputs of all tasks, [B, O] = {list(expected)} here; found "
                f"{list(found) if isinstance(found, tuple) else found}."
            )
        return outputs

    def _row_losses(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss of each row's labels for each task, weighted, and their number.

        Both are [B, T] or broadcast to it. Where no label of the part is missing all numbers are 1: then all rows of a
        task have equally many.
        """
        n_tasks, outputs = self.problem.n_tasks, self.checked(outputs)
        if self.task is None:
            losses, counts = _shared_losses(self.problem, outputs, self.labels, self.mask)
            return losses if self.weight is None else losses * self.weight, counts
        losses, labels = _own_losses(self.columns, self.own_outputs(outputs), self.labels, self.task, self.mask)
        losses = losses if self.weight is None else losses * self.weight
        own = (self.task[:, None] == torch.arange(n_tasks, device=self.task.device)).to(outputs.dtype)
        return losses[:, None], own if labels is None else own * labels[:, None]

    def _weighted(self, losses: Tensor) -> Tensor:
        """Losses of tasks [T] times the weights of tasks."""
        weight = self.columns.weight
        return losses if weight is None else losses * weight.to(losses.dtype)


def _shared_losses(problem: Problem, outputs: Tensor, labels: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Shared layout: outputs [B, O], labels and mask [B, D] -> losses and weights [B, T]."""
    single = problem.only(TaskKind.REGRESSION) and problem.n_outputs == problem.n_tasks
    if single or problem.only(TaskKind.BINARY):
        losses = label_losses(problem.tasks[0].kind, outputs, labels)
        return losses, torch.ones_like(losses) if mask is None else mask
    columns, counts = [], []
    for t, task in enumerate(problem.tasks):
        out, own = outputs[:, problem.output_slices[t]], problem.label_slices[t]
        loss = label_losses(task.kind, out, labels[:, own])
        columns.append(loss.mean(-1) if mask is None else _known_mean(loss, mask[:, own]))
        counts.append(torch.ones_like(loss[:, 0]) if mask is None else mask[:, own].sum(-1))
    return torch.stack(columns, -1), torch.stack(counts, -1)


def _own_losses(
    known: TaskColumns, own: Tensor, labels: Tensor, task: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Own layout: own outputs [B, C], labels and mask [B, max D_t] -> each row by its own task's kind, [B].

    And the number of each row's labels, [B]; None where none is missing.
    """
    if known.of_task.shape[1] == 1 and len(known.kinds) == 1:
        return label_losses(known.kinds[0], own, labels)[:, 0], None if mask is None else mask[:, 0]
    valid = known.valid[task]
    width = min(own.shape[1], labels.shape[1])
    total = torch.zeros_like(own[:, 0])
    for k, kind in enumerate(known.kinds):
        if kind is TaskKind.MULTICLASS:
            loss = label_losses(kind, own.masked_fill(~valid, -1e9), labels)[:, 0]
        else:
            counted = valid[:, :width].to(own.dtype) if mask is None else mask[:, :width]
            counted_labels = torch.where(valid[:, :width], labels[:, :width], 0.0)
            losses = label_losses(kind, own[:, :width], counted_labels)
            loss = (losses * counted).sum(-1) / counted.sum(-1) if mask is None else _known_mean(losses, counted)
        total = torch.where(known.kind[task] == k, loss, total)
    return total, None if mask is None else mask.sum(-1)


def _known_mean(losses: Tensor, mask: Tensor) -> Tensor:
    """The mean over the labels that are there, 0 where none is: [B, D_t] -> [B]."""
    return (losses * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)
