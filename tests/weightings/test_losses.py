"""Weightings of losses: closed forms, limiting cases, and what they remember and learn."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from mtbench_weightings.dwa import DWA
from mtbench_weightings.famo import FAMO
from mtbench_weightings.gls import GLS
from mtbench_weightings.imtl_l import IMTLL
from mtbench_weightings.log_losses import LogLosses
from mtbench_weightings.rlw import RLW
from mtbench_weightings.static import Static
from mtbench_weightings.stch import STCH
from mtbench_weightings.uw import UW
from torch import Tensor

from mtbench import LossWeighting, TaskStep

LOSSES = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)


def _value(method: LossWeighting, losses: Tensor, settings: Any, state: Any = None, **more: Any) -> Tensor:
    present = more.pop("present", torch.ones_like(losses))
    state = method.start(len(losses), 1, settings) if state is None else state
    step = TaskStep(losses, present, more.pop("key", torch.tensor(0)), state=state, **more)
    return method.combine(step, settings)[0]


def _weights(method: LossWeighting, losses: Tensor, settings: Any, state: Any = None, **more: Any) -> Tensor:
    return torch.func.grad(lambda x: _value(method, x, settings, state, **more))(losses)


def test_static_weights_are_equal_for_mixture_0_and_else_sum_to_the_number_of_tasks(params: Any) -> None:
    assert _weights(Static(), LOSSES, params(Static())).tolist() == [1, 1, 1]
    for mixture in (1.0, 0.5, 123.456, 2.0**20):
        weights = _weights(Static(), LOSSES, params(Static(), mixture=mixture))
        assert weights.sum().item() == pytest.approx(3)
        assert (weights > 0).all()


def test_static_weights_are_flat_dirichlet_draws_over_mixtures(params: Any) -> None:
    mixtures = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2**20
    weights = torch.vmap(lambda m: _weights(Static(), LOSSES, Static.Params(mixture=m)))(mixtures) / 3
    assert weights.mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.01)
    assert (weights**2).mean(0).tolist() == pytest.approx([2 / 12] * 3, abs=0.01)  # of Dirichlet(1, 1, 1)


def test_static_weights_do_not_depend_on_the_precision_of_the_mixture() -> None:
    for mixture in (123.456, 1048570.0, 3.0):
        found = [
            _weights(Static(), LOSSES, Static.Params(mixture=torch.tensor(mixture, dtype=dtype)))  # type: ignore[arg-type]
            for dtype in (torch.float32, torch.float64)
        ]
        assert torch.equal(*found)


def test_random_weights_are_softmaxes_of_normal_numbers(params: Any) -> None:
    keys = torch.arange(20_000)
    weights = torch.vmap(lambda key: _weights(RLW(), LOSSES, params(RLW()), key=key))(keys)
    assert torch.allclose(weights.sum(1), torch.ones(20_000).double())
    ratios = (weights[:, 0] / weights[:, 1]).log()  # the difference of two normal numbers
    assert ratios.mean().item() == pytest.approx(0, abs=0.03)
    assert ratios.std().item() == pytest.approx(math.sqrt(2), abs=0.03)


def test_random_weights_of_present_tasks_sum_to_1(params: Any) -> None:
    weights = _weights(RLW(), LOSSES, params(RLW()), present=torch.tensor([1.0, 0.0, 1.0]).double())
    assert weights[1] == 0
    assert weights.sum().item() == pytest.approx(1)


def test_dwa_is_equal_for_two_epochs_and_then_favours_what_falls_least(params: Any) -> None:
    method, settings = DWA(), params(DWA(), tau=0.5)
    state = method.start(3, 1, settings)
    for losses in ([2.0, 2.0, 2.0], [1.0, 2.0, 1.0]):
        assert _weights(method, LOSSES, settings, state).tolist() == [1, 1, 1]
        state = method.after_epoch(torch.tensor(losses).double(), state, settings)
    expected = 3 * torch.softmax(torch.tensor([0.5, 1.0, 0.5]).double() / 0.5, 0)
    assert torch.allclose(_weights(method, LOSSES, settings, state), expected)


def test_dwa_keeps_losses_of_tasks_that_an_epoch_lacks(params: Any) -> None:
    method, settings = DWA(), params(DWA())
    state = dict(method.start(2, 1, settings))
    state |= {"last": torch.tensor([1.0, 2.0]).double(), "before": torch.tensor([2.0, 2.0]).double()}
    after = method.after_epoch(torch.tensor([0.5, torch.nan]).double(), state, settings)
    assert after["last"].tolist() == [0.5, 2.0]
    assert after["before"].tolist() == [1.0, 2.0]


def test_uw_and_imtl_l_are_best_where_they_even_losses_out(params: Any) -> None:
    for method, best, at_best in ((UW(), LOSSES.log(), 0.5), (IMTLL(), -LOSSES.log(), 1.0)):
        start = method.learned(3, None)["s"].double()
        assert _weights(method, LOSSES, None, learned={"s": start}).tolist() == [at_best] * 3
        slope = torch.func.grad(lambda s, m=method: _value(m, LOSSES, None, learned={"s": s}))(best)
        assert torch.allclose(slope, torch.zeros(3).double(), atol=1e-12)
        even = _weights(method, LOSSES, None, learned={"s": best}) * LOSSES
        assert torch.allclose(even, torch.full((3,), at_best).double())


def test_imtl_l_is_twice_uw_with_the_sign_turned() -> None:
    s = torch.tensor([0.3, -1.0, 2.0]).double()
    assert torch.allclose(
        _value(IMTLL(), LOSSES, None, learned={"s": s}), 2 * _value(UW(), LOSSES, None, learned={"s": -s})
    )


def test_numbers_of_absent_tasks_do_not_move() -> None:
    present, losses = torch.tensor([1.0, 0.0, 1.0]).double(), LOSSES * torch.tensor([1.0, 0.0, 1.0]).double()
    for method in (UW(), IMTLL()):
        slope = torch.func.grad(lambda s, m=method: _value(m, losses, None, learned={"s": s}, present=present))
        assert slope(torch.zeros(3).double())[1] == 0


def test_gls_is_the_geometric_mean_even_where_a_product_underflows() -> None:
    assert _value(GLS(), LOSSES, None).item() == pytest.approx(2 ** (1 / 3))
    small = torch.full((400,), 0.01)
    assert _value(GLS(), small, None).item() == pytest.approx(0.01, rel=1e-4)
    assert torch.allclose(_weights(GLS(), small, None), torch.full((400,), 1 / 400), rtol=1e-3)


def test_gls_of_present_tasks_is_their_mean() -> None:
    present = torch.tensor([1.0, 0.0, 1.0]).double()
    assert _value(GLS(), LOSSES * present, None, present=present).item() == pytest.approx(math.sqrt(2))


def test_log_losses_do_not_feel_scale(params: Any) -> None:
    weights = [_weights(LogLosses(), scale * LOSSES, None) * scale for scale in (1e-3, 1.0, 1e3)]
    assert torch.allclose(weights[0], weights[2], rtol=1e-4)
    assert _weights(LogLosses(), torch.zeros(2).double(), None).isfinite().all()


def test_stch_sums_losses_in_the_warmup_and_then_tends_to_the_worst_task(params: Any) -> None:
    method = STCH()
    settings = params(method, mu=1e-3, warmup=1)
    state = method.start(3, 1, settings)
    assert _weights(method, LOSSES, settings, state).tolist() == [1, 1, 1]
    state = method.after_epoch(2 * LOSSES, state, settings)
    state = method.after_epoch(7 * LOSSES, state, settings)  # no longer of the warm-up
    now = LOSSES * torch.tensor([0.5, 1.0, 0.6]).double()
    assert torch.allclose(_weights(method, now, settings, state) * now, torch.tensor([0.0, 1.0, 0.0]).double())


def test_stch_is_close_to_the_mean_of_logarithms_where_it_is_smooth(params: Any) -> None:
    method = STCH()
    state = {"epochs": torch.tensor(4.0).double(), "scale": torch.ones(3).double()}
    weights = _weights(method, LOSSES, params(method, mu=1e3), state) * LOSSES
    assert torch.allclose(weights, torch.full((3,), 1 / 3).double(), atol=1e-3)


def test_famo_weighs_as_its_closed_form_and_moves_to_the_task_that_falls_least(params: Any) -> None:
    method, settings = FAMO(), params(FAMO())
    state = method.start(3, 1, settings)
    weights = _weights(method, LOSSES, settings, state)
    assert torch.allclose(weights, (1 / LOSSES) / (1 / LOSSES).sum())
    after = LOSSES * torch.tensor([0.5, 0.9, 1.0]).double()
    for _ in range(20):
        state = method.after_step(LOSSES, after, state, settings)
    z = torch.softmax(state["xi"], 0)
    assert z[0] < 1 / 3 < z[2]


def test_the_gradient_of_famos_logits_is_that_of_its_softmax(params: Any) -> None:
    method, settings = FAMO(), params(FAMO(), gamma=0.0)
    xi = torch.tensor([0.3, -0.2, 0.1]).double()
    state = {**method.start(3, 1, settings), "xi": xi}
    after = LOSSES * torch.tensor([0.5, 0.9, 1.1]).double()
    rates = LOSSES.log() - after.log()
    slope = torch.func.grad(lambda x: torch.softmax(x, 0) @ rates)(xi)
    new = method.after_step(LOSSES, after, state, settings)
    assert torch.allclose(new["adam_mean"], 0.1 * slope)
    assert torch.equal((new["xi"] - xi).sign(), -slope.sign())
