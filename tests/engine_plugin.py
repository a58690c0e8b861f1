"""A plugin of tests: an engine that runs jobs in the run's own process, and engines that break the contract."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from typing import Any

import torch

from mtbench import Engine, Job, JobFailed, Status, StudyError, hookimpl, run_job


class InProcess(Engine):
    """Jobs one after another, in the process that drives the run."""

    name = "in_process"

    def __init__(self, devices: str = "auto") -> None:
        if devices not in ("auto", "here"):
            raise StudyError(f"--engine in_process knows the devices auto and here; found '{devices}'.")
        self.slots = 1

    def submit(self, job: Job) -> Future[bytes]:
        future: Future[bytes] = Future()
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as workers do: sums over several threads round differently
        try:
            future.set_result(run_job(job))
        except JobFailed as error:
            future.set_exception(error)
        finally:
            torch.set_num_threads(n_threads)
        return future

    def close(self) -> None:
        pass


class Raises(InProcess):
    name = "raises"

    def submit(self, job: Job) -> Future[bytes]:
        raise ConnectionError("no cluster\nis there")


class Exits(InProcess):
    name = "exits"

    def submit(self, job: Job) -> Future[bytes]:
        sys.exit(3)


class Mute(InProcess):
    name = "mute"

    def submit(self, job: Job) -> Any:
        return None


class Cancels(InProcess):
    name = "cancels"

    def submit(self, job: Job) -> Future[bytes]:
        future: Future[bytes] = Future()
        future.cancel()
        return future


class Junk(InProcess):
    name = "junk"

    def submit(self, job: Job) -> Future[bytes]:
        future: Future[bytes] = Future()
        future.set_result(b"junk")
        return future


class Swaps(InProcess):
    name = "swaps"
    first: bytes = b""

    def submit(self, job: Job) -> Future[bytes]:
        future = super().submit(job)
        Swaps.first = Swaps.first or future.result()
        swapped: Future[bytes] = Future()
        swapped.set_result(Swaps.first)
        return swapped


class Boasts(InProcess):
    name = "boasts"

    def submit(self, job: Job) -> Future[bytes]:
        future: Future[bytes] = Future()
        future.set_exception(JobFailed(Status.FINISHED, "all is well"))
        return future


class Clings(InProcess):
    name = "clings"

    def close(self) -> None:
        raise OSError("the cluster does not let go")


class Unmade(InProcess):
    name = "unmade"

    def __init__(self, devices: str = "auto") -> None:
        raise ImportError("no module of the cluster's")


class Slotless(InProcess):
    name = "slotless"

    def __init__(self, devices: str = "auto") -> None:
        self.slots = 0


@hookimpl
def mtbench_engines() -> list[type[Engine]]:
    return [InProcess, Raises, Exits, Mute, Cancels, Junk, Swaps, Boasts, Clings, Unmade, Slotless]
