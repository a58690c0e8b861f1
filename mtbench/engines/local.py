"""The local engine: one isolated worker process per device slot of this machine."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
from concurrent.futures import Future, TimeoutError
from pathlib import Path

from pebble import ProcessExpired, ProcessPool

from mtbench.engines.base import Engine, Job, JobFailed
from mtbench.engines.worker import initialise, run_job
from mtbench.errors import StudyError
from mtbench.trials import Status

_LOG_LINES = 20


class LocalEngine(Engine):
    """Workers on this machine: on the CPU one per core with one torch thread each, and one per GPU.

    Args:
        devices: "auto" (all GPUs, else the CPU), "cpu", "cpu:N" for N workers, or "cuda:0,cuda:1".

    Raises:
        StudyError: A GPU is named that does not exist.
    """

    name = "local"

    def __init__(self, devices: str = "auto") -> None:
        # spawn: a forked child would inherit the parent's threads and, on a GPU, a CUDA context it cannot use.
        context = multiprocessing.get_context("spawn")
        self._pools: list[tuple[ProcessPool, int]] = []
        for device, workers in _slots(devices):
            pool = ProcessPool(max_workers=workers, initializer=initialise, initargs=(device,), context=context)
            self._pools.append((pool, workers))
        self._busy = [0] * len(self._pools)
        self.slots = sum(workers for _, workers in self._pools)

    def submit(self, job: Job) -> Future[bytes]:
        """Starts a job on the pool with most free workers."""
        free = [workers - busy for (_, workers), busy in zip(self._pools, self._busy, strict=True)]
        which = free.index(max(free))
        self._busy[which] += 1
        inner = self._pools[which][0].schedule(run_job, args=(job,), timeout=job.time_limit)
        outer: Future[bytes] = Future()
        inner.add_done_callback(functools.partial(self._done, which, job, outer))
        return outer

    def _done(self, which: int, job: Job, outer: Future[bytes], inner: Future[bytes]) -> None:
        self._busy[which] -= 1
        if inner.cancelled():
            outer.set_exception(JobFailed(Status.KILLED, "The run ended before this stack did."))
            return
        error = inner.exception()
        if error is None:
            outer.set_result(inner.result())
        else:
            outer.set_exception(_failure(error, job))

    def close(self) -> None:
        """Ends all workers, whatever they are doing."""
        for pool, _ in self._pools:
            pool.stop()
        for pool, _ in self._pools:
            pool.join()


def _failure(error: BaseException, job: Job) -> JobFailed:
    log = tail(job.log)
    if isinstance(error, TimeoutError):
        return JobFailed(Status.TIMEOUT, f"Took longer than the time limit of {job.time_limit:g} s.", log)
    if isinstance(error, ProcessExpired):
        code = error.exitcode
        killed = code is not None and code < 0
        how = f"by signal {signal.Signals(-code).name}" if killed and code is not None else f"with exit code {code}"
        return JobFailed(Status.KILLED, f"The worker process ended {how}.", log)
    lines = str(error).strip().splitlines()
    return JobFailed(Status.FAILED, f"{type(error).__name__}: {lines[0] if lines else 'no message'}", log)


def tail(path: Path) -> str:
    """The last lines of a log; "" if there is none."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    except OSError:
        return ""


def _slots(devices: str) -> list[tuple[str, int]]:
    """Devices and workers on each: [("cpu", 2)], or [("cuda:0", 1), ("cuda:1", 1)]."""
    if devices == "auto":
        gpus = _n_gpus()
        return [(f"cuda:{i}", 1) for i in range(gpus)] or [("cpu", _n_cores())]
    if devices.startswith("cpu"):
        return [("cpu", int(devices.partition(":")[2] or _n_cores()))]
    named = list(dict.fromkeys(devices.split(",")))
    found = _n_gpus()
    for name in named:
        if int(name.partition(":")[2]) >= found:
            raise StudyError(f"--devices {devices}: this machine has {found} CUDA devices, so {name} does not exist.")
    return [(name, 1) for name in named]


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _n_gpus() -> int:
    """Counted by the driver's own tool: asking torch would cost seconds and open a context in this process."""
    try:
        found = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in found.stdout.splitlines())
