"""The trainer of gradient methods: stacks of trials, measured by a few of their steps."""

from __future__ import annotations

import time

import torch

from mtbench.contracts.method import GradientMethod
from mtbench.training.checkpoints import Checkpoint
from mtbench.training.exactness import repeatable
from mtbench.training.footprint import Footprint
from mtbench.training.gradient import GradientStack
from mtbench.training.trainer import Trainer, TrainingInputs

_SECONDS = 0.1  # that are measured at least
_STEPS = 8  # of an epoch, measured at once


class GradientTrainer(Trainer):
    """Trains a model and an objective by the recipe's optimiser, all trials of a stack at once."""

    def start(self, inputs: TrainingInputs, checkpoint: Checkpoint | None = None) -> GradientStack:
        """A stack that is ready to run."""
        assert isinstance(inputs.method, GradientMethod)
        return GradientStack(
            inputs.method,
            inputs.problems,
            inputs.trials,
            inputs.dataset,
            inputs.device,
            inputs.pretrained,
            checkpoint,
        )

    def seconds(self, inputs: TrainingInputs) -> float:
        """What a few steps and one look at the validation part take, at best."""
        stack = self.start(inputs.prepared())
        with repeatable(inputs.device):  # as it will be trained
            stack.measure(2)
            best, spent = float("inf"), 0.0
            while spent < _SECONDS:
                started = time.perf_counter()
                stack.measure(_STEPS)
                if inputs.device.type == "cuda":
                    torch.cuda.synchronize()
                took = time.perf_counter() - started
                best, spent = min(best, took), spent + took
        return best

    def pieces(self, inputs: TrainingInputs) -> float:
        """How often a trial does as many steps, over all its epochs."""
        recipe, problem = inputs.recipe, inputs.problems[inputs.trials[0].split]
        n_rows = problem.parts["train"].inputs.shape[0]
        size = recipe.rows_per_task * problem.n_tasks or recipe.batch_size or n_rows
        return (inputs.trials[0].epochs or recipe.max_epochs) * max(1.0, n_rows / size / _STEPS)

    def memory(self, inputs: TrainingInputs) -> Footprint:
        """Predicts memory from small stacks that are looked into."""
        return Footprint(inputs)
