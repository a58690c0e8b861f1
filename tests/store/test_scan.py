from __future__ import annotations

import json

import numpy as np
import pytest

from mtbench.contracts.trials import Status
from mtbench.store import scan
from mtbench.store.image import result_id
from mtbench.store.summary import HEADER_SIZE, header


def test_a_scan_gives_the_columns_that_were_published(store, result):
    published = result()
    store.publish_stack(published)
    (stack,) = scan(store).stacks
    assert stack.ids.tolist() == [trial.id for trial in published.trials]
    assert stack.status.tolist() == ["finished"] * 3
    assert stack.reason.tolist() == [""] * 3
    assert stack.phase.tolist() == ["refit", "search", "search"]
    assert stack.epochs.tolist() == [7, -1, -1]
    assert stack.split.tolist() == [0, 0, 0]
    assert stack.seed.tolist() == [0, 1, 2]
    assert stack.params["alpha"].tolist() == [trial.params["alpha"] for trial in published.trials]
    assert stack.params["act"].tolist() == ["relu"] * 3
    assert stack.params["bias"].tolist() == [1, 1, 1]
    assert stack.cell_key == published.trials[0].cell.key
    assert stack.cell == published.trials[0].cell.identity
    assert stack.provenance == published.provenance
    assert stack.counts.tolist() == [True] * 3
    assert stack.metrics.keys() == published.metrics.keys()
    for part, metrics in published.metrics.items():
        for name, values in metrics.items():
            assert np.array_equal(stack.metrics[part][name], values, equal_nan=True)
    for name in ("best_epoch", "train_seconds", "n_parameters", "residual"):
        assert np.array_equal(getattr(stack, name), getattr(published, name))


def test_a_scan_does_not_read_again_what_is_known_and_still_counts_anew(store, result):
    store.publish_stack(result(statuses=[Status.FAILED] * 3, full=False))
    known = scan(store).stacks
    store.publish_stack(result())
    known[0].path.write_bytes(b"")
    failed, finished = sorted(scan(store, known).stacks, key=lambda stack: stack.path.name)
    assert (failed.counts.tolist(), finished.counts.tolist()) == ([False] * 3, [True] * 3)
    assert known[0].counts.tolist() == [True] * 3


def test_stacks_of_one_cell_share_its_parsed_identity(store, result):
    store.publish_stack(result(split=0))
    store.publish_stack(result(split=1, full=False))
    first, second = scan(store).stacks
    assert first.cell is second.cell
    assert {first.best_epoch is None, second.best_epoch is None} == {True, False}


def test_unreadable_files_are_named_and_the_rest_is_read(store, result):
    for split in range(5):
        store.publish_stack(result(split=split))
    paths = store.stack_paths()
    paths[0].write_bytes(paths[0].read_bytes()[:5000])
    paths[1].write_bytes(b"")
    paths[2].write_bytes(b"x" * 9000)
    image = paths[3].read_bytes()
    paths[3].write_bytes(image.replace(b'"format": 1', b'"format": 7', 1))
    (store.path / "stacks" / "notes.txt").touch()
    found = scan(store)
    assert [stack.path for stack in found.stacks] == paths[4:]
    assert [checked.path for checked in found.unreadable] == paths[:4]
    reasons = [checked.reason for checked in found.unreadable]
    assert all(path.name in reason for path, reason in zip(paths, reasons, strict=False))
    assert "truncated" in reasons[0]
    assert "must begin with" in reasons[1]
    assert "must begin with" in reasons[2]
    assert "of format 7" in reasons[3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda head: head["texts"].update({"trials/id": [["a"], ["b"], ["c"]]}), "list of texts"),
        (lambda head: head["texts"].update({"trials/id": "abc"}), "list of texts"),
        (lambda head: head["texts"].update({"trials/id": ["a"]}), "a row per trial"),
        (lambda head: head["texts"].pop("trials/status"), "none at trials/status"),
        (lambda head: head["texts"].update({"trials/status": ["done"] * 3}), "status of a trial must be one of"),
        (
            lambda head: head["texts"].update({"trials/phase": ["later"] * 3}),
            "must be one of search, rung, refit; found later",
        ),
        (lambda head: head["texts"].update({"trials/id": ["a", "b", "c"]}), "must be named after its stack"),
        (lambda head: head["texts"].update({"trials/status": ["failed"] * 3}), "is named 'failed'"),
        (lambda head: head.update(cell="[]"), "its cell must be an object"),
        (lambda head: head.update(cell={}), "no readable stack file"),
        (lambda head: head.update(cell=head["cell"].replace('"recipe"', '"receipt"')), "'recipe' of its cell"),
        (lambda head: head.update(provenance="{"), "no readable stack file"),
        (lambda head: head.update(provenance="[]"), "its provenance must be an object"),
        (lambda head: head.update(provenance='{"also_report": 3}'), "'also_report' of its provenance"),
        (lambda head: head.update(provenance='{"task_weights": [1, -1]}'), "'task_weights' of its provenance"),
        (lambda head: head.update(provenance='{"weights": ["task", 3]}'), "'weights' of its provenance"),
        (lambda head: head.update(provenance='{"metric_by_kind": {"binary": 3}}'), "'metric_by_kind' of its"),
        (lambda head: head.update(provenance='{"metrics": {"rmse": 1}}'), "'metrics' of its provenance"),
        (lambda head: head["arrays"].pop(), "must fill it"),
        (lambda head: head["arrays"].append(["metrics/test/x", "|O", [3]]), "hold numbers"),
        (lambda head: head["arrays"].append(["metrics/test/x", "<f8", [3, 1 << 40]]), "no readable stack file"),
        (lambda head: head["arrays"].append(["metrics/test/x", "<f8", [-1]]), "hold numbers"),
        (lambda head: head.pop("arrays"), "no readable stack file"),
    ],
)
def test_a_summary_that_others_made_up_is_an_unreadable_file(store, change, message, result):
    store.publish_stack(result())
    (path,) = store.stack_paths()
    image = path.read_bytes()
    offset, length = json.loads(image[:HEADER_SIZE])["summary"]
    line, _, body = image[offset : offset + length].partition(b"\n")
    head = json.loads(line)
    change(head)
    summary = json.dumps(head).encode() + b"\n" + body
    path.write_bytes(header(HEADER_SIZE + len(summary), HEADER_SIZE, summary) + summary)
    (found,) = scan(store).unreadable
    assert message in found.reason
    assert store.finished_ids() <= {trial.id for trial in result().trials}


def test_one_record_of_each_trial_counts(store, result):
    ended = [Status.FINISHED, Status.OOM, Status.OOM]
    for _ in range(11):
        store.publish_stack(result(statuses=ended))
    counts = {stack.path.name.partition(".")[2]: stack.counts.tolist() for stack in scan(store).stacks}
    assert counts.pop("failed-11.h5") == [True, True, True]
    assert not any(any(row) for row in counts.values())
    store.publish_stack(result())
    counts = {stack.path.name.partition(".")[2]: stack.counts.tolist() for stack in scan(store).stacks}
    assert counts.pop("h5") == [True] * 3
    assert not any(any(row) for row in counts.values())


def test_a_trial_in_two_stacks_counts_once(store, result):
    store.publish_stack(result(3))
    store.publish_stack(result(2))
    found = scan(store).stacks
    counted = [trial for stack in found for trial in stack.ids[stack.counts]]
    assert sorted(counted) == sorted(trial.id for trial in result(3).trials)
    assert len({result_id(result(3)), result_id(result(2))}) == 2


def test_an_empty_store_scans_to_nothing(store):
    assert scan(store).stacks == []
    assert scan(store).unreadable == []
