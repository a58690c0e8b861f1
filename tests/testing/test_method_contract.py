"""The method contract finds what is wrong with a method."""

import random
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from mtbench import FitMethod, GradientMethod, PluginError, Predictor, Reference, Stage, Terms, tunable
from mtbench.testing import MethodContract
from mtbench.testing.problems import MINIATURES, SharedRegression


@dataclass(frozen=True)
class Params:
    decay: float = tunable(1e-3, grid=(1e-2, 1e-3), low=1e-4, high=1e-1)


class Linear(nn.Module):
    def __init__(self, problem):
        super().__init__()
        self.W = nn.Parameter(0.1 * torch.randn(problem.n_features, problem.n_outputs))

    def forward(self, batch):
        return batch.inputs.flatten(1) @ self.W


class Good(GradientMethod):
    name = "good"
    reference = Reference("A title", "A venue 2020")
    Params = Params

    def build(self, problem, params, recipe):
        return Linear(problem)

    def objective(self, model, batch, params):
        return batch.task_losses(model(batch)).sum() + params.decay * model.W.square().sum()


class TestGood(MethodContract):
    method = Good


class NotAScalar(Good):
    def objective(self, model, batch, params):
        return batch.task_losses(model(batch))


class GoesUphill(Good):
    def objective(self, model, batch, params):
        return -batch.task_losses(model(batch)).sum()


class LearnsNothing(Good):
    def objective(self, model, batch, params):
        return model.W.square().sum()


class ReadsTheGlobalState(Good):
    calls = 0

    def build(self, problem, params, recipe):
        ReadsTheGlobalState.calls += 1
        model = Linear(problem)
        nn.init.constant_(model.W, 0.1 * ReadsTheGlobalState.calls)
        return model


class MixesUpItsTrials(Good):
    def objective(self, model, batch, params):
        noise = random.random() * 1e-3  # not a function of the trial
        return super().objective(model, batch, params) * (1 + noise)


class DrawsInItsObjective(Good):
    def objective(self, model, batch, params):
        return super().objective(model, batch, params) * (1 + torch.rand(()) * 1e-3)


class Standardised(Predictor):
    """Predicts by the mean of the rows that are asked for."""

    def predict(self, inputs, task):
        return inputs[:, :4] - inputs[:, :4].mean(0)


class LooksAtItsCompany(FitMethod):
    name = "looks_at_its_company"
    reference = Reference("A title", "A venue 2020")

    def fit(self, train, validation, params, seed):
        return Standardised()


class WithTerms(GradientMethod):
    name = "with_terms"
    reference = Reference("A title", "A venue 2020")
    Params = Params

    def build(self, problem, params, recipe):
        return Linear(problem)

    def terms(self, model, batch, params):
        return Terms(batch.task_losses(model(batch)), params.decay * model.W.square().sum())

    def task_axes(self, model):
        return {"W": 1}


class TestWithTerms(MethodContract):
    method = WithTerms


class TermsOfOutputs(WithTerms):
    def terms(self, model, batch, params):
        return Terms(batch.task_losses(model(batch)).sum(), torch.zeros(()))


class LeavesItsHeadsOut(WithTerms):
    def task_axes(self, model):
        return {}


class ClaimsWhatIsShared(WithTerms):
    def build(self, problem, params, recipe):
        model = Linear(problem)
        model.scale = nn.Parameter(torch.ones(problem.n_tasks))
        return model

    def terms(self, model, batch, params):
        return Terms(batch.task_losses(model(batch) * model.scale.sum()), torch.zeros(()))

    def task_axes(self, model):
        return {"W": 1, "scale": 0}


class ClaimsAnotherAxis(WithTerms):
    def task_axes(self, model):
        return {"W": 0}


class ClaimsWhatIsNotThere(WithTerms):
    def task_axes(self, model):
        return {"heads": 0}


class SupportsNothing(Good):
    def supports(self, problem, recipe):
        return "it never does"


class WrongTransfer(Good):
    def learned(self, model, params):
        return {"transfer": model.W}


class BadGrid(Good):
    @dataclass(frozen=True)
    class Params:
        decay: float = tunable(1e-3, grid=(-1.0, 1e-3))


PER_PROBLEM = [
    (NotAScalar, "test_objective_is_a_finite_scalar_with_finite_gradients"),
    (GoesUphill, "test_training_beats_predicting_nothing"),
    (LearnsNothing, "test_training_beats_predicting_nothing"),
    (ReadsTheGlobalState, "test_building_depends_on_the_generator_only"),
    (MixesUpItsTrials, "test_training_again_gives_the_same"),
    (WrongTransfer, "test_learned_matrices_are_finite"),
    (LooksAtItsCompany, "test_a_row_is_predicted_alike_in_any_company"),
    (LooksAtItsCompany, "test_training_beats_predicting_nothing"),
]


@pytest.mark.parametrize(("method", "test"), PER_PROBLEM)
def test_a_fault_is_found_on_a_problem(method, test):
    with pytest.raises((AssertionError, RuntimeError)):
        getattr(suite(method), test)(SharedRegression())


OF_ONE_TASK = [
    (TermsOfOutputs, "test_terms_are_a_loss_of_each_task_and_a_penalty", r"must be a loss of each task, \[4\]"),
    (
        LeavesItsHeadsOut,
        "test_what_only_one_task_uses_is_said_to_belong_to_it",
        "each task reaches its own part of 'W' alone, along axis 1",
    ),
    (
        ClaimsWhatIsShared,
        "test_what_belongs_to_one_task_is_reached_by_no_other_tasks_loss",
        "the loss of task 0 reaches the part of 'scale' that is said to be task 1's own",
    ),
    (
        ClaimsAnotherAxis,
        "test_what_belongs_to_one_task_is_reached_by_no_other_tasks_loss",
        "axis 0 of 'W' must have a place for each of 4 tasks or 4 outputs; found 5",
    ),
    (
        ClaimsWhatIsNotThere,
        "test_what_belongs_to_one_task_is_reached_by_no_other_tasks_loss",
        "task_axes must name parameters, or modules that have some; found 'heads'",
    ),
]


@pytest.mark.parametrize(("method", "test", "message"), OF_ONE_TASK)
def test_what_is_wrong_with_terms_and_with_what_is_a_tasks_own_is_told(method, test, message):
    with pytest.raises(AssertionError, match=message):
        getattr(suite(method), test)(SharedRegression())


def test_an_objective_that_is_random_is_found_in_stacks():
    with pytest.raises(PluginError, match="must map over trials"):
        suite(DrawsInItsObjective).test_a_trial_does_not_depend_on_its_stack(SharedRegression())


def test_a_method_that_supports_nothing_is_found():
    with pytest.raises(AssertionError, match="every problem is refused"):
        suite(SupportsNothing).test_it_supports_at_least_one_problem()


def test_a_method_that_is_asked_of_the_problem_alone_is_refused_in_one_line():
    class Old(Good):
        def supports(self, problem):
            return None

    with pytest.raises(PluginError) as caught:
        suite(Old).test_it_can_be_registered()
    assert str(caught.value).endswith("Old.supports must take (self, problem, recipe); found (self, problem).")


def test_a_grid_that_holds_a_forbidden_value_is_found():
    with pytest.raises(PluginError, match="must be a finite number from 0"):
        suite(BadGrid).test_defaults_and_grids_are_values_it_accepts()


class Staged(Good):
    def stages(self, params, recipe):
        return (Stage("warm", 0.4, objective=self.warm), Stage("fit", 0.6))

    def warm(self, model, batch, params):
        return (model.W - 0.1).square().sum()

    def between(self, model, before, after, params):
        return {"W": model.W / 2}


class TestStaged(MethodContract):
    method = Staged


def test_a_stage_that_trains_nothing_is_found():
    class Idle(Staged):
        def warm(self, model, batch, params):
            return batch.inputs.square().sum()

    with pytest.raises(AssertionError, match="what stage 'warm' minimises depends on no parameter"):
        suite(Idle).test_every_stage_trains_what_it_says()


def test_an_update_between_stages_that_writes_into_the_model_is_found():
    class Writes(Staged):
        def between(self, model, before, after, params):
            return {"W": model.W.mul_(0.5)}

    with pytest.raises(AssertionError, match=r"leave the model alone; it changed \['W'\]"):
        suite(Writes).test_what_changes_between_stages_leaves_the_model_as_it_is()


def test_the_miniatures_cover_both_layouts_and_missing_labels():
    problems = [miniature().load(None, 0, None) for miniature in MINIATURES]
    assert {problem.layout for problem in problems} == {"shared", "own"}
    assert {task.kind for problem in problems for task in problem.tasks} == {"binary", "regression", "multiclass"}
    ragged = next(problem for problem in problems if problem.dataset == "miniature_ragged")
    assert ragged.task_sizes().max() >= 5 * ragged.task_sizes().min()


def suite(method):
    return type("Suite", (MethodContract,), {"method": method})()
