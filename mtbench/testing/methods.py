"""What every method plugin must keep, as tests. The built-in methods are held to the same suite.

class TestMine(MethodContract):
    method = Mine
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from mtbench.contracts.batch import Batch, TaskColumns
from mtbench.contracts.examples import Examples
from mtbench.contracts.hyperparameters import describe
from mtbench.contracts.method import FitMethod, GradientMethod, Method
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.refusal import honoured_weights
from mtbench.contracts.stages import Stage, stage_ends
from mtbench.contracts.trials import LEARNING_RATE, StackResult, Status, Trial
from mtbench.contracts.values import Value
from mtbench.metrics import metric
from mtbench.plan.grid import hyperparameters
from mtbench.plan.settings import settings
from mtbench.plugins.checks import check_method
from mtbench.tasks import Array, Problem, Weight
from mtbench.testing.ownership import Gradients, moved, parameter_axes, task_gradients, trespasses, wrongly_shared
from mtbench.testing.problems import (
    MINIATURES,
    CompleteRegression,
    Miniature,
    SharedRegression,
    miniature_trials,
    with_weights,
)
from mtbench.training import Checkpoint, train_stack
from mtbench.training.data import PartData, batch_of
from mtbench.training.stages import checked_stages

CPU = torch.device("cpu")
_NOWHERE = Path()  # generated data need no data root
_FEW_EPOCHS = 2  # of tests that look at no result as such: what an epoch leaves behind is there in the second
_ALL: tuple[type[Miniature], ...] = (*MINIATURES, CompleteRegression)


class MethodContract:
    """Base class of a method's tests, run on miniature data sets of every layout and kind of task.

    Problems that `supports` refuses are skipped, but one at least must be supported.

    Attributes:
        method: The method class.
        setting: Hyperparameters that all its trials have, such as fewer trees where the defaults take long.
        learns: False of a method that is not meant to predict better than a constant.
    """

    method: type[Method]
    setting: Mapping[str, Value] = MappingProxyType({})
    learns: bool = True

    @pytest.fixture(params=_ALL, ids=lambda miniature: miniature.name)
    def dataset(self, request: pytest.FixtureRequest) -> Miniature:
        """Each miniature data set that the method supports; the one without gaps if it does not support gaps."""
        dataset: Miniature = request.param()
        reason = self._refusal(type(dataset))
        if reason is None and isinstance(dataset, CompleteRegression) and self._refusal(SharedRegression) is None:
            reason = "it takes the same problem with missing labels"
        if reason is not None:
            pytest.skip(reason)
        return dataset

    def test_it_can_be_registered(self) -> None:
        check_method(self.method)

    def test_defaults_and_grids_are_values_it_accepts(self) -> None:
        for name, known in describe(self.method.Params).items():
            values = [known.default, *(known.range.grid if known.range else ())]
            assert [known.parse(value, self.method.name) for value in values] == values, name

    def test_it_supports_at_least_one_problem(self) -> None:
        refusals = {miniature.name: self._refusal(miniature) for miniature in _ALL}
        assert None in refusals.values(), f"every problem is refused: {refusals}"

    def test_objective_is_a_finite_scalar_with_finite_gradients(self, dataset: Miniature) -> None:
        model, batch, params = self._prepared(dataset)
        objective = self._gradient_method().objective(model, batch, params)
        assert objective.shape == (), f"the objective must be a scalar; found shape {tuple(objective.shape)}"
        assert torch.isfinite(objective)
        gradients = torch.autograd.grad(objective, list(model.parameters()), allow_unused=True)
        used = [gradient for gradient in gradients if gradient is not None]
        assert used, "the objective depends on no parameter"
        assert all(torch.isfinite(gradient).all() for gradient in used)

    def test_terms_are_a_loss_of_each_task_and_a_penalty(self, dataset: Miniature) -> None:
        method, (model, batch, params) = self._method_with_terms(), self._prepared(dataset)
        terms, n_tasks = method.terms(model, batch, params), batch.problem.n_tasks
        found = tuple(terms.tasks.shape)
        assert found == (n_tasks,), f"terms.tasks must be a loss of each task, [{n_tasks}]; found shape {found}"
        found = tuple(terms.penalty.shape)
        assert found == (), f"terms.penalty must be a scalar tensor; found shape {found}"
        torch.testing.assert_close(method.objective(model, batch, params), terms.tasks.sum() + terms.penalty)

    def test_what_belongs_to_one_task_is_reached_by_no_other_tasks_loss(self, dataset: Miniature) -> None:
        gradients, axes, problem = self._reached(dataset)
        wrong = trespasses(gradients, axes, problem)
        assert not wrong, f"task_axes names what other tasks use as well: {'; '.join(wrong)}"

    def test_what_only_one_task_uses_is_said_to_belong_to_it(self, dataset: Miniature) -> None:
        gradients, axes, problem = self._reached(dataset)
        wrong = wrongly_shared(gradients, axes, problem)
        assert not wrong, f"task_axes leaves out what belongs to one task: {'; '.join(wrong)}"

    def test_model_gives_the_outputs_of_all_tasks(self, dataset: Miniature) -> None:
        model, batch, _ = self._prepared(dataset)
        n_outputs = batch.problem.n_outputs
        assert model(batch).shape == (len(batch.inputs), n_outputs)

    def test_building_depends_on_the_generator_only(self, dataset: Miniature) -> None:
        first, second = (self._prepared(dataset)[0].state_dict() for _ in range(2))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_training_reduces_the_loss(self, dataset: Miniature) -> None:
        self._gradient_method()
        history = self._trained(dataset).history
        loss = history["loss"][0]
        if "stage" in history:  # losses of different stages are of different objectives
            loss = loss[history["stage"][0] == history["stage"][0].max()]
        assert loss[-3:].mean() < loss[0], f"the objective went from {loss[0]:g} to {loss[-1]:g}"

    def test_training_beats_predicting_nothing(self, dataset: Miniature) -> None:
        if not self.learns:
            pytest.skip("it is not meant to")
        result = self._trained(dataset)
        assert result.status == [Status.FINISHED], result.reason
        measure = metric(dataset.selection_metric)
        found = measure.headline(result.metrics["validation"][measure.name])[0]
        nothing = _error_of_zeros(_problems(dataset)[0], measure.name)
        # By a tenth: a random start can be slightly better than nothing by chance.
        better = found > 1.1 * nothing if measure.higher_is_better else found < 0.9 * nothing
        assert better, f"{measure.name} is {found:g} after training; predicting 0 everywhere gives {nothing:g}"

    def test_training_again_gives_the_same(self, dataset: Miniature) -> None:
        method = self.method()
        trials = self._short(miniature_trials(method, dataset, [self.setting]))
        # What has no epochs takes as long as it takes, and has been trained before.
        first = _train(method, dataset, trials) if method.in_epochs else self._trained(dataset)
        assert_same(first, _train(self.method(), dataset, trials), tolerance=0.0)

    def test_a_trial_does_not_depend_on_its_stack(self, dataset: Miniature) -> None:
        method = self.method()
        if not method.stackable:
            pytest.skip("not stackable: trials always train alone")
        drawn = [{**row, **self.setting} for row in _drawn(type(method), dataset)]
        # Settings in turn on two splits: trials differ in what they are given, and in the rows they see.
        trials = miniature_trials(method, dataset, drawn[::2], splits=(0,))
        trials = self._short(trials + miniature_trials(method, dataset, drawn[1::2] or drawn, splits=(1,)))
        stacked = _train(method, dataset, trials)
        for r, trial in enumerate(trials):
            assert_same(_row(stacked, r), _train(method, dataset, [trial]), tolerance=1e-8)

    def test_it_can_be_refitted(self, dataset: Miniature) -> None:
        method = self.method()
        n_epochs = max(_FEW_EPOCHS, self._before_the_last_stage(dataset.recipe) + 1)
        result = _train(method, dataset, miniature_trials(method, dataset, [self.setting], epochs=n_epochs))
        assert result.status == [Status.FINISHED], result.reason

    def test_a_task_without_training_labels_is_left_out(self, dataset: Miniature) -> None:
        problem = _problems(dataset)[0]
        part = problem.parts["train"]
        labels = part.labels.copy()
        if part.task is not None:
            labels[part.task == 1] = np.nan
        elif dataset.selection_metric == "one_vs_all_error":
            pytest.skip("a row of one class has labels for all")
        else:
            labels[:, problem.label_slices[1]] = np.nan
        parts = {**problem.parts, "train": dataclasses.replace(part, labels=labels)}
        changed = dataclasses.replace(problem, parts=parts)
        method = self.method()
        result = train_stack(
            method, {0: changed}, self._short(miniature_trials(method, dataset, [self.setting])), dataset
        )
        assert result.status == [Status.FINISHED], f"N_t is 0 for a task without labels: {result.reason[0]}"
        without = np.isnan(result.metrics["test"][dataset.report_metric][0])
        assert without.tolist() == [t == 1 for t in range(problem.n_tasks)]

    def test_every_choice_of_a_hyperparameter_trains(self, dataset: Miniature) -> None:
        method = self.method()
        for name, known in describe(method.Params).items():
            for choice in known.choices:
                if choice == self.setting.get(name, known.default):
                    continue  # every other test trains with it
                trials = miniature_trials(method, dataset, [{**self.setting, name: choice}])
                result = _train(method, dataset, self._short(trials))
                assert result.status == [Status.FINISHED], f"{name}={choice}: {result.reason}"

    def test_rows_that_weigh_nothing_are_learned_nothing_from(self) -> None:
        honoured = honoured_weights(self.method)
        if Weight.SAMPLE not in honoured:
            pytest.skip("it does not say that it honours weights of rows")
        dataset = next(miniature() for miniature in _ALL if self._refusal(miniature) is None)
        problem = with_weights(_problems(dataset)[0], [weight for weight in Weight if weight not in honoured])
        other = _other_labels_of_rows_without_weight(problem)
        if isinstance(self.method(), GradientMethod):
            model, _, params = self._prepared(dataset)
            _disturb(model)  # where models begin at 0, all rows have the same loss, and no weights show
            weighed, changed, plain = (
                self._gradient_method().objective(model, _whole_batch(one), params)
                for one in (problem, other, _problems(dataset)[0])
            )
            torch.testing.assert_close(changed, weighed, msg="rows that weigh 0 change the objective")
            assert not torch.isclose(weighed, plain, rtol=1e-9), "the objective is the same with weights and without"
            return
        trials = miniature_trials(self.method(), dataset, [self.setting])
        found = [train_stack(self.method(), {0: one}, trials, dataset) for one in (problem, other)]
        np.testing.assert_allclose(found[1].predictions["test"], found[0].predictions["test"], 1e-6, 1e-6)

    def test_learned_matrices_are_finite(self, dataset: Miniature) -> None:
        n_tasks = _problems(dataset)[0].n_tasks
        for name, matrix in self._trained(dataset).learned.items():
            assert np.isfinite(matrix).all(), name
            if name == "transfer":
                assert matrix.shape == (1, n_tasks, n_tasks), "transfer is [T, T]: row gives to column"

    def test_every_stage_trains_what_it_says(self) -> None:
        for stage, model, batch, params in self._staged():
            objective = _objective_of(stage, self._gradient_method(), model, batch, params)
            assert objective.shape == (), f"stage '{stage.name}' must minimise a scalar; found {list(objective.shape)}"
            assert torch.isfinite(objective), stage.name
            assert objective.requires_grad, f"what stage '{stage.name}' minimises depends on no parameter"
            held = dict(model.named_parameters())
            trained = [n for n in held if not stage.trains or any(f"{n}.".startswith(f"{at}.") for at in stage.trains)]
            found = torch.autograd.grad(objective, [held[name] for name in trained], allow_unused=True)
            used = [gradient for gradient in found if gradient is not None]
            assert used, f"what stage '{stage.name}' minimises depends on no parameter that it trains"
            assert all(torch.isfinite(gradient).all() for gradient in used), stage.name
            if stage.terms is not None:
                gradients = task_gradients(self._gradient_method(), moved(model), batch, params, stage.terms)
                wrong = trespasses(gradients, parameter_axes(self._gradient_method(), model), batch.problem)
                assert not wrong, f"task_axes names what other tasks use in stage '{stage.name}': {'; '.join(wrong)}"

    def test_what_changes_between_stages_leaves_the_model_as_it_is(self) -> None:
        stages = list(self._staged())
        for (before, *_), (after, model, _, _) in pairwise(stages):
            state = {name: value.clone() for name, value in model.state_dict().items()}
            params = self.method.Params(**self.setting)
            with torch.no_grad():
                new = dict(self._gradient_method().between(model, before.name, after.name, params))
            assert new.keys() <= state.keys()
            for name, value in new.items():
                assert value.shape == state[name].shape, name
                assert torch.isfinite(value).all(), name
            changed = [name for name, value in model.state_dict().items() if not torch.equal(value, state[name])]
            assert not changed, f"`between` must return new values, and leave the model alone; it changed {changed}"

    def test_a_stack_goes_on_from_a_checkpoint_in_every_stage(self, tmp_path: Path) -> None:
        dataset = next(iter(self._staged_datasets()))
        method = self.method()
        trials = self._short(miniature_trials(method, dataset, [self.setting]))
        ends = self._ends(dataset.recipe, trials[0].cell.recipe.max_epochs)
        whole = _train(method, dataset, trials)
        for stage, end in enumerate(ends[:-1]):
            path = tmp_path / f"{stage}.npz"
            with pytest.raises(_Stopped):
                _train(method, dataset, trials, on_epoch=_stop_after(end), checkpoint=Checkpoint(path, trials, every=0))
            resumed = _train(method, dataset, trials, checkpoint=Checkpoint(path, trials, every=1e9))
            assert_same(whole, resumed, tolerance=0.0)

    def test_a_row_is_predicted_alike_in_any_company(self, dataset: Miniature) -> None:
        method, problem = self.method(), _problems(dataset)[0]
        if not isinstance(method, FitMethod):
            pytest.skip("the harness predicts for it")
        train, validation = (Examples.of(problem.parts[name], problem.tasks) for name in ("train", "validation"))
        predictor = method.fit(train, validation, method.Params(**self.setting), 0)
        together = predictor.predict(validation.inputs, validation.task)
        for rows in (slice(0, 7), slice(7, 8), slice(8, None)):
            own = predictor.predict(validation.inputs[rows], None if validation.task is None else validation.task[rows])
            read = np.ones(own.shape, bool)
            if validation.task is not None:
                for t, columns in enumerate(problem.output_slices):
                    read[:, columns] = (validation.task[rows] == t)[:, None]
            np.testing.assert_allclose(own[read], together[rows][read], 1e-9, 1e-9)

    def _staged_datasets(self) -> Iterator[Miniature]:
        """A miniature that the method supports, where it declares stages."""
        recipe = next(miniature.recipe for miniature in _ALL if self._refusal(miniature) is None)
        if not self._gradient_method().stages(self.method.Params(**self.setting), recipe):
            pytest.skip("it declares no stages")
        return (miniature() for miniature in _ALL if self._refusal(miniature) is None)

    def _staged(self) -> Iterator[tuple[Stage, torch.nn.Module, Batch, Any]]:
        """Each stage with a fresh model, a batch and hyperparameters, on the first miniature that is supported."""
        dataset = next(self._staged_datasets())
        stages = checked_stages(self._gradient_method(), self.method.Params(**self.setting), dataset.recipe)
        return ((stage, *self._prepared(dataset)) for stage in stages)

    def _ends(self, recipe: Recipe, n_epochs: int) -> tuple[int, ...]:
        """The last epochs of its stages, of so many; empty without."""
        method = self.method()
        if not isinstance(method, GradientMethod):
            return ()
        stages = checked_stages(method, self.method.Params(**self.setting), recipe)
        return stage_ends(stages, n_epochs) if stages else ()

    def _short(self, trials: Sequence[Trial]) -> list[Trial]:
        """The same trials for a few epochs, of which every stage that has a share of them all has one at least."""
        recipe = trials[0].cell.recipe
        n_epochs = _FEW_EPOCHS
        while len({0, *self._ends(recipe, n_epochs)}) < len({0, *self._ends(recipe, recipe.max_epochs)}):
            n_epochs += 1
        cell = dataclasses.replace(trials[0].cell, recipe=dataclasses.replace(recipe, max_epochs=n_epochs))
        return [dataclasses.replace(trial, cell=cell) for trial in trials]

    def _before_the_last_stage(self, recipe: Recipe) -> int:
        """Epochs of all its stages but the last."""
        return (0, 0, *self._ends(recipe, recipe.max_epochs))[-2]

    def _refusal(self, miniature: type[Miniature]) -> str | None:
        return self.method().supports(_problems(miniature())[0], miniature.recipe)

    def _trained(self, dataset: Miniature) -> StackResult:
        """One trial on the first split."""
        return _trained(self.method, type(dataset), tuple(self.setting.items()))

    def _gradient_method(self) -> GradientMethod:
        method = self.method()
        if not isinstance(method, GradientMethod):
            pytest.skip("it has no objective")
        return method

    def _method_with_terms(self) -> GradientMethod:
        method = self._gradient_method()
        if type(method).terms is GradientMethod.terms:
            pytest.skip("its objective is no sum of task losses and a penalty")
        return method

    def _reached(self, dataset: Miniature) -> tuple[Gradients, dict[str, int], Problem]:
        """The gradients of the task losses, away from the start, and what is said to belong to one task."""
        method, (model, batch, params) = self._method_with_terms(), self._prepared(dataset)
        return task_gradients(method, moved(model), batch, params), parameter_axes(method, model), batch.problem

    def _prepared(self, dataset: Miniature) -> tuple[torch.nn.Module, Batch, Any]:
        """A fresh model in float64, all training rows as one batch, and the default hyperparameters as tensors."""
        method, problem = self._gradient_method(), _problems(dataset)[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = method.build(problem, method.Params(), dataset.recipe).to(torch.float64)
        known = describe(method.Params)
        floats = {n: torch.tensor(h.default, dtype=torch.float64) for n, h in known.items() if h.stackable}
        return model, _whole_batch(problem), method.Params(**floats)


def assert_same(one: StackResult, other: StackResult, tolerance: float) -> None:
    """Asserts that two results agree in every trial's ending, metrics and losses.

    Args:
        one: A result.
        other: A result of the same trials.
        tolerance: Largest difference, absolute or relative.
    """
    assert one.status == other.status
    assert one.metrics.keys() == other.metrics.keys()
    for part, metrics in one.metrics.items():
        for name, values in metrics.items():
            np.testing.assert_allclose(
                values, other.metrics[part][name], tolerance, tolerance, err_msg=f"{part} {name}"
            )
    for name, values in one.history.items():
        np.testing.assert_allclose(values, other.history[name], tolerance, tolerance, err_msg=name)


def _whole_batch(problem: Problem) -> Batch:
    """All training rows as one batch, in float64."""
    rows = PartData([problem], "train", CPU, torch.float64).rows(0, slice(None))
    return batch_of(rows, TaskColumns.of(problem, CPU))


def _disturb(model: torch.nn.Module) -> None:
    """Adds a little noise to all parameters, the same in every call."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=noise, dtype=parameter.dtype))


def _other_labels_of_rows_without_weight(problem: Problem) -> Problem:
    """The problem with the labels of training rows that weigh 0 changed among themselves, task by task."""
    part = problem.parts["train"]
    assert part.sample_weight is not None
    labels, task = part.labels.copy(), np.zeros(part.n_rows, int) if part.task is None else part.task
    for t in np.unique(task):
        rows = np.flatnonzero((part.sample_weight == 0) & (task == t))
        labels[rows] = np.roll(labels[rows], 1, axis=0)
    assert not np.array_equal(labels, part.labels, equal_nan=True)
    return dataclasses.replace(problem, parts={**problem.parts, "train": dataclasses.replace(part, labels=labels)})


class _Stopped(Exception):
    """Ends a training."""


def _stop_after(epoch: int) -> Callable[[int, int], None]:
    """A listener that lets a training go on until the epoch after is over, whose checkpoint is not written then."""

    def listener(at: int, n_active: int) -> None:
        if at > epoch:
            raise _Stopped

    return listener


def _objective_of(
    stage: Stage, method: GradientMethod, model: torch.nn.Module, batch: Batch, params: Any
) -> torch.Tensor:
    """What a stage minimises."""
    if stage.terms is not None:
        return stage.terms(model, batch, params).sum
    return (stage.objective or method.objective)(model, batch, params)


def _train(method: Method, dataset: Miniature, trials: list[Trial], **options: Any) -> StackResult:
    return train_stack(method, _problems(dataset), trials, dataset, **options)


@cache
def _trained(method: type[Method], dataset: type[Miniature], setting: tuple[tuple[str, Value], ...]) -> StackResult:
    """One trial on the first split, with defaults but for a setting."""
    return _train(method(), dataset(), miniature_trials(method(), dataset(), [dict(setting)]))


def _problems(dataset: Miniature) -> dict[int, Problem]:
    return _generated(type(dataset))


@cache
def _generated(dataset: type[Miniature]) -> dict[int, Problem]:
    return {split: dataset().load(_NOWHERE, split, dataset.Options()) for split in range(2)}


def _drawn(method: type[Method], dataset: Miniature) -> list[dict[str, Value]]:
    """Three settings that may share a stack: draws that differ in real hyperparameters only."""
    known = hyperparameters(method, dataset.recipe)
    fixed = {name: [h.default] for name, h in known.items() if not h.stackable or name == LEARNING_RATE}
    drawn = settings(known, "random", 3, np.random.default_rng(0), fixed)
    if LEARNING_RATE in known:
        # Learning rates differ a little only: what is tested is not whether large steps diverge.
        drawn = [{**row, LEARNING_RATE: dataset.recipe.learning_rate * (1 + 0.1 * i)} for i, row in enumerate(drawn)]
    return drawn


def _row(result: StackResult, r: int) -> StackResult:
    """The result of one trial of a stack, cut to the looks that trial took part in."""
    history = {name: rows[r : r + 1] for name, rows in result.history.items()}
    n_looks = int((~np.isnan(history["loss"][0])).sum()) if "loss" in history else 0
    return StackResult(
        result.trials[r : r + 1],
        result.status[r : r + 1],
        result.reason[r : r + 1],
        {part: {name: v[r : r + 1] for name, v in found.items()} for part, found in result.metrics.items()},
        {name: rows[:, :n_looks] for name, rows in history.items()},
    )


def _error_of_zeros(problem: Problem, name: str) -> float:
    """The metric of predicting 0 everywhere on the validation part."""
    part = problem.parts["validation"]
    width = problem.n_outputs if part.task is None else max(task.n_outputs for task in problem.tasks)
    zeros: Array = np.zeros((1, part.n_rows, width))
    measure = metric(name)
    return float(measure.headline(measure.compute(problem, part, zeros))[0])
