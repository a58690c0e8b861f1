"""What holds for every built-in weighting: company, bad trials, absent tasks, order of tasks."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import mtbench_weightings
import pytest
import torch
from torch import Tensor

from mtbench import GramWeighting, JacobianWeighting, LossWeighting, TaskStep, Weighting

N_TASKS, N_SHARED, N_TRIALS = 4, 9, 7
MODULES = [
    importlib.import_module(f"mtbench_weightings.{m.name}") for m in pkgutil.iter_modules(mtbench_weightings.__path__)
]
WEIGHTINGS: list[Weighting] = [cls() for module in MODULES for cls in module.mtbench_weightings()]
RANDOM = ("pcgrad", "gradvac", "rlw", "graddrop")
BY_PLACE = ("pcgrad", "gradvac", "rlw", "static")

every = pytest.mark.parametrize("weighting", WEIGHTINGS, ids=lambda w: w.name)


def _run(weighting: Weighting, J: Tensor, losses: Tensor, present: Tensor, key: Tensor, params: Any) -> tuple[Any, ...]:
    """Three steps of one trial: gradients or weights of each, a gradient of losses for a loss weighting; and its state.

    Args:
        weighting: It.
        J: [3, T, P].
        losses: [3, T].
        present: [3, T].
        key: int64 scalar.
        params: Its hyperparameters.
    """
    state = dict(weighting.start(J.shape[1], J.shape[2], params))
    learned = dict(weighting.learned(J.shape[1], params)) if isinstance(weighting, LossWeighting) else {}
    learned = {name: value.double() for name, value in learned.items()}
    found = []
    for k in range(len(J)):
        here = present[k]
        rows = torch.where(here[:, None] > 0, J[k], 0.0)
        gram = None if isinstance(weighting, LossWeighting) else rows @ rows.mT

        def scalar(values: Tensor, here: Tensor = here, k: int = k, state: Any = state) -> tuple[Tensor, Any]:
            step = TaskStep(values * here, here, key + k, learned=learned, state=state)
            return weighting.combine(step, params)

        if isinstance(weighting, LossWeighting):
            gradient, new = torch.func.grad(scalar, has_aux=True)(losses[k])
            out = gradient
            if weighting.sees_losses_after:
                new = weighting.after_step(losses[k] * here, 0.9 * losses[k] * here, new, params)
        else:
            step = TaskStep(losses[k] * here, here, key + k, gram, rows, state=state)
            out, new = weighting.combine(step, params)
        new = dict(weighting.after_epoch(losses[k], new, params))
        assert {n: (v.shape, v.dtype) for n, v in new.items()} == {n: (v.shape, v.dtype) for n, v in state.items()}
        state = new
        found.append(out)
    return torch.stack(found), state


def _trials(n_trials: int = N_TRIALS, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    J = torch.randn(n_trials, 3, N_TASKS, N_SHARED, dtype=torch.float64, generator=generator)
    losses = torch.rand(n_trials, 3, N_TASKS, dtype=torch.float64, generator=generator) + 0.1
    present = torch.ones_like(losses)
    return J, losses, present, torch.arange(n_trials) * 1000


def _mapped(weighting: Weighting, trials: tuple[Tensor, ...], params: Any) -> tuple[Any, ...]:
    return torch.vmap(lambda *one: _run(weighting, *one, params))(*trials)


@every
def test_a_mapped_trial_is_the_trial_alone(weighting: Weighting, params: Any) -> None:
    trials, settings = _trials(), params(weighting)
    found, states = _mapped(weighting, trials, settings)
    for r in range(N_TRIALS):
        alone, state = _run(weighting, *(value[r] for value in trials), settings)
        assert torch.allclose(found[r], alone, rtol=1e-12, atol=1e-12)
        assert all(torch.allclose(states[n][r], v, rtol=1e-12, atol=1e-12) for n, v in state.items())


@every
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 0.0])
def test_a_bad_trial_leaves_the_bytes_of_the_others(weighting: Weighting, bad: float, params: Any) -> None:
    trials, settings = _trials(), params(weighting)
    before, _ = _mapped(weighting, trials, settings)
    J, losses = trials[0].clone(), trials[1].clone()
    J[3, 1], losses[3, 1] = bad, bad
    after, _ = _mapped(weighting, (J, losses, *trials[2:]), settings)
    others = [r for r in range(N_TRIALS) if r != 3]
    assert torch.equal(before[others], after[others])


@every
def test_hyperparameters_may_differ_between_trials(weighting: Weighting, params: Any) -> None:
    trials, settings = _trials(), params(weighting)
    floats = {n: v for n, v in vars(settings).items() if isinstance(v, Tensor)}
    scales = torch.linspace(0.8, 1.0, N_TRIALS).double()

    def one(scale: Tensor, *trial: Tensor) -> Tensor:
        return _run(
            weighting, *trial, weighting.Params(**{**vars(settings), **{n: v * scale for n, v in floats.items()}})
        )[0]

    found = torch.vmap(one)(scales, *trials)
    alone = one(scales[2], *(value[2] for value in trials))
    assert torch.allclose(found[2], alone, rtol=1e-12, atol=1e-12)


@every
def test_an_absent_task_is_as_if_it_were_not_there(weighting: Weighting, params: Any) -> None:
    if weighting.name in BY_PLACE or weighting.name in ("dwa", "gradnorm", "excess_mtl"):
        pytest.skip("its weights follow from a task's place, or have a common scale over all tasks")
    J, losses, present, keys = _trials(1)
    without = (J[0, :, :3], losses[0, :, :3], present[0, :, :3], keys[0])
    present = present.clone()
    present[:, :, 3] = 0
    found, _ = _run(weighting, J[0], losses[0], present[0], keys[0], params(weighting))
    expected, _ = _run(weighting, *without, params(weighting))
    if not isinstance(weighting, JacobianWeighting):
        found = found[:, :3]
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-10)


@every
def test_the_absent_may_be_all_or_come_back(weighting: Weighting, params: Any) -> None:
    J, losses, present, keys = _trials(1)
    present = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]]).double()
    found, state = _run(weighting, J[0], losses[0], present, keys[0], params(weighting))
    assert found.isfinite().all()
    assert all(v.isfinite().all() for v in state.values())
    if isinstance(weighting, LossWeighting):
        assert (found[present == 0] == 0).all()


@every
def test_permuted_tasks_have_permuted_weights(weighting: Weighting, params: Any) -> None:
    if weighting.name in BY_PLACE:
        pytest.skip("its draws follow from a task's place")
    J, losses, present, keys = (value[0] for value in _trials(1))
    order = torch.tensor([2, 0, 3, 1])
    found, _ = _run(weighting, J, losses, present, keys, params(weighting))
    permuted, _ = _run(weighting, J[:, order], losses[:, order], present, keys, params(weighting))
    if not isinstance(weighting, JacobianWeighting):
        found = found[:, order]
    tolerance = 1e-5 if isinstance(weighting, JacobianWeighting) else 1e-8  # some keep sums in float32
    assert torch.allclose(found, permuted, rtol=tolerance, atol=tolerance)


@every
def test_gradients_of_zero_give_finite_weights(weighting: Weighting, params: Any) -> None:
    J, losses, present, keys = (value[0] for value in _trials(1))
    for zero in (J * 0, J * torch.tensor([0.0, 1.0, 1.0, 1.0]).double()[:, None]):
        found, _ = _run(weighting, zero, losses, present, keys, params(weighting))
        assert found.isfinite().all()
        if isinstance(weighting, GramWeighting) and weighting.heads == "weighted":
            assert (found > 0).all()  # else heads that start at 0, as do the gradients below them, would stay there


@every
def test_draws_follow_from_the_key(weighting: Weighting, params: Any) -> None:
    J, losses, present, _ = (value[0] for value in _trials(1))
    J = torch.where(torch.arange(N_TASKS)[:, None] % 2 == 1, -J.abs(), J.abs())  # conflict
    runs = [_run(weighting, J, losses, present, torch.tensor(k), params(weighting))[0] for k in (5, 5, 6)]
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2]) == (weighting.name not in RANDOM)


def test_there_are_24_weightings_of_three_kinds() -> None:
    kinds = [sum(isinstance(w, kind) for w in WEIGHTINGS) for kind in (LossWeighting, GramWeighting, JacobianWeighting)]
    assert kinds == [9, 12, 3]
    assert len({w.name for w in WEIGHTINGS}) == 24
