"""Fine-tuning: hard sharing first, the same towers for all tasks after it, and then single tasks."""

import dataclasses

import numpy as np
import pytest
import torch
from mtbench_methods.fine_tuned import FineTuned
from mtbench_methods.hard_sharing import HardSharing

from mtbench.testing.problems import OwnImages, OwnMulticlass, OwnRegression, SharedRegression

METHOD = FineTuned()


@pytest.mark.parametrize("miniature", [SharedRegression, OwnMulticlass])
def test_the_first_stage_is_hard_sharing(deep, miniature) -> None:
    joint, shared = (deep.train(method, miniature).history for method in (METHOD, HardSharing()))
    ends = int((joint["stage"][0] == 0).sum())
    assert 5 < ends < joint["stage"].shape[1]
    np.testing.assert_allclose(joint["loss"][0, :ends], shared["loss"][0, :ends], rtol=1e-10)


@pytest.mark.parametrize("miniature", [OwnRegression, OwnImages])
def test_towers_start_as_the_backbone_was_left_with_its_running_statistics(deep, miniature) -> None:
    problem = deep.problem(miniature)
    model, params = deep.build(METHOD, problem, miniature.recipe)
    batch = deep.batch(problem)
    for _ in range(2):  # moves running statistics
        METHOD.joint_terms(model, batch, params)
    model.backbone.apply(lambda module: [p.data.add_(0.1) for p in module.parameters(recurse=False)])
    new = METHOD.between(model, "joint", "own", params)
    model.load_state_dict(model.state_dict() | new)
    model.eval()
    torch.testing.assert_close(batch.own_outputs(model(batch)), batch.own_outputs(model.shared(batch)))
    before, after = METHOD.joint_terms(model, batch, params), METHOD.terms(model, batch, params)
    heads = params.lambda_ / 2 * model.heads.S.square().sum()
    torch.testing.assert_close(before.penalty - heads, after.penalty - heads / problem.n_tasks)


def test_a_task_is_fine_tuned_by_its_own_labels_alone(deep) -> None:
    problem = deep.problem(OwnRegression)
    model, params = deep.build(METHOD, problem)
    losses = METHOD.terms(model, deep.batch(problem), params).tasks
    held = [*model.towers.parameters(), *model.heads.parameters()]
    for t, loss in enumerate(losses):
        for gradient in torch.autograd.grad(loss, held, retain_graph=True):
            assert gradient.flatten(1).abs().sum(1).nonzero().flatten().tolist() == [t]
    unused = torch.autograd.grad(losses.sum(), list(model.backbone.parameters()), allow_unused=True)
    assert unused == (None,) * len(unused)


def test_every_task_keeps_its_own_best_epoch_of_the_second_stage(deep, monkeypatch) -> None:
    recipe = dataclasses.replace(OwnRegression.recipe, max_epochs=20)
    monkeypatch.setattr(OwnRegression, "recipe", recipe)
    apart = deep.train(METHOD, OwnRegression)
    monkeypatch.setattr(FineTuned, "separate", False)
    together = deep.train(METHOD, OwnRegression)
    found, one = (result.metrics["validation"]["rmse"][0] for result in (apart, together))
    assert (found <= one + 1e-12).all()
    assert (found < one).any()
    assert apart.best_epoch[0] > 10


def test_what_predicts_in_the_end_is_counted(deep) -> None:
    model, params = deep.build(METHOD, deep.problem(OwnRegression))
    one = sum(p.numel() for p in model.backbone.parameters())
    assert METHOD.n_parameters(model, params) == 4 * one + model.heads.S.numel() + model.heads.b.numel()
