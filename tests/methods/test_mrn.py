"""MRN: its prior against the explicit Kronecker product, its updates against a loop, limiting cases, known groups."""

import math

import numpy as np
import pytest
import torch
from mtbench_methods.mrn import MRN, TensorNormal
from torch import nn

from mtbench.testing.problems import OwnMulticlass, OwnRegression, SharedRegression


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> MRN:
    """Updates its covariances every ten steps."""
    monkeypatch.setattr(MRN, "update_every", 10)
    return MRN()


def random_prior(*sizes: int) -> TensorNormal:
    """A prior with random covariances."""
    torch.manual_seed(0)
    prior = TensorNormal(*sizes).double()
    with torch.no_grad():
        for axis, n in zip(("tasks", "inputs", "outputs"), sizes, strict=True):
            root = torch.randn(n, 2 * n, dtype=torch.float64)
            covariance = root @ root.T
            getattr(prior, f"covariance_{axis}").copy_(covariance)
            getattr(prior, f"precision_{axis}").copy_(torch.linalg.inv(covariance))
    return prior


def covariances(prior: TensorNormal) -> list[torch.Tensor]:
    return [prior.covariance_tasks, prior.covariance_inputs, prior.covariance_outputs]


def test_penalty_and_its_gradient_are_those_of_the_explicit_kronecker_product() -> None:
    prior = random_prior(3, 4, 2)
    W = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    tasks, inputs, outputs = covariances(prior)
    full = torch.kron(torch.kron(tasks, inputs), outputs)
    expected = W.flatten() @ torch.linalg.solve(full, W.flatten())
    penalty = prior.penalty(W)
    torch.testing.assert_close(penalty, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, W)[0] for value in (penalty, expected)))


def test_a_fresh_prior_is_weight_decay() -> None:
    W = torch.randn(3, 4, 2)
    torch.testing.assert_close(TensorNormal(3, 4, 2).penalty(W), W.square().sum())


def test_an_update_equals_a_slow_loop() -> None:
    prior, sizes = random_prior(3, 4, 2), (3, 4, 2)
    W = torch.randn(*sizes, dtype=torch.float64)
    found, current = prior.updated(W), [c.clone() for c in covariances(prior)]
    for axis, name in enumerate(("tasks", "inputs", "outputs")):
        # The axis first, the others in order: [n, m], whose columns have the Kronecker covariance of the others.
        unfolded = W.movedim(axis, 0).flatten(1)
        first, second = (current[other] for other in range(3) if other != axis)
        between = torch.linalg.inv(torch.kron(first, second))
        estimate = torch.zeros(sizes[axis], sizes[axis], dtype=torch.float64)
        for i in range(sizes[axis]):
            for j in range(sizes[axis]):
                estimate[i, j] = unfolded[i] @ between @ unfolded[j] / unfolded.shape[1]
            estimate[i, i] += 1e-5
        current[axis] = estimate / estimate.trace() * sizes[axis]
        torch.testing.assert_close(found[f"covariance_{name}"], current[axis])
        torch.testing.assert_close(found[f"precision_{name}"], torch.linalg.inv(current[axis]))


def test_rounds_of_updates_find_the_covariance_that_weights_were_drawn_from() -> None:
    torch.manual_seed(0)
    tasks = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    inputs = torch.diag(torch.linspace(0.2, 1.8, 30, dtype=torch.float64))
    W = torch.einsum("ts,sio,ij->tjo", torch.linalg.cholesky(tasks), torch.randn(3, 30, 40).double(), inputs.sqrt())
    prior = TensorNormal(3, 30, 40).double()
    for _ in range(5):
        prior.load_state_dict(prior.updated(W))
    torch.testing.assert_close(prior.covariance_tasks, tasks, atol=0.15, rtol=0)
    assert np.corrcoef(prior.covariance_inputs.diagonal(), inputs.diagonal())[0, 1] > 0.8


@pytest.mark.parametrize("miniature", [SharedRegression, OwnMulticlass])
def test_training_changes_the_covariances_and_keeps_them_positive_definite(deep, often, miniature) -> None:
    result = deep.train(often, miniature)
    model, params = deep.build(often, deep.problem(miniature))
    batch = deep.batch(deep.problem(miniature))
    before = {name: value.clone() for name, value in model.named_buffers()}
    changed = often.after_step(model, batch, params)
    assert changed.keys() == {name for name in before if "prior" in name}
    for name, value in changed.items():
        # Of one output there is nothing to estimate.
        assert len(value) == 1 or not torch.allclose(value, before[name]), name
        torch.testing.assert_close(value, value.T)
        assert (torch.linalg.eigvalsh(value) > 0).all(), name
    learned = result.learned["task_covariance"][0]
    assert not np.allclose(learned, np.eye(len(learned)))
    assert np.linalg.eigvalsh(learned).min() > 0


def test_covariances_of_wide_layers_in_single_precision_are_positive_definite() -> None:
    torch.manual_seed(0)
    prior, W = TensorNormal(5, 256, 8), 0.05 * torch.randn(5, 256, 8)
    for _ in range(3):
        prior.load_state_dict(prior.updated(W))
    # Forty samples for 256 directions: what is not spanned is held up by epsilon alone.
    assert all((torch.linalg.eigvalsh(c.double()) > 0).all() for c in covariances(prior))
    assert prior.penalty(W) > 0


def test_the_head_has_the_prior_where_tasks_have_equally_many_outputs(deep) -> None:
    equal, _ = deep.build(MRN(), deep.problem(OwnRegression))
    unequal, _ = deep.build(MRN(), deep.problem(OwnMulticlass))
    assert set(equal.priors()) == {"hidden_prior", "head_prior"}
    assert set(unequal.priors()) == {"hidden_prior"}
    with torch.no_grad():
        unequal.heads.S.zero_()
    rest = unequal.decay()
    nn.init.ones_(unequal.heads.S)
    torch.testing.assert_close(unequal.decay() - rest, torch.tensor(unequal.heads.S.numel() / 2).double())


def test_one_task_is_single_task_learning(deep) -> None:
    problem = deep.problem(OwnRegression, tasks=1)
    model, params = deep.build(MRN(), problem, gamma=0.02, lambda_=0.02)
    batch = deep.batch(problem)
    hidden = torch.relu(model.backbone(batch.inputs) @ model.V[0] + model.c[0])
    outputs = hidden @ model.heads.S[0] + model.heads.b[0]
    torch.testing.assert_close(model(batch), outputs)
    # Before its covariances are estimated, the prior is weight decay, as on the layers below.
    weights = [*model.backbone.parameters(), model.V, model.c, model.heads.S]
    decay = sum(p.square().sum() for p in weights) / 2
    expected = (outputs[:, 0] - batch.labels[:, 0]).square().mean() + 0.02 * decay
    torch.testing.assert_close(MRN().objective(model, batch, params), expected)
    covariance = MRN().after_step(model, batch, params)["hidden_prior.covariance_tasks"]
    torch.testing.assert_close(covariance, torch.ones(1, 1).double())


def test_rows_of_each_task_give_the_losses_that_all_rows_through_all_tasks_give(deep) -> None:
    problem = deep.problem(OwnMulticlass)
    model, _ = deep.build(MRN(), problem)
    nn.init.normal_(model.V)
    in_order = deep.batch(problem, per_task=5)
    mixed = deep.batch(problem, per_task=5)
    object.__setattr__(mixed, "per_task", 0)
    torch.testing.assert_close(in_order.task_losses(model(in_order)), mixed.task_losses(model(mixed)))


@pytest.mark.parametrize("changes", [{}, {"rows_per_task": 4}])
def test_stacked_equals_alone_through_updates(deep, often, changes) -> None:
    settings = ({"gamma": 1e-2}, {"gamma": 1e-3, "lambda_": 1e-3})
    deep.assert_stacked_equals_alone(often, OwnRegression, *settings, **changes)


def test_the_covariance_between_tasks_shows_their_groups(deep, monkeypatch) -> None:
    monkeypatch.setattr(MRN, "update_every", 50)
    covariance = deep.train(MRN(), deep.opposite_groups, gamma=1e-2).learned["task_covariance"][0]
    within, across = deep.within_and_across(covariance)
    assert within.min() > across.max()
    assert math.isclose(np.trace(covariance), 6, rel_tol=1e-6)
