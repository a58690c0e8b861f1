"""What an author's functions return wrongly is told in one line: what must hold, what was found, and where."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from mtbench import GradientMethod, LinearSolution, PluginError, Reference, SolverMethod
from mtbench.contracts.trials import Cell, Trial
from mtbench.testing.problems import RECIPE, OwnRegression
from mtbench.training import train_stack


class Net(nn.Module):
    def __init__(self, problem):
        super().__init__()
        self.linear = nn.Linear(problem.n_features, problem.n_outputs)

    def forward(self, batch):
        return self.linear(batch.inputs)


class Good(GradientMethod):
    name = "good"
    reference = Reference("A title", "A venue 2020")

    def build(self, problem, params, recipe):
        return Net(problem)

    def objective(self, model, batch, params):
        return batch.task_losses(model(batch)).sum()


def building(make):
    class Bad(Good):
        name = "bad"

        def build(self, problem, params, recipe):
            return make(problem)

    return Bad


def minimising(function, net=Net):
    class Bad(Good):
        name = "bad"

        def build(self, problem, params, recipe):
            return net(problem)

        def objective(self, model, batch, params):
            return function(batch.task_losses(model(batch)).sum(), batch)

    return Bad


class Doubles(Net):
    def forward(self, batch):
        return self.linear(batch.inputs.double())


class DoubleConstant(Net):
    def forward(self, batch):
        return self.linear(batch.inputs) @ torch.eye(self.linear.out_features, dtype=torch.float64)


class Updates(Good):
    name = "bad"
    update_every = 1

    def after_step(self, model, batch, params):
        return {"linear.wieght": model.linear.weight}


def train(method, n_trials, dtype="float32"):
    dataset = OwnRegression()
    problem = dataset.load(None, 0, dataset.Options())
    recipe = replace(RECIPE, max_epochs=2, dtype=dtype)
    cell = Cell(method.name, "1", "file", dataset.name, "1", {}, "0" * 64, recipe)
    params = {} if issubclass(method, SolverMethod) else {"learning_rate": 0.01}
    trials = [Trial(cell, params, 0, seed) for seed in range(n_trials)]
    return train_stack(method(), {0: problem}, trials, dataset, "cpu")


GRADIENT = [
    (building(lambda p: None), r"`build` must return an nn\.Module; found None \(is a `return` missing\?\)"),
    (building(lambda p: Net), r"`build` must return an nn\.Module; found the class Net"),
    (building(lambda p: [Net(p)]), r"`build` must return an nn\.Module; found a list"),
    (building(lambda p: nn.Identity()), r"with an nn\.Parameter or more to train; found none"),
    (
        building(lambda p: Net(p).double()),
        r"a model in float32, .* recipe's float32; found 'linear\.weight' of torch\.float64",
    ),
    (building(lambda p: Net(p).half()), r"found 'linear\.weight' of torch\.float16"),
    (minimising(lambda loss, batch: 0.5), r"`objective` must return a scalar tensor; found the float 0\.5"),
    (minimising(lambda loss, batch: None), r"must return a scalar tensor; found None \(is a `return` missing\?\)"),
    (minimising(lambda loss, batch: (loss, loss)), r"must return a scalar tensor; found a tuple"),
    (minimising(lambda loss, batch: loss.detach()), r"must depend on the model's parameters .* without a gradient"),
    (minimising(lambda loss, batch: batch.inputs.sum()), r"must depend on the model's parameters"),
    (minimising(lambda loss, batch: (loss > 0).long()), r"found a tensor without a gradient"),
    (
        minimising(lambda loss, batch: loss, Doubles),
        r"must compute in the dtype of the batch, torch\.float32;",
    ),
    (minimising(lambda loss, batch: loss, DoubleConstant), r"must compute in the dtype of the batch"),
    (Updates, r"`after_step` must name parameters or buffers: linear\.weight, linear\.bias; found 'linear\.wieght'"),
]


@pytest.mark.parametrize("n_trials", [1, 3])
@pytest.mark.parametrize(("method", "said"), GRADIENT)
def test_a_gradient_method_is_told_what_it_must_return(method, said, n_trials):
    with pytest.raises(PluginError, match=said) as caught:
        train(method, n_trials)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("Method 'bad': ")
    assert "test_author_checks.py, line " in str(caught.value)


def test_a_model_in_double_is_right_where_the_recipe_is():
    assert train(building(lambda p: Net(p).double()), 2, "float64").status == ["finished"] * 2
    assert train(Good, 2, "float64").status == ["finished"] * 2


def solving(make):
    class Bad(SolverMethod):
        name = "bad"
        reference = Reference("A title", "A venue 2020")

        def solve(self, data, params):
            weights = torch.zeros(2, data.n_rows, data.n_tasks, dtype=torch.float64)
            return make(weights)

    return Bad


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda w: None, r"`solve` must return a LinearSolution; found NoneType"),
        (lambda w: w, r"`solve` must return a LinearSolution; found Tensor"),
        (lambda w: LinearSolution(w[0], 1), r"must give weights \[R, p, T\] = \[2, \d+, \d+\] of torch\.float64"),
        (lambda w: LinearSolution(w.transpose(1, 2), 1), r"must give weights \[R, p, T\]"),
        (lambda w: LinearSolution(w.float(), 1), r"must give weights .* found \[.*\] of torch\.float32"),
        (lambda w: LinearSolution(w.numpy(), 1), r"must give weights .* found a ndarray"),
        (lambda w: LinearSolution(w, 1, finite=torch.ones(3, dtype=torch.bool)), r"finite \[R\] = \[2\] of"),
        (lambda w: LinearSolution(w, 1, finite=torch.ones(2)), r"must give finite .* found \[2\] of torch\.float32"),
        (lambda w: LinearSolution(w, 1, residual=0.5), r"must give residual \[R\] = \[2\] of .*; found a float"),
        (lambda w: LinearSolution(w, 1, learned={"L": w[0]}), r"learned matrices \[R, \.\.\.\], R = 2; found 'L' \["),
        (lambda w: LinearSolution(w, 1, learned={"L": w.numpy()}), r"found 'L' a ndarray"),
    ],
)  # fmt: skip
def test_a_solver_is_told_what_it_must_return(make, said):
    with pytest.raises(PluginError, match=said) as caught:
        train(solving(make), 2)
    assert "\n" not in str(caught.value)
    assert "test_author_checks.py, line " in str(caught.value)


def test_a_solution_of_the_right_shape_is_taken():
    assert train(solving(lambda w: LinearSolution(w, 1)), 2).status == ["finished"] * 2
