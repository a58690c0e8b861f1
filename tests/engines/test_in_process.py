"""A job in this very process, as engines of other launchers run it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtbench import Job, JobFailed, run_job
from mtbench.contracts.trials import Status
from mtbench.plan.grid import plan_cells
from mtbench.plan.study import Study
from mtbench.plugins.host import load_plugins
from mtbench.store import decode

PLUGIN = Path(__file__).parents[1] / "tiny_plugin.py"


def job(tmp_path, act="train", mark=""):
    study = Study(methods=["probe"], datasets=["tiny"], splits=1, set={"probe.act": act, "probe.mark": str(mark)})
    (cell,) = plan_cells(study, load_plugins([PLUGIN]), tmp_path)
    return Job("train", tuple(cell.trials()), {}, tmp_path, (PLUGIN,), tmp_path / "job.log", None, {"search": "mine"})


def test_a_job_gives_the_bytes_of_its_result_after_a_journey(tmp_path):
    work = pickle.loads(pickle.dumps(job(tmp_path)))
    result = decode(run_job(work))
    assert [trial.id for trial in result.trials] == [trial.id for trial in work.trials]
    assert result.status == [Status.FINISHED]
    assert result.provenance["search"] == "mine"


@pytest.fixture
def far_side(monkeypatch):
    """A process that does the job it is sent."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    command = [sys.executable, "-m", "mtbench.engines.in_process"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_job_that_fails_elsewhere_comes_back_with_the_reason_and_the_last_lines_of_its_log(tmp_path, far_side):
    far_side.stdin.write(pickle.dumps(job(tmp_path, "raise")))
    far_side.stdin.flush()
    failed = pickle.loads(far_side.stdout.read())
    assert isinstance(failed, JobFailed)
    assert failed.status is Status.FAILED
    assert str(failed) == failed.reason
    assert failed.reason.startswith("ValueError: an act of misbehaviour (/")
    assert "in misbehave" in failed.log
    assert far_side.stderr.read() == b""
    assert far_side.wait() == 0


def test_a_process_elsewhere_ends_with_whoever_started_it(tmp_path, far_side):
    far_side.stdin.write(pickle.dumps(job(tmp_path, "wait", tmp_path / "never")))
    far_side.stdin.flush()
    deadline = time.monotonic() + 60
    while not (tmp_path / "never.begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    far_side.stdin.close()
    assert far_side.stdout.read() == b""
    assert far_side.wait() == 1
