"""Fingerprints: equal for equal content, alike for rounding, cheap for large arrays that parts share."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mtbench.tasks import Part, Problem, Rows, Task, TaskKind
from mtbench.tasks import fingerprint as module
from mtbench.tasks.fingerprint import Fingerprint, fingerprint

TASKS = (Task("a", TaskKind.REGRESSION), Task("b", TaskKind.BINARY))


def problem(inputs=None, labels=None, tasks=TASKS, task=None, split=0, **parts):
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(30, 4)), np.stack([rng.normal(size=30), rng.integers(0, 2, 30)], 1)
    inputs = drawn[0] if inputs is None else inputs
    labels = drawn[1] if labels is None else labels
    part = Part(inputs, labels, task)
    return Problem("x", split, tasks, {"train": part, "validation": part, "test": part, **parts})


def changed(array, at, value):
    array = np.array(array)
    array[at] = value
    return array


BASE = problem()
INPUTS, LABELS = np.array(BASE.parts["train"].inputs), np.array(BASE.parts["train"].labels)


@pytest.mark.parametrize(
    "other",
    [
        problem(inputs=changed(INPUTS, (3, 2), 7.0)),
        problem(inputs=INPUTS[::-1]),
        problem(inputs=INPUTS[:, ::-1]),
        problem(inputs=100 * INPUTS),
        problem(labels=changed(LABELS, (3, 1), 1 - LABELS[3, 1])),
        problem(labels=changed(LABELS, (3, 0), np.nan)),
        problem(inputs=INPUTS[:15], labels=LABELS[:15]),
        problem(tasks=(Task("c", TaskKind.REGRESSION), TASKS[1])),
        problem(more=BASE.parts["train"]),
    ],
)
def test_other_content_has_another_fingerprint(other):
    assert fingerprint(other) != fingerprint(BASE)


def test_other_numbers_are_not_alike():
    half = problem(inputs=INPUTS[:15], labels=LABELS[:15])
    for other in (problem(inputs=INPUTS[::-1]), problem(inputs=1.01 * INPUTS), half):
        assert not fingerprint(other).is_like(fingerprint(BASE))
    assert not fingerprint(problem(labels=changed(LABELS, (3, 1), 1 - LABELS[3, 1]))).is_like(fingerprint(BASE))


def test_the_same_content_has_the_same_fingerprint_whatever_its_split_and_truth():
    again = dataclasses.replace(problem(split=3), truth={"W": np.ones(3)})
    assert fingerprint(again) == fingerprint(BASE)
    assert fingerprint(problem(inputs=INPUTS.astype(">f8"), labels=np.asfortranarray(LABELS))) == fingerprint(BASE)


def test_rounding_is_another_content_but_alike():
    other = problem(inputs=INPUTS * np.float32(1 + 2e-7))
    assert fingerprint(other) != fingerprint(BASE)
    assert fingerprint(other).is_like(fingerprint(BASE))


def test_a_fingerprint_comes_back_from_its_record():
    record = fingerprint(BASE).to_record()
    assert Fingerprint.from_record(record).is_like(fingerprint(BASE))
    assert Fingerprint.from_record(record) == fingerprint(BASE)


@pytest.mark.parametrize(
    "record", [None, [], "x", {}, {"sha256": 3}, {"sha256": "a", "sketch": []}, {"sha256": "a", "sketch": {"x": "y"}}]
)
def test_what_is_no_record_gives_none(record):
    assert Fingerprint.from_record(record) is None


def shared(base, rows=((0, 1), (2, 3), (4, 5))):
    labels = np.zeros((2, 2))
    parts = {
        n: Part(Rows(base, np.array(r)), labels) for n, r in zip(("train", "validation", "test"), rows, strict=True)
    }
    return Problem("x", 0, TASKS, parts)


def test_rows_are_known_by_their_array_and_their_numbers():
    base = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    first = fingerprint(shared(base))
    assert fingerprint(shared(base.copy())) == first
    assert not fingerprint(shared(base, rows=((0, 1), (2, 3), (4, 6)))).is_like(first)
    assert not fingerprint(shared(base + 1)).is_like(first)


def test_an_array_that_parts_share_is_hashed_once(monkeypatch, tmp_path):
    path = tmp_path / "base.npy"
    np.save(path, np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32))
    looked = []
    sketch = module._sketch

    def counted(array, whole=True):
        looked.append(whole)
        return sketch(array, whole)

    monkeypatch.setattr(module, "_sketch", counted)
    first = fingerprint(shared(np.load(path, mmap_mode="r")))
    assert looked.count(False) == 1
    assert fingerprint(shared(np.load(path, mmap_mode="r"))) == first  # another mapping of the same file
    assert looked.count(False) == 1
    np.save(path, np.random.default_rng(1).normal(size=(9, 3)).astype(np.float32))
    assert fingerprint(shared(np.load(path, mmap_mode="r"))) != first
    assert looked.count(False) == 2


def test_an_array_in_the_memory_of_another_is_not_taken_for_it():
    found = set()
    for seed in range(20):
        base = np.random.default_rng(seed).normal(size=(8, 3)).astype(np.float32)
        found.add(fingerprint(shared(base)).sha256)
        del base
    assert len(found) == 20


def test_a_large_array_is_sampled_evenly(monkeypatch):
    monkeypatch.setattr(module, "WHOLE_BYTES", 1 << 20)
    base = np.zeros((1 << 21, 1), np.float32)
    pieces = list(module._pieces(base, whole=False))
    assert sum(piece.nbytes for piece in pieces) <= 2 << 20
    assert len(pieces) >= 15
    assert sum(piece.nbytes for piece in module._pieces(base, whole=True)) == base.nbytes
