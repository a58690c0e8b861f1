"""What happens inside a worker process. Nothing here imports torch before the device is fixed."""

from __future__ import annotations

import functools
import json
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtbench.engines.base import Job
from mtbench.errors import MtbenchError

if TYPE_CHECKING:
    from mtbench.plugins import Plugins
    from mtbench.tasks import Problem

_PROGRESS_EVERY = 0.5  # seconds between progress lines

_device = "cpu"


def initialise(device: str) -> None:
    """Prepares a fresh worker: fixes its device and threads, and ties its life to its parent's.

    Args:
        device: "cpu", or "cuda:N", which becomes the only GPU this process sees.
    """
    global _device
    # Ctrl-C reaches the whole process group; the driver decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    if device.startswith("cuda"):
        os.environ["CUDA_VISIBLE_DEVICES"] = device.partition(":")[2]
        _device = "cuda:0"
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()


def _die_with(parent: int) -> None:
    """Ends this process soon after its parent has died, even by SIGKILL."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def run_job(job: Job) -> bytes:
    """Runs a job in this process.

    Raises:
        MtbenchError: As the trainer, the data set or the plugin raised it.
        RuntimeError: For any other exception, with its type, message and place; the log has the traceback.
    """
    with _captured(job.log):
        try:
            return _train(job) if job.kind == "train" else _calibrate(job)
        except MtbenchError:
            traceback.print_exc()
            raise
        except Exception as error:
            traceback.print_exc()
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}, line {place.lineno}"
            # The exception itself may not survive pickling; its words do.
            raise RuntimeError(f"{type(error).__name__}: {error} ({where})") from None


def _train(job: Job) -> bytes:
    from mtbench.store.image import encode
    from mtbench.training import train_stack

    plugins = _plugins(job.plugin_files)
    cell = job.trials[0].cell
    method, dataset = plugins.method(cell.method)(), plugins.dataset(cell.dataset)()
    problems = {split: _problem(job, split) for split in {trial.split for trial in job.trials}}
    report = _progress_writer(job.log.with_suffix(".progress"))
    result = train_stack(method, problems, job.trials, dataset, _device, report)
    tasks = next(iter(problems.values())).tasks
    result.provenance |= {
        **job.provenance,
        "python": platform.python_version(),
        "stack_size": len(job.trials),
        "task_names": [task.name for task in tasks],
        "n_tasks": len(tasks),
    }
    return encode(result)


def _calibrate(job: Job) -> bytes:
    from mtbench.training.calibrate import calibrate

    plugins = _plugins(job.plugin_files)
    cell = job.trials[0].cell
    problems = {split: _problem(job, split) for split in {trial.split for trial in job.trials}}
    method, dataset = plugins.method(cell.method)(), plugins.dataset(cell.dataset)()
    return json.dumps(calibrate(method, problems, job.trials, dataset, _device)).encode()


def _problem(job: Job, split: int) -> Problem:
    cell = job.trials[0].cell
    options = tuple(sorted(job.options.items()))
    return _load(cell.dataset, options, split, job.root, job.plugin_files)


@functools.lru_cache(maxsize=16)
def _load(
    dataset: str, options: tuple[tuple[str, Any], ...], split: int, root: Path, plugin_files: tuple[Path, ...]
) -> Problem:
    found = _plugins(plugin_files).dataset(dataset)()
    return found.load(root, split, found.Options(**dict(options)))


@functools.lru_cache(maxsize=1)
def _plugins(files: tuple[Path, ...]) -> Plugins:
    import torch

    from mtbench.plugins import load_plugins

    torch.set_num_threads(1)
    return load_plugins(files)


def _progress_writer(path: Path) -> Any:
    """A listener that appends "epoch active" lines, for the driver to read at its leisure.

    A file, not a queue: a worker killed while it holds a queue's lock would stop all others.
    """
    last = 0.0

    def report(epoch: int, n_active: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _PROGRESS_EVERY:
            last = now
            with path.open("a") as file:
                file.write(f"{epoch} {n_active}\n")

    return report


@contextmanager
def _captured(path: Path) -> Iterator[None]:
    """Sends what this process and its libraries print to a file for the time of a job."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.dup2(file, 1)
        os.dup2(file, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for fd, number in zip(kept, (1, 2), strict=True):
            os.dup2(fd, number)
            os.close(fd)
        os.close(file)
