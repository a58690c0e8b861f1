"""Weightings in training: the gradients they see and make, what they remember and learn, whom they cannot change."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mtbench_methods.amtfl import AMTFL
from mtbench_methods.hard_sharing import HardSharing
from mtbench_methods.mmoe import MMoE
from mtbench_methods.stl import STL
from mtbench_methods.stl_deep import DeepSTL
from torch import Tensor, nn

from mtbench import (
    Batch,
    GradientMethod,
    GramWeighting,
    JacobianWeighting,
    LossWeighting,
    PluginError,
    Problem,
    Recipe,
    Reference,
    StudyError,
    TaskStep,
    Terms,
    tunable,
)
from mtbench.contracts.trials import Status, Trial
from mtbench.contracts.weighted import weighted
from mtbench.nn.heads import Heads
from mtbench.testing.methods import assert_same
from mtbench.testing.problems import OwnMulticlass, OwnRegression, SharedOneVsAll, SharedRegression, miniature_trials
from mtbench.testing.weightings import SharedTrunk
from mtbench.training import Checkpoint, steps, train_stack
from mtbench.training.gradient import GradientStack

NOWHERE = Path()
HERE = Reference("A test", "here")


@dataclass(frozen=True, kw_only=True)
class PowerParams:
    power: float = tunable(1.0, low=0.1, high=4.0)
    lambda_: float = tunable(0.5, low=0.1, high=1.0)


class Ones(GramWeighting):
    name, reference = "ones", HERE

    def combine(self, step: TaskStep, params: Any) -> tuple[Tensor, Any]:
        assert step.gram is not None
        return torch.ones_like(step.gram[0]), step.state


class Norms(GramWeighting):
    """Weights that differ between tasks and steps: powers of the gradients' norms."""

    name, reference, Params = "norms", HERE, PowerParams

    def combine(self, step: TaskStep, params: Any) -> tuple[Tensor, Any]:
        assert step.gram is not None
        return 1.0 + step.gram.diagonal().sqrt() ** params.power, step.state


class WeightedHeads(Norms):
    name, heads = "weighted_heads", "weighted"


class Sums(JacobianWeighting):
    name, reference = "sums", HERE

    def combine(self, step: TaskStep, params: Any) -> tuple[Tensor, Any]:
        assert step.jacobian is not None
        return step.jacobian.sum(0), step.state


class Plain(LossWeighting):
    name, reference = "plain", HERE

    def combine(self, step: TaskStep, params: Any) -> tuple[Tensor, Any]:
        return step.losses.sum(), step.state


class Learning(LossWeighting):
    """Learns a scale of every loss, remembers steps, epochs and what it was told."""

    name, reference, Params = "learning", HERE, PowerParams
    sees_losses_after = True

    def start(self, n_tasks: int, n_shared: int, params: Any) -> Any:
        nothing = torch.zeros(n_tasks)
        return {
            "steps": torch.tensor(0),
            "epochs": torch.tensor(0),
            "mean": nothing,
            "before": nothing,
            "after": nothing,
        }

    def learned(self, n_tasks: int, params: Any) -> Any:
        return {"scale": torch.zeros(n_tasks)}

    def combine(self, step: TaskStep, params: Any) -> tuple[Tensor, Any]:
        scale = step.learned["scale"]
        total = (torch.exp(-scale) * step.losses * params.power + scale).sum()
        return total, {**step.state, "steps": step.state["steps"] + 1}

    def after_step(self, before: Tensor, after: Tensor, state: Any, params: Any) -> Any:
        return {**state, "before": before, "after": after}

    def after_epoch(self, losses: Tensor, state: Any, params: Any) -> Any:
        return {**state, "mean": losses, "epochs": state["epochs"] + 1}


ALL = (Ones, Norms, WeightedHeads, Sums, Plain, Learning)


def run(method: GradientMethod, dataset: Any, trials: Sequence[Trial], **kwargs: Any) -> Any:
    problems = {s: dataset.load(NOWHERE, s, dataset.Options()) for s in {t.split for t in trials}}
    return train_stack(method, problems, trials, dataset, **kwargs)


def trained(cls: Any, dataset: Any, settings: Any = ({},), **recipe: Any) -> Any:
    return run(cls(), dataset, trials_of(cls, dataset, settings, **recipe))


def trials_of(cls: Any, dataset: Any, settings: Any = ({},), splits: Any = (0,), **recipe: Any) -> list[Trial]:
    trials = miniature_trials(cls(), dataset, list(settings), splits=splits)
    cell = dataclasses.replace(trials[0].cell, recipe=dataclasses.replace(dataset.recipe, **recipe))
    return [dataclasses.replace(trial, cell=cell) for trial in trials]


def stack_of(cls: Any, dataset: Any, settings: Any = ({},), **recipe: Any) -> GradientStack:
    trials = trials_of(cls, dataset, settings, **recipe)
    return GradientStack(cls(), {0: dataset.load(NOWHERE, 0, None)}, trials, dataset, torch.device("cpu"))


@pytest.mark.parametrize("weighting", [Ones, Sums, Plain])
@pytest.mark.parametrize("method", [HardSharing, MMoE])
@pytest.mark.parametrize("dataset", [SharedOneVsAll(), OwnMulticlass()], ids=lambda d: d.name)
def test_the_plain_sum_by_any_way_is_training_without_a_weighting(dataset: Any, method: Any, weighting: Any) -> None:
    known, found = (trained(cls, dataset, max_epochs=3) for cls in (method, weighted(method, weighting)))
    for part, metrics in known.metrics.items():
        for name, values in metrics.items():
            np.testing.assert_allclose(found.metrics[part][name], values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rows_per_task", [0, 3])
@pytest.mark.parametrize("weighting", [Norms, WeightedHeads])
@pytest.mark.parametrize("dataset", [SharedRegression(), OwnRegression()], ids=lambda d: d.name)
def test_a_step_is_that_of_a_slow_loop_over_tasks(
    dataset: Any, weighting: Any, rows_per_task: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps of SGD without momentum's memory, by plain autograd, one task at a time."""
    if rows_per_task and dataset.name != "miniature_ragged":
        pytest.skip("rows per task need rows that belong to tasks")
    monkeypatch.setattr(steps, "_ROWS_FROM", 1)
    cls = weighted(SharedTrunk, weighting)
    stack = stack_of(cls, dataset, [{"power": 0.7}], optimiser="sgd", batch_size=0, rows_per_task=rows_per_task)
    models = stack.models
    for _ in range(2):  # the second step takes gradients by rows, where it can
        theta = stack.state.theta.clone()
        columns, shared = next(iter_copy(stack))
        leaves = models.leaves(theta)
        terms = models.terms(leaves, stack.state, columns, shared, stack._batches.per_task)
        tasks, penalty = terms["tasks"][0], terms["penalty"][0]
        own = {"heads.S", "heads.b"}
        gradients = [grad(loss, leaves) for loss in tasks]
        flat = torch.stack([torch.cat([g[n].flatten() for n in leaves if n not in own]) for g in gradients])
        weights = 1 + flat.norm(dim=1) ** 0.7
        wanted = {}
        for name, extra in grad(penalty, leaves).items():
            scales = weights if name not in own or weighting.heads == "weighted" else torch.ones_like(weights)
            wanted[name] = extra + sum(s * g[name] for s, g in zip(scales, gradients, strict=True))
        stack.steps.optimiser._velocity.zero_()  # type: ignore[attr-defined]
        stack.train_epoch(1)
        moved = (theta - stack.state.theta) / float(stack.steps.optimiser._rate)  # type: ignore[attr-defined]
        expected = torch.cat([wanted[name].flatten() for name in leaves])
        torch.testing.assert_close(moved[0], expected, rtol=1e-7, atol=1e-9)


def grad(value: Tensor, leaves: Any) -> dict[str, Tensor]:
    found = torch.autograd.grad(value, list(leaves.values()), retain_graph=True, materialize_grads=True)
    return dict(zip(leaves, found, strict=True))


def iter_copy(stack: GradientStack) -> Any:
    """The batches of the coming epoch, without moving on."""
    state = stack._batches.state()
    found = list(stack._batches.epoch(stack._stream[stack._held]))
    stack._batches.restore(state)
    return iter(found)


@pytest.mark.parametrize("weighting", ALL)
@pytest.mark.parametrize("dataset", [SharedOneVsAll(), OwnRegression()], ids=lambda d: d.name)
def test_every_trial_equals_itself_trained_alone(dataset: Any, weighting: Any) -> None:
    cls = weighted(HardSharing, weighting)
    changes: list[dict[str, Any]] = [{"lambda_": 1e-4}, {"lambda_": 1e-3, "learning_rate": 0.3}]
    trials = trials_of(cls, dataset, changes, splits=(0, 1), patience=2, max_epochs=6)
    together = run(cls(), dataset, trials)
    for r, trial in enumerate(trials):
        alone = run(cls(), dataset, [trial])
        for part, metrics in alone.metrics.items():
            for name, values in metrics.items():
                np.testing.assert_allclose(together.metrics[part][name][r], values[0], rtol=0, atol=1e-8)
        for name in {"weights", "gradient_cosine", "gradient_conflicts"} & alone.history.keys():
            epochs = alone.history[name].shape[1]
            np.testing.assert_allclose(together.history[name][r, :epochs], alone.history[name][0], atol=1e-7)


@pytest.mark.parametrize("weighting", [Norms, WeightedHeads, Learning])
def test_tasks_that_share_nothing_are_not_changed_by_weights_of_gradients(weighting: Any) -> None:
    plain, found = (trained(cls, SharedRegression()) for cls in (DeepSTL, weighted(DeepSTL, weighting)))
    same = np.allclose(plain.metrics["test"]["rmse"], found.metrics["test"]["rmse"], atol=1e-9)
    # Where tasks share nothing there are no inner products to weigh by; scaled losses change how fast each task learns.
    assert same == (weighting is not Learning)


@pytest.mark.parametrize("dataset", [SharedOneVsAll(), OwnRegression()], ids=lambda d: d.name)
def test_going_on_from_a_checkpoint_gives_the_same_bits(dataset: Any, tmp_path: Path) -> None:
    cls = weighted(HardSharing, Learning)
    trials = trials_of(cls, dataset, [{"lambda_": 1e-4}, {"lambda_": 1e-3}], splits=(0, 1))
    whole = run(cls(), dataset, trials)
    path = tmp_path / "stack.npz"

    class Stopped(Exception):
        pass

    def stop(epoch: int, n_active: int) -> None:
        if epoch > 4:
            raise Stopped

    with pytest.raises(Stopped):
        run(cls(), dataset, trials, on_epoch=stop, checkpoint=Checkpoint(path, trials, every=0.0))
    epochs: list[int] = []
    resumed = run(
        cls(), dataset, trials, on_epoch=lambda e, n: epochs.append(e), checkpoint=Checkpoint(path, trials, every=1e9)
    )
    assert epochs[0] == 5
    assert_same(whole, resumed, tolerance=0.0)
    assert whole.history["weights"].tobytes() == resumed.history["weights"].tobytes()


def test_a_weighting_hears_of_steps_and_epochs_and_learns_at_the_models_rate() -> None:
    dataset = SharedRegression()
    stack = stack_of(weighted(SharedTrunk, Learning), dataset, optimiser="sgd", batch_size=0)
    weighting = stack.steps.weighting
    assert weighting is not None
    rate = float(stack.steps.optimiser._rate)  # type: ignore[attr-defined]
    columns, shared = next(iter_copy(stack))
    before = stack.models.terms(stack.models.leaves(stack.state.theta), stack.state, columns, shared)["tasks"][0]
    stack.train_epoch()
    state, learned = weighting.state.tensors(), weighting._learned
    assert learned is not None
    assert (int(state["steps"]), int(state["epochs"])) == (1, 1)
    torch.testing.assert_close(state["before"][0], before.detach())
    torch.testing.assert_close(state["mean"][0], before.detach())
    after = stack.models.terms(stack.models.leaves(stack.state.theta), stack.state, columns, shared)["tasks"][0]
    torch.testing.assert_close(state["after"][0], after.detach())
    assert (after < before).all()
    # d/ds of e^-s L + s at s = 0 is 1 - L.
    torch.testing.assert_close(learned.leaves["scale"][0].detach(), -rate * (1 - before.detach()))
    history = weighting.history()
    np.testing.assert_allclose(history["weights"], 1.0)


def test_tasks_absent_from_a_batch_do_not_count_in_means_over_an_epoch() -> None:
    dataset = OwnRegression()
    stack = stack_of(weighted(SharedTrunk, Learning), dataset, batch_size=4, learning_rate=0.0)
    stack.steps.optimiser._rate.zero_()  # type: ignore[attr-defined]
    n_tasks = dataset.load(NOWHERE, 0, None).n_tasks
    sums, counts = torch.zeros(n_tasks).double(), torch.zeros(n_tasks).double()
    for columns, shared in iter_copy(stack):
        terms = stack.models.terms(stack.models.leaves(stack.state.theta), stack.state, columns, shared)
        there = torch.zeros(n_tasks).double().index_fill(0, columns["task"].flatten().unique(), 1.0)
        assert torch.equal(terms["present"][0], there)
        sums += terms["tasks"][0].detach() * there
        counts += there
    assert (counts < stack.n_steps).any(), "some batch lacks a task"
    stack.train_epoch()
    assert stack.steps.weighting is not None
    torch.testing.assert_close(stack.steps.weighting.state.tensors()["mean"][0], sums / counts)


class MixedRows(GradientMethod):
    """Rows of a batch depend on each other: features are centred over the batch."""

    name, reference = "mixed_rows", HERE

    def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
        return Centred(problem)

    def terms(self, model: nn.Module, batch: Batch, params: Any) -> Terms:
        return Terms(batch.task_losses(model(batch)), model.layer.weight.square().sum())


class Centred(nn.Module):
    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.layer = nn.Linear(problem.n_features, 4)
        self.heads = Heads(problem, 4)

    def forward(self, batch: Batch) -> Tensor:
        z = self.layer(batch.inputs)
        return self.heads(z - z.mean(0), batch)


class Recurrent(GradientMethod):
    """A dense layer that runs twice: its gradient is no one product of inputs and derivatives."""

    name, reference = "recurrent", HERE

    def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
        return Repeating(problem)

    def terms(self, model: nn.Module, batch: Batch, params: Any) -> Terms:
        return Terms(batch.task_losses(model(batch)), model.layer.weight.square().sum())


class Repeating(nn.Module):
    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.layer = nn.Linear(problem.n_features, problem.n_features)
        self.heads = Heads(problem, problem.n_features)

    def forward(self, batch: Batch) -> Tensor:
        return self.heads(self.layer(torch.tanh(self.layer(batch.inputs))), batch)


ROWS = [(MixedRows, False, True), (SharedTrunk, True, True), (MMoE, True, False), (Recurrent, True, False)]


@pytest.mark.parametrize("n_trials", [1, 2])
@pytest.mark.parametrize(("method", "fits", "followed"), ROWS)
def test_gradients_are_taken_row_by_row_only_where_that_gives_the_same(
    method: Any, fits: bool, followed: bool, n_trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_ROWS_FROM", 1)
    stack = stack_of(weighted(method, Ones), OwnRegression(), [{}] * n_trials)
    columns, shared = next(iter_copy(stack))
    assert stack.steps.weighting is not None
    taps = stack.steps.row_taps(columns, stack.steps.weighting)
    if taps is not None:
        stack.models.terms(stack.models.leaves(stack.state.theta), stack.state, columns, shared, 0, taps)
    assert (taps is not None and taps.complete) is followed
    stack.train_epoch()
    assert stack.steps.weighting.task_gradients.rows_fit is fits
    known, found = trained(method, OwnRegression()), trained(weighted(method, Ones), OwnRegression())
    np.testing.assert_allclose(found.metrics["test"]["rmse"], known.metrics["test"]["rmse"], rtol=1e-9)


def test_cosines_and_conflicts_of_gradients_are_those_of_pairs_of_tasks() -> None:
    dataset = SharedRegression()
    stack = stack_of(weighted(SharedTrunk, Ones), dataset, batch_size=0)
    columns, shared = next(iter_copy(stack))
    leaves = stack.models.leaves(stack.state.theta)
    tasks = stack.models.terms(leaves, stack.state, columns, shared)["tasks"][0]
    rows = [torch.cat([g.flatten() for n, g in grad(loss, leaves).items() if "heads" not in n]) for loss in tasks]
    pairs = [
        torch.cosine_similarity(rows[i], rows[j], 0).item() for i in range(len(rows)) for j in range(i + 1, len(rows))
    ]
    stack.train_epoch()
    assert stack.steps.weighting is not None
    history = stack.steps.weighting.history()
    np.testing.assert_allclose(history["gradient_cosine"], np.mean(pairs), atol=1e-9)
    np.testing.assert_allclose(history["gradient_conflicts"], np.mean(np.array(pairs) < 0))


def test_hyperparameters_of_the_same_name_are_told_apart() -> None:
    cls = weighted(HardSharing, Norms)
    assert (cls.name, cls.version) == ("hard_sharing+norms", f"{HardSharing.version}+1")
    params = cls.Params(power=2.0, lambda_=0.1, norms_lambda_=0.3)
    from mtbench.contracts.weighted import weighting_params

    assert weighting_params(cls(), params) == PowerParams(power=2.0, lambda_=0.3)
    assert params.lambda_ == 0.1


@pytest.mark.parametrize(("method", "why"), [(AMTFL, "no sum of task losses"), (STL, "solver method")])
def test_a_method_without_task_losses_takes_no_weighting(method: Any, why: str) -> None:
    with pytest.raises(StudyError, match=f"'{method.name}' takes no weighting; found 'ones': .*{why}"):
        weighted(method, Ones)


def weighting_of(combine: Any) -> Any:
    return type("Mine", (GramWeighting,), {"name": "mine", "reference": HERE, "combine": combine})


@pytest.mark.parametrize(
    ("combine", "said"),
    [
        (lambda self, step, params: step.gram[0], r"Mine.combine must return \(tensor, state\); found Tensor"),
        (lambda self, step, params: (step.gram, {}), r"must return \[T\] = \[4\] first; found shape \[4, 4\]"),
        (lambda self, step, params: (step.gram[0], {"x": step.gram}), "a state as `start` gave it, nothing"),
    ],
)
@pytest.mark.parametrize("n", [1, 2])
def test_a_weighting_that_returns_something_else_is_told_so(combine: Any, said: str, n: int) -> None:
    cls = weighted(HardSharing, weighting_of(combine))
    with pytest.raises(PluginError, match=said):
        trained(cls, SharedRegression(), [{"lambda_": 10.0**-i} for i in range(2, 2 + n)])


def test_terms_of_a_wrong_shape_are_told() -> None:
    class Wrong(SharedTrunk):
        def terms(self, model: nn.Module, batch: Batch, params: Any) -> Any:
            return Terms(batch.task_losses(model(batch)).sum(), torch.zeros(()))

    with pytest.raises(PluginError, match=r"`terms` must give tasks as a tensor, \[T\] = \[4\]; found shape \[\]"):
        trained(weighted(Wrong, Ones), SharedRegression())


def test_weights_that_are_not_finite_end_the_trial_alone() -> None:
    class Broken(Norms):
        def combine(self, step: TaskStep, params: Any) -> tuple[Tensor, Any]:
            weights, state = super().combine(step, params)
            return torch.where(params.power > 2, torch.full_like(weights, torch.nan), weights), state

    cls = weighted(HardSharing, Broken)
    result = trained(cls, SharedRegression(), [{"power": 1.0}, {"power": 3.0}])
    assert result.status == [Status.FINISHED, Status.DIVERGED]
    alone = trained(cls, SharedRegression(), [{"power": 1.0}])
    np.testing.assert_allclose(result.metrics["test"]["rmse"][0], alone.metrics["test"]["rmse"][0], atol=1e-9)
