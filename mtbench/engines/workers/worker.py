"""What happens inside a worker process, forked by `fork_server`, or wherever `run_job` is called.

The environment has fixed the device before torch was imported, so that torch sees no other.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtbench.contracts.engine import Job
from mtbench.contracts.trials import CONTENT, METRIC_PLUGIN
from mtbench.errors import MtbenchError
from mtbench.plugins.sources import describe_fault

if TYPE_CHECKING:
    from mtbench.plugins.host import Plugins
    from mtbench.tasks import Problem
    from mtbench.tasks.fingerprint import Fingerprint

_PROGRESS_EVERY = 0.5  # seconds between progress lines


def serve(pipe: Connection) -> None:
    """Answers the jobs that come through a pipe, until it is closed: all that a process does that was forked for it.

    It ends with all that it has started as soon as the driver has died, even by SIGKILL, whatever it is doing.
    """
    import numpy as np
    import torch

    threading.Thread(target=_die_with, args=(pipe.fileno(),), daemon=True).start()
    torch.set_num_threads(1)
    np.random.seed()  # noqa: NPY002  # plugins may draw from it; else all forks would draw the same, as no two processes do
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send(answer(pipe.recv()))


def _die_with(pipe: int) -> None:
    """Ends this process and its group as soon as the other end of a pipe is closed."""
    closed = select.poll()
    closed.register(pipe, 0)  # no events: the end of the stream is always told
    closed.poll()
    os.killpg(0, signal.SIGKILL)


def answer(job: Job) -> tuple[bytes | None, str]:
    """Runs a job in this process.

    Returns:
        Its bytes, or None and the reason in one line; the log has the traceback.
    """
    here = os.getpid()
    with _captured(job.log):
        try:
            return (_train(job) if job.kind == "train" else _calibrate(job)), ""
        except MtbenchError as error:
            _print_fault()
            return None, f"{type(error).__name__}: {error}"
        # SystemExit too: a plugin must not end a worker by calling exit().
        except BaseException as error:
            _print_fault()
            return None, describe_fault(error)
        finally:
            if os.getpid() != here:
                os._exit(0)  # a plugin has forked, and lets the copy go on: the answer is the original's to give


def _print_fault() -> None:
    """Puts the traceback at the end of the log: what was printed before may still be in a buffer."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    traceback.print_exc()


def _train(job: Job) -> bytes:
    from mtbench.store.image import encode
    from mtbench.training import Checkpoint, train_stack

    plugins = _plugins(job.plugin_files, job.modules)
    cell = job.trials[0].cell
    method, dataset = plugins.method(cell.method)(), plugins.dataset(cell.dataset)()
    loaded = _loaded(job)
    problems = {split: problem for split, (problem, _) in loaded.items()}
    report = _progress_writer(job.log.with_suffix(".progress"))
    checkpoint = None
    if job.checkpoint is not None:
        checkpoint = Checkpoint(job.checkpoint, job.trials, _code(job, [found for _, found in loaded.values()]))
    result = train_stack(method, problems, job.trials, dataset, _device(), report, job.pretrained, checkpoint)
    first = next(iter(problems.values()))
    tasks = first.tasks
    result.provenance |= {
        **job.provenance,
        "python": platform.python_version(),
        "stack_size": len(job.trials),
        "task_names": [task.name for task in tasks],
        "n_tasks": len(tasks),
        **({} if first.task_weights is None else {"task_weights": first.task_weights.tolist()}),
        CONTENT: {str(split): found.to_record() for split, (_, found) in loaded.items()},
    }
    return encode(result)


def _code(job: Job, content: Sequence[Fingerprint]) -> str:
    """What a half-trained stack must have been trained with for its training to go on."""
    code = [
        str(job.provenance.get(name)) for name in ("mtbench", "method_plugin", "weighting_plugin", "dataset_plugin")
    ]
    code += [str(who) for field, who in sorted(job.provenance.items()) if field.startswith(METRIC_PLUGIN)]
    return json.dumps([*code, *(found.sha256 for found in content)])


def _calibrate(job: Job) -> bytes:
    from mtbench.training.calibrate import calibrate

    plugins = _plugins(job.plugin_files, job.modules)
    cell = job.trials[0].cell
    problems = {split: problem for split, (problem, _) in _loaded(job).items()}
    method, dataset = plugins.method(cell.method)(), plugins.dataset(cell.dataset)()
    return json.dumps(calibrate(method, problems, job.trials, dataset, _device(), job.pretrained)).encode()


def _device() -> str:
    return "cuda:0" if os.environ.get("CUDA_VISIBLE_DEVICES") else "cpu"


def _loaded(job: Job) -> dict[int, tuple[Problem, Fingerprint]]:
    """The problems of a job's splits, which must be those that the run was planned with."""
    dataset, options = job.trials[0].cell.dataset, tuple(sorted(job.options.items()))
    where = (job.root, job.plugin_files, job.modules)
    splits = sorted({trial.split for trial in job.trials})
    return {split: _load(dataset, options, split, *where, job.content.get(split)) for split in splits}


@functools.lru_cache(maxsize=16)
def _load(
    dataset: str,
    options: tuple[tuple[str, Any], ...],
    split: int,
    root: Path,
    plugin_files: tuple[Path, ...],
    modules: tuple[str, ...] | None,
    planned: Fingerprint | None,
) -> tuple[Problem, Fingerprint]:
    from mtbench.plugins.loading import load_as_planned

    found = _plugins(plugin_files, modules).dataset(dataset)()
    return load_as_planned(found, root, split, found.Options(**dict(options)), planned)


@functools.lru_cache(maxsize=1)
def _plugins(files: tuple[Path, ...], modules: tuple[str, ...] | None) -> Plugins:
    from mtbench.plugins.host import load_modules, load_plugins

    return load_plugins(files) if modules is None else load_modules(modules, files)


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
            # A full disk must not cost the stack: its result may still find room.
            with contextlib.suppress(OSError), path.open("a") as file:
                file.write(f"{epoch} {n_active}\n")

    return report


@contextlib.contextmanager
def _captured(path: Path) -> Iterator[None]:
    """Sends what this process and its libraries print to a file for the time of a job."""
    kept = os.dup(1), os.dup(2)
    file = _log(path)
    try:
        _redirect(file, file)
        yield
    finally:
        _redirect(*kept)
        for descriptor in (*kept, file):
            os.close(descriptor)


def _log(path: Path) -> int:
    """The log, opened for appending; where that is not possible, nothing: the job may succeed all the same."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o644)
    except OSError:
        return os.open(os.devnull, flags)


def _redirect(stdout: int, stderr: int) -> None:
    for stream, descriptor, number in ((sys.stdout, stdout, 1), (sys.stderr, stderr, 2)):
        with contextlib.suppress(OSError):
            stream.flush()
        os.dup2(descriptor, number)
