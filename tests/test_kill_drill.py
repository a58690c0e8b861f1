"""The kill drill at small scale, and that it would see damage."""

from __future__ import annotations

import copy
import random
from pathlib import Path

from benchmarks.kill_drill import Drill, Tally, agree, run
from mtbench.store import Store

PLUGIN = Path(__file__).parent / "tiny_plugin.py"
GRID = [
    *("--methods", "probe,steady", "--datasets", "tiny", "--plugin", str(PLUGIN), "--devices", "cpu:1", "--refit"),
    *("--search", "random:6", "--recipe", "tiny.max_epochs=20"),
]


def test_a_run_that_is_killed_and_resumed_loses_nothing_and_ends_with_the_same_table(tmp_path):
    tally = run(Drill(GRID, tmp_path, random.Random(1)), 2, kinds=[("--stack-size", "2")])
    assert tally.damage == []
    assert sum(tally.kills.values()) == 2
    assert tally.n_runs > tally.n_stores
    assert tally.n_checked


def test_the_drill_sees_lost_trials_and_unreadable_files(tmp_path):
    store = Store.create(tmp_path / "store")
    broken = store.stack_path("ab" * 32)
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"cut off")
    drill = Drill(GRID, tmp_path, random.Random(0))
    drill._check(store.path, {"a trial that was finished"})
    assert isinstance(drill.tally, Tally)
    assert any("cut off" in each or broken.name in each for each in drill.tally.damage)
    assert drill.tally.damage[-1] == "store: 1 finished trials are gone"


def test_tables_agree_to_the_last_digit_or_to_rounding():
    table = [{"method": "nn", "mean": 0.1, "n_trials": 3, "ci95": [0.0, 1.0]}]
    other = copy.deepcopy(table)
    other[0]["mean"] += 1e-12
    assert agree(table, copy.deepcopy(table), exact=True)
    assert not agree(other, table, exact=True)
    assert agree(other, table, exact=False)
    other[0]["n_trials"] = 4
    assert not agree(other, table, exact=False)
    assert not agree([], table, exact=False)
