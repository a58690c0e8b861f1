"""Methods whose tasks share nothing: each task keeps the epoch that is best for itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtbench import Batch, GradientMethod, PluginError, Problem, Recipe, Reference
from mtbench.metrics import metric
from mtbench.testing.problems import OwnRegression, SharedOneVsAll, miniature_trials
from mtbench.training import train_stack
from mtbench.training.gradient import GradientStack


class PerTask(nn.Module):
    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.W = nn.Parameter(0.1 * torch.randn(problem.n_tasks, problem.n_features))

    def forward(self, batch: Batch) -> Tensor:
        return batch.inputs @ self.W.T


class Apart(GradientMethod):
    """A linear predictor per task, nothing shared."""

    name = "apart"
    reference = Reference("A test", "here")
    separate = True

    def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
        return PerTask(problem)

    def objective(self, model: PerTask, batch: Batch, params: Any) -> Tensor:
        return batch.task_losses(model(batch)).sum()

    def learned(self, model: PerTask, params: Any) -> dict[str, Tensor]:
        return {"weights": model.W}


class Together(Apart):
    """The same, with one best epoch for all tasks."""

    name = "together"
    separate = False


def trained(method: GradientMethod, dataset: Any, **recipe: Any) -> Any:
    trials = miniature_trials(method, dataset, [{"learning_rate": 0.5}], splits=(0, 1))
    changed = dataclasses.replace(dataset.recipe, max_epochs=12, **recipe)
    trials = [dataclasses.replace(t, cell=dataclasses.replace(t.cell, recipe=changed)) for t in trials]
    problems = {split: dataset.load(Path(), split, None) for split in (0, 1)}
    return train_stack(method, problems, trials, dataset)


def epoch_by_epoch(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    """Validation RMSE [12, 2, T] and weights [12, 2, T, d] after each epoch."""
    values, weights = [], []
    for n in range(1, 13):
        trials = miniature_trials(Together(), dataset, [{"learning_rate": 0.5}], (0, 1), epochs=n)
        changed = dataclasses.replace(dataset.recipe, max_epochs=12)
        trials = [dataclasses.replace(t, cell=dataclasses.replace(t.cell, recipe=changed)) for t in trials]
        problems = {split: dataset.load(Path(), split, None) for split in (0, 1)}
        # A refit keeps its last epoch; given the search's problems, it trains on the search's rows.
        stack = GradientStack(Together(), problems, trials, dataset, torch.device("cpu"))
        stack.run()
        found = stack.predictions("validation", np.arange(2))
        values.append(stack.evaluator.metrics([metric("rmse")], "validation", found, np.arange(2))["rmse"])
        weights.append(stack.learned()["weights"])
    return np.array(values), np.array(weights)


def test_every_task_has_the_weights_of_its_own_best_epoch() -> None:
    dataset = OwnRegression()
    values, weights = epoch_by_epoch(dataset)
    best = values.argmin(0)  # [2, T]
    assert len(set(best.ravel().tolist())) > 1, "the tasks must differ for this to say anything"
    result = trained(Apart(), dataset)
    for r in range(2):
        for t in range(4):
            np.testing.assert_allclose(result.learned["weights"][r, t], weights[best[r, t], r, t], rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.metrics["validation"]["rmse"], values.min(0), atol=1e-9)
    assert (result.best_epoch == best.max(1) + 1).all()


def test_no_task_is_worse_on_validation_than_with_one_epoch_for_all() -> None:
    apart, together = (trained(method, OwnRegression()) for method in (Apart(), Together()))
    assert (apart.metrics["validation"]["rmse"] <= together.metrics["validation"]["rmse"] + 1e-12).all()


def test_a_trial_stops_when_no_task_has_got_better_for_so_many_epochs() -> None:
    result = trained(Apart(), OwnRegression(), patience=2)
    n_epochs = (~np.isnan(result.history["loss"])).sum(1)
    assert (n_epochs == np.minimum(result.best_epoch + 2, 12)).all()


def test_where_the_metric_mixes_tasks_each_watches_its_own_loss() -> None:
    result = trained(Apart(), SharedOneVsAll())
    assert result.status == ["finished"] * 2
    assert result.metrics["validation"]["one_vs_all_error"].mean() < 20


def test_parameters_without_a_task_axis_are_refused() -> None:
    class Shared(Apart):
        def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
            model = PerTask(problem)
            model.scale = nn.Parameter(torch.ones(()))
            return model

    with pytest.raises(PluginError, match=r"'scale' has shape \(\)"):
        trained(Shared(), OwnRegression())
