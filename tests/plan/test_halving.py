"""Successive halving: who stays, and what it costs."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import pytest

from mtbench.plan.grid import plan_cells
from mtbench.plan.halving import cost, halving, ladder
from mtbench.plan.search import Listed
from mtbench.plan.study import Study
from mtbench.plugins.host import load_plugins

PLUGIN = Path(__file__).parents[1] / "tiny_plugin.py"


def drawn(n):
    return [{"alpha": i} for i in range(n)]


def tried(search, judge):
    """The rungs, where a setting does as `judge(setting, epochs)` says."""
    going, found, results = search.rounds("split 0"), [], None
    while True:
        try:
            found.append(next(going) if results is None else going.send(results))
        except StopIteration:
            return [([s["alpha"] for s in rung.settings], rung.epochs) for rung in found]
        results = [judge(s["alpha"], found[-1].epochs) for s in found[-1].settings]


def test_each_rung_has_half_the_settings_for_twice_the_epochs():
    assert [(s.n_settings, s.epochs) for s in ladder(64, 160)] == [(64, 10), (32, 20), (16, 40), (8, 80), (4, None)]
    assert [(s.n_settings, s.epochs) for s in ladder(5, 100)] == [(5, 25), (3, 50), (2, None)]
    assert [(s.n_settings, s.epochs) for s in ladder(64, 3)] == [(64, 2), (32, None)]
    assert [(s.n_settings, s.epochs) for s in ladder(64, 1)] == [(64, None)]


@pytest.mark.parametrize(("n", "budget"), list(itertools.product((4, 5, 9, 64, 1000), (1, 2, 7, 100))))
def test_the_share_is_that_of_the_epochs_trained(n, budget):
    search = halving(drawn(n), n, budget, in_epochs=True)
    rungs = tried(search, lambda alpha, epochs: alpha)
    epochs = sum(len(settings) * (budget if limit is None else limit) for settings, limit in rungs)
    assert (cost(n, budget), search.share) == (epochs, epochs / (n * budget))
    assert all(limit < budget for _, limit in rungs[:-1])
    assert rungs[-1][1] is None


def test_those_who_stay_are_those_of_a_plain_loop():
    noise = random.Random(7)
    values = {(i, e): noise.choice([math.nan, noise.random(), 0.5]) for i in range(40) for e in (6, 12, 23, 45, None)}
    found = tried(halving(drawn(40), 40, 90, in_epochs=True), lambda alpha, epochs: values[alpha, epochs])
    staying = list(range(40))
    for rung, (settings, epochs) in enumerate(found):
        assert (settings, epochs) == (sorted(staying), [6, 12, 23, 45, None][rung])
        for _ in range(len(staying) // 2):  # the worst leaves: a failed one, of equal ones the last drawn
            worst = max(staying, key=lambda i, e=epochs: (math.isnan(values[i, e]), -1.0 if math.isnan(values[i, e])
                                                          else values[i, e], i))  # fmt: skip
            staying.remove(worst)
    assert [len(settings) for settings, _ in found] == [40, 20, 10, 5, 3]


def test_a_method_without_epochs_trains_as_many_settings_in_full_as_the_share_buys():
    search = halving(drawn(64), 64, 160, in_epochs=False)
    assert isinstance(search, Listed)
    assert search.share == cost(64, 160) / (64 * 160) == 5 / 16
    assert tried(search, lambda alpha, epochs: 0.0) == [(list(range(20)), None)]
    assert len(halving(drawn(1), 64, 160, in_epochs=False).known) == 1
    assert len(halving(drawn(4), 4, 100, in_epochs=False).known) == 3


def test_rungs_that_nobody_leaves_at_are_left_out_where_there_are_fewer_settings():
    rungs = tried(halving(drawn(6), 64, 160, in_epochs=True), lambda alpha, epochs: -alpha)
    assert rungs == [([0, 1, 2, 3, 4, 5], 80), ([2, 3, 4, 5], None)]
    assert tried(halving(drawn(3), 64, 160, in_epochs=True), lambda alpha, epochs: 0.0) == [([0, 1, 2], None)]


def test_the_settings_are_those_of_a_random_search(tmp_path):
    plugins = load_plugins([PLUGIN])
    found, random_ = (
        plan_cells(Study(methods=["probe", "stl"], datasets=["tiny"], search=search), plugins, tmp_path)
        for search in ("halving:8", "random:8")
    )
    assert [list(cell.settings) for cell in random_] == [list(found[0].settings), list(random_[1].settings)]
    assert list(found[1].settings) == list(random_[1].settings)[: len(found[1].settings)]
    # 8 at 1, 4 at 2 and 2 at 4 of 4 epochs: three quarters of 8 full trainings, which are 6 of the solver's.
    assert [(cell.n_trials, cell.search.n_settings, cell.search.share) for cell in found] == [
        (2 * (8 + 4 + 2), 8, 0.75),
        (2 * 6, 6, 0.75),
    ]
