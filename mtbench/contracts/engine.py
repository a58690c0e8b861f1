"""The Engine contract: hand over a job, get its bytes or its failure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mtbench.contracts.trials import Status, Trial
from mtbench.contracts.values import Value
from mtbench.tasks import Array
from mtbench.tasks.fingerprint import Fingerprint


@dataclass(frozen=True)
class Job:
    """Trials for a worker to train, with all that it needs to know; it can be pickled.

    Attributes:
        kind: "train" gives the HDF5 image of the stack's result; "calibrate" gives JSON, see `training.calibrate`.
        trials: The trials to train, or to calibrate with.
        options: The data set's options.
        root: Where the data are.
        plugin_files: Plugin files that offer the method or the data set.
        log: File that takes what the worker prints; progress goes beside it, with the ending ".progress".
        time_limit: Seconds after which the worker is killed; None for no limit.
        provenance: What the driver knows and the result should record.
        checkpoint: File that keeps a half-trained stack; the worker goes on from what is there.
        pretrained: By split and seed, the backbone to start from, where the recipe names a base.
        modules: Installed plugins that offer the method or the data set; None to load all there are. No other plugin is
            imported where a job runs, so that none can change its numbers.
        content: By split, the fingerprint of the problem that the run was planned with.
    """

    kind: Literal["train", "calibrate"]
    trials: tuple[Trial, ...]
    options: Mapping[str, Value]
    root: Path
    plugin_files: tuple[Path, ...]
    log: Path
    time_limit: float | None
    provenance: Mapping[str, Any]
    checkpoint: Path | None = None
    pretrained: Mapping[tuple[int, int], Mapping[str, Array]] = field(default_factory=dict)
    modules: tuple[str, ...] | None = None
    content: Mapping[int, Fingerprint] = field(default_factory=dict)


class JobFailed(Exception):
    """A job that gave no bytes.

    Attributes:
        status: FAILED (an exception in the worker), TIMEOUT or KILLED.
        reason: In one line.
        log: The last lines its worker printed.
    """

    def __init__(self, status: Status, reason: str, log: str = "") -> None:
        super().__init__(reason)
        self.status, self.reason, self.log = status, reason, log

    def __reduce__(self) -> tuple[type[JobFailed], tuple[Status, str, str]]:
        # Exceptions are pickled by their message alone; engines send these between machines.
        return JobFailed, (self.status, self.reason, self.log)


class Engine(ABC):
    """Where stacks train: it takes jobs and gives back their bytes, several at a time.

    Guarantees asked of a plugin: every submitted future completes, with the job's bytes or with `JobFailed`, whatever
    happens to its worker; at most `slots` jobs run at once; `close` leaves no process behind.

    A run makes an engine as `cls(devices)`: one text, a study's `devices`, whose meaning is the engine's own but for
    "auto", its default. What it cannot make sense of raises `StudyError`. No worker starts before `prepare`, or the
    first job.

    Attributes:
        name: As in studies: lower-case words joined by underscores.
        slots: Jobs that run at once, at least 1; known as soon as the engine is made.
        blamed: What a message names, as the beginning of a sentence, where an answer is no answer to its job.
    """

    name: str
    slots: int
    blamed: str = "A worker"

    def prepare(self) -> None:  # noqa: B027  # most engines have nothing to prepare
        """Begins what takes time before the first job, and returns at once. A run need not call it.

        Nothing of a plugin may run in it: plugins are being loaded meanwhile.
        """

    @abstractmethod
    def submit(self, job: Job) -> Future[bytes]:
        """Starts a job and returns at once; until it returns, the run does nothing else.

        Callers keep at most `slots` jobs unfinished.

        Args:
            job: The work. It can be pickled; `run_job` does it, in whatever process or machine that is called.

        Returns:
            Completes with the bytes that `run_job` gives, or with `JobFailed`: KILLED where the worker died, TIMEOUT
            where it was ended after `job.time_limit` seconds.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends all workers, whatever they are doing; called once, also when a run is interrupted."""
