"""Slimming: only details of trials that nobody looks at go, whatever is killed, and whoever reads meanwhile."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from mtbench.contracts.trials import Status
from mtbench.errors import StoreError
from mtbench.plan.selected import replaced_trials
from mtbench.store import Store, encode, packing, scan
from mtbench.store.compact import compact
from mtbench.store.image import result_id
from mtbench.store.packing import PACKING_STEPS
from mtbench.store.publish import STEPS
from mtbench.store.slim import slim, without_details

SPLITS = range(4)


@pytest.fixture
def filled(store, result):
    """A store of four stacks of three trials each."""
    for split in SPLITS:
        store.publish_stack(result(split=split))
    return store


def firsts(stacks):
    """The first trial of each stack keeps its details."""
    return {stack.ids[0] for stack in stacks}


def numbers(store):
    """All that a report reads of each trial that counts, by its id."""
    found = {}
    for stack in scan(store).stacks:
        for row in np.flatnonzero(stack.counts):
            metrics = {(p, m): v[row].tobytes() for p, named in stack.metrics.items() for m, v in named.items()}
            settings = {name: values[row] for name, values in stack.params.items()}
            place = (stack.cell_key, stack.status[row], stack.split[row], stack.seed[row], stack.epochs[row])
            assert stack.ids[row] not in found
            found[stack.ids[row]] = (
                place,
                settings,
                metrics,
                _at(stack.best_epoch, row),
                _at(stack.train_seconds, row),
            )
    return found


def _at(column, row):
    return None if column is None else column[row]


def check_slimmed(store, result, splits=SPLITS):
    for split in splits:
        whole, slimmed = result(split=split), store.read_stack(result_id(result(split=split)))
        assert [trial.id for trial in slimmed.trials] == [trial.id for trial in whole.trials]
        assert slimmed.provenance == {**whole.provenance, "slimmed": 1}
        for group in ("predictions", "history", "learned"):
            for name, values in getattr(whole, group).items():
                kept = getattr(slimmed, group)[name]
                assert kept[0].tobytes() == values[0].tobytes()
                assert np.isnan(kept[1:]).all()
        assert slimmed.learned_by(0).keys() == {"transfer", "empty"}
        assert slimmed.learned_by(1).keys() == {"empty"}


def test_selected_trials_keep_everything_and_others_their_scores(filled, result):
    before = numbers(filled)
    done = slim(filled, firsts)
    assert (done.n_before, done.n_after, done.n_packs, done.n_trials, done.n_kept) == (4, 1, 1, 8, 4)
    assert done.bytes_after < done.bytes_before / 2
    assert done.bytes_after == sum(path.stat().st_size for path in filled.files.packs.paths())
    for reader in (filled, Store.open(filled.path)):
        assert numbers(reader) == before
        assert reader.finished_ids() == before.keys()
        check_slimmed(reader, result)
        assert all(checked.ok for checked in reader.verify())
        assert all(reader.has_stack(result_id(result(split=split))) for split in SPLITS)
        assert not reader.publish_stack(result())


def test_a_stack_of_which_no_trial_keeps_details_loses_the_arrays(filled, result):
    slim(filled, lambda stacks: ())
    slimmed = filled.read_stack(result_id(result()))
    assert (slimmed.predictions, slimmed.history, slimmed.learned) == ({}, {}, {})
    assert slimmed.metrics["test"]["rmse"].tobytes() == result().metrics["test"]["rmse"].tobytes()


def test_matrices_of_all_trials_stay_where_asked_for(filled, result):
    slim(filled, firsts, matrices=True)
    slimmed = filled.read_stack(result_id(result()))
    assert slimmed.learned["transfer"].tobytes() == result().learned["transfer"].tobytes()
    assert np.isnan(slimmed.history["loss"][1:]).all()
    slim(filled, firsts)
    check_slimmed(filled, result)


def test_slimming_again_does_nothing_until_there_is_more(filled, result):
    slim(filled, firsts)
    (pack,) = filled.files.packs.paths()
    again = slim(Store.open(filled.path), firsts)
    assert (again.n_packs, again.n_before, again.n_after) == (0, 1, 1)
    assert again.bytes_before == again.bytes_after
    assert filled.files.packs.paths() == [pack]
    filled.publish_stack(result(split=9))
    more = slim(filled, firsts)
    assert (more.n_before, more.n_after, more.n_trials) == (2, 1, 2)


def test_a_dry_run_says_what_would_be_done_and_does_nothing(filled):
    files = sorted(path for path in filled.path.rglob("*") if path.is_file())
    would = slim(filled, firsts, dry_run=True)
    assert sorted(path for path in filled.path.rglob("*") if path.is_file()) == files
    done = slim(filled, firsts)
    assert (would.n_trials, would.n_kept, would.n_after) == (done.n_trials, done.n_kept, done.n_after)
    assert would.bytes_after == pytest.approx(done.bytes_after, abs=100)  # a pack's number is random


def test_whole_numbers_stay_where_a_trial_of_the_stack_keeps_its_own(result):
    whole = result()
    whole.learned["ranks"] = np.arange(6).reshape(3, 2)
    keep = {whole.trials[1].id}
    slimmed = without_details(whole, keep)
    assert slimmed.learned["ranks"] is whole.learned["ranks"]
    assert without_details(slimmed, keep) is None
    assert "ranks" not in without_details(slimmed, ()).learned


def test_superseded_failed_tries_go_and_others_stay(filled, result):
    for split in (0, 7):
        filled.publish_stack(result(split=split, statuses=[Status.KILLED] * 3, full=False))
    done = slim(filled, firsts)
    assert done.n_dropped == 1
    names = [path.name for path in filled.stack_paths()]
    assert [name for name in names if "failed" in name] == [f"{result_id(result(split=7))}.failed-1.h5"]


def test_older_versions_go_where_that_is_asked_for(filled, result):
    def of_version(version, **changes):
        made = result(**changes)
        cell = dataclasses.replace(made.trials[0].cell, method_version=version)
        made.trials = [dataclasses.replace(trial, cell=cell) for trial in made.trials]
        return made

    for made in (of_version("10", split=0), of_version("10", split=1), of_version("beta", split=2)):
        filled.publish_stack(made)
    assert slim(filled, firsts).n_replaced == 0
    assert slim(filled, firsts, dry_run=True, replaced=replaced_trials).n_replaced == len(SPLITS)
    done = slim(filled, firsts, replaced=replaced_trials)
    assert (done.n_replaced, done.n_dropped) == (len(SPLITS), 0)
    left = [stack.cell["method_version"] for stack in scan(filled).stacks]
    assert sorted(left) == ["10", "10", "beta"]


def test_a_damaged_file_is_left_as_it_is(filled, result):
    path = filled.stack_path(result_id(result()))
    path.write_bytes(path.read_bytes()[:-1])
    done = slim(filled, firsts)
    assert [checked.path for checked in done.left] == [path]
    assert path.exists()
    assert slim(filled, firsts).n_packs == 0


def test_a_damaged_pack_stays_and_what_is_sound_in_it_is_copied(filled, result):
    for split in range(10, 14):
        filled.publish_stack(result(split=split))
    compact(filled)
    (pack,) = filled.files.packs.paths()
    image = bytearray(pack.read_bytes())
    image[-100] ^= 1
    pack.write_bytes(image)
    done = slim(filled, firsts)
    assert [checked.path for checked in done.left] == [pack]
    assert pack.exists()
    assert done.n_packs == 1
    assert slim(filled, firsts).n_packs == 0
    pack.unlink()
    assert len(numbers(Store.open(filled.path))) == 7 * 3


def test_two_files_of_a_name_that_hold_different_results_are_left(filled, result):
    compact(filled)
    other = result()
    other.metrics["test"]["rmse"] += 1
    path = filled.stack_path(result_id(other))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode(other))
    before = {path, *filled.files.packs.paths()}
    done = slim(filled, firsts)
    assert len(done.left) == 2
    assert all(path.exists() for path in before)


KILLS = """
import itertools, os, shutil, signal, sys, uuid
from pathlib import Path
from mtbench.store import Store, packing
from mtbench.store.slim import slim
original, folder, packing.PACK_BYTES = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
kill, numbers = 0, itertools.count()
# What all would write at a step is the same, so that `different` finds what is.
uuid.uuid4 = lambda: uuid.UUID(int=next(numbers))
while True:
    copy = folder / str(kill)
    shutil.copytree(original, copy)
    pid = os.fork()
    if not pid:
        store, left = Store.open(copy), kill
        def step(name):
            global left
            if not left:
                (folder / f"{kill}.{name.replace(' ', '-')}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        store.step = step
        slim(store, lambda stacks: {stack.ids[0] for stack in stacks})
        os._exit(0)
    if os.waitpid(pid, 0)[1] != signal.SIGKILL:
        break
    kill += 1
print(kill)
"""


def test_a_slimming_killed_at_any_step_loses_nothing_and_the_next_one_finishes_it(
    store, result, different, monkeypatch, tmp_path
):
    monkeypatch.setattr(packing, "PACK_BYTES", 40_000)
    for split in (0, 1):
        store.publish_stack(result(split=split))
    compact(store)
    store.publish_stack(result(split=2))
    before = numbers(store)
    folder = tmp_path / "killed"
    folder.mkdir()
    command = [sys.executable, "-c", KILLS, str(store.path), str(folder), str(packing.PACK_BYTES)]
    n_kills = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    steps = [path.suffix[1:].replace("-", " ") for path in folder.glob("*.*")]
    assert len(steps) == n_kills
    assert set(steps) == {*PACKING_STEPS, *STEPS}
    copies = different(path for path in folder.iterdir() if path.is_dir())
    assert 10 < len(copies) < n_kills
    for copy in copies:
        killed = Store.open(copy)
        assert numbers(killed) == before
        assert killed.finished_ids() == before.keys()
        for split in range(3):  # either form serves; the first trial's details are in both
            found = killed.read_stack(result_id(result(split=split)))
            assert found.history["loss"][0].tobytes() == result(split=split).history["loss"][0].tobytes()
        slim(killed, firsts)
        assert numbers(killed) == before
        check_slimmed(killed, result, range(3))
        assert Counter(path.name for path in killed.stack_paths()).most_common(1)[0][1] == 1
        assert killed.files.singles() == []
        assert slim(killed, firsts).n_packs == 0


def test_a_run_may_publish_at_any_step_and_a_report_read(filled, result):
    before = numbers(filled)
    writer, splits = Store.open(filled.path), iter(range(20, 1000))

    def meanwhile(step):
        filled.step = lambda _: None
        assert before.items() <= numbers(writer).items()
        assert writer.publish_stack(result(1, split=next(splits), full=False))
        filled.step = meanwhile

    filled.step = meanwhile
    slim(filled, firsts)
    filled.step = lambda _: None
    n_published = next(splits) - 20
    assert before.items() <= numbers(filled).items()
    assert len(numbers(filled)) == len(before) + n_published
    check_slimmed(filled, result)


def test_a_compaction_afterwards_keeps_packs_compressed(filled, result):
    slim(filled, firsts)
    filled.publish_stack(result(split=9))
    assert compact(filled).n_packs == 1
    (pack,) = filled.files.packs.load()[0]
    assert pack.is_compressed
    assert len(pack.members) == 5
    check_slimmed(filled, result)


def test_a_block_that_was_damaged_is_noticed(filled, result):
    slim(filled, firsts)
    (path,) = filled.files.packs.paths()
    image = bytearray(path.read_bytes())
    for at in (-10, -len(image) // 4):
        damaged = image.copy()
        damaged[at] ^= 1
        path.write_bytes(damaged)
        os.utime(path, ns=(at % 7, at % 7))
        assert [checked.ok for checked in Store.open(filled.path).verify()].count(False) >= 1
        with pytest.raises(StoreError, match="damaged|cannot be"):
            Store.open(filled.path).read_stack(result_id(result()))


def test_slimming_waits_for_no_compaction_under_way(filled):
    def slim_too(step):
        with pytest.raises(StoreError, match="is at work on"):
            slim(Store.open(filled.path), firsts)
        filled.step = lambda _: None

    filled.step = slim_too
    compact(filled)
