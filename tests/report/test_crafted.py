"""Whatever a file holds, a report counts it aloud and goes on; and `verify` passes nothing that a report misreads."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from mtbench.contracts.trials import Status
from mtbench.report import formats
from mtbench.report.reading import read
from mtbench.report.text import as_text
from mtbench.store import Store, encode, scan
from mtbench.store.image import HEADER_SIZE
from mtbench.store.summary import header

ADDED = ["x", "role", "base", "metrics/test/rmse", "refit", "ranges", "tolerance", "content"]
JUNK = [None, True, -1, 0, 3, 1e308, 2**70, "", "x", "\n|\x1b[", [], [1], ["a"], {}, {"a": 1}, {"a": {"b": []}}, [[]]]


@pytest.fixture
def store(results_store, outcome):
    """Two cells: one of them in two stacks, of which one is to be changed."""
    amtl, stl = results_store.cell("amtl"), results_store.cell("stl")
    results_store.write(stl, *(outcome(split, alpha=1.0) for split in range(2)))
    results_store.write(amtl, outcome(0, alpha=3.0, test=5.0), outcome(1, alpha=3.0, status=Status.DIVERGED))
    results_store.write(amtl, *(outcome(split, alpha=2.0, test=0.5, validation=0.5) for split in range(2)))
    return Store.open(results_store.path)


@pytest.fixture
def path(store):
    """The file that holds what amtl is reported by."""
    (found,) = [stack.path for stack in scan(store).stacks if stack.params["alpha"][0] == 2.0]
    return found


def numbers(board):
    return [(row.method, row.dataset, row.metric, row.mean, tuple(row.by_split.items())) for row in board.rows]


def reported(store):
    """What a report says, in every form; it must not end in anything but a board."""
    _, board = read(store.path)
    for text in (as_text(board, True), *(write(board, True) for write in formats.FORMATS.values())):
        assert text
    return board


def verified(store, path):
    return all(checked.ok for checked in store.verify() if checked.path == path)


def check(store, path, before):
    """After a change of a file: it is reported as it was, or counted aloud, or `verify` names it."""
    board = reported(store)
    aloud = any(path.name in warning for warning in board.warnings)
    if not aloud and numbers(board) != before:
        assert not verified(store, path)
    if verified(store, path):
        assert numbers(board) == before
    return aloud


def test_bytes_that_change_anywhere(store, path):
    before, image = numbers(reported(store)), path.read_bytes()
    rng = random.Random(0)
    counted = 0
    for _ in range(120):
        changed = bytearray(image)
        for _ in range(rng.choice([1, 1, 4])):
            changed[rng.choice([rng.randrange(len(image)), rng.randrange(HEADER_SIZE)])] ^= 1 << rng.randrange(8)
        if rng.random() < 0.1:
            del changed[rng.randrange(len(changed)) :]
        path.write_bytes(changed)
        counted += check(store, path, before)
    assert counted > 10


def parts_of(image):
    offset, length = json.loads(image[:HEADER_SIZE])["summary"]
    line, _, body = image[offset : offset + length].partition(b"\n")
    head = json.loads(line)
    return {**head, "cell": json.loads(head["cell"]), "provenance": json.loads(head["provenance"])}, body


def crafted(head, body, rng):
    """A file that holds a summary alone, whose hashes are right."""
    head = {**head, **{name: json.dumps(head[name]) for name in ("cell", "provenance") if name in head}}
    summary = json.dumps(head).encode() + b"\n" + body
    return header(HEADER_SIZE + len(summary), HEADER_SIZE, summary) + summary


def places(value, at=()):
    """The way to every value in a nest of objects and lists."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def mutate(head, rng):
    way = rng.choice([place for place in places(head) if place])
    holder = head
    for key in way[:-1]:
        holder = holder[key]
    match rng.randrange(4):
        case 0:
            del holder[way[-1]]
        case 1 if isinstance(holder, dict):
            holder[
                rng.choice(["x", "role", "base", "metrics/test/rmse", "refit", "ranges", "tolerance", "content"])
            ] = rng.choice(JUNK)
        case _:
            holder[way[-1]] = rng.choice(JUNK)


@pytest.mark.parametrize("seed", range(4))
def test_summaries_that_others_made_up(store, path, seed):
    before, image = numbers(reported(store)), path.read_bytes()
    rng = random.Random(seed)
    for _ in range(60):
        head, body = parts_of(image)
        for _ in range(rng.choice([1, 1, 2, 5])):
            mutate(head, rng)
        body = bytearray(body)
        if rng.random() < 0.3:
            body[rng.randrange(len(body))] = rng.randrange(256)
        path.write_bytes(crafted(head, bytes(body), rng))
        check(store, path, before)
        scan(store)
        store.finished_ids()
        store.has_stack(path.stem)


def test_a_summary_that_differs_from_the_columns_is_named_by_verify(store, path):
    image = path.read_bytes()
    before = numbers(reported(store))
    record = json.loads(image[:HEADER_SIZE])
    offset, length = record["summary"]
    summary = bytearray(image[offset : offset + length])
    at = summary.index(np.float64(0.5).tobytes())
    summary[at : at + 8] = np.float64(0.25).tobytes()
    # Beside the columns, so that these and their hash stay as they are.
    longer = image + bytes(summary)
    path.write_bytes(header(len(longer), len(image), bytes(summary)) + longer[HEADER_SIZE:])
    assert numbers(reported(store)) != before
    assert not verified(store, path)
    (bad,) = [checked for checked in store.verify() if not checked.ok]
    assert "summary that its header points to" in bad.reason


def test_a_file_copied_over_another_is_counted_and_its_stack_trained_again(store, path):
    other = next(stack.path for stack in scan(store).stacks if stack.cell["method"] == "stl")
    result = store.read(path)
    path.write_bytes(other.read_bytes())
    board = reported(store)
    assert any(path.name in warning for warning in board.warnings)
    assert not store.has_stack(path.stem)
    assert store.finished_ids().isdisjoint(trial.id for trial in result.trials)
    assert not verified(store, path)
    assert store.publish_stack(result)
    assert store.has_stack(path.stem)
    assert encode(store.read_stack(path.stem)) == encode(result)


def test_what_nobody_thought_of_costs_its_own_file_alone(store, path, monkeypatch):
    from mtbench.report import reading

    def gather(stacks, original=reading.gather):
        stacks = list(stacks)
        assert all(stack.path != path for stack in stacks), "a fault of one file"
        return original(stacks)

    monkeypatch.setattr(reading, "gather", gather)
    board = reported(store)
    assert any(path.name in warning and "was left out" in warning for warning in board.warnings)
    assert {row.method for row in board.rows} == {"amtl", "stl"}
