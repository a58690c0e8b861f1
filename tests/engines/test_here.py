"""A job in this very process, as engines of other launchers run it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

from mtbench import Job, JobFailed, run_job
from mtbench.grid import plan_cells
from mtbench.plugins import load_plugins
from mtbench.store import decode
from mtbench.study import Study
from mtbench.trials import Status

PLUGIN = Path(__file__).parents[1] / "tiny_plugin.py"


def job(tmp_path, act="train"):
    study = Study(methods=["probe"], datasets=["tiny"], splits=1, set={"probe.act": act})
    (cell,) = plan_cells(study, load_plugins([PLUGIN]), tmp_path)
    return Job("train", tuple(cell.trials()), {}, tmp_path, (PLUGIN,), tmp_path / "job.log", None, {"search": "mine"})


def test_a_job_gives_the_bytes_of_its_result_after_a_journey(tmp_path):
    work = pickle.loads(pickle.dumps(job(tmp_path)))
    result = decode(run_job(work))
    assert [trial.id for trial in result.trials] == [trial.id for trial in work.trials]
    assert result.status == [Status.FINISHED]
    assert result.provenance["search"] == "mine"


ELSEWHERE = """
import pickle, sys
from mtbench import JobFailed, run_job
try:
    run_job(pickle.load(sys.stdin.buffer))
except JobFailed as error:
    sys.stdout.buffer.write(pickle.dumps(error))
"""


def test_a_job_that_fails_elsewhere_comes_back_with_the_reason_and_the_last_lines_of_its_log(tmp_path):
    work = pickle.dumps(job(tmp_path, "raise"))
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], input=work, capture_output=True, check=True)
    failed = pickle.loads(done.stdout)
    assert isinstance(failed, JobFailed)
    assert failed.status is Status.FAILED
    assert str(failed) == failed.reason
    assert failed.reason.startswith("ValueError: an act of misbehaviour (/")
    assert "in misbehave" in failed.log
    assert done.stderr == b""
