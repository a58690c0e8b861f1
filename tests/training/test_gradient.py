"""The stack trainer of gradient methods: independence of trials, stopping, divergence, and the errors authors meet."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtbench import Batch, GradientMethod, PluginError, Problem, Recipe, Reference, tunable
from mtbench.contracts.trials import Status
from mtbench.testing.problems import OwnRegression, SharedOneVsAll, miniature_trials
from mtbench.training import stack as stack_module
from mtbench.training import train_stack
from mtbench.training.gradient import GradientStack

NOWHERE = Path()


@dataclass(frozen=True, kw_only=True)
class LinearParams:
    decay: float = tunable(1e-3, low=1e-5, high=1e-1)


class Linear(GradientMethod):
    """A linear model per task, l2 on its weights."""

    name = "linear_test"
    reference = Reference("A test", "here")
    Params = LinearParams

    def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
        return BatchLinear(problem.n_features, problem.n_outputs)

    def objective(self, model: nn.Module, batch: Batch, params: Any) -> Tensor:
        return batch.task_losses(model(batch)).sum() + params.decay * model.weight.square().sum()


class BatchLinear(nn.Module):
    def __init__(self, d: int, n_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(d, n_outputs))
        self.bias = nn.Parameter(torch.zeros(n_outputs))

    def forward(self, batch: Batch) -> Tensor:
        return batch.inputs @ self.weight + self.bias


def run(method: GradientMethod, dataset: Any, trials: Any, **kwargs: Any) -> Any:
    problems = {split: dataset.load(NOWHERE, split, dataset.Options()) for split in {t.split for t in trials}}
    return train_stack(method, problems, trials, dataset, **kwargs)


def with_recipe(trials: Any, **changes: Any) -> list[Any]:
    cell = trials[0].cell
    cell = dataclasses.replace(cell, recipe=dataclasses.replace(cell.recipe, **changes))
    return [dataclasses.replace(trial, cell=cell) for trial in trials]


SETTINGS = [{"decay": d, "learning_rate": rate} for d in (1e-3, 1e-2, 1e-1) for rate in (0.3, 0.02)]


@pytest.mark.parametrize("dataset_class", [SharedOneVsAll, OwnRegression])
@pytest.mark.parametrize("changes", [{}, {"optimiser": "sgd"}, {"patience": 2}, {"batch_size": 0}, {"clip_norm": 0.5}])
def test_every_trial_equals_itself_trained_alone(dataset_class: Any, changes: dict[str, Any]) -> None:
    dataset, method = dataset_class(), Linear()
    trials = with_recipe(miniature_trials(method, dataset, SETTINGS, splits=(0, 1)), **changes)
    together = run(method, dataset, trials)
    for r, trial in enumerate(trials):
        alone = run(method, dataset, [trial])
        for part, metrics in together.metrics.items():
            for name, values in metrics.items():
                np.testing.assert_allclose(values[r], alone.metrics[part][name][0], rtol=0, atol=1e-8)
        assert together.best_epoch[r] == alone.best_epoch[0]


def test_results_do_not_depend_on_the_order_of_trials() -> None:
    dataset, method = SharedOneVsAll(), Linear()
    trials = miniature_trials(method, dataset, SETTINGS, splits=(0, 1))
    forward, backward = run(method, dataset, trials), run(method, dataset, trials[::-1])
    np.testing.assert_allclose(forward.history["loss"], backward.history["loss"][::-1], atol=1e-9)


def test_the_same_stack_twice_gives_the_same_bytes() -> None:
    dataset, method = OwnRegression(), Linear()
    trials = with_recipe(miniature_trials(method, dataset, SETTINGS), dtype="float32")
    first, again = run(method, dataset, trials), run(method, dataset, trials)
    assert first.metrics["test"]["rmse"].tobytes() == again.metrics["test"]["rmse"].tobytes()


def test_one_trial_equals_a_plain_pytorch_loop() -> None:
    dataset, method = SharedOneVsAll(), Linear()
    trials = with_recipe(miniature_trials(method, dataset), batch_size=0, max_epochs=7)
    result = run(method, dataset, trials)
    problem = dataset.load(NOWHERE, 0, dataset.Options())
    stack = GradientStack(method, {0: problem}, trials, dataset, torch.device("cpu"))
    weight, bias = (
        v[0].detach().clone().requires_grad_() for v in stack.models.leaves(stack.progress.snapshot.theta).values()
    )
    adam = torch.optim.Adam([weight, bias], lr=dataset.recipe.learning_rate)
    x = torch.as_tensor(problem.parts["train"].inputs).double()
    y = torch.as_tensor(problem.parts["train"].labels).double()
    for epoch in range(7):
        loss = nn.functional.binary_cross_entropy_with_logits(x @ weight + bias, y, reduction="none").mean(0).sum()
        loss = loss + 1e-3 * weight.square().sum()
        assert result.history["loss"][0, epoch] == pytest.approx(loss.item(), abs=1e-9)
        adam.zero_grad()
        loss.backward()
        adam.step()


def test_patience_stops_each_trial_at_its_own_epoch() -> None:
    dataset, method = SharedOneVsAll(), Linear()
    settings = [{"learning_rate": rate} for rate in (1.0, 0.05, 0.001)]
    trials = with_recipe(miniature_trials(method, dataset, settings), patience=3, max_epochs=40)
    result = run(method, dataset, trials)
    epochs = np.nanmax(result.history["epoch"], 1)
    assert len(set(epochs)) > 1
    stopped = epochs < 40
    np.testing.assert_array_equal(epochs[stopped], result.best_epoch[stopped] + 3)


def test_the_best_validation_epoch_is_the_one_measured() -> None:
    dataset, method = OwnRegression(), Linear()
    trials = miniature_trials(method, dataset, [{"learning_rate": 0.5}, {"learning_rate": 0.01}])
    result = run(method, dataset, trials)
    headline = result.metrics["validation"]["rmse"].mean(1)
    np.testing.assert_allclose(headline, np.nanmin(result.history["rmse"], 1), atol=1e-12)
    np.testing.assert_array_equal(np.nanargmin(result.history["rmse"], 1) + 1, result.best_epoch)


def test_a_diverging_trial_is_recorded_and_harms_no_other() -> None:
    dataset, method = OwnRegression(), Linear()
    settings = [{"learning_rate": 0.02}, {"learning_rate": 1e200}, {"learning_rate": 0.01}]
    trials = with_recipe(miniature_trials(method, dataset, settings), optimiser="sgd")
    result = run(method, dataset, trials)
    assert result.status == [Status.FINISHED, Status.DIVERGED, Status.FINISHED]
    assert "finite" in result.reason[1]
    assert np.isnan(result.metrics["test"]["rmse"][1]).all()
    alone = run(method, dataset, [trials[2]])
    np.testing.assert_allclose(result.metrics["test"]["rmse"][2], alone.metrics["test"]["rmse"][0], atol=1e-8)


def test_a_prediction_that_is_not_finite_is_no_result() -> None:
    class PartlyBroken(Linear):
        name = "partly_broken_test"

        def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
            class Broken(BatchLinear):
                def forward(self, batch: Batch) -> Tensor:
                    outputs = super().forward(batch)
                    last = torch.arange(outputs.shape[-1]) == outputs.shape[-1] - 1
                    return outputs if self.training else torch.where(last, torch.nan, outputs)

            return Broken(problem.n_features, problem.n_outputs)

    dataset, method = OwnRegression(), PartlyBroken()
    result = run(method, dataset, miniature_trials(method, dataset, SETTINGS[:2]))
    assert result.status == [Status.DIVERGED] * 2
    assert not result.metrics


def test_what_a_method_draws_depends_on_its_trial_alone() -> None:
    class Noisy(Linear):
        name = "noisy_test"
        stackable = False

        def objective(self, model: nn.Module, batch: Batch, params: Any) -> Tensor:
            return super().objective(model, batch, params) * (1 + 0.5 * torch.rand(()))

    dataset, method = SharedOneVsAll(), Noisy()
    trial = miniature_trials(method, dataset)
    first = run(method, dataset, trial)
    torch.rand(7)
    np.testing.assert_array_equal(run(method, dataset, trial).history["loss"], first.history["loss"])


def test_a_refit_trains_on_validation_rows_too_for_its_own_number_of_epochs() -> None:
    dataset, method = SharedOneVsAll(), Linear()
    search = miniature_trials(method, dataset)
    trials = [dataclasses.replace(search[0], epochs=n) for n in (2, 5)]
    result = run(method, dataset, trials)
    assert list(result.best_epoch) == [2, 5]
    assert "validation" not in result.metrics
    assert result.predictions["test"].shape == (2, 20, 3)
    alone = run(method, dataset, trials[1:])
    np.testing.assert_allclose(result.predictions["test"][1], alone.predictions["test"][0], atol=1e-6)
    # Changing the validation rows changes a refit, and leaves a search's training as it was.
    problem = dataset.load(NOWHERE, 0, dataset.Options())
    validation = dataclasses.replace(problem.parts["validation"], inputs=problem.parts["validation"].inputs + 1)
    changed = dataclasses.replace(problem, parts={**problem.parts, "validation": validation})
    other = train_stack(method, {0: changed}, trials, dataset)
    assert not np.allclose(other.history["loss"][0, 0], result.history["loss"][0, 0])
    before, after = (train_stack(method, {0: p}, search, dataset) for p in (problem, changed))
    np.testing.assert_array_equal(before.history["loss"], after.history["loss"])


def test_methods_see_the_same_batches() -> None:
    seen: dict[str, list[Tensor]] = {}

    class Watching(Linear):
        def objective(self, model: nn.Module, batch: Batch, params: Any) -> Tensor:
            seen.setdefault(self.name, []).append(batch.inputs.clone())
            return super().objective(model, batch, params)

    class Other(Watching):
        name = "other_test"

    dataset = SharedOneVsAll()
    for method in (Watching(), Other()):
        run(method, dataset, miniature_trials(method, dataset))
    assert len(seen["linear_test"]) == len(seen["other_test"]) > 0
    assert all(torch.equal(a, b) for a, b in zip(seen["linear_test"], seen["other_test"], strict=True))


def test_an_operation_that_does_not_map_is_named() -> None:
    class Unmappable(Linear):
        name = "unmappable_test"

        def objective(self, model: nn.Module, batch: Batch, params: Any) -> Tensor:
            return super().objective(model, batch, params) * float(params.decay.item())

    dataset, method = SharedOneVsAll(), Unmappable()
    with pytest.raises(PluginError, match=r"must map over trials.*item.*stackable = False"):
        run(method, dataset, miniature_trials(method, dataset, SETTINGS))


def test_an_objective_that_is_no_scalar_is_refused() -> None:
    class Vector(Linear):
        name = "vector_test"

        def objective(self, model: nn.Module, batch: Batch, params: Any) -> Tensor:
            return batch.task_losses(model(batch))

    dataset, method = SharedOneVsAll(), Vector()
    with pytest.raises(PluginError, match=r"must be a scalar; found shape \(3,\)"):
        run(method, dataset, miniature_trials(method, dataset, SETTINGS[:2]))


def test_a_stack_that_does_not_fit_in_memory_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, method = SharedOneVsAll(), Linear()
    trials = miniature_trials(method, dataset, SETTINGS)
    whole = run(method, dataset, trials)
    train = stack_module._train

    def small(*args: Any) -> Any:
        if len(args[0].trials) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return train(*args)

    monkeypatch.setattr(stack_module, "_train", small)
    halved = run(method, dataset, trials)
    assert halved.status == [Status.FINISHED] * 6
    np.testing.assert_allclose(
        halved.metrics["test"]["one_vs_all_error"], whole.metrics["test"]["one_vs_all_error"], atol=1e-8
    )
    assert halved.history["loss"].shape == whole.history["loss"].shape


def test_a_trial_that_does_not_fit_alone_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr(stack_module, "_train", never)
    dataset, method = SharedOneVsAll(), Linear()
    result = run(method, dataset, miniature_trials(method, dataset, SETTINGS[:3]))
    assert result.status == [Status.OOM] * 3
    assert result.reason == ["no room"] * 3


def test_what_building_takes_counts_as_training_of_the_stacks_trials() -> None:
    class LearnsFirst(Linear):
        def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
            time.sleep(0.5)
            return super().build(problem, params, recipe)

    trials = with_recipe(miniature_trials(LearnsFirst(), OwnRegression(), SETTINGS[:2]), max_epochs=1)
    result = run(LearnsFirst(), OwnRegression(), trials)
    assert result.train_seconds.sum() >= 0.5 * len(trials)


def test_after_step_updates_buffers_of_each_trial() -> None:
    class Counting(Linear):
        name = "counting_test"
        update_every = 2

        def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
            model = super().build(problem, params, recipe)
            model.register_buffer("count", torch.zeros(()))
            return model

        def after_step(self, model: nn.Module, batch: Batch, params: Any) -> dict[str, Tensor]:
            return {"count": model.count + 1}

        def learned(self, model: nn.Module, params: Any) -> dict[str, Tensor]:
            return {"count": model.count}

    dataset, method = SharedOneVsAll(), Counting()
    for n in (1, 3):
        trials = [dataclasses.replace(t, epochs=4) for t in miniature_trials(method, dataset, SETTINGS[:n])]
        # 60 rows in batches of 16: four steps an epoch, an update every second.
        np.testing.assert_array_equal(run(method, dataset, trials).learned["count"], np.full(n, 8.0))


class Hasty(Linear):
    """Its bias learns faster."""

    name = "hasty_test"

    def learning_rate_factors(self, model: nn.Module) -> dict[str, float]:
        return {"bias": 10.0}


def test_parameters_learn_at_the_rate_that_the_method_names() -> None:
    dataset = SharedOneVsAll()
    problem = dataset.load(NOWHERE, 0, dataset.Options())
    moved = []
    for method in (Linear(), Hasty()):
        trials = with_recipe(miniature_trials(method, dataset, SETTINGS[:2]), batch_size=0, max_epochs=1)
        stack = GradientStack(method, {0: problem}, trials, dataset, torch.device("cpu"))
        before = {name: value.clone() for name, value in stack.models.leaves(stack.state.theta).items()}
        stack.train_epoch()
        moved.append({name: value - before[name] for name, value in stack.models.leaves(stack.state.theta).items()})
    torch.testing.assert_close(moved[1]["weight"], moved[0]["weight"], rtol=0, atol=1e-12)
    torch.testing.assert_close(moved[1]["bias"], 10 * moved[0]["bias"], rtol=0, atol=1e-12)


def test_a_rate_for_no_parameter_is_refused() -> None:
    class Wrong(Hasty):
        def learning_rate_factors(self, model: nn.Module) -> dict[str, float]:
            return {"bia": 10.0}

    dataset, method = SharedOneVsAll(), Wrong()
    with pytest.raises(PluginError, match=r"must name parameters.*found 'bia' among weight, bias"):
        run(method, dataset, miniature_trials(method, dataset))


def test_a_parameter_of_two_names_is_one() -> None:
    class Tied(Linear):
        """Reads its weight by another name."""

        def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
            model = BatchLinear(problem.n_features, problem.n_outputs)
            model.another = nn.Linear(1, 1)
            model.another.weight, model.another.bias = model.weight, model.bias
            return model

        def objective(self, model: nn.Module, batch: Batch, params: Any) -> Tensor:
            outputs = batch.inputs @ model.another.weight + model.another.bias
            return batch.task_losses(outputs).sum() + params.decay * model.weight.square().sum()

    dataset = SharedOneVsAll()
    trials = miniature_trials(Linear(), dataset, SETTINGS[:2])
    one, other = (run(method, dataset, trials).history["loss"] for method in (Linear(), Tied()))
    np.testing.assert_array_equal(one, other)
