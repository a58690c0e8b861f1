"""A job in this very process: what every engine calls in the end, wherever it has taken the job."""

from __future__ import annotations

from mtbench.engines.base import Job, JobFailed
from mtbench.engines.process import tail
from mtbench.engines.worker import answer
from mtbench.trials import Status


def run_job(job: Job) -> bytes:
    """Does a job in this process, which should be doing nothing else: what it prints meanwhile goes to the job's log.

    Where `CUDA_VISIBLE_DEVICES` names a GPU that one is used, else the CPU. Problems and plugins stay loaded for the
    jobs that follow.

    Args:
        job: The work.

    Returns:
        Its bytes: see `Job.kind`.

    Raises:
        JobFailed: It failed, with the reason in one line and the last lines of the log.
    """
    image, reason = answer(job)
    if image is None:
        raise JobFailed(Status.FAILED, reason, tail(job.log))
    return image
