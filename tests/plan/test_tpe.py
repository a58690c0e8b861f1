"""Searches through Optuna: what is proposed, and that it follows from what was told."""

from __future__ import annotations

import importlib.util
import itertools
import math
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mtbench.contracts.hyperparameters import Hyperparameter, Range, describe
from mtbench.contracts.scale import UNITS, Scale
from mtbench.contracts.seeds import seed_from
from mtbench.errors import StudyError
from mtbench.plan.grid import plan_cells
from mtbench.plan.search import Listed
from mtbench.plan.settings import axes, settings
from mtbench.plan.study import Study
from mtbench.plan.tpe import distribution, round_sizes, tpe
from mtbench.plugins.host import load_plugins

PLUGIN = Path(__file__).parents[1] / "tiny_plugin.py"


def known(**ranges):
    """Hyperparameters of these ranges: of a float each, but for lists."""
    return {
        name: Hyperparameter(name, type(span.grid[0]), span.grid[0], span, None, None, (), "")
        for name, span in ranges.items()
    }


WEIGHT, WIDTH = Range((0.01,), 1e-4, 1.0), Range((4, 8, 16))
TWO = known(weight=WEIGHT, width=WIDTH)


def search_of(n, params=TWO, fixed=None, owner=("a method", "a data set")):
    fixed = fixed or {}
    drawn = settings(params, "random", n, np.random.default_rng(3), fixed)
    return tpe(drawn, axes(params, fixed), n, owner)


def loss(setting):
    """Smallest at 0.1 and 8."""
    return (math.log10(setting["weight"]) + 1) ** 2 + (setting.get("width", 8) != 8)


def proposed(search, judge=loss, place="split 0"):
    """All that is tried, round by round, where each setting does as `judge` says."""
    going, found, results = search.rounds(place), [], None
    while True:
        try:
            found.append(list((next(going) if results is None else going.send(results)).settings))
        except StopIteration:
            return found
        results = [judge(setting) for setting in found[-1]]


def flat(rounds):
    return list(itertools.chain.from_iterable(rounds))


@pytest.mark.parametrize("n", [1, 4, 5, 6, 25, 100, 10_000])
def test_rounds_add_up_and_those_of_a_larger_search_begin_alike(n):
    sizes = round_sizes(n)
    assert sum(sizes) == n
    assert round_sizes(2 * n)[: len(sizes) - 1] == sizes[:-1]
    assert len(sizes) <= 5 + math.log(max(n, 25) / 25, 1.15)


def test_a_larger_search_goes_on_from_a_smaller_one():
    short, long = (flat(proposed(search_of(n))) for n in (12, 20))
    assert long[:12] == short


def test_proposals_are_those_of_a_study_of_optuna_told_the_same_by_hand():
    found = proposed(search_of(15))
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=5, multivariate=True, constant_liar=True, seed=seed_from(
            "a method", "a data set", "split 0", "tpe") % 2**32,
    )  # fmt: skip
    study = optuna.create_study(sampler=sampler)
    spread = {"weight": FloatDistribution(1e-4, 1.0, log=True), "width": CategoricalDistribution((4, 8, 16))}
    for setting in found[0]:
        study.enqueue_trial(setting)
    for settings_of_round in found:
        trials = [study.ask(spread) for _ in settings_of_round]
        assert [
            {"weight": float(f"{t.params['weight']:.6g}"), "width": t.params["width"]} for t in trials
        ] == settings_of_round
        for trial, setting in zip(trials, settings_of_round, strict=True):
            study.tell(trial, loss(setting))


def test_later_rounds_do_better_than_the_first_and_than_random_draws():
    first, *later = proposed(search_of(40))
    best = min(map(loss, flat(later)))
    drawn = settings(TWO, "random", 40, np.random.default_rng(3), {})
    assert best < min(map(loss, first))
    assert best < min(map(loss, drawn))
    assert np.mean([loss(s) for s in later[-1]]) < 0.5 * np.mean([loss(s) for s in drawn])


def test_places_methods_and_data_sets_have_proposals_of_their_own():
    first = proposed(search_of(10))
    assert proposed(search_of(10)) == first
    others = [
        proposed(search_of(10), place="split 1"),
        proposed(search_of(10, owner=("another method", "a data set"))),
        proposed(search_of(10, owner=("a method", "another data set"))),
    ]
    assert all(other[0] == first[0] and other[1] != first[1] for other in others)


def test_failed_settings_are_left_aside_and_cost_no_round():
    found = proposed(search_of(20), lambda s: math.nan if s["weight"] > 0.03 else loss(s))
    assert [len(settings) for settings in found] == [5, 5, 5, 5]
    assert [len(settings) for settings in proposed(search_of(12), lambda s: math.nan)] == [5, 5, 2]


@pytest.mark.parametrize("n", [7, 9])
def test_no_setting_is_tried_twice_however_few_there_are(n):
    few = known(width=WIDTH, depth=Range((1, 2, 3)))
    found = flat(proposed(search_of(n, few), lambda s: s["width"] * s["depth"]))
    assert len({(s["width"], s["depth"]) for s in found}) == len(found) == n
    assert flat(proposed(search_of(9, few), lambda s: s["width"] * s["depth"]))[:n] == found


def test_where_there_are_fewer_settings_than_asked_for_all_are_tried_at_once():
    few = known(width=WIDTH, depth=Range((1, 2, 3)))
    assert isinstance(search_of(30, few), Listed)
    assert len(search_of(30, few).known) == 9
    assert search_of(10, known(width=Range((4,)))).known == [{"width": 4}]


def test_values_that_a_study_fixes_stay_and_lists_of_its_own_are_chosen_from():
    held = flat(proposed(search_of(15, fixed={"width": [32]})))
    assert {s["width"] for s in held} == {32}
    listed = flat(proposed(search_of(15, fixed={"width": [32, 64]})))
    assert {s["width"] for s in listed} == {32, 64}


def test_a_first_setting_outside_of_the_range_is_tried_and_told_to_nobody():
    params = known(weight=Range((50.0,), 1e-4, 1.0))
    found = proposed(search_of(10, params), loss)
    assert found[0][0] == {"weight": 50.0}
    assert all(1e-4 <= s["weight"] <= 1.0 for s in found[1])
    moved = proposed(search_of(10, params), lambda s: -9.0 if s["weight"] == 50.0 else loss(s))
    assert moved == found


@pytest.mark.parametrize(
    ("span", "kind", "expected"),
    [
        (Range((0.1,), 1e-3, 10.0), float, FloatDistribution(1e-3, 10.0, log=True)),
        (Range((0.1,), 0.0, 0.9, log=False), float, FloatDistribution(0.0, 0.9)),
        (Range((4,), 1, 64), int, IntDistribution(1, 64, log=True)),
        (Range((4,), 0, 9, log=False), int, IntDistribution(0, 9)),
        (Range(("relu", "tanh")), str, CategoricalDistribution(("relu", "tanh"))),
        (Range((1.0, 0.1)), float, CategoricalDistribution((1.0, 0.1))),
    ],
)
def test_distributions_are_the_ranges_of_a_random_search(span, kind, expected):
    assert distribution(Hyperparameter("x", kind, span.grid[0], span, None, None, (), "")) == expected


def test_ranges_of_built_in_methods_map_whatever_the_scale_of_the_data():
    plugins, hundred = load_plugins(), Scale(dict.fromkeys(UNITS, 100.0), {"tasks": 3, "rank": 3})
    for method in plugins.methods:
        for name, declared in describe(plugins.method(method).Params).items():
            h = declared.at(hundred)
            if h.range is not None and h.range.low is not None and h.kind is float:
                assert distribution(h) == FloatDistribution(h.range.low, h.range.high, log=h.range.log), name
            elif h.range is not None and h.range.low is None:
                assert distribution(h) == CategoricalDistribution(h.range.grid), name


def plan(tmp_path, **parts):
    study = Study(methods=["probe"], datasets=["tiny"], plugins=[PLUGIN], **parts)
    (cell,) = plan_cells(study, load_plugins([PLUGIN]), tmp_path)
    return cell


def test_the_first_round_is_that_of_a_random_search(tmp_path):
    found, drawn = plan(tmp_path, search="tpe:20"), plan(tmp_path, search="random:5")
    assert list(found.settings) == list(drawn.settings)
    assert found.ranges == plan(tmp_path, search="random:20").ranges
    assert (found.n_trials, found.search.n_settings) == (2 * 20, 20)


def test_without_optuna_a_plan_says_what_to_install(tmp_path, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "optuna" else there(name, *rest)
    )
    with pytest.raises(
        StudyError, match=r"tpe:N needs the package optuna; .*python -m pip install 'mtbench\[optuna\]'"
    ):
        plan(tmp_path, search="tpe:20")
    assert plan(tmp_path, search="halving:8").n_trials
