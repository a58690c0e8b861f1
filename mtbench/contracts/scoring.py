"""Which metrics are read on which part of a data set's problems, and whether they can be."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtbench.contracts.dataset import Dataset
from mtbench.errors import DataError
from mtbench.metrics import metric, named_metric
from mtbench.tasks import Problem


def metrics_named(dataset: Dataset | type[Dataset]) -> list[str]:
    """The metrics that a data set names, each once, without the parts that they are read on."""
    named = (dataset.selection_metric, dataset.report_metric, *dataset.also_report)
    return list(dict.fromkeys(name.partition("@")[0] for name in named))


def metrics_by_part(dataset: Dataset, problem: Problem) -> Mapping[str, list[str]]:
    """Which metrics are computed on which part of a data set's problems.

    Raises:
        DataError: A metric is reported on a part that does not exist.
    """
    wanted: dict[str, list[str]] = {"validation": [dataset.selection_metric]}
    for name in (dataset.report_metric, dataset.selection_metric, *dataset.also_report):
        found, part = named_metric(name)
        for where in {"validation", part} if part == "test" else {part}:
            names = wanted.setdefault(where, [])
            if found.name not in names:
                names.append(found.name)
    for part in wanted:
        if part not in problem.parts:
            raise DataError(
                f"{dataset.name}, split {problem.split}: it reports '{wanted[part][0]}@{part}', but its problem has no "
                f"part {part!r}; it has {', '.join(map(repr, problem.parts))}."
            )
    return wanted


def check_scoring(dataset: Dataset, problem: Problem) -> None:
    """Makes sure that methods can be trained and selected on a problem, and that its metrics mean something there.

    Raises:
        DataError: They cannot, or do not.
        UnknownName: There is no such metric.
    """
    for part, names in metrics_by_part(dataset, problem).items():
        for name in names:
            metric(name).check(problem, problem.parts[part])
    for part, purpose in (("train", "learned"), ("validation", "selected")):
        if np.isnan(problem.parts[part].labels).all():
            raise DataError(
                f"{dataset.name}, split {problem.split}, part {part!r}: a part must have labels, or nothing can be "
                f"{purpose}; all of them are NaN."
            )
    if not (problem.task_sizes("train") * problem.task_sizes("validation")).any():
        raise DataError(
            f"{dataset.name}, split {problem.split}: a task must have labels in 'train' and in 'validation', or "
            "nothing can be selected; each has them in one of the two at most."
        )
