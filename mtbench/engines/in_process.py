"""A job in this very process: what every engine calls in the end, wherever it has taken the job.

`python -m mtbench.engines.in_process` takes one pickled job from standard input and answers on standard output, with
its pickled bytes or a pickled `JobFailed`. It ends as soon as its standard input does, whatever it is doing: who
started it need only be gone.
"""

from __future__ import annotations

import os
import pickle
import threading
from typing import BinaryIO

from mtbench.contracts.engine import Job, JobFailed
from mtbench.contracts.trials import Status
from mtbench.engines.workers.process import tail
from mtbench.engines.workers.worker import answer


def run_job(job: Job) -> bytes:
    """Does a job in this process, which should do nothing else: what it prints meanwhile goes to the job's log.

    Where `CUDA_VISIBLE_DEVICES` names a GPU that one is used, else the CPU. Problems and plugins stay loaded for the
    jobs that follow.

    Args:
        job: The work.

    Returns:
        The job's answer as bytes, of the form that `Job.kind` says.

    Raises:
        JobFailed: It failed, with the reason in one line and the last lines of the log.
    """
    image, reason = answer(job)
    if image is None:
        raise JobFailed(Status.FAILED, reason, tail(job.log))
    return image


def main() -> None:
    """Does the job that comes through standard input."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what plugins print is no answer
    job: Job = pickle.load(questions)
    threading.Thread(target=_end_with, args=(questions,), daemon=True).start()
    import torch

    torch.set_num_threads(1)
    try:
        answer: bytes | JobFailed = run_job(job)
    except JobFailed as error:
        answer = error
    answers.write(pickle.dumps(answer))
    answers.close()


def _end_with(stream: BinaryIO) -> None:
    """Ends this process when a stream does."""
    stream.read()
    os._exit(1)


if __name__ == "__main__":
    main()
