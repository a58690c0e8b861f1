from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from mtbench.contracts.trials import FINAL, Status
from mtbench.errors import StoreError
from mtbench.store import Store, encode
from mtbench.store.image import result_id
from mtbench.store.stale_files import clear_stale_files


def test_a_store_is_made_once_and_keeps_its_uuid(tmp_path):
    first = Store.create(tmp_path / "results" / "s")
    assert Store.create(first.path).uuid == first.uuid == Store.open(first.path).uuid


CREATE = """
import sys
from pathlib import Path
from mtbench.store import Store
print(Store.create(Path(sys.argv[1])).uuid)
"""


def test_processes_that_make_the_same_store_agree_on_it(tmp_path):
    makers = [
        subprocess.Popen([sys.executable, "-c", CREATE, str(tmp_path / "s")], stdout=subprocess.PIPE) for _ in range(4)
    ]
    assert len({maker.communicate()[0] for maker in makers}) == 1
    assert all(maker.returncode == 0 for maker in makers)


def test_what_is_no_store_is_not_opened(tmp_path):
    with pytest.raises(StoreError, match=r"is no store.*mtbench run --out"):
        Store.open(tmp_path)
    with pytest.raises(StoreError, match="is no store"):
        Store.open(tmp_path / "missing")
    (tmp_path / "store.json").write_text("[1]")
    with pytest.raises(StoreError, match="must hold a store's format"):
        Store.open(tmp_path)


def test_a_store_of_another_format_says_found_and_expected(store):
    (store.path / "store.json").write_text(json.dumps({"format": 9, "uuid": "x"}))
    for use in (Store.open, Store.create):
        with pytest.raises(StoreError, match=r"format 1; .* has format 9\. Use the version"):
            use(store.path)


def test_a_directory_of_other_things_does_not_become_a_store(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match=r"holds 'thesis.tex'"):
        Store.create(tmp_path)


def test_a_finished_stack_is_published_once(store, result):
    assert store.publish_stack(result())
    again = result()
    again.metrics["test"]["rmse"] += 1
    assert not store.publish_stack(again)
    (path,) = store.stack_paths()
    assert path == store.stack_path(result_id(result()))
    assert path.parent.name == path.name[:2]
    assert np.array_equal(store.read(path).metrics["test"]["rmse"], result().metrics["test"]["rmse"], equal_nan=True)


@pytest.mark.parametrize("status", list(Status))
def test_a_trial_is_finished_if_its_status_is_final(store, result, status):
    record = result(2, statuses=[Status.FINISHED, status])
    store.publish_stack(record)
    assert store.has_stack(result_id(record)) == (status in FINAL)
    assert store.finished_ids() == {trial.id for trial in record.trials[: 2 if status in FINAL else 1]}


def test_failed_tries_are_kept_beside_the_success_that_follows(store, result):
    stack = result_id(result())
    for _ in range(2):
        assert store.publish_stack(result(statuses=[Status.KILLED] * 3, full=False))
        assert not store.has_stack(stack)
    assert store.finished_ids() == set()
    assert store.publish_stack(result())
    assert [path.name for path in store.stack_paths()] == [
        f"{stack}.failed-1.h5",
        f"{stack}.failed-2.h5",
        f"{stack}.h5",
    ]
    assert store.finished_ids() == {trial.id for trial in result().trials}
    assert all(checked.ok for checked in store.verify())


def test_a_result_is_kept_although_an_unreadable_file_has_its_name(store, result):
    stack = result_id(result())
    store.publish_stack(result())
    path = store.stack_path(stack)
    path.write_bytes(path.read_bytes()[:-1])
    assert not store.has_stack(stack)
    assert store.finished_ids() == set()
    assert store.publish_stack(result())
    assert store.has_stack(stack)
    assert store.finished_ids() == {trial.id for trial in result().trials}
    assert np.array_equal(store.read_stack(stack).best_epoch, result().best_epoch)
    assert not store.publish_stack(result())
    assert [(checked.path.name, checked.ok) for checked in store.verify()] == [
        (f"{stack}.again-1.h5", True),
        (path.name, False),
    ]


def test_a_finished_stack_is_read_from_whichever_file_can_be(store, result):
    stack = result_id(result())
    store.publish_stack(result())
    path = store.stack_path(stack)
    image = bytearray(path.read_bytes())
    image[image.find(b"the last line")] ^= 1
    path.write_bytes(image)
    with pytest.raises(StoreError, match=f"No file of stack {stack} can be read: .*SHA-256"):
        store.read_stack(stack)
    path.with_name(f"{stack}.again-1.h5").write_bytes(encode(result()))
    assert store.read_stack(stack).log == result().log


def test_a_worker_cannot_publish_what_is_no_stack(store):
    with pytest.raises(StoreError, match="the image"):
        store.publish_image(b"nothing")
    assert store.stack_paths() == []


def test_verify_finds_files_under_a_wrong_name(store, result):
    store.publish_stack(result())
    (path,) = store.stack_paths()
    other = path.with_name("0" * 64 + ".h5")
    failed = path.with_name(path.stem + ".failed-1.h5")
    os.link(path, other)
    os.link(path, failed)
    reasons = {checked.path: checked.reason for checked in store.verify()}
    assert reasons[path] == ""
    assert "must be named after its stack" in reasons[other]
    assert "named 'failed'" in reasons[failed]


def test_verify_finds_derived_data_that_disagree(store, result, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("mtbench.store.columns._params", lambda trials: {"params/alpha": np.zeros(len(trials))})
        image = encode(result())
    path = store.stack_path(result_id(result()))
    path.parent.mkdir(parents=True)
    path.write_bytes(image)
    (checked,) = store.verify()
    assert "disagrees" in checked.reason
    assert "params/alpha" in checked.reason
    assert "summary" in checked.reason


def test_verify_names_the_file_whose_data_changed(store, result):
    for split in range(3):
        store.publish_stack(result(split=split))
    path = store.stack_paths()[1]
    image = bytearray(path.read_bytes())
    image[image.find(b"the last line")] ^= 1
    path.write_bytes(image)
    assert [checked.ok for checked in store.verify()] == [True, False, True]


def test_disposable_folders_may_go_at_any_time(store, result):
    store.claim("c" * 64)
    store.publish_stack(result())
    for folder in ("tmp", "claims"):
        for path in (store.path / folder).iterdir():
            path.unlink()
        (store.path / folder).rmdir()
    assert store.claim("c" * 64)
    assert store.finished_ids()
    assert clear_stale_files(store.path) == 0


def test_leftovers_of_dead_writers_are_removed_after_an_hour(store):
    ended = subprocess.Popen(["true"])
    ended.wait()
    for name, age in ((f"old.{ended.pid}-ab", 1), (f"mine.{os.getpid()}-ab", 1), (f"new.{ended.pid}-ab", None)):
        path = store.path / "tmp" / name
        path.touch()
        if age:
            os.utime(path, (age, age))
    assert clear_stale_files(store.path) == 1
    assert sorted(path.name for path in (store.path / "tmp").iterdir()) == [
        f"mine.{os.getpid()}-ab",
        f"new.{ended.pid}-ab",
    ]
