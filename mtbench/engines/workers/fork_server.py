"""A process that has imported torch and mtbench, and forks workers: `python -m mtbench.engines.workers.fork_server FD`.

Guarantees: it has one thread, runs no plugin's code, and never touches a GPU, so that a fork of it is as good as a new
process, a hundred times sooner. It ends when the driver does.

The driver sends requests through the control connection, whose file descriptor is the first argument:

- ("fork",), followed by one end of a pipe: starts a worker that answers jobs from it; the answer is its process id.
- ("status", pid): waits for a worker's end; the answer is what `os.waitpid` says, or None for a worker not of its own.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import NoReturn

from mtbench.engines.workers.worker import serve

_PRELOADED = (
    "torch", "torch.func", "h5py",
    "mtbench.plugins.host", "mtbench.store.image", "mtbench.training", "mtbench.training.calibrate",
)  # fmt: skip


def main() -> None:
    """Forks workers until the control connection is closed."""
    control = Connection(int(sys.argv[1]))
    os.set_inheritable(control.fileno(), False)
    for module in _PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is here stays: collections in workers need not look at it, nor copy its pages
    with contextlib.suppress(EOFError, OSError):
        control.send("ready")
        while True:
            kind, *words = control.recv()
            control.send(_fork(control) if kind == "fork" else _status(*words))


def _fork(control: Connection) -> int:
    pipe = recv_handle(control)
    pid = os.fork()
    if pid == 0:
        _become_worker(control, pipe)
    os.close(pipe)
    return pid


def _become_worker(control: Connection, pipe: int) -> NoReturn:
    """Goes on as a worker. Nothing of the loop above runs in it, however it ends."""
    try:
        # A group of its own: whatever a plugin starts ends with the worker.
        os.setsid()
        control.close()
        serve(Connection(pipe))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def _status(pid: int) -> int | None:
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return None


if __name__ == "__main__":
    main()
