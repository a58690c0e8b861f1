"""Which rows make the batches of an epoch, and how their images are varied: from generators seeded by names alone.

Trials of equal data set, split and seed see the same rows, varied alike, whatever their method and stack.

Shapes: S streams (a split and a seed each), T tasks, B batch rows, b rows of each task in a batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mtbench.contracts.recipe import Recipe
from mtbench.contracts.seeds import seed_from
from mtbench.contracts.trials import Trial
from mtbench.errors import DataError
from mtbench.tasks import Array, Problem
from mtbench.training.augment import varied
from mtbench.training.data import Columns, PartData, sent

_PURPOSES = ("order", "augmentation")


class Batches:
    """The batches of the training part, epoch by epoch.

    Args:
        problems: The U problems of the stack.
        streams: One trial of each stream.
        split: Position of each stream's problem, int64 [S].
        part: The training part.
        recipe: Gives batch size and augmentation.
        device: Where batches are made.

    Attributes:
        n_steps: Steps of an epoch.
        per_task: Rows of each task in every batch, in the order of the tasks; 0 where batches mix.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        streams: Sequence[Trial],
        split: Array,
        part: PartData,
        recipe: Recipe,
        device: torch.device,
    ) -> None:
        names = [(trial.cell.dataset, trial.split, trial.seed) for trial in streams]
        self._rngs = {
            purpose: [np.random.default_rng(seed_from(*name, purpose)) for name in names] for purpose in _PURPOSES
        }
        self._keys = torch.tensor([seed_from(*name, "dropout") >> 2 for name in names], device=device)
        self._part, self._split, self._device, self._augment = part, split, device, recipe.augment
        self._by_task = [_by_task(problems[u]) for u in split] if recipe.rows_per_task else []
        self.per_task = recipe.rows_per_task
        self._size = recipe.batch_size or part.n_rows
        if self.per_task:
            self._size = len(self._by_task[0]) * self.per_task
        self.n_steps = -(-part.n_rows // self._size)
        self._made = 0

    def epoch(self, streams: Array) -> Iterator[tuple[Columns, bool]]:
        """The batches of the next epoch.

        Args:
            streams: The stream of each trial that is held, int64 [R].

        Yields:
            Columns, and whether all trials share them: [B, ...] then, else [R, B, ...].
        """
        # What comes from the host is sent before the first step, so that no step has to wait for it.
        host = torch.from_numpy(self._orders())
        orders, draws = sent(host, self._device), sent(self._draws(host.shape[1]), self._device)
        shared = len(np.unique(streams)) == 1
        which, split = self._which(streams, shared, self._device)
        for step in range(self.n_steps):
            now = slice(step * self._size, (step + 1) * self._size)
            there = None
            if self._part.apart:
                which_there, split_there = self._which(streams, shared, host.device)
                there = split_there, host[:, now][which_there]
            columns = self._part.rows(split, orders[:, now][which], raw=True, there=there)
            if self._augment != "none":
                drawn = draws[:, now][which]
                columns["inputs"] = varied(columns["inputs"], drawn, flip=self._augment == "crop_flip")
            # A number that no two steps of a stream share, from which dropout makes its masks.
            keys = self._keys + self._made * 0x9E3779B97F4A7C15 % 2**62
            columns["key"] = keys[which]
            self._made += 1
            yield self._part.as_numbers(columns), shared

    def state(self) -> str:
        """Where its generators stand, as JSON."""
        rngs = {purpose: [rng.bit_generator.state for rng in rngs] for purpose, rngs in self._rngs.items()}
        return json.dumps({"made": self._made, "rngs": rngs})

    def restore(self, state: str) -> None:
        """Goes on from a `state`."""
        found = json.loads(state)
        self._made = found["made"]
        for purpose, states in found["rngs"].items():
            for rng, one in zip(self._rngs[purpose], states, strict=True):
                rng.bit_generator.state = one

    def _orders(self) -> Array:
        """The rows of an epoch's batches one after the other, for each stream: int64 [S, rows]."""
        rngs = self._rngs["order"]
        if not self.per_task:
            return np.stack([rng.permutation(self._part.n_rows) for rng in rngs])
        drawn = [
            [_cycled(rows, self.n_steps * self.per_task, rng) for rows in by_task]
            for rng, by_task in zip(rngs, self._by_task, strict=True)
        ]
        # [S, T, steps x b] -> [S, steps, T, b]: every batch has its tasks in order.
        folded: Array = np.array(drawn).reshape(len(rngs), -1, self.n_steps, self.per_task)
        return np.ascontiguousarray(folded.transpose(0, 2, 1, 3)).reshape(len(rngs), -1)

    def _which(self, streams: Array, shared: bool, device: torch.device) -> tuple[Tensor | int, Tensor | int]:
        """The streams and the splits of the trials, on a device: [R], or one of each where all share it."""
        if shared:
            return int(streams[0]), int(self._split[streams[0]])
        return sent(torch.from_numpy(streams), device), sent(torch.from_numpy(self._split[streams]), device)

    def _draws(self, n_rows: int) -> Tensor:
        """What the images of an epoch are varied by, row by row, for each stream: [S, rows, 3]; no rows without."""
        n = 0 if self._augment == "none" else n_rows
        return torch.from_numpy(np.stack([rng.random((n, 3)) for rng in self._rngs["augmentation"]]))


def _by_task(problem: Problem) -> list[Array]:
    """The training rows of each task: T arrays."""
    part = problem.parts["train"]
    if part.task is None:
        raise DataError(
            f"{problem.dataset}: rows_per_task must be 0 where tasks share their rows, as here; found another value."
        )
    rows = [np.flatnonzero(part.task == t) for t in range(problem.n_tasks)]
    empty = [task.name for task, own in zip(problem.tasks, rows, strict=True) if not len(own)]
    if empty:
        raise DataError(
            f"{problem.dataset}: with rows_per_task every task must have training rows; '{empty[0]}' has none."
        )
    return rows


def _cycled(rows: Array, n: int, rng: np.random.Generator) -> Array:
    """The first n of endless permutations of rows."""
    return np.concatenate([rng.permutation(rows) for _ in range(-(-n // len(rows)))])[:n]
