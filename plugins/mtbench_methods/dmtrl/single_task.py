"""Learning each task alone, for methods that start from networks that have.

Plain training of T networks on the CPU, as one batched network, before a trial's own training: for `build`, whose model
may need what single tasks learn to know its shapes.

Shapes: T tasks, B rows of a batch, b rows of each task.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from mtbench.contracts.batch import Batch, TaskColumns
from mtbench.contracts.recipe import Recipe
from mtbench.nn.copies import Copies
from mtbench.nn.decay import half_squares
from mtbench.nn.heads import Heads, task_features
from mtbench.tasks import Array, Part, Problem
from mtbench.tasks.weights import row_weights


def learn_alone(
    copies: Copies, heads: Heads, problem: Problem, recipe: Recipe, n_epochs: float, lambda_: float
) -> None:
    """Trains T networks in place, with a recipe's optimiser, learning rate and batch size.

    Minimises sum_t L_t + lambda / 2 |weights|^2. Rows are drawn by torch's generator.

    Args:
        copies: The tasks' backbones.
        heads: Their heads.
        problem: Its training rows are learned from.
        recipe: How.
        n_epochs: Passes over the training rows.
        lambda_: Weight decay, a plain number.
    """
    parameters = [*copies.parameters(), *heads.parameters()]
    optimiser: torch.optim.Optimizer = torch.optim.Adam(parameters, recipe.learning_rate)
    if recipe.optimiser == "sgd":
        optimiser = torch.optim.SGD(parameters, recipe.learning_rate, momentum=0.9)
    for batch in random_batches(problem, recipe, n_epochs):
        # A task without training rows is given others' to keep the shape.
        losses = batch.task_losses(heads(task_features(copies, batch), batch)) * (batch.n_train > 0)
        decay = half_squares(copies) + heads.S.square().sum() / 2
        optimiser.zero_grad()
        (losses.sum() + lambda_ * decay).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def random_batches(problem: Problem, recipe: Recipe, n_epochs: float) -> Iterator[Batch]:
    """Batches of random training rows, in the own layout of equally many of each task.

    Args:
        problem: Its training part.
        recipe: Gives the batch size.
        n_epochs: As many rows in all as so many epochs have.
    """
    part, n_tasks = problem.parts["train"], problem.n_tasks
    rng = np.random.default_rng(int(torch.randint(2**62, ())))
    size, per_task = min(recipe.batch_size or part.n_rows, part.n_rows), 0
    if part.task is not None:
        per_task = recipe.rows_per_task or max(1, size // n_tasks)
        size = n_tasks * per_task
    columns = TaskColumns.of(problem, torch.device("cpu"))
    sizes = [torch.as_tensor(n, dtype=torch.float32) for n in (problem.task_sizes(), problem.task_examples())]
    order, counts, weights = None, np.zeros(0, np.int64), row_weights(problem, part)
    if part.task is not None:
        order, counts = np.argsort(part.task, kind="stable"), np.bincount(part.task, minlength=n_tasks)
    for _ in range(round(n_epochs * part.n_rows / size)):
        if order is None:
            rows, task = rng.choice(part.n_rows, size, replace=False), None
        else:
            rows = order[_places(counts, per_task, rng)]
            task = torch.arange(n_tasks).repeat_interleave(per_task)
        inputs, labels, mask = _tensors(problem, part, rows)
        weight = None if weights is None else torch.from_numpy(weights[rows]).float()
        yield Batch(inputs, labels, mask, task, sizes[0], columns, per_task, n_examples=sizes[1], weight=weight)


def _places(sizes: Array, per_task: int, rng: np.random.Generator) -> Array:
    """Random places of each task where tasks lie one after the other: int64 [T b]."""
    sizes = sizes[:, None]
    starts = np.cumsum(sizes)[:, None] - sizes
    places = starts + (rng.random((len(sizes), per_task)) * sizes).astype(np.int64)
    return np.asarray(np.minimum(places, sizes.sum() - 1).reshape(-1))


def _tensors(problem: Problem, part: Part, rows: Array) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Inputs, labels and mask of some rows, as a `Batch` has them."""
    labels = part.labels[rows]
    numbers, known = torch.from_numpy(part.numbers(rows)), torch.from_numpy(np.nan_to_num(labels))
    if problem.missing(part) is None:
        return numbers, known, None
    return numbers, known, torch.from_numpy(~np.isnan(labels)).float()
