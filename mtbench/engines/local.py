"""The local engine: one isolated worker process per device slot of this machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from mtbench.contracts.engine import Engine, Job
from mtbench.engines.workers.process import ForkServer, Slot
from mtbench.errors import StudyError

WORKER_VARIABLES = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    # Large tensors come and go in every step. The GNU C library would hand them back to the system each time and have
    # their pages cleared again, up to half of a step of fifty networks at once: it keeps them, the largest excepted.
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    # And a page of 2 MB is cleared sooner than 512 of 4 kB, where Linux leaves the choice to programs.
    "THP_MEM_ALLOC_ENABLE": "1",
    # cuBLAS gives the same bits again only with workspaces of a fixed size.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
"""Environment variables that make small trainings fast, set before torch is imported."""


class LocalEngine(Engine):
    """Workers on this machine: on the CPU one per core with one torch thread each, and one per GPU.

    Args:
        devices: "auto" (all GPUs, else the CPU), "cpu", "cpu:N" for N workers, or "cuda:0,cuda:1".

    Raises:
        StudyError: A GPU is named that does not exist.
    """

    name = "local"

    def __init__(self, devices: str = "auto") -> None:
        environments = _slots(devices)
        self.slots = len(environments)
        # One imports torch for all workers of a device: as many would wait for each other's imports.
        servers = {tuple(sorted(e.items())): ForkServer(e) for e in environments}
        self._servers = list(servers.values())
        self._all = [Slot(servers[tuple(sorted(e.items()))]) for e in environments]
        self._idle = list(self._all)
        self._lock = threading.Lock()
        # A thread per worker does nothing but wait for its answers.
        self._threads = ThreadPoolExecutor(self.slots, thread_name_prefix="mtbench-worker")

    @property
    def pids(self) -> list[int]:
        """Of the worker processes that live now."""
        return [pid for slot in self._all if (pid := slot.pid) is not None]

    def prepare(self) -> None:
        """Lets the import of torch begin."""
        for server in self._servers:
            with contextlib.suppress(OSError):  # the first job will tell
                server.start()

    def submit(self, job: Job) -> Future[bytes]:
        """Starts a job on an idle worker."""
        return self._threads.submit(self._run, job)

    def _run(self, job: Job) -> bytes:
        with self._lock:
            # One that has this cell's plugins and data at hand, else one that loses nothing of the kind.
            slot = min(self._idle, key=lambda slot: {True: 0, None: 1, False: 2}[slot.knows(job)])
            self._idle.remove(slot)
        try:
            return slot.run(job)
        finally:
            with self._lock:
                self._idle.append(slot)

    def close(self) -> None:
        """Ends all workers, whatever they are doing."""
        for slot in self._all:
            slot.stop()
        for server in self._servers:
            server.stop()
        self._threads.shutdown()
        for server in self._servers:
            server.close()


def _slots(devices: str) -> list[dict[str, str]]:
    """For each worker, the variables that fix its device before torch is imported: it sees that GPU alone, or none."""
    gpus = _gpus() if not devices.startswith("cpu") else []
    if devices == "auto" and gpus:
        return [_slot(gpu) for gpu in gpus]
    if devices == "auto" or devices.startswith("cpu"):
        n = int(devices.partition(":")[2] or _n_cores())
        # They share the machine's memory: `mtbench.training.memory` divides by their number.
        return [{**_slot(""), "MTBENCH_WORKERS": str(n)}] * n
    named = list(dict.fromkeys(devices.split(",")))
    for name in named:
        if int(name.partition(":")[2]) >= len(gpus):
            raise StudyError(
                f"--devices {devices}: this machine has {len(gpus)} CUDA devices, so {name} does not exist. "
                "`--devices auto` takes what there is."
            )
    return [_slot(gpus[int(name.partition(":")[2])]) for name in named]


def _slot(gpu: str) -> dict[str, str]:
    return {**WORKER_VARIABLES, "CUDA_VISIBLE_DEVICES": gpu}


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> list[str]:
    """The GPUs of this machine, or those of them the user made visible.

    Counted by the driver's own tool: asking torch would cost seconds and open a context in this process.
    """
    try:
        found = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    n_gpus = sum(line.startswith("GPU ") for line in found.stdout.splitlines())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(i) for i in range(n_gpus)]
    return [gpu for gpu in visible.split(",") if gpu.strip() not in ("", "-1")]
