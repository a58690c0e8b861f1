"""`mtbench store compact` as a user meets it, and that no other command minds."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import pytest

from mtbench.contracts.trials import Status
from mtbench.store import Store

PLUGIN = Path(__file__).parents[1] / "tiny_plugin.py"


@pytest.fixture
def path(results_store, outcome):
    """A store of five files: three cells, one of them with a failed try that a later one made up for."""
    cell = results_store.cell("stl")
    results_store.write(cell, outcome(0, status=Status.KILLED), outcome(1))
    results_store.write(cell, outcome(0, test=10), outcome(1, test=12))
    results_store.write(results_store.cell("amtl"), outcome(0, test=9), outcome(1, test=10))
    results_store.write(results_store.cell("stl", "digits"), outcome(0), outcome(1))
    results_store.write(results_store.cell("nn"), outcome(0), outcome(1, status=Status.TIMEOUT))
    return results_store.path


def failed(result, *parts):
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.strip().splitlines()
    for part in parts:
        assert part in line


def test_what_was_done_is_told_and_reports_stay_the_same(mtbench, path):
    before = mtbench("report", path, "--format", "json", "--per-task").stdout
    listed = mtbench("store", "list", path).stdout.splitlines()
    result = mtbench("store", "compact", path)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "Moved 5 files into 1 pack."
    assert re.fullmatch(r"Before: 5 files, [\d.]+ kB\. Now: 1 file, [\d.]+ kB\.", lines[1])
    assert mtbench("report", path, "--format", "json", "--per-task").stdout == before
    again = mtbench("store", "list", path).stdout.splitlines()
    assert again[:-1] == listed[:-1]
    assert again[-1].startswith("1 file, ")
    assert mtbench("store", "verify", path).stdout == "6 files checked, 0 bad.\n"
    assert mtbench("store", "compact", path).stdout.startswith("Nothing to compact: 1 file, ")


def test_failed_tries_are_dropped_on_demand_only(mtbench, path):
    before = json.loads(mtbench("report", path, "--format", "json").stdout)
    mtbench("store", "compact", path)
    assert len(Store.open(path).stack_paths()) == 5
    result = mtbench("store", "compact", path, "--drop-failed")
    assert "Removed 1 failed try." in result.stdout.splitlines()
    assert len(Store.open(path).stack_paths()) == 4
    assert json.loads(mtbench("report", path, "--format", "json").stdout) == before


def test_an_empty_store_has_nothing_to_compact(mtbench, tmp_path):
    Store.create(tmp_path / "s")
    assert mtbench("store", "compact", tmp_path / "s").stdout == "Nothing to compact: 0 files, 0 B.\n"


def test_a_directory_that_is_no_store_is_told(mtbench, tmp_path):
    failed(mtbench("store", "compact", tmp_path / "nowhere"), "is no store", "`mtbench run --out")
    assert not (tmp_path / "nowhere").exists()


def test_a_full_disk_is_told(mtbench, path, monkeypatch):
    sync = os.fsync

    def full(descriptor):
        if os.fstat(descriptor).st_size > 50_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    failed(mtbench("store", "compact", path), ".pack: the disk is full. Free some space and run the same command again")
    assert len(Store.open(path).files.singles()) == 5


def test_a_store_without_permission_is_told(mtbench, path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("mtbench.store.publish.open", refuse, raising=False)  # root may write anywhere
    failed(mtbench("store", "compact", path), "there is no permission to write there")


def test_a_truncated_pack_is_named_by_every_command_and_its_rest_is_saved(mtbench, path):
    mtbench("store", "compact", path)
    (pack,) = Store.open(path).files.packs.paths()
    pack.write_bytes(pack.read_bytes()[:-100])
    report = mtbench("report", path)
    assert (report.exit_code, "1 file of this store is unreadable" in report.output) == (0, True)
    verified = mtbench("store", "verify", path)
    assert verified.exit_code == 1
    assert verified.stdout == "6 files checked, 2 bad.\n"
    assert f"`mtbench store compact {path}` has copied what is intact" in verified.stderr
    result = mtbench("store", "compact", path)
    assert result.exit_code == 0
    assert result.stdout.startswith("Copied 4 files out of damaged packs into 1 pack.\nBefore: 1 file, ")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Warning: left as it is: {pack}: {pack.name}: it must have ")
    assert line.endswith(
        "Of its 5 stack files 1 cannot be read; the others lie elsewhere too by now, so it can be deleted."
    )
    pack.unlink()
    assert mtbench("store", "verify", path).stdout == "5 files checked, 0 bad.\n"


def test_a_run_on_a_compacted_store_trains_what_is_missing(mtbench, tmp_path):
    words = ["run", "--methods", "probe", "--datasets", "tiny", "--plugin", PLUGIN, "--devices", "cpu:1"]
    words += ["--stack-size", 1, "--refit", "--out", tmp_path / "store"]
    mtbench(*words)
    board = mtbench("report", tmp_path / "store", "--format", "json").stdout
    assert "Moved 4 files into 1 pack." in mtbench("store", "compact", tmp_path / "store").stdout
    assert "0 trials trained, 4 were there already. Nothing was left to train." in mtbench(*words).stdout
    assert mtbench("report", tmp_path / "store", "--format", "json").stdout == board
    more = mtbench(*words, "--splits", 3)
    assert "2 trials trained, 4 were there already." in more.stdout
    assert len(Store.open(tmp_path / "store").files.singles()) == 2
