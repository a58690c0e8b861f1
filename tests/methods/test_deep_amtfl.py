"""Deep-AMTFL: its objective written out, limiting cases, and the asymmetry it finds."""

import dataclasses

import numpy as np
import pytest
import torch
from mtbench_methods.cnn import MTCNN
from mtbench_methods.deep_amtfl import DeepAMTFL

from mtbench.testing.problems import OwnMulticlass, OwnRegression, SharedOneVsAll, SharedRegression

MINIATURES = (SharedOneVsAll, SharedRegression, OwnRegression, OwnMulticlass)


@pytest.mark.parametrize("miniature", MINIATURES)
def test_the_objective_equals_a_slow_loop(deep, miniature) -> None:
    problem = deep.problem(miniature)
    model, params = deep.build(DeepAMTFL(), problem, alpha=0.3, gamma=0.2, mu=0.02, lambda_=0.05, delta=0.1)
    with torch.no_grad():
        model.feedback.A.normal_()
        model.feedback.b.normal_()
    batch, A = deep.batch(problem), model.feedback.A
    losses, examples = batch.task_losses(model(batch)), batch.n_examples
    expected = 0.05 / 2 * sum(p.square().sum() for p in model.backbone.parameters())
    for t, columns in enumerate(problem.output_slices):
        fed_back = sum(A[o].abs().sum() for o in range(columns.start, columns.stop))
        offset = 0.1 / (examples[t] / examples.mean()).sqrt()
        expected = expected + (1 + 0.3 * fed_back) * (losses[t] + offset) + 0.02 * model.S[:, columns].abs().sum()
    for row in batch.inputs:
        z = torch.relu(model.backbone.layers[0].weight @ row + model.backbone.layers[0].bias)
        o = z @ model.S + model.b
        error = (z - torch.relu(o @ A + model.feedback.b)).square().sum()
        expected = expected + 0.2 * error / len(batch.inputs)
    torch.testing.assert_close(DeepAMTFL().objective(model, batch, params), expected)


@pytest.mark.parametrize("miniature", MINIATURES)
def test_without_alpha_and_gamma_it_trains_mt_cnn(deep, miniature) -> None:
    problem = deep.problem(miniature)
    model, params = deep.build(DeepAMTFL(), problem, alpha=0.0, gamma=0.0)
    base, base_params = deep.build(MTCNN(), problem)
    batch = deep.batch(problem)
    constant = batch.size_offset(params.delta).sum()
    objectives = DeepAMTFL().objective(model, batch, params), MTCNN().objective(base, batch, base_params)
    torch.testing.assert_close(objectives[0] - constant, objectives[1])
    ours, theirs = (
        deep.train(m, miniature, **s) for m, s in ((DeepAMTFL(), {"alpha": 0.0, "gamma": 0.0}), (MTCNN(), {}))
    )
    np.testing.assert_allclose(ours.learned["head"], theirs.learned["head"], 1e-10, 1e-10)
    for name, values in theirs.metrics["test"].items():
        np.testing.assert_allclose(ours.metrics["test"][name], values, 1e-10, 1e-10)


def test_the_offset_presses_most_on_the_feedback_of_tasks_with_fewest_examples(deep) -> None:
    problem = deep.problem(OwnRegression)
    model, params = deep.build(DeepAMTFL(), problem, alpha=1.0, gamma=0.0, delta=0.5)
    plain = dataclasses.replace(params, delta=0.0)
    batch = deep.batch(problem)
    pressure = [
        torch.autograd.grad(DeepAMTFL().objective(model, batch, p), model.feedback.A)[0].abs()[:, 0]
        for p in (params, plain)
    ]
    sizes = batch.n_examples / batch.n_examples.mean()
    torch.testing.assert_close(pressure[0] - pressure[1], 0.5 / sizes.sqrt())


def test_one_task_without_reconstruction_is_single_task_learning(deep) -> None:
    problem = deep.problem(OwnRegression, tasks=1)
    model, params = deep.build(DeepAMTFL(), problem, alpha=0.5, gamma=0.0, delta=0.0)
    torch.nn.init.zeros_(model.feedback.A)
    batch = deep.batch(problem)
    base, base_params = deep.build(MTCNN(), problem)
    found = DeepAMTFL().objective(model, batch, params)
    torch.testing.assert_close(found, MTCNN().objective(base, batch, base_params))


def test_the_transfer_is_feedback_times_head(deep) -> None:
    problem = deep.problem(SharedRegression)
    model, params = deep.build(DeepAMTFL(), problem)
    learned = DeepAMTFL().learned(model, params)
    torch.testing.assert_close(learned["transfer"], model.feedback.A @ model.S)


@pytest.mark.parametrize("split", [0, 1])
def test_reliable_tasks_feed_back_and_unreliable_ones_do_not(deep, split) -> None:
    learned = deep.train(DeepAMTFL(), deep.reliable_tasks, split, alpha=0.1, gamma=0.1).learned
    fed_back = np.abs(learned["feedback"][0]).sum(1)
    assert fed_back[:2].min() > 10 * fed_back[2:].max()
    transfer = learned["transfer"][0]
    assert transfer[:2, 2:].mean() > 0.1
    assert transfer[:2, 2:].mean() > 10 * np.abs(transfer[2:, :2]).mean()
