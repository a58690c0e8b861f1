"""The local engine: what a job gives, every way it can end badly, and that no other job notices."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtbench.contracts.trials import Status
from mtbench.engines import Job, JobFailed, LocalEngine
from mtbench.engines.local import _slots
from mtbench.errors import StudyError
from mtbench.plan.grid import plan_cells
from mtbench.plan.study import Study
from mtbench.plugins.host import load_plugins
from mtbench.store import decode

PLUGIN = Path(__file__).parents[1] / "tiny_plugin.py"


def job(tmp_path, act="train", mark="", time_limit=None):
    study = Study(methods=["probe"], datasets=["tiny"], splits=1, set={"probe.act": act, "probe.mark": str(mark)})
    (cell,) = plan_cells(study, load_plugins([PLUGIN]), tmp_path)
    log = tmp_path / "logs" / f"{act.replace(' ', '-')}.log"
    return Job("train", tuple(cell.trials()), {}, tmp_path, (PLUGIN,), log, time_limit, {"search": "default"})


def failure(future):
    error = future.exception(timeout=60)
    assert isinstance(error, JobFailed)
    return error


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def engine():
    made = LocalEngine("cpu:2")
    yield made
    made.close()
    assert not made.pids


def test_a_jobs_bytes_come_back_with_what_the_driver_and_the_worker_know(engine, tmp_path):
    work = job(tmp_path)
    result = decode(engine.submit(work).result(timeout=60))
    assert [trial.id for trial in result.trials] == [trial.id for trial in work.trials]
    assert result.status == [Status.FINISHED]
    assert result.provenance["search"] == "default"
    assert result.provenance["device"] == "cpu"
    assert result.provenance["task_names"][0] == "group_0"


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("raise", "ValueError: an act of misbehaviour (/"),
        ("refuse", "StudyError: this is refused"),
        ("exit", "SystemExit: 7 (/"),
    ],
)
def test_an_exception_fails_its_job_and_leaves_the_worker_alive(engine, tmp_path, act, reason):
    engine.submit(job(tmp_path)).result(timeout=60)
    before = engine.pids
    error = failure(engine.submit(job(tmp_path, act)))
    assert error.status is Status.FAILED
    assert error.reason.startswith(reason)
    assert "\n" not in error.reason
    assert "in misbehave" in error.log
    assert set(before) <= set(engine.pids)


def test_a_killed_worker_loses_its_own_job_only(engine, tmp_path):
    go = tmp_path / "go"
    other = engine.submit(job(tmp_path, "wait", go))
    until(go.with_suffix(".begun").exists)
    error = failure(engine.submit(job(tmp_path, "kill once", tmp_path / "killed")))
    assert error.status is Status.KILLED
    assert "SIGKILL" in error.reason
    # Its place is taken by a new process, while the other job has not noticed.
    assert decode(engine.submit(job(tmp_path)).result(timeout=60)).status == [Status.FINISHED]
    assert not other.done()
    go.touch()
    assert decode(other.result(timeout=60)).status == [Status.FINISHED]


def test_a_worker_killed_while_idle_is_replaced_unnoticed(engine, tmp_path):
    engine.submit(job(tmp_path)).result(timeout=60)
    for pid in engine.pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not engine.pids)
    assert decode(engine.submit(job(tmp_path)).result(timeout=60)).status == [Status.FINISHED]


def test_a_worker_that_ends_itself_is_reported_with_its_exit_code(engine, tmp_path):
    error = failure(engine.submit(job(tmp_path, "end")))
    assert (error.status, error.reason) == (Status.KILLED, "The worker process ended with exit code 7.")


def test_a_job_that_takes_longer_than_its_limit_is_ended(engine, tmp_path):
    error = failure(engine.submit(job(tmp_path, "wait", tmp_path / "never", time_limit=0.2)))
    assert (error.status, error.reason) == (Status.TIMEOUT, "Took longer than the time limit of 0.2 s.")


def test_a_plugin_that_prints_a_lot_leaves_the_last_lines(engine, tmp_path, capfd):
    error = failure(engine.submit(job(tmp_path, "chat")))
    assert "ValueError: and now this" in error.log
    assert len(error.log.splitlines()) == 20
    assert len(error.log) < 10_000
    assert capfd.readouterr() == ("", "")


def test_a_log_that_cannot_be_written_costs_no_result(engine, tmp_path):
    (tmp_path / "logs").write_text("a file where a folder should be")
    engine.submit(job(tmp_path.parent)).result(timeout=60)  # a worker lives already, and needs no log to start
    assert decode(engine.submit(job(tmp_path)).result(timeout=60)).status == [Status.FINISHED]


def test_close_ends_workers_in_the_middle_of_a_job_and_completes_its_future(tmp_path):
    engine = LocalEngine("cpu:1")
    future = engine.submit(job(tmp_path, "wait", tmp_path / "never"))
    until((tmp_path / "never.begun").exists)
    (pid,) = engine.pids
    engine.close()
    assert not running(pid)
    error = failure(future)
    assert (error.status, error.reason) == (Status.KILLED, "The run ended before this stack did.")


DRIVER = """
import pickle, sys, time
from mtbench.engines import LocalEngine
engine = LocalEngine("cpu:2")
work = pickle.load(open(sys.argv[1], "rb"))
for job in work:
    engine.submit(job)
while len(engine.pids) < 2:
    time.sleep(0.01)
print(*engine.pids, flush=True)
time.sleep(600)
"""


def test_workers_die_with_a_driver_that_is_killed_whether_they_work_or_start(tmp_path):
    path = tmp_path / "work.pickle"
    path.write_bytes(pickle.dumps([job(tmp_path, "wait", tmp_path / name) for name in ("never", "ever")]))
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(path)], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    pids = [int(word) for word in driver.stdout.readline().split()]
    assert len(pids) == 2
    driver.kill()
    driver.wait()
    driver.stdout.close()
    until(lambda: not any(map(running, pids)))


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """A machine with two GPUs, as far as the driver's tool tells."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: One (UUID: a)'\necho 'GPU 1: Two (UUID: b)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def visible(devices):
    return [slot["CUDA_VISIBLE_DEVICES"] for slot in _slots(devices)]


def test_each_worker_sees_its_own_gpu_or_none(gpus, monkeypatch):
    assert visible("auto") == ["0", "1"]
    assert visible("cuda:1") == ["1"]
    assert visible("cuda:1,cuda:0,cuda:1") == ["1", "0"]
    assert visible("cpu:3") == ["", "", ""]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert visible("auto") == visible("cuda:0") == ["7"]


def test_cpu_workers_are_one_per_core_with_one_thread_each(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert len(_slots("cpu")) == 3
    assert all(slot["OMP_NUM_THREADS"] == "1" for slot in _slots("cpu"))
    assert all(slot["MTBENCH_WORKERS"] == "3" for slot in _slots("cpu"))


def test_without_the_drivers_tool_there_are_no_gpus(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert set(visible("auto")) == {""}
    with pytest.raises(StudyError, match=r"--devices cuda:0: this machine has 0 CUDA devices, so cuda:0 does not"):
        LocalEngine("cuda:0")


def test_a_gpu_that_does_not_exist_is_named(gpus):
    with pytest.raises(StudyError, match=r"has 2 CUDA devices, so cuda:2 does not exist"):
        LocalEngine("cuda:0,cuda:2")
