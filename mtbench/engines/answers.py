"""Whether bytes are an answer to a job: the one check that every engine's answers pass, before anything is kept."""

from __future__ import annotations

import json

from mtbench.contracts.engine import Job
from mtbench.contracts.trials import CONTENT, StackResult
from mtbench.errors import StoreError
from mtbench.store.image import verify_image
from mtbench.tasks.fingerprint import Fingerprint


def fault_of(job: Job, answer: object) -> str:
    """Why bytes are no answer to a job, as the end of a sentence about who gave them; "" if they are one."""
    if not isinstance(answer, bytes):
        return f"gave something that is no bytes: {type(answer).__name__}."
    try:
        if job.kind == "train":
            return _fault_of_result(job, verify_image(answer))
        facts = json.loads(answer)
        good = isinstance(facts, dict) and int(facts["stack_size"]) > 0
    except (StoreError, ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        return f"gave bytes that are no answer to its job: {error}"
    return "" if good else "gave the answer to another job."


def _fault_of_result(job: Job, result: StackResult) -> str:
    if [trial.id for trial in result.trials] != [trial.id for trial in job.trials]:
        return "gave the answer to another job."
    known = result.provenance.get(CONTENT)
    for split, planned in job.content.items():
        found = Fingerprint.from_record(known.get(str(split))) if isinstance(known, dict) else None
        if found is not None and not found.is_like(planned):
            return f"gave a result of other data than the run was planned with, in split {split}."
    return ""
