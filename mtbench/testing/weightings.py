"""The contract suite of weightings: what the harness relies on, checked on hard sharing over generated problems."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap

from mtbench.contracts.batch import Batch
from mtbench.contracts.hyperparameters import describe
from mtbench.contracts.method import GradientMethod
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.reference import Reference
from mtbench.contracts.terms import Terms
from mtbench.contracts.trials import StackResult, Status, Trial
from mtbench.contracts.weighted import weighted
from mtbench.contracts.weighting import JacobianWeighting, LossWeighting, TaskStep, Weighting
from mtbench.nn.heads import Heads
from mtbench.nn.layers import Linear
from mtbench.plan.grid import hyperparameters
from mtbench.plan.settings import settings
from mtbench.plugins.checks import check_weighting
from mtbench.tasks import Problem
from mtbench.testing.problems import MINIATURES, Miniature, miniature_trials
from mtbench.training import train_stack

_N_TASKS, _N_SHARED, _N_TRIALS = 4, 7, 5
_EPOCHS = 3


class _Net(nn.Module):
    def __init__(self, problem: Problem, recipe: Recipe) -> None:
        super().__init__()
        self.layer = Linear(problem.n_features, 5)
        self.heads = Heads(problem, 5)

    def forward(self, batch: Batch) -> Tensor:
        return self.heads(torch.tanh(self.layer(batch.inputs.flatten(1))), batch)  # type: ignore[no-any-return]


class SharedTrunk(GradientMethod):
    """A layer that tasks share, and a head for each: what weightings are tried on."""

    name = "shared_trunk"
    reference = Reference("a test method", "mtbench.testing")

    def build(self, problem: Problem, params: Any, recipe: Recipe) -> nn.Module:
        """A small network."""
        return _Net(problem, recipe)

    def terms(self, model: nn.Module, batch: Batch, params: Any) -> Terms:
        """Task losses, and a little decay."""
        decay = torch.stack([p.square().sum() for p in model.parameters()]).sum()
        return Terms(batch.task_losses(model(batch)), 1e-3 * decay)


class WeightingContract:
    """What every weighting must do. Subclass it in a plugin's tests, and set `weighting`."""

    weighting: ClassVar[type[Weighting]]

    @pytest.fixture(params=MINIATURES, ids=lambda kind: kind.name)
    def dataset(self, request: pytest.FixtureRequest) -> Miniature:
        return request.param()  # type: ignore[no-any-return]

    def test_it_can_be_registered(self) -> None:
        check_weighting(self.weighting)

    def test_it_trains_a_method(self, dataset: Miniature) -> None:
        result = self._train(dataset, [{}])
        assert result.status == [Status.FINISHED], result.reason

    def test_training_again_gives_the_same(self, dataset: Miniature) -> None:
        _assert_same(self._train(dataset, [{}]), self._train(dataset, [{}]), 0.0)

    def test_a_trial_does_not_depend_on_its_stack(self, dataset: Miniature) -> None:
        changes = self._drawn()
        stacked = self._train(dataset, changes)
        for r, change in enumerate(changes):
            _assert_same(stacked, self._train(dataset, [change]), 1e-8, r)

    def test_every_choice_of_a_hyperparameter_trains(self, dataset: Miniature) -> None:
        method = weighted(SharedTrunk, self.weighting)
        for name, known in describe(method.Params).items():
            for choice in known.choices:
                if choice == known.default:
                    continue  # every other test trains with it
                result = self._train(dataset, [{name: choice}])
                assert result.status == [Status.FINISHED], f"{name}={choice}: {result.reason}"

    def test_the_order_of_trials_makes_no_difference(self) -> None:
        """Mapped over trials, each gives what it gives alone, whatever the others hold: zeros and NaN, too."""
        weighting = self.weighting()
        params = self._params()
        states = [dict(weighting.start(_N_TASKS, _N_SHARED, params)) for _ in range(_N_TRIALS)]
        steps = [_step(r, weighting) for r in range(_N_TRIALS)]
        names = [f.name for f in dataclasses.fields(TaskStep) if isinstance(getattr(steps[0], f.name), Tensor)]
        seen = {name: torch.stack([getattr(step, name) for step in steps]) for name in names}
        learned = [_learned(weighting, params) for _ in steps]
        held = {name: torch.stack([one[name] for one in learned]) for name in learned[0]}
        state = {name: torch.stack([one[name] for one in states]) for name in states[0]}

        def run(seen: Any, learned: Any, state: Any) -> Any:
            value, after = weighting.combine(TaskStep(**seen, learned=learned, state=state), params)
            return value, dict(after)

        together, after = vmap(run)(seen, held, state)
        for r, step in enumerate(steps):
            alone, after_alone = run({name: getattr(step, name) for name in names}, learned[r], states[r])
            torch.testing.assert_close(together[r], alone, rtol=1e-9, atol=1e-9, equal_nan=True)
            for name, value in after_alone.items():
                torch.testing.assert_close(after[name][r], value, rtol=1e-9, atol=1e-9, equal_nan=True)

    def test_a_task_that_is_absent_gets_no_gradient(self) -> None:
        """What an absent task's numbers would be makes no difference to the others."""
        weighting, params = self.weighting(), self._params()
        state = dict(weighting.start(_N_TASKS, _N_SHARED, params))
        found = []
        for loss in (0.0, 7.0):
            step = _step(0, weighting)
            present = torch.ones(_N_TASKS, dtype=torch.float64)
            present[1] = 0
            losses = torch.where(present > 0, step.losses, loss).requires_grad_()
            learned = _learned(weighting, params)
            seen = dataclasses.replace(
                step,
                losses=losses if isinstance(weighting, LossWeighting) else step.losses * present,
                present=present,
                gram=None if step.gram is None else step.gram * present[:, None] * present,
                jacobian=None if step.jacobian is None else step.jacobian * present[:, None],
                learned=learned,
                state=state,
            )
            value, _ = weighting.combine(seen, params)
            assert torch.isfinite(value).all() or not isinstance(weighting, LossWeighting), "an absent loss is not 0"
            if isinstance(weighting, LossWeighting):
                (value,) = torch.autograd.grad(value, losses)
            found.append(value if isinstance(weighting, JacobianWeighting) else value[present > 0])
        torch.testing.assert_close(found[0], found[1])

    def _params(self) -> Any:
        """The default hyperparameters as a weighting gets them: real numbers as scalar tensors."""
        known = describe(self.weighting.Params)
        floats = {n: torch.tensor(h.default, dtype=torch.float64) for n, h in known.items() if h.stackable}
        return dataclasses.replace(self.weighting.Params(), **floats)

    def _train(self, dataset: Miniature, changes: list[dict[str, Any]]) -> StackResult:
        method = weighted(SharedTrunk, self.weighting)()
        trials: list[Trial] = miniature_trials(method, dataset, changes)
        recipe = dataclasses.replace(dataset.recipe, max_epochs=_EPOCHS)
        cell = dataclasses.replace(trials[0].cell, recipe=recipe)
        trials = [dataclasses.replace(trial, cell=cell) for trial in trials]
        return train_stack(method, {0: dataset.load(Path(), 0, dataset.Options())}, trials, dataset)

    def _drawn(self) -> list[dict[str, Any]]:
        """The defaults and two draws, where there is something to draw that trials of a stack may differ in."""
        method = weighted(SharedTrunk, self.weighting)
        known = {n: h for n, h in hyperparameters(method, Recipe()).items() if h.stackable}
        found = settings(known, "random", 3, np.random.default_rng(0), {})
        return [{name: value for name, value in setting.items() if name in known} for setting in found]


def _step(r: int, weighting: Weighting) -> TaskStep:
    """A step of a trial; one of zeros, one that is not finite."""
    rng = torch.Generator().manual_seed(r)
    jacobian = torch.randn(_N_TASKS, _N_SHARED, generator=rng, dtype=torch.float64)
    losses = torch.rand(_N_TASKS, generator=rng, dtype=torch.float64) + 0.1
    if r == 2:
        jacobian = torch.zeros_like(jacobian)
    if r == 3:
        jacobian[1, 2] = torch.nan
        losses[1] = torch.nan
    if isinstance(weighting, LossWeighting):
        return TaskStep(losses, torch.ones_like(losses), torch.tensor(r))
    held = jacobian if isinstance(weighting, JacobianWeighting) else None
    return TaskStep(losses, torch.ones_like(losses), torch.tensor(r), jacobian @ jacobian.mT, held)


def _learned(weighting: Weighting, params: Any) -> dict[str, Tensor]:
    if not isinstance(weighting, LossWeighting):
        return {}
    return {name: value.double() for name, value in weighting.learned(_N_TASKS, params).items()}


def _assert_same(found: StackResult, alone: StackResult, tolerance: float, row: int = 0) -> None:
    """A row of a stack's result is the only row of another's."""
    assert found.status[row] == alone.status[0]
    for part, metrics in alone.metrics.items():
        for name, values in metrics.items():
            np.testing.assert_allclose(found.metrics[part][name][row], values[0], rtol=tolerance, atol=tolerance)
