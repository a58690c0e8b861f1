"""Searches in rounds, run on a store: what is trained, what goes on after an interruption, and what is on record."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mtbench.cli.counts import Counts
from mtbench.contracts.trials import Stack, Status, Trial
from mtbench.plan.cells import gather
from mtbench.plan.grid import plan_cells
from mtbench.plan.halving import cost, ladder
from mtbench.plan.rounds import SearchRounds
from mtbench.plan.study import Study
from mtbench.plugins.host import load_plugins
from mtbench.report.reading import read
from mtbench.run.runner import Runner
from mtbench.run.stack_sizes import StackSizes
from mtbench.store import Store, scan
from mtbench.testing.engines import InlineEngine, Silent

PLUGIN = Path(__file__).parents[1] / "tiny_plugin.py"


PLUGINS = load_plugins([PLUGIN])


def planned(path, methods=("probe",), **parts):
    parts = {"methods": list(methods), "datasets": ["tiny"], "plugins": [PLUGIN], "dtype": "float64", **parts}
    study = Study(**{"stack_size": 50, **parts})
    return study, plan_cells(study, PLUGINS, path)


def go(path, name="store", n_jobs=None, **parts):
    """Runs a study on a store of a name; gives the store, the engine and the listener."""
    study, cells = planned(path, **parts)
    store, engine, listener = Store.create(path / name), InlineEngine(n_jobs), Silent()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        Runner(study, cells, store, engine, PLUGINS, path, listener).run()
    return store, engine, listener


@pytest.fixture
def run(tmp_path):
    return lambda *args, **parts: go(tmp_path, *args, **parts)


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    """A store with a halving of eight settings, refitted, and what was told of the run."""
    return go(tmp_path_factory.mktemp("halved"), search="halving:8", refit=True)


def results(store):
    return [store.read(path) for path in store.stack_paths()]


def trials(store):
    return {trial.id: trial for result in results(store) for trial in result.trials}


def phases(store):
    return Counter(trial.phase for trial in trials(store).values())


def validation(store):
    """By trial, the mean over tasks of the validation results of those that finished."""
    return {
        trial.id: float(np.nanmean(result.metrics["validation"]["rmse"][i]))
        for result in results(store)
        for i, trial in enumerate(result.trials)
        if result.status[i] is Status.FINISHED and "validation" in result.metrics
    }


def test_a_search_by_tpe_trains_as_many_settings_as_asked_for_and_then_refits(run):
    store, _, listener = run(search="tpe:7", refit=True)
    assert phases(store) == {"search": 2 * 7, "refit": 2}
    assert (listener.n_planned, listener.n_done, listener.n_ended) == (16, 0, 16)
    (cell,) = gather(scan(store).stacks)
    assert cell.draws == {0: 7, 1: 7}


def test_later_rounds_take_the_stack_size_that_was_measured_for_the_first(tmp_path):
    _, (cell,) = planned(tmp_path, search="tpe:20", splits=1)
    sizes, group = StackSizes("auto", 1), SearchRounds(cell).next({})
    assert sizes.known(cell, group, again=False, refit=False) is None
    assert sizes.known(cell, group, again=True, refit=False) is None
    sizes.note(cell, {"stack_size": 3})
    assert sizes.known(cell, group, again=True, refit=False) == 3
    assert sizes.known(cell, group, again=False, refit=False) is None


def test_an_interrupted_search_goes_on_with_the_same_proposals(run):
    whole, *_ = run("whole", search="tpe:7", stack_size=3)
    with pytest.raises(KeyboardInterrupt):
        run("halted", 5, search="tpe:7", stack_size=3)  # four stacks in the first round, two in the second
    resumed, *_ = run("halted", search="tpe:7", stack_size=3)
    assert trials(resumed).keys() == trials(whole).keys()
    assert validation(resumed) == validation(whole)
    _, engine, listener = run("halted", search="tpe:7", stack_size=3)
    assert engine.jobs == []
    assert (listener.n_planned, listener.n_done) == (14, 14)


def proposed(path, **parts):
    """All trials of a search in which a smaller alpha does better, untrained."""
    _, (cell,) = planned(path, **parts)
    rounds, found = SearchRounds(cell), []
    while trials := rounds.next({trial.id: trial.params["alpha"] + trial.seed for trial in found}):
        found += trials
    return found


def test_more_splits_and_more_settings_are_proposed_beside_what_was(tmp_path):
    few, many = ({t.id for t in proposed(tmp_path, search=s, splits=n)} for s, n in (("tpe:12", 1), ("tpe:14", 2)))
    assert few < many
    assert (len(few), len(many)) == (12, 28)


def test_settings_are_the_same_for_all_seeds_and_for_all_splits_where_one_is_selected_for_all(tmp_path):
    def n_settings(**parts):
        found = proposed(tmp_path, search="tpe:12", **parts)
        assert len(found) == 24
        return len({tuple(trial.params.items()) for trial in found})

    assert n_settings(splits=1, seeds=2) == 12
    assert n_settings(selection="across_splits") == 12
    assert n_settings() == 5 + 2 * 7


def test_a_search_goes_on_where_all_settings_fail(run):
    store, *_ = run(search="tpe:6", set={"probe.act": ["raise"]})
    assert phases(store) == {"search": 12}
    assert {str(s) for result in results(store) for s in result.status} == {"failed"}


def test_halving_trains_rungs_and_the_survivors_in_full(halved):
    store, _, listener = halved
    assert [(s.n_settings, s.epochs) for s in ladder(8, 4)] == [(8, 1), (4, 2), (2, None)]
    found = Counter((t.phase, t.epochs if t.rung else None, t.split) for t in trials(store).values())
    assert found == {(phase, epochs, split): n for split in (0, 1) for phase, epochs, n in (
        ("rung", 1, 8), ("rung", 2, 4), ("search", None, 2), ("refit", None, 1))}  # fmt: skip
    assert (listener.n_planned, listener.n_ended) == (30, 30)
    last = sum(
        int(np.nanmax(result.history["epoch"][i]))
        for result in results(store)
        for i, t in enumerate(result.trials)
        if t.phase != "refit"
    )
    assert last == 2 * cost(8, 4)


def test_survivors_are_those_of_a_plain_loop_over_what_is_stored(halved):
    store, *_ = halved
    values, by_rung = validation(store), {}
    for t in trials(store).values():
        if t.phase != "refit":
            here = by_rung.setdefault((t.split, t.epochs or 99), {})
            here[tuple(sorted(t.params.items()))] = values[t.id]
    for split in (0, 1):
        for now, after in ((1, 2), (2, 99)):
            here, there = by_rung[split, now], by_rung[split, after]
            assert set(there) == set(sorted(here, key=here.get)[: len(here) // 2])


def test_an_interrupted_halving_in_other_stacks_goes_on_with_the_same_rungs(run, halved):
    with pytest.raises(KeyboardInterrupt):
        run("halted", 8, search="halving:8", refit=True, stack_size=3)  # six stacks at the first rung
    resumed, *_ = run("halted", search="halving:8", refit=True, stack_size=3)
    assert trials(resumed).keys() == trials(halved[0]).keys()


def test_a_trial_at_a_rung_is_the_beginning_of_a_full_training_and_never_taken_for_one(run):
    store, *_ = run(search="halving:8")
    halved = {t.id for t in trials(store).values() if t.phase == "search"}
    drawn, *_ = run("drawn", search="random:8")
    assert len(halved) == 4
    assert halved < trials(drawn).keys()
    run(search="random:8")
    (cell,) = gather(scan(store).stacks)
    assert (len(cell.search), len(cell.rungs), cell.draws) == (16, 24, {0: 8, 1: 8})
    assert {t.candidate.id for t in cell.rungs}.isdisjoint(c.id for c in cell.candidates)
    losses = {
        (tuple(sorted(t.params.items())), t.split, t.phase, t.epochs): result.history["loss"][i]
        for result in results(store)
        for i, t in enumerate(result.trials)
    }
    for (params, split, phase, epochs), values in losses.items():
        if phase == "rung":
            known = losses[params, split, "search", None][:epochs]
            np.testing.assert_allclose(values[np.isfinite(values)], known, rtol=1e-9)
    rungs = [result for result in results(store) if result.trials[0].rung]
    assert all(list(result.metrics) == ["validation"] and not result.predictions for result in rungs)


def test_an_identity_of_a_rung_says_so_and_reads_back(halved):
    for trial in trials(halved[0]).values():
        assert Trial.from_identity(trial.identity) == trial
        assert ('"rung":true' in trial.identity) == (trial.phase == "rung") == trial.rung
        assert pickle.loads(pickle.dumps(trial)).id == trial.id


def test_a_table_tells_the_search_and_its_share(run):
    store, *_ = run(search="halving:8", methods=("probe", "stl"))
    _, board = read(store.path)
    assert {row.method: (row.search, row.draws) for row in board.rows} == {
        "probe": ("halving:8 (75 %)", 8),
        "stl": ("halving:8 (75 %, 6 in full)", 6),
    }
    assert not [warning for warning in board.warnings if "draws" in warning or "ways" in warning]


def test_what_is_missing_counts_the_rounds_to_come(tmp_path):
    _, (cell,) = planned(tmp_path, search="halving:8")
    assert SearchRounds(cell).missing((), {}) == cell.n_trials == 28
    first = {trial.id for trial in SearchRounds(cell).next({}) if trial.split == 0}
    assert SearchRounds(cell).missing(first, dict.fromkeys(first, 1.0)) == 28 - 8


def test_time_left_counts_a_trial_at_a_rung_by_its_epochs(tmp_path):
    _, (cell,) = planned(tmp_path, search="halving:8", splits=1)
    now = [0.0]
    counts, rounds, told = Counts([cell], lambda: now[0]), SearchRounds(cell), {}
    left = []
    for n_ended, n_trials in enumerate((8, 4, 2)):
        stack = Stack(tuple(rounds.next(told)))
        assert len(stack.trials) == n_trials
        counts.planned(cell, "search", 14, 0)
        counts.started(stack)
        now[0] += 8.0  # as many epochs in each rung
        counts.ended(stack, [Status.FINISHED] * n_trials, [""] * n_trials)
        told |= dict.fromkeys((trial.id for trial in stack.trials), float(n_ended))
        left.append(counts.view().totals)
    assert [totals[-1] for totals in left] == ["about 16 s left", "about 8 s left", "24 s"]
    assert left[-1][0] == "14 of 14 trials done"
