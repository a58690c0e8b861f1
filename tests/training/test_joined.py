"""The halves of a stack that did not fit in memory, joined: every array as wide as the longer half needs."""

import dataclasses

import numpy as np
import pytest

from mtbench.contracts.recipe import Recipe
from mtbench.contracts.trials import Cell, StackResult, Status, Trial
from mtbench.store import Store
from mtbench.store.image import result_id
from mtbench.training.stack import joined

CELL = Cell("hard_sharing+uw", "1+1", "mtbench", "school", "1", {}, "0" * 64, Recipe())
WHOLE = {"epoch": (5,), "loss": (5,), "weights": (5, 3), "gradient_cosine": (5,)}
"""Shapes of histories behind the trials, of five looks at three tasks."""


@pytest.fixture
def half():
    """Builds the result of two trials that trained for so many looks."""

    def build(first: int, n_looks: int) -> StackResult:
        rng = np.random.default_rng(first)
        trials = [Trial(CELL, {"learning_rate": 0.1}, 0, seed) for seed in (first, first + 1)]
        history = {name: rng.random((2, n_looks, *shape[1:])) for name, shape in WHOLE.items()}
        return StackResult(trials, [Status.FINISHED] * 2, [""] * 2, history=history, best_epoch=np.array([1, 2]))

    return build


@pytest.mark.parametrize(("first", "second"), [(5, 3), (2, 5), (5, 5)])
def test_the_shorter_history_ends_in_nan_whatever_its_axes(half, first, second):
    halves = [half(0, first), half(2, second)]
    found = joined(halves)
    for name, shape in WHOLE.items():
        assert found.history[name].shape == (4, *shape)
        for n, one, rows in ((first, halves[0], slice(0, 2)), (second, halves[1], slice(2, 4))):
            assert found.history[name][rows, :n].tobytes() == one.history[name].tobytes()
            assert np.isnan(found.history[name][rows, n:]).all()


def test_trials_that_did_not_even_fit_alone_have_no_history(half):
    lost = StackResult.without_training(half(2, 1).trials, Status.OOM, "out of memory")
    for halves in ([half(0, 5), lost], [lost, half(0, 5)]):
        found = joined(halves)
        for name, shape in WHOLE.items():
            assert found.history[name].shape == (4, *shape)
            empty = [status is Status.OOM for status in found.status]
            assert np.isnan(found.history[name][empty]).all()
            assert not np.isnan(found.history[name][~np.array(empty)]).any()


def test_a_store_gives_back_what_was_joined(half, tmp_path):
    result = joined([half(0, 5), half(2, 3)])
    result = dataclasses.replace(result, provenance={})
    store = Store.create(tmp_path / "store")
    store.publish_stack(result)
    stored = store.read_stack(result_id(result))
    assert {name: values.tobytes() for name, values in stored.history.items()} == {
        name: values.tobytes() for name, values in result.history.items()
    }
    assert stored.history["weights"].shape == (4, 5, 3)
    assert all(checked.ok for checked in store.verify())
