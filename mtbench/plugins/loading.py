"""The one place where splits of data sets are loaded: for planning, for workers, for tests and benchmarks.

Whatever a plugin's `load` does, it gives a problem or one line that says what went wrong, and where.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mtbench.contracts.dataset import Dataset
from mtbench.errors import DataError, MtbenchError
from mtbench.plugins.sources import describe_fault
from mtbench.tasks import Problem
from mtbench.tasks.fingerprint import Fingerprint, fingerprint


def load_split(dataset: Dataset, root: Path, split: int, options: Any, logs: Path | None = None) -> Problem:
    """One split of a data set.

    Args:
        dataset: The data set.
        root: The data root.
        split: Which split.
        options: An instance of the data set's `Options`.
        logs: Folder that takes the traceback where `load` fails; None for none, where the caller keeps it.

    Raises:
        DataError: `load` raised something, or gave no problem.
    """
    try:
        problem = dataset.load(root, split, options)
    except MtbenchError:
        raise
    # SystemExit too: a plugin must not end a run by calling exit().
    except (Exception, SystemExit) as error:
        where = _module_file(dataset)
        kept = _keep_traceback(error, logs, dataset.name)
        raise DataError(
            f"{dataset.name}, split {split}: its `load` failed: {describe_fault(error, where)}.{kept}"
        ) from error
    if not isinstance(problem, Problem):
        raise DataError(
            f"{dataset.name}, split {split}: `load` must return a Problem; found {type(problem).__name__} "
            f"({_module_file(dataset)})."
        )
    return problem


def load_as_planned(
    dataset: Dataset, root: Path, split: int, options: Any, planned: Fingerprint | None
) -> tuple[Problem, Fingerprint]:
    """One split of a data set, which must be what it was when the run was planned, but for rounding.

    Args:
        dataset: The data set.
        root: The data root.
        split: Which split.
        options: An instance of the data set's `Options`.
        planned: What it was; None where nobody knows.

    Returns:
        The problem, and its fingerprint.

    Raises:
        DataError: `load` failed, or gives something else.
    """
    problem = load_split(dataset, root, split, options)
    found = fingerprint(problem)
    if planned is not None and not found.is_like(planned):
        raise DataError(
            f"{dataset.name}, split {split}: `load` must give the same each time, and now gives something else than "
            f"when the run was planned. Draw from np.random.default_rng(seed_from(...)), and change no file that it "
            f"reads while a run goes on ({_module_file(dataset)})."
        )
    return problem, found


def content_splits(dataset: Dataset, wanted: Iterable[int]) -> list[int]:
    """The splits to load for a run that wants some: where their content is the data's identity, also those it is of."""
    identity = range(_n_identity(dataset)) if is_known_by_content(dataset) else ()
    return sorted({*wanted, *identity})


def content_hash(dataset: Dataset, root: Path, options: Any, found: Mapping[int, Fingerprint]) -> str:
    """What stands for the data in trial identities.

    Args:
        dataset: The data set.
        root: The data root.
        options: An instance of the data set's `Options`.
        found: By split, the fingerprints of what was loaded, `content_splits` at least.
    """
    if not is_known_by_content(dataset):
        return dataset.content_hash(root, options)
    # Of as many splits as a run takes unless told otherwise, whatever this one takes: a split more is no other data.
    digests = [found[split].sha256 for split in range(_n_identity(dataset))]
    return hashlib.sha256(json.dumps([dataset.name, dataset.version, digests]).encode()).hexdigest()


def is_known_by_content(dataset: Dataset) -> bool:
    """Whether nothing but what `load` gives tells one state of the data from another."""
    declared = dataset.sources or dataset.self_contained or type(dataset).content_hash is not Dataset.content_hash
    return not declared


def _n_identity(dataset: Dataset) -> int:
    return 1 if dataset.splits_share_rows else min(dataset.default_splits, dataset.n_splits)


def _module_file(dataset: Dataset) -> str:
    """The file that a data set's `load` is in."""
    code = getattr(inspect.unwrap(type(dataset).load), "__code__", None)
    return str(code.co_filename) if code is not None else type(dataset).__module__


def _keep_traceback(error: BaseException, logs: Path | None, name: str) -> str:
    """Writes a traceback to a log, and says where it is."""
    if logs is None:
        return ""
    path = logs / f"load-{name}.log"
    with contextlib.suppress(OSError):
        logs.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)))
        return f" The traceback is in {path}."
    return ""
