"""Runs on a store: what is trained, what is not trained again, and what is on record where something failed."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import pytest
from click import ClickException

from mtbench.cli.run import _conclude
from mtbench.contracts.trials import Status
from mtbench.engines import JobFailed, LocalEngine
from mtbench.errors import StoreError
from mtbench.plan.grid import plan_cells
from mtbench.plan.selected import selected_trials
from mtbench.plan.study import Study
from mtbench.plugins.host import load_plugins
from mtbench.report.reading import read
from mtbench.run.runner import Runner
from mtbench.store import Store, scan
from mtbench.store.publish import explained
from mtbench.testing.engines import InlineEngine, Silent

PLUGIN = Path(__file__).parents[1] / "tiny_plugin.py"


class DeadlyEngine(InlineEngine):
    """Kills the worker of its first jobs."""

    slots = 1

    def submit(self, job):
        if len(self.jobs) == self.n_jobs:
            self.n_jobs = None
        if self.n_jobs is None:
            return super().submit(job)
        self.jobs.append(job)
        future = Future()
        future.set_exception(JobFailed(Status.KILLED, "The worker process was killed."))
        return future


class Run:
    """One run of a study, and what it saw."""

    def __init__(self, path, engine=None, methods=("probe",), **parts):
        study = Study(methods=list(methods), datasets=["tiny"], plugins=[PLUGIN], **parts)
        plugins = load_plugins([PLUGIN])
        cells = plan_cells(study, plugins, path)
        self.engine = engine or InlineEngine()
        self.listener = Silent()
        self.store = Store.create(path / "store")
        self.runner = Runner(study, cells, self.store, self.engine, plugins, path, self.listener)

    def go(self):
        self.summary = self.runner.run()
        return self

    @property
    def trained(self):
        return [trial.id for job in self.engine.jobs if job.kind == "train" for trial in job.trials]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return lambda *args, **parts: Run(tmp_path, *args, **parts).go()


def statuses(store):
    found = Counter()
    for stack in scan(store).stacks:
        found.update(stack.status[stack.counts])
    return found


def contents(store):
    """Every metric of every trial, as bytes."""
    found = {}
    for path in store.stack_paths():
        result = store.read(path)
        for i, trial in enumerate(result.trials):
            metrics = {(part, name): v[i].tobytes() for part, by in result.metrics.items() for name, v in by.items()}
            found[trial.id] = (metrics, int(result.best_epoch[i]))
    return found


def test_a_run_trains_every_trial_once_and_leaves_nothing_behind(run):
    first = run(search="random:3")
    assert (first.summary.n_finished, first.summary.n_failed) == (6, 0)
    assert Counter(first.trained).most_common(1)[0][1] == 1
    assert statuses(first.store) == {"finished": 6}
    assert (first.listener.n_planned, first.listener.n_done, first.listener.n_ended) == (6, 0, 6)
    assert [list((first.store.path / name).iterdir()) for name in ("claims", "logs", "tmp")] == [[], [], []]


def test_the_same_command_again_trains_nothing(run):
    run(search="random:3", refit=True)
    again = run(search="random:3", refit=True)
    assert again.engine.jobs == []
    assert (again.summary.n_finished, again.summary.n_failed) == (0, 0)
    assert (again.listener.n_planned, again.listener.n_done) == (8, 8)


def test_resume_trains_only_missing_trials(run):
    short = run(search="random:3")
    longer = run(search="random:5", seeds=2)
    assert len(longer.trained) == 2 * 2 * 5 - 6
    assert not set(longer.trained) & set(short.trained)
    assert (longer.listener.n_planned, longer.listener.n_done) == (20, 6)


def test_stack_size_is_measured_for_large_groups_only(run):
    few = run(search="default", splits=3)
    assert (few.listener.n_measured, [job.kind for job in few.engine.jobs]) == (0, ["train"])
    many = run(methods=["steady"], search="random:2")
    assert many.listener.n_measured == 1
    assert many.engine.jobs[0].kind == "calibrate"


def test_a_given_stack_size_needs_no_measuring(run):
    fixed = run(search="random:5", stack_size=3)
    assert [(job.kind, len(job.trials)) for job in fixed.engine.jobs] == [("train", n) for n in (2, 3, 3, 2)]


def test_the_same_command_in_two_stores_gives_the_same_bytes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    parts = {"search": "random:4", "stack_size": 3, "refit": True, "dtype": "float32"}
    first, second = (Run(tmp_path / name, **parts).go() for name in "ab")
    assert contents(first.store) == contents(second.store)
    assert len(contents(first.store)) == 10


def test_a_resumed_run_keeps_the_division_that_was_decided(run):
    with pytest.raises(KeyboardInterrupt):
        run(InlineEngine(1), search="random:5", stack_size=4)
    resumed = run(search="random:5", stack_size=1)
    assert [len(job.trials) for job in resumed.engine.jobs] == [3, 4, 3]
    assert statuses(resumed.store) == {"finished": 10}


def test_refits_are_trained_on_what_the_search_selected_and_both_scores_are_kept(run):
    stacks = scan(run(search="random:3", seeds=2, refit=True).store).stacks
    chosen = {(c.split, seed): c for c in selected_trials(stacks) for seed in c.seeds}
    refits = [(s, i) for s in stacks for i in range(len(s.ids)) if s.phase[i] == "refit"]
    assert len(refits) == 4
    for stack, i in refits:
        setting = chosen[int(stack.split[i]), int(stack.seed[i])]
        assert {name: column[i] for name, column in stack.params.items()} == dict(setting.params)
        assert stack.epochs[i] == setting.best_epochs[setting.seeds.index(int(stack.seed[i]))]
        assert list(stack.metrics) == ["test"]
    assert all("validation" in s.metrics and "test" in s.metrics for s in stacks if s.phase[0] == "search")


def test_a_report_of_a_run_takes_the_rule_that_the_run_selected_by(run):
    done = run(search="random:3", refit=True, selection="across_splits")
    _, board = read(done.store.path)
    assert [(row.selection, row.refit) for row in board.rows] == [("across_splits", True)]


def test_predictions_are_kept_of_refits_and_not_of_the_search(run):
    store = run(search="random:2", refit=True).store
    for path in store.stack_paths():
        result = store.read(path)
        assert bool(result.predictions) == (result.trials[0].phase == "refit")


def test_a_failing_method_is_on_record_with_its_reason_and_the_rest_finishes(run):
    both = run(methods=["probe", "steady"], set={"probe.act": ["raise"]}, refit=True)
    assert (both.summary.n_finished, both.summary.n_failed) == (4, 2)
    assert statuses(both.store) == {"finished": 4, "failed": 2}
    (failed,) = [s for s in scan(both.store).stacks if s.status[0] == "failed"]
    assert failed.reason[0].startswith("ValueError: an act of misbehaviour (")
    assert both.store.read(failed.path).log == "its last words"
    logs = [path.name.split(".")[0] for path in (both.store.path / "logs").iterdir()]
    assert logs == [failed.path.name.split(".")[0]]


def test_failed_trials_are_tried_again_and_the_last_try_counts(run):
    parts = {"set": {"probe.act": ["raise"]}}
    run(**parts)
    again = run(**parts)
    assert again.summary.n_failed == 2
    assert statuses(again.store) == {"failed": 2}
    assert len(again.store.stack_paths()) == 2


def test_where_measuring_fails_trials_run_alone_and_it_is_said(run):
    failing = run(search="random:3", set={"probe.act": ["raise"]})
    assert [len(job.trials) for job in failing.engine.jobs if job.kind == "train"] == [1] * 6
    assert statuses(failing.store) == {"failed": 6}
    assert len(failing.summary.notes) == 1
    assert "probe x tiny: stacks could not be measured, so trials ran alone: ValueError" in failing.summary.notes[0]
    assert not (failing.store.path / "divisions").exists()


def test_a_mishap_in_one_setting_leaves_the_others(run):
    mixed = run(set={"probe.act": ["train", "raise"]})
    assert statuses(mixed.store) == {"finished": 2, "failed": 2}
    assert mixed.listener.n_ended == mixed.listener.n_planned == 4


def test_a_skipped_cell_is_on_record_once_per_place_with_its_reason(run):
    run(methods=["choosy", "steady"], search="random:3", refit=True)
    again = run(methods=["choosy", "steady"], search="random:5", refit=True)
    assert statuses(again.store)["skipped"] == 2
    (stack,) = [s for s in scan(again.store).stacks if s.status[0] == "skipped"]
    assert set(stack.reason) == {"Choosy likes no problem."}
    assert again.summary.n_failed == 0


def test_listeners_hear_of_every_stack(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TINY_STARTED", str(tmp_path / "started"))
    done = run(search="random:3", stack_size=2)
    stacks = {path.stem for path in done.store.stack_paths()}
    assert Counter((tmp_path / "started").read_text().split()) == Counter(stacks)


def test_the_display_and_the_hooks_hear_of_the_same_epochs(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TINY_REACHED", str(tmp_path / "reached"))
    done = run(search="random:3", stack_size=2)
    told = dict(line.split() for line in (tmp_path / "reached").read_text().splitlines())
    assert told == {stack_id: str(epoch) for stack_id, epoch in done.listener.reached_epochs.items()}
    assert told.keys() == {path.stem for path in done.store.stack_paths()}
    assert set(told.values()) <= {"1", "2", "3", "4"}


def test_a_full_disk_ends_the_run_and_keeps_what_was_finished(run, tmp_path, monkeypatch):
    full = Run(tmp_path, search="random:6", stack_size=2)
    published = itertools.count()
    keep = full.store.publish_image

    def publish_image(image):
        if next(published) == 3:
            raise explained(OSError(28, os.strerror(28)), tmp_path / "x.h5")
        return keep(image)

    monkeypatch.setattr(full.store, "publish_image", publish_image)
    with pytest.raises(StoreError, match=r"the disk is full\. Free some space and run the same command again"):
        full.go()
    assert statuses(full.store) == {"finished": 6}
    # Its claims are given up, so another run, even in this process, can go on.
    assert run(search="random:6", stack_size=2).summary.n_finished == 6


def test_two_runs_on_one_store_share_the_work(tmp_path, monkeypatch):
    monkeypatch.setenv("TINY_STARTED", str(tmp_path / "started"))
    parts = {"methods": ["probe", "steady"], "search": "random:6", "refit": True, "stack_size": 2, "splits": 2}
    runs = [Run(tmp_path, LocalEngine("cpu:1"), **parts) for _ in range(2)]
    threads = [threading.Thread(target=each.go) for each in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    for each in runs:
        each.engine.close()
    store = runs[0].store
    assert statuses(store) == {"finished": 2 * (12 + 2)}
    assert [each.summary.n_finished for each in runs] == [28, 28]
    assert sum(each.summary.n_trained for each in runs) == 28
    started = Counter((tmp_path / "started").read_text().split())
    assert started == {path.stem: 1 for path in store.stack_paths()}


def test_a_killed_workers_stack_is_on_record_and_trained_once_more(run, tmp_path):
    engine = LocalEngine("cpu:1")
    done = run(engine, set={"probe.act": ["kill once", "train"], "probe.mark": [str(tmp_path / "killed")]})
    engine.close()
    assert (done.summary.n_finished, done.summary.n_failed) == (4, 0)
    assert len(done.summary.notes) == 1
    assert "trained a stack once more: The worker process was ended by SIGKILL" in done.summary.notes[0]
    (killed,) = [path for path in done.store.stack_paths() if "failed" in path.name]
    assert done.store.read(killed).status == [Status.KILLED] * 2
    assert statuses(done.store) == {"finished": 4}


def test_a_stack_that_is_killed_again_waits_for_the_next_run(run, tmp_path):
    parts = {"set": {"probe.act": ["train", "other"]}, "stack_size": 1}
    deadly = DeadlyEngine(2)
    first = run(deadly, **parts)
    assert (first.summary.n_finished, first.summary.n_failed) == (3, 1)
    assert statuses(first.store) == {"finished": 3, "killed": 1}
    second = run(**parts)
    assert len(second.trained) == 1
    assert statuses(second.store) == {"finished": 4}


def test_a_stack_that_another_run_published_beside_a_damaged_file_is_not_trained_again(run, tmp_path):
    done = run(search="default", stack_size=2)
    (path,) = done.store.stack_paths()
    image = path.read_bytes()
    path.write_bytes(image[:-1])
    late = Run(tmp_path, search="default", stack_size=2)
    path.with_name(f"{path.stem}.again-1.h5").write_bytes(image)
    late.go()
    assert (late.trained, late.summary.n_finished, late.summary.n_failed) == ([], 2, 0)
    assert (late.summary.n_trained, late.summary.n_elsewhere) == (0, 2)


def test_what_a_killed_writer_left_long_ago_is_removed(run, tmp_path):
    left = Run(tmp_path).store.path / "tmp" / "x.h5"
    left.touch()
    os.utime(left, (0, 0))
    run()
    assert not left.exists()


def test_provenance_says_what_a_report_needs(run):
    stack = scan(run(recipe={"tiny": {"hidden": 3}}).store).stacks[0]
    facts = stack.provenance
    assert facts["recipe_overrides"] == {"hidden": 3}
    assert (facts["selection_metric"], facts["search"], facts["refit"]) == ("rmse", "default", False)
    assert facts["selection"] == "per_split"
    assert facts["metrics"]["rmse"]["higher_is_better"] is False
    assert str(PLUGIN) in facts["method_plugin"]
    json.dumps(facts)


class SwappingEngine(InlineEngine):
    """Gives what another job gave before, as a forked child does that answers a second time."""

    first = None

    def submit(self, job):
        self.first = self.first or super().submit(job).result()
        swapped = Future()
        swapped.set_result(self.first)
        return swapped


def test_the_answer_to_another_job_is_refused_whatever_the_engine(run):
    done = run(SwappingEngine(), stack_size=1, search="random:3")
    assert (done.summary.n_finished, done.summary.n_failed) == (1, 5)
    assert {reason for _, _, reason in done.summary.failures} == {"A worker gave the answer to another job."}
    assert statuses(done.store) == {"finished": 1, "failed": 5}
    again = run(stack_size=1, search="random:3")
    assert (again.summary.n_present, again.summary.n_finished) == (1, 5)


class DoctoredEngine(InlineEngine):
    """Changes one byte of every answer."""

    def submit(self, job):
        future = super().submit(job)
        image = bytearray(future.result())
        image[len(image) // 2] ^= 1
        doctored = Future()
        doctored.set_result(bytes(image))
        return doctored


def test_a_damaged_answer_is_refused(run):
    done = run(DoctoredEngine(), stack_size=1)
    assert done.summary.n_finished == 0
    assert all("gave bytes that are no answer to its job" in reason for _, _, reason in done.summary.failures)
    assert all(checked.ok for checked in done.store.verify())


class LosingEngine(InlineEngine):
    """Removes finished stacks from the store while the run goes on, once."""

    has_lost = False

    def submit(self, job):
        for path in () if self.has_lost else job.log.parents[1].glob("stacks/*/*.h5"):
            path.unlink()
            self.has_lost = True
        return super().submit(job)


def test_a_store_that_loses_trials_while_a_run_goes_on_is_told(run, tmp_path):
    done = run(LosingEngine(), stack_size=1, search="random:3")
    assert done.summary.n_finished == 6
    assert done.summary.n_lost >= 1
    with pytest.raises(ClickException, match=r"The store has lost \d+ trial\(s\) while the run went on"):
        _conclude(done.summary, [], Study(methods=["probe"], datasets=["tiny"], out=tmp_path / "store"))
    again = run(stack_size=1, search="random:3")
    assert again.summary.n_finished == done.summary.n_lost
    assert again.summary.n_lost == 0
