"""A worker as the driver sees it: a process, started when needed, and pipes that only the two of them hold."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from mtbench.engines.base import Job, JobFailed
from mtbench.trials import Status

_LOG_LINES = 20
_LOG_BYTES = 8192
_REASON_LENGTH = 500
_START_SECONDS = 300.0


class WorkerProcess:
    """Runs one job at a time in a process of its own; a new process takes over from one that has died.

    Nothing is shared with other workers, no lock and no queue: a worker killed at any moment, be it halfway through
    its answer, can neither stop nor confuse another.

    Args:
        environment: Variables that fix its device, set before the process begins.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._stopped = False

    @property
    def pid(self) -> int | None:
        """Of the living process, if there is one."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def run(self, job: Job) -> bytes:
        """Runs a job.

        Raises:
            JobFailed: It gave no bytes.
        """
        try:
            pipe = self._ready(job.log)
            pipe.send(job)
            # A limit on the job alone: the start of the process does not count.
            if not pipe.poll(job.time_limit):
                self._kill()
                reason = f"Took longer than the time limit of {job.time_limit:g} s."
                raise JobFailed(Status.TIMEOUT, reason, tail(job.log))
            answer, text = pipe.recv()
        except (OSError, EOFError):
            raise JobFailed(Status.KILLED, self._epitaph(), tail(job.log)) from None
        if isinstance(answer, bytes):
            return answer
        raise JobFailed(Status.FAILED, _one_line(text), tail(job.log))

    def stop(self) -> None:
        """Ends the process and lets no other begin. Nothing is lost: a worker writes nothing but its log."""
        with self._lock:
            self._stopped = True
        self._kill()

    def _ready(self, log: Path) -> Connection:
        """The pipe to a process that waits for a job."""
        if self._pipe is not None and self.pid is not None:
            return self._pipe
        self._kill()
        if self._pipe is not None:
            self._pipe.close()
        with self._lock:
            if self._stopped:
                raise EOFError
            try:
                self._pipe = self._start(log)
            except OSError as error:
                raise JobFailed(Status.FAILED, f"A worker process could not be started: {error}.") from None
        # Says that it has started, which takes the import of torch.
        if not self._pipe.poll(_START_SECONDS):
            raise EOFError
        self._pipe.recv()
        return self._pipe

    def _start(self, log: Path) -> Connection:
        mine, its = Pipe()
        log.parent.mkdir(parents=True, exist_ok=True)
        with its, log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mtbench.engines.worker", str(its.fileno())],
                # Never written to: it ends when the driver does, however that comes about.
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=[its.fileno()],
                env={**os.environ, "PYTHONPATH": _search_path(), **self._environment},
                # Ctrl-C reaches all of the terminal's process group; the driver decides what ends.
                start_new_session=True,
            )
        return mine

    def _kill(self) -> None:
        process = self._process
        if process is not None:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def _epitaph(self) -> str:
        if self._stopped:
            return "The run ended before this stack did."
        self._kill()  # its pipe is closed, so it is of no use, alive or not
        code = self._process.returncode if self._process is not None else 0
        if code >= 0:
            return f"The worker process ended with exit code {code}."
        cause = " (as the system does when memory runs out)" if -code == signal.SIGKILL else ""
        return f"The worker process was ended by {signal.Signals(-code).name}{cause}."


def tail(path: Path) -> str:
    """The last lines of a log, at most a few kB; "" if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_BYTES))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-_LOG_LINES:])
    except OSError:
        return ""


def _one_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:_REASON_LENGTH] if lines else "no message"


def _search_path() -> str:
    """What this process can import, a worker can."""
    return os.pathsep.join(path or os.getcwd() for path in sys.path)
