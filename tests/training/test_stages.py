"""Stages: equal to a loop by hand, within one budget, judged at the end alone, stacked, resumed, and checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtbench import Batch, GradientMethod, PluginError, Problem, Recipe, Reference, Stage, Terms, tunable
from mtbench.contracts.batch import TaskColumns
from mtbench.contracts.stacking import groups
from mtbench.contracts.stages import stage_ends
from mtbench.contracts.trials import Status, Trial
from mtbench.contracts.weighted import weighted
from mtbench.plugins.host import load_plugins
from mtbench.testing.methods import assert_same
from mtbench.testing.problems import SharedRegression, miniature_trials
from mtbench.training import Checkpoint, train_stack
from mtbench.training.calibrate import calibrate, predicted_bytes
from mtbench.training.data import PartData, batch_of

DATASET = SharedRegression()
PROBLEMS = {split: DATASET.load(Path(), split, None) for split in (0, 1)}
SETTINGS = [{"learning_rate": 0.05}, {"learning_rate": 0.02, "pull": 0.3}]


@dataclass(frozen=True, kw_only=True)
class Params:
    pull: float = tunable(0.1, low=0.01, high=1.0)
    warm: float = tunable(0.4, maximum=1.0, stackable=False)


class Scaled(nn.Module):
    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.W = nn.Parameter(0.1 * torch.randn(problem.n_features, problem.n_outputs))
        self.scale = nn.Parameter(torch.ones(problem.n_outputs))
        self.register_buffer("norm", torch.zeros(()))

    def forward(self, batch: Batch) -> Tensor:
        return batch.inputs @ self.W * self.scale


class WarmStart(GradientMethod):
    """Pulls W towards ones first; then learns from it, doubled."""

    name = "warm_start"
    reference = Reference("A test", "here")
    Params = Params

    def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
        return Scaled(problem)

    def stages(self, params: Params, recipe: Recipe) -> Sequence[Stage]:
        return (
            Stage("warm", params.warm, objective=self.warm, trains=("W",)),
            Stage("fit", 1 - params.warm),
        )

    def between(self, model: Scaled, before: str, after: str, params: Params) -> Mapping[str, Tensor]:
        assert (before, after) == ("warm", "fit")
        assert isinstance(params.pull, float)
        return {"W": 2 * model.W, "norm": model.W.norm()}

    def warm(self, model: Scaled, batch: Batch, params: Params) -> Tensor:
        return (model.W * model.scale - 1).square().sum() * (1 + params.pull)

    def terms(self, model: Scaled, batch: Batch, params: Params) -> Terms:
        return Terms(batch.task_losses(model(batch)), params.pull * model.W.square().sum())

    def learned(self, model: Scaled, params: Params) -> dict[str, Tensor]:
        return {"W": model.W, "scale": model.scale, "norm": model.norm}


def trials_of(method: GradientMethod, settings: Sequence[Mapping[str, Any]] = SETTINGS, **changes: Any) -> list[Trial]:
    epochs = changes.pop("epochs", None)
    trials = miniature_trials(method, DATASET, settings, splits=(0, 1), epochs=epochs)
    recipe = dataclasses.replace(DATASET.recipe, **{"max_epochs": 10, "batch_size": 0, **changes})
    return [dataclasses.replace(t, cell=dataclasses.replace(t.cell, recipe=recipe)) for t in trials]


def train(method: GradientMethod, trials: Sequence[Trial], **options: Any) -> Any:
    return train_stack(method, PROBLEMS, trials, DATASET, **options)


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_stages_are_what_a_loop_by_hand_does(optimiser: str) -> None:
    method = WarmStart()
    (trial,) = trials_of(method, [{"learning_rate": 0.05, "pull": 0.2}], optimiser=optimiser, epochs=10)[:1]
    found = train(method, [trial]).learned
    problem, params = PROBLEMS[0], Params(pull=0.2)
    model = Scaled(problem).double()
    model.W.data.copy_(torch.as_tensor(_initial(method, trial)))
    joined = [problem.parts[name] for name in ("train", "validation")]  # a refit trains on both
    inputs, labels = (np.concatenate([getattr(part, what) for part in joined]) for what in ("inputs", "labels"))
    whole = dataclasses.replace(problem.parts["train"], inputs=inputs, labels=labels)
    problem = dataclasses.replace(problem, parts={**problem.parts, "train": whole})
    rows = PartData([problem], "train", torch.device("cpu"), torch.float64).rows(0, slice(None))
    batch = batch_of(rows, TaskColumns.of(problem, torch.device("cpu")))
    for objective, trained, n_epochs in ((method.warm, [model.W], 4), (method.objective, [*model.parameters()], 6)):
        kind = {"adam": torch.optim.Adam(trained, 0.05), "sgd": torch.optim.SGD(trained, 0.05, momentum=0.9)}[optimiser]
        for _ in range(n_epochs):
            kind.zero_grad()
            objective(model, batch, params).backward()
            kind.step()
        if n_epochs == 4:
            norm = model.W.norm().item()
            model.W.data.mul_(2)
    np.testing.assert_allclose(found["W"][0], model.W.detach(), atol=1e-10)
    np.testing.assert_allclose(found["scale"][0], model.scale.detach(), atol=1e-10)
    assert found["norm"][0] == pytest.approx(norm, abs=1e-10)


def _initial(method: GradientMethod, trial: Trial) -> Any:
    """W before the first step: what a training that does not move gives, halved."""
    still = dataclasses.replace(trial, params={**trial.params, "learning_rate": 1e-30})
    return train(method, [still]).learned["W"][0] / 2


def test_a_trial_does_not_depend_on_its_stack_in_any_stage() -> None:
    method = WarmStart()
    trials = trials_of(method, batch_size=16, patience=2)
    together = train(method, trials)
    assert together.status == [Status.FINISHED] * 4
    for r, trial in enumerate(trials):
        alone = train(method, [trial])
        assert together.best_epoch[r] == alone.best_epoch[0]
        for name, value in alone.learned.items():
            np.testing.assert_allclose(together.learned[name][r], value[0], rtol=0, atol=1e-10)


def test_all_stages_together_have_the_recipes_epochs_and_history_tells_them_apart() -> None:
    result = train(WarmStart(), trials_of(WarmStart(), eval_every=3))
    # Looks every third epoch, at the end of a stage, and at the last epoch.
    assert result.history["epoch"][0].tolist() == [3, 4, 6, 9, 10]
    assert result.history["stage"].tolist() == [[0, 0, 1, 1, 1]] * 4
    assert np.isnan(result.history["rmse"]).tolist() == [[True, True, False, False, False]] * 4
    assert result.provenance["stages"] == [["warm", 4], ["fit", 10]]


def test_only_the_last_stage_is_judged() -> None:
    class Spoiled(WarmStart):
        """Perfect in its first stage, and worse from step to step of its second."""

        def warm(self, model: Scaled, batch: Batch, params: Params) -> Tensor:
            return batch.task_losses(model(batch)).sum()

        def between(self, model: Scaled, before: str, after: str, params: Params) -> Mapping[str, Tensor]:
            return {}

        def terms(self, model: Scaled, batch: Batch, params: Params) -> Terms:
            return Terms(-batch.task_losses(model(batch)), model.W.sum() * 0)

    result = train(Spoiled(), trials_of(Spoiled(), patience=3))
    assert result.best_epoch.tolist() == [5] * 4
    assert result.history["epoch"][0, -1] == 8  # patience begins with the last stage


@pytest.mark.parametrize("epoch", [2, 4, 7])
def test_training_goes_on_from_a_checkpoint_in_any_stage_with_the_same_bits(epoch: int, tmp_path: Path) -> None:
    method = WarmStart()
    trials = trials_of(method, batch_size=16)
    whole, path = train(method, trials), tmp_path / "stack.npz"

    def stop(at: int, n_active: int) -> None:
        if at > epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(method, trials, on_epoch=stop, checkpoint=Checkpoint(path, trials, every=0.0))
    resumed = train(method, trials, checkpoint=Checkpoint(path, trials, every=1e9))
    assert_same(whole, resumed, tolerance=0.0)
    for name, value in whole.learned.items():
        assert np.array_equal(value, resumed.learned[name])


@pytest.mark.parametrize(
    ("shares", "n_epochs", "ends"),
    [
        ((0.2, 0.8), 15, (3, 15)),
        ((0.25, 0.25, 0.5), 10, (2, 5, 10)),
        ((0.0, 1.0), 10, (0, 10)),
        ((0.9, 0.1), 3, (2, 3)),
        ((0.5, 0.5), 1, (0, 1)),
        ((1.0,), 7, (7,)),
    ],
)
def test_shares_are_whole_epochs_and_the_last_stage_has_one(shares: Any, n_epochs: int, ends: Any) -> None:
    assert stage_ends([Stage(str(i), share) for i, share in enumerate(shares)], n_epochs) == ends


def test_a_stage_without_epochs_is_passed_by_with_what_follows_it() -> None:
    result = train(WarmStart(), trials_of(WarmStart(), [{"warm": 0.0}]))
    assert (result.history["stage"] == 1).all()
    assert (result.learned["norm"] > 0).all()


def test_a_trial_that_diverged_meets_no_later_stage() -> None:
    class Meets(WarmStart):
        def between(self, model: Scaled, before: str, after: str, params: Params) -> Mapping[str, Tensor]:
            assert torch.isfinite(model.W).all()
            return super().between(model, before, after, params)

    trials = trials_of(Meets(), [{"learning_rate": 1e200}, {"learning_rate": 0.01}], optimiser="sgd")
    result = train(Meets(), trials)
    assert result.status == [Status.DIVERGED, Status.FINISHED] * 2


@pytest.mark.parametrize("weighting", ["uw", "mgda", "db_mtl"])
def test_a_weighting_changes_the_stages_that_give_terms(weighting: str) -> None:
    method = weighted(WarmStart, load_plugins().weightings[weighting])()
    plain, found = (train(m, trials_of(m, [{"learning_rate": 0.05}])) for m in (WarmStart(), method))
    assert found.status == [Status.FINISHED] * 2
    np.testing.assert_array_equal(plain.history["loss"][:, :4], found.history["loss"][:, :4])
    assert not np.allclose(plain.history["loss"][:, 5:], found.history["loss"][:, 5:])
    if "weights" in found.history:
        known = np.isfinite(found.history["weights"]).all((0, 2))
        assert known.tolist() == [False] * 4 + [True] * 6


@pytest.mark.parametrize("weighting", ["graddrop", "db_mtl", "mgda"])
def test_what_a_stage_does_not_train_stays_whatever_the_weighting(weighting: str) -> None:
    class Frozen(WarmStart):
        def stages(self, params: Params, recipe: Recipe) -> Sequence[Stage]:
            return (Stage("first", 0.5, trains=("W",)), Stage("second", 0.5, terms=self.terms, trains=("scale",)))

        def between(self, model: Scaled, before: str, after: str, params: Params) -> Mapping[str, Tensor]:
            assert (model.scale == 1).all()
            return {"norm": model.W.norm()}

    method = weighted(Frozen, load_plugins().weightings[weighting])()
    learned = train(method, trials_of(method)).learned
    norms = np.linalg.norm(learned["W"].reshape(len(learned["W"]), -1), axis=1)
    np.testing.assert_allclose(norms, learned["norm"], rtol=1e-12)
    assert (learned["scale"] != 1).any()


def test_memory_and_time_are_measured_in_every_stage() -> None:
    class Heavy(WarmStart):
        """Its first stage takes 8 MB more a trial."""

        def warm(self, model: Scaled, batch: Batch, params: Params) -> Tensor:
            return super().warm(model, batch, params) + (model.W.sum() * torch.ones(1_000_000)).square().mean()

    light, heavy = (predicted_bytes(m, PROBLEMS, trials_of(m), DATASET) for m in (WarmStart(), Heavy()))
    assert heavy > light + 4 * 8e6
    seen = []

    class Seen(WarmStart):
        def warm(self, model: Scaled, batch: Batch, params: Params) -> Tensor:
            seen.append("warm")
            return super().warm(model, batch, params)

        def terms(self, model: Scaled, batch: Batch, params: Params) -> Terms:
            seen.append("fit")
            return super().terms(model, batch, params)

    facts = calibrate(Seen(), PROBLEMS, trials_of(Seen(), SETTINGS[:1])[:1], DATASET, "cpu")
    assert facts["stack_size"] == 1
    assert {"warm", "fit"} <= set(seen)


def test_trials_of_other_shares_are_in_stacks_of_their_own() -> None:
    trials = trials_of(WarmStart(), [{"warm": 0.2}, {"warm": 0.4}, {"warm": 0.4, "pull": 0.2}])
    found = groups(trials, {0: "", 1: ""}, ["warm"])
    assert [sorted({t.params["warm"] for t in group}) for group in found] == [[0.2], [0.4]]
    with pytest.raises(PluginError, match=r"same stages; found shares that depend.*stackable=False"):
        train(WarmStart(), trials)


FIT = Stage("fit", 0.5)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((Stage("a", 0.5), Stage("b", 0.4)), r"sum to 1.*found 0\.5 \+ 0\.4 = 0\.9"),
        ((Stage("a", 1.5), Stage("b", -0.5)), r"none below 0"),
        ((Stage("a", 1.0), Stage("b", 0.0)), r"the last above it"),
        ((Stage("a", float("nan")), Stage("b", 0.0)), r"sum to 1"),
        ((Stage("a", 0.5), Stage("a", 0.5)), r"a name of its own; found 'a', 'a'"),
        ((Stage("", 1.0),), r"a name of its own"),
        (({"a": 1.0},), r"a tuple of mtbench.Stage; found a tuple"),
        (None, r"a tuple of mtbench.Stage; found None"),
        ((Stage("a", 0.5, trains=("V",)), FIT), r"must name parameters or buffers: W, scale; found 'V'"),
        ((Stage("a", 0.5, terms=WarmStart().terms, objective=WarmStart().warm), FIT), r"both in 'a'"),
    ],
)
def test_stages_that_make_no_sense_are_refused(stages: Any, message: str) -> None:
    class Wrong(WarmStart):
        def stages(self, params: Params, recipe: Recipe) -> Sequence[Stage]:
            return stages

    with pytest.raises(PluginError, match=rf"Method 'warm_start': `stages` .*{message}"):
        train(Wrong(), trials_of(Wrong()))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"W": torch.ones(2)}, r"'W' as a tensor of shape \[5, 4\]; found shape \[2\]"),
        ({"W": 1.0}, r"'W' as a tensor of shape \[5, 4\]; found the float 1\.0"),
        ({"V": torch.ones(2)}, r"name parameters or buffers: W, scale, norm; found 'V'"),
        ({"norm": torch.tensor(np.nan)}, r"finite values for 'norm'; found NaN or infinity"),
    ],
)
def test_updates_between_stages_that_make_no_sense_are_refused(value: Any, message: str) -> None:
    class Wrong(WarmStart):
        def between(self, model: Scaled, before: str, after: str, params: Params) -> Mapping[str, Tensor]:
            return value  # type: ignore[no-any-return]

    with pytest.raises(PluginError, match=rf"Method 'warm_start': `between` must .*{message}"):
        train(Wrong(), trials_of(Wrong()))


def test_a_refit_that_ends_before_the_last_stage_is_refused() -> None:
    with pytest.raises(PluginError, match=r"must reach its last stage, 'fit', which begins after epoch 4; found 4"):
        train(WarmStart(), trials_of(WarmStart(), epochs=4))


def test_a_rung_goes_through_all_stages_in_its_own_epochs() -> None:
    rung = [dataclasses.replace(trial, rung=True) for trial in trials_of(WarmStart(), epochs=2)]
    result = train(WarmStart(), rung)
    assert result.status == [Status.FINISHED] * len(rung), result.reason
    assert result.provenance["stages"] == [["warm", 1], ["fit", 2]]
