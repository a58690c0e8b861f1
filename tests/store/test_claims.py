from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from mtbench.contracts.trials import Status
from mtbench.store import claims
from mtbench.store.image import result_id

STACK = "ab" * 32


@pytest.fixture
def write_claim(store):
    """Writes a claim of somebody else."""

    def write(number: int = 0, age: float = 0.0, **holder: object):
        path = store.path / "claims" / f"{STACK}.{number}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"host": claims.machine(), "pid": os.getpid(), "started": None, **holder}))
        if age:
            found = path.stat()
            os.utime(path, (found.st_atime - age, found.st_mtime - age))
        return path

    return write


def dead_pid() -> int:
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid


def test_a_stack_is_claimed_once_while_its_holder_lives(store):
    claim = store.claim(STACK)
    assert claim
    assert store.claim(STACK) is None
    assert claim.refresh()
    assert store.claim("cd" * 32)


def test_a_released_stack_can_be_claimed_again(store):
    store.claim(STACK).release()
    again = store.claim(STACK)
    assert again
    assert store.claim(STACK) is None


def test_a_claim_of_a_dead_process_is_taken_over(store, write_claim):
    write_claim(pid=dead_pid(), started="1")
    assert store.claim(STACK)
    assert store.claim(STACK) is None


def test_a_claim_whose_process_number_now_belongs_to_another_is_taken_over(store, write_claim):
    write_claim(started="12345 long ago")
    assert store.claim(STACK)


def test_a_claim_of_another_host_lasts_two_minutes_after_its_last_refresh(store, write_claim):
    path = write_claim(host="elsewhere", pid=1, age=100)
    assert store.claim(STACK) is None
    theirs = claims.Claim(store.path, STACK, 0)
    os.utime(path, (1, 1))
    assert theirs.refresh()
    assert store.claim(STACK) is None
    os.utime(path, (1, 1))
    assert store.claim(STACK)
    assert not theirs.refresh()


@pytest.mark.parametrize("content", ["", "null", "[]", "{}", '{"host": 1, "pid": "x"}'])
def test_a_damaged_claim_is_judged_by_its_age(store, write_claim, content):
    path = write_claim()
    path.write_text(content)
    assert store.claim(STACK) is None
    os.utime(path, (1, 1))
    assert store.claim(STACK)


RACE = """
import sys, time
from pathlib import Path
from mtbench.store import Store
store, me, stacks = Store.open(Path(sys.argv[1])), sys.argv[2], sys.argv[3].split()
(store.path / "tmp" / f"ready-{me}").touch()
while len(list((store.path / "tmp").glob("ready-*"))) < 4:
    time.sleep(0.001)
won = [stack for stack in stacks if store.claim(stack)]
print(*won, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("stale", [False, True])
def test_of_four_runs_exactly_one_gets_each_claim(store, write_claim, stale):
    stacks = [f"{i:064x}" for i in range(25)]
    if stale:
        path = write_claim(pid=dead_pid(), started="1")
        for stack in stacks:
            os.link(path, path.with_name(f"{stack}.0.json"))
    command = [sys.executable, "-c", RACE, str(store.path)]
    racers = [
        subprocess.Popen(
            [*command, str(me), " ".join(stacks)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for me in range(4)
    ]
    won = [racer.stdout.readline().split() for racer in racers]
    for racer in racers:
        racer.communicate()
    assert sorted(stack for each in won for stack in each) == stacks


def test_a_finished_stack_cannot_be_claimed_and_leaves_no_claim(store, result):
    stack = result_id(result())
    claim = store.claim(stack)
    store.publish_stack(result(statuses=[Status.OOM] * 3, full=False))
    claim.release()
    claim = store.claim(stack)
    assert claim
    assert store.publish_stack(result())
    assert list((store.path / "claims").iterdir()) == []
    claim.release()
    assert store.claim(stack) is None


def test_claims_leave_nothing_in_tmp(store):
    store.claim(STACK).release()
    store.claim(STACK)
    store.claim(STACK)
    assert list((store.path / "tmp").iterdir()) == []
