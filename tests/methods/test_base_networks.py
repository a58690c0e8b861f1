"""NN, MT-NN, CNN, MT-CNN and AMTFL: how their losses weigh tasks, and AMTFL's objective written out."""

import dataclasses

import pytest
import torch
from mtbench_methods.amtfl import AMTFL, AMTFLParams
from mtbench_methods.cnn import CNN, MTCNN
from mtbench_methods.nn import MTNN, NN

from mtbench.contracts.hyperparameters import describe
from mtbench.testing.problems import RECIPE, OwnMulticlass, OwnRegression, SharedOneVsAll, SharedRegression

PAIRS = [(NN(), MTNN()), (CNN(), MTCNN())]
MINIATURES = (SharedOneVsAll, SharedRegression, OwnRegression, OwnMulticlass)


def without_penalties(deep, method, problem):
    changes = {name: 0.0 for name, known in describe(method.Params).items() if known.kind is float}
    model, params = deep.build(method, problem, **changes)
    batch = deep.batch(problem)
    return method.objective(model, batch, params), model, batch


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("miniature", MINIATURES)
def test_rows_count_the_same_in_plain_networks_and_tasks_in_multi_task_ones(deep, pair, miniature) -> None:
    problem = deep.problem(miniature)
    (plain, model, batch), (multi, _, _) = (without_penalties(deep, method, problem) for method in pair)
    means = batch.task_losses(model(batch))
    torch.testing.assert_close(multi, means.sum())
    shares = batch.n_train / batch.n_train.sum()
    torch.testing.assert_close(plain, problem.n_tasks * (shares * means).sum())


@pytest.mark.parametrize("pair", PAIRS)
def test_in_one_vs_all_problems_the_losses_are_equal(deep, pair) -> None:
    problem = deep.problem(SharedOneVsAll)
    (plain, _, _), (multi, _, _) = (without_penalties(deep, method, problem) for method in pair)
    torch.testing.assert_close(plain, multi)


def test_rows_without_a_task_leave_its_loss_out_but_not_its_offset(deep) -> None:
    problem = deep.problem(OwnRegression)
    model, params = deep.build(AMTFL(), problem, alpha=0.0, gamma=0.0, mu=0.0, lambda_=0.0, delta=0.5)
    batch = deep.batch(problem)
    first = batch.task == 0
    few = dataclasses.replace(batch, inputs=batch.inputs[first], labels=batch.labels[first], task=batch.task[first])
    offsets = batch.size_offset(0.5).sum()
    own = few.task_losses(model(few))
    assert own.count_nonzero() == 1
    torch.testing.assert_close(AMTFL().objective(model, few, params), own[0] + offsets)


@pytest.mark.parametrize("miniature", MINIATURES)
@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_the_objective_of_amtfl_equals_a_slow_loop(deep, miniature, activation) -> None:
    problem, recipe = deep.problem(miniature), dataclasses.replace(RECIPE, activation=activation)
    values = {"alpha": 0.3, "gamma": 0.2, "mu": 0.02, "lambda_": 0.05, "nu": 0.01, "delta": 0.4}
    model, params = deep.build(AMTFL(), problem, recipe, **values)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    batch, A = deep.batch(problem), model.feedback.A
    losses, examples = batch.task_losses(model(batch)), batch.n_examples
    expected = 0.05 * model.L.square().sum() + 0.01 * model.L.abs().sum()
    for t, columns in enumerate(problem.output_slices):
        fed_back = sum(A[o].abs().sum() for o in range(columns.start, columns.stop))
        offset = 0.4 * (examples.mean() / examples[t]).sqrt()
        expected = expected + (1 + 0.3 * fed_back) * (losses[t] + offset) + 0.02 * model.S[:, columns].abs().sum()
    for row in batch.inputs:
        z = row @ model.L
        z = torch.relu(z + model.c) if activation == "relu" else z
        back = (z @ model.S + (0 if model.b is None else model.b)) @ A
        back = torch.relu(back + model.feedback.b) if activation == "relu" else back
        expected = expected + 0.2 * (z - back).square().sum() / len(batch.inputs)
    torch.testing.assert_close(AMTFL().objective(model, batch, params), expected)


def test_the_offset_counts_examples_in_one_vs_all_problems(deep) -> None:
    problem = deep.problem(SharedOneVsAll)
    batch = deep.batch(problem)
    assert batch.n_train.tolist() == [40, 40, 40]
    assert batch.n_examples.tolist() == [14, 13, 13]
    model, params = deep.build(AMTFL(), problem, alpha=1.0, gamma=0.0, delta=0.5)
    plain = dataclasses.replace(params, delta=0.0)
    pressure = [
        torch.autograd.grad(AMTFL().objective(model, batch, p), model.feedback.A)[0].abs()[:, 0]
        for p in (params, plain)
    ]
    wanted = 0.5 * (batch.n_examples.mean() / batch.n_examples).sqrt()
    torch.testing.assert_close(pressure[0] - pressure[1], wanted, rtol=1e-6, atol=0)


def test_delta_is_searched_as_that_of_amtl_is() -> None:
    known = describe(AMTFLParams)["delta"]
    assert known.per == "task_loss"
    assert (known.range.low, known.range.high, known.range.log) == (1e-3, 10.0, True)
