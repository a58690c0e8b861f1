"""Workers as the driver sees them: processes forked when needed, and pipes that only driver and worker hold."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Hashable, Mapping
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.reduction import send_handle
from pathlib import Path
from typing import IO

from mtbench.contracts.engine import Job, JobFailed
from mtbench.contracts.trials import Status

_LOG_LINES = 20
_LOG_BYTES = 8192
_REASON_LENGTH = 500
_START_SECONDS = 300.0


class ForkServer:
    """The process that forks workers, `mtbench.engines.workers.fork_server`. Another takes over from one that has died.

    Args:
        environment: Variables that fix the device of its workers, set before the process begins.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        # As it is now: what plugins do to the driver's own environment reaches no worker.
        self._environment = {**os.environ, "PYTHONPATH": _search_path(), **environment}
        self._lock = threading.Lock()  # requests come from the threads of several slots
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Connection | None = None
        self._ready = self._stopped = False
        self._log: IO[bytes] | None = None

    def start(self) -> None:
        """Begins the process, if none lives, and does not wait for it.

        Raises:
            OSError: It could not be started.
            EOFError: It was stopped for good.
        """
        with self._lock:
            self._start()

    def fork(self) -> Worker:
        """A new worker.

        Raises:
            OSError: No process could be started.
            EOFError: It died twice, or was stopped for good.
        """
        try:
            return self._fork()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return self._fork()  # it was killed: another takes over

    def _fork(self) -> Worker:
        mine, its = Pipe()
        with its, self._lock:
            control = self._start()
            if not self._ready:
                # Says that it has started, which takes the import of torch.
                if not control.poll(_START_SECONDS):
                    raise EOFError
                control.recv()
                self._ready = True
            assert self._process is not None
            control.send(("fork",))
            send_handle(control, its.fileno(), self._process.pid)
            return Worker(control.recv(), mine, self)

    def status(self, pid: int) -> int | None:
        """How a worker that was killed, or has ended, came to its end, as `os.waitpid` says; None if nobody knows."""
        try:
            with self._lock:
                if self._control is None or not self._ready:
                    return None
                self._control.send(("status", pid))
                status: int | None = self._control.recv()
                return status
        except (OSError, EOFError):
            return None

    def stop(self) -> None:
        """Ends the process and lets no other begin."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()  # whoever waits for an answer under the lock is told so
        with self._lock:
            self._end()

    def close(self) -> None:
        """Gives up its log; no worker of it may be left."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def words(self) -> str:
        """The last lines that it, or a worker outside of any job, has printed."""
        if self._log is None:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        return _last_lines(os.pread(self._log.fileno(), _LOG_BYTES, max(0, size - _LOG_BYTES)))

    def _start(self) -> Connection:
        if self._stopped:
            raise EOFError
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self._end()
        self._log = self._log or tempfile.TemporaryFile()  # noqa: SIM115  # for as long as this object
        control, its = Pipe()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mtbench.engines.workers.fork_server", str(its.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[its.fileno()],
                env=self._environment,
                # Ctrl-C reaches all of the terminal's process group; the driver decides what ends.
                start_new_session=True,
            )
        self._control, self._ready = control, False
        return control

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._control is not None:
            self._control.close()
            self._control = None


class Worker:
    """A forked process that answers jobs of one cell.

    Attributes:
        pid: Of the process, and of its group.
        pipe: Jobs go in, answers come out.
    """

    def __init__(self, pid: int, pipe: Connection, server: ForkServer) -> None:
        self.pid, self.pipe, self._server = pid, pipe, server
        self._lock = threading.Lock()
        self._over = False
        self._status: int | None = None
        # Tells its death even where a process that a plugin has left behind holds the other end of the pipe.
        self._death = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None

    @property
    def alive(self) -> bool:
        """Whether it lives and waits for a job; no answer may be on its way."""
        return not self._died() and not self.pipe.poll()

    def answers(self, seconds: float | None) -> bool:
        """Waits for an answer or for its end, at most so long.

        Returns:
            Whether there is something to receive: an answer, or the end of the stream.
        """
        if not wait([self.pipe] if self._death is None else [self.pipe, self._death], seconds):
            return False
        if self._died():
            self._signal()  # what it has left behind must not keep the stream open
        return True

    def kill(self) -> int | None:
        """Kills it and all that it has started, and waits for its end.

        Returns:
            How it ended, as `os.waitpid` says; None if nobody knows.
        """
        with self._lock:
            if not self._over:
                self._signal()
                self._over, self._status = True, self._server.status(self.pid)
            return self._status

    def close(self) -> None:
        """Gives up what connects to it; nobody may be waiting for an answer."""
        self.pipe.close()
        if self._death is not None:
            os.close(self._death)
            self._death = None

    def _died(self) -> bool:
        return self._death is not None and bool(wait([self._death], 0))

    def _signal(self) -> None:
        # Nobody else is given its process id before the fork server has been asked how it ended.
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # it has no group of its own yet
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class Slot:
    """Runs one job at a time, in a process that has run no other cell's: state of one method reaches no other.

    Nothing is shared with other slots but the fork server, which runs no job: a worker killed at any moment, be it
    halfway through its answer, can neither stop nor confuse another.

    Args:
        server: Forks its workers.
    """

    def __init__(self, server: ForkServer) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._busy = self._stopped = False
        self._key: Hashable = None

    @property
    def pid(self) -> int | None:
        """Of the living worker, if there is one."""
        with self._lock:
            worker = self._worker
            return worker.pid if worker is not None and (self._busy or worker.alive) else None

    def knows(self, job: Job) -> bool | None:
        """Whether its worker has run the cell of a job; None where there is no worker."""
        return None if self._worker is None else self._key == _kind(job)

    def run(self, job: Job) -> bytes:
        """Runs a job.

        Raises:
            JobFailed: It gave no bytes.
        """
        worker = self._ready(job)
        try:
            worker.pipe.send(job)
            # A limit on the job alone: the start of the process does not count.
            if not worker.answers(job.time_limit):
                self._end()
                reason = f"Took longer than the time limit of {job.time_limit:g} s."
                raise JobFailed(Status.TIMEOUT, reason, tail(job.log))
            answer, text = worker.pipe.recv()
        except (OSError, EOFError):
            reason = self._epitaph()
            raise JobFailed(Status.KILLED, reason, tail(job.log) or self._server.words()) from None
        finally:
            self._busy = False
        if isinstance(answer, bytes):
            return answer
        raise JobFailed(Status.FAILED, _one_line(text), tail(job.log))

    def stop(self) -> None:
        """Ends the worker and lets no other begin. Nothing is lost: a worker writes nothing but its log."""
        with self._lock:
            self._stopped = True
            if self._worker is not None:
                self._worker.kill()  # whoever waits for its answer is told so

    def _ready(self, job: Job) -> Worker:
        """A worker for a job."""
        try:
            if self._worker is not None and not (self.knows(job) and self._worker.alive):
                self._end()
            worker = self._worker or self._server.fork()
        except EOFError:
            reason = _ENDED if self._stopped else "The process that starts workers has ended."
            raise JobFailed(Status.KILLED, reason, self._server.words()) from None
        except OSError as error:
            raise JobFailed(Status.FAILED, f"A worker process could not be started: {error}.") from None
        with self._lock:
            self._worker, self._key, self._busy = worker, _kind(job), True
            if self._stopped:
                worker.kill()
        return worker

    def _end(self) -> int | None:
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is None:
            return None
        status = worker.kill()
        worker.close()
        return status

    def _epitaph(self) -> str:
        status = self._end()  # its pipe is closed, so it is of no use, alive or not
        if self._stopped:
            return _ENDED
        if status is None:
            return "The worker process has ended; how is not known, since the one that started it has ended, too."
        if os.WIFEXITED(status):
            return f"The worker process ended with exit code {os.WEXITSTATUS(status)}."
        number = os.WTERMSIG(status)
        cause = " (as the system does when memory runs out)" if number == signal.SIGKILL else ""
        return f"The worker process was ended by {signal.Signals(number).name}{cause}."


_ENDED = "The run ended before this stack did."


def _kind(job: Job) -> Hashable:
    """What the jobs that may share a process have in common: one cell, whose method's state is its own business."""
    return job.trials[0].cell.key, job.plugin_files


def tail(path: Path) -> str:
    """The last lines of a log, at most a few kB; "" if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_BYTES))
            return _last_lines(file.read())
    except OSError:
        return ""


def _last_lines(text: bytes) -> str:
    return "\n".join(text.decode(errors="replace").splitlines()[-_LOG_LINES:])


def _one_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:_REASON_LENGTH] if lines else "no message"


def _search_path() -> str:
    """What this process can import, a worker can."""
    return os.pathsep.join(path or os.getcwd() for path in sys.path)
