"""Deep-AMTL: its objective written out, what B is after steps, limiting cases, and the asymmetry it finds."""

import numpy as np
import pytest
import torch
from mtbench_methods.cnn import MTCNN
from mtbench_methods.deep_amtl import DeepAMTL

from mtbench.testing.problems import OwnMulticlass, OwnRegression, SharedOneVsAll, SharedRegression

MINIATURES = (SharedOneVsAll, SharedRegression, OwnRegression, OwnMulticlass)


@pytest.mark.parametrize("miniature", MINIATURES)
def test_the_objective_equals_a_slow_loop(deep, miniature) -> None:
    problem = deep.problem(miniature)
    model, params = deep.build(DeepAMTL(), problem, alpha=0.3, gamma=0.2, mu=0.02, lambda_=0.05, delta=0.1)
    with torch.no_grad():
        model.B.copy_(torch.rand_like(model.B))
    batch = deep.batch(problem)
    owner = [t for t, task in enumerate(problem.tasks) for _ in range(task.n_outputs)]
    losses = batch.task_losses(model(batch))
    examples = batch.n_examples
    expected = 0.05 / 2 * sum(p.square().sum() for p in model.backbone.parameters())
    for t in range(problem.n_tasks):
        outgoing = 0.0
        for i, own in enumerate(owner):
            for j, other in enumerate(owner):
                outgoing += abs(model.B[i, j]) if own == t != other else 0.0
        offset = 0.1 / (examples[t] / examples.mean()).sqrt()
        expected = expected + (1 + 0.3 * outgoing) * (losses[t] + offset)
    for j, other in enumerate(owner):
        combined = sum(model.S[:, i] * model.B[i, j] for i, own in enumerate(owner) if own != other)
        expected = expected + 0.2 * (model.S[:, j] - combined).square().sum() + 0.02 * model.S[:, j].abs().sum()
    torch.testing.assert_close(DeepAMTL().objective(model, batch, params), expected)


@pytest.mark.parametrize("miniature", MINIATURES)
def test_without_alpha_and_gamma_it_trains_mt_cnn(deep, miniature) -> None:
    problem = deep.problem(miniature)
    model, params = deep.build(DeepAMTL(), problem, alpha=0.0, gamma=0.0)
    base, base_params = deep.build(MTCNN(), problem)
    batch = deep.batch(problem)
    constant = batch.size_offset(params.delta).sum()
    objectives = DeepAMTL().objective(model, batch, params), MTCNN().objective(base, batch, base_params)
    torch.testing.assert_close(objectives[0] - constant, objectives[1])
    ours, theirs = (
        deep.train(m, miniature, **s) for m, s in ((DeepAMTL(), {"alpha": 0.0, "gamma": 0.0}), (MTCNN(), {}))
    )
    np.testing.assert_allclose(ours.learned["head"], theirs.learned["head"], 1e-10, 1e-10)
    for name, values in theirs.metrics["test"].items():
        np.testing.assert_allclose(ours.metrics["test"][name], values, 1e-10, 1e-10)


@pytest.mark.parametrize("miniature", MINIATURES)
def test_transfer_stays_non_negative_and_no_task_gives_to_itself(deep, miniature) -> None:
    learned = deep.train(DeepAMTL(), miniature, alpha=1e-3, gamma=1.0).learned["transfer"][0]
    assert (learned >= 0).all()
    assert (learned > 0).any()
    assert (learned.diagonal() == 0).all()


def test_a_step_is_projected_on_what_is_allowed(deep) -> None:
    problem = deep.problem(OwnMulticlass)
    model, params = deep.build(DeepAMTL(), problem)
    with torch.no_grad():
        model.B.copy_(torch.randn_like(model.B))
    projected = DeepAMTL().after_step(model, deep.batch(problem), params)["B"]
    blocks = torch.block_diag(*(torch.ones(task.n_outputs, task.n_outputs) for task in problem.tasks)).bool()
    assert (projected[blocks] == 0).all()
    torch.testing.assert_close(projected[~blocks], model.B[~blocks].clamp(min=0))


def test_one_task_has_nothing_to_transfer(deep) -> None:
    problem = deep.problem(OwnRegression, tasks=1)
    model, params = deep.build(DeepAMTL(), problem, alpha=0.5, gamma=0.5)
    batch = deep.batch(problem)
    base, base_params = deep.build(MTCNN(), problem)
    expected = MTCNN().objective(base, batch, base_params) + params.delta + 0.5 * model.S.square().sum()
    torch.testing.assert_close(DeepAMTL().objective(model, batch, params), expected)
    assert (model.B == 0).all()


@pytest.mark.parametrize("split", [0, 1])
def test_reliable_tasks_give_and_unreliable_ones_take(deep, split) -> None:
    given = deep.train(DeepAMTL(), deep.reliable_tasks, split, alpha=0.1, gamma=0.1, mu=1e-3).learned["transfer"][0]
    assert given[:2, 2:].mean() > 0.2
    assert given[:2, 2:].mean() > 10 * given[2:, :2].mean()
