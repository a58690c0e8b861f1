"""Which metrics are read on which part of a data set's problems, and whether they can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtbench.contracts.dataset import Dataset
from mtbench.errors import DataError
from mtbench.metrics import MIXED, Metric, metric, named_metric
from mtbench.tasks import Problem, Task, TaskKind


@dataclass(frozen=True)
class Scoring:
    """What a data set's problems are scored by.

    Attributes:
        selection: Name of the metric that chooses epochs and settings, on the validation part.
        report: The headline on the test part, "name" or "name@part".
        also_report: Further metrics, likewise.
        by_kind: Where tasks are of several kinds, the metric of each; only values per task are read of it.
    """

    selection: str
    report: str
    also_report: tuple[str, ...]
    by_kind: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        """All metrics, each once, without the parts that they are read on."""
        named = (self.selection, self.report, *self.also_report, *self.by_kind.values())
        return list(dict.fromkeys(name.partition("@")[0] for name in named))


def scoring_of(dataset: Dataset, tasks: Sequence[Task]) -> Scoring:
    """What problems with these tasks are scored by.

    Raises:
        DataError: The data set names metrics by kind, and none for a kind that is there.
    """
    by_kind, kinds = dict(dataset.metric_by_kind), dict.fromkeys(task.kind for task in tasks)
    lacking = [kind for kind in kinds if by_kind and kind not in by_kind]
    if lacking:
        raise DataError(
            f"{dataset.name}: metric_by_kind must name a metric for each kind of task; found none for {lacking[0]}."
        )
    single = by_kind[next(iter(kinds))] if by_kind and len(kinds) == 1 else MIXED
    of_kinds = {str(kind): by_kind[kind] for kind in kinds} if by_kind and len(kinds) > 1 else {}
    return Scoring(
        dataset.selection_metric or single, dataset.report_metric or single, tuple(dataset.also_report), of_kinds
    )


def metrics_named(dataset: Dataset | type[Dataset]) -> list[str]:
    """The metrics that a data set names, each once, without the parts that they are read on."""
    named = (dataset.selection_metric, dataset.report_metric, *dataset.also_report, *dataset.metric_by_kind.values())
    return list(dict.fromkeys(name.partition("@")[0] for name in named if name))


def metrics_by_part(dataset: Dataset, problem: Problem) -> Mapping[str, list[Metric]]:
    """Which metrics are computed on which part of a data set's problems.

    Raises:
        DataError: A metric is reported on a part that does not exist, or has no values per task where it is named for a
            kind of task.
    """
    scoring = scoring_of(dataset, problem.tasks)
    wanted: dict[str, dict[str, Metric]] = {"validation": {scoring.selection: metric(scoring.selection)}}
    for name in (scoring.report, scoring.selection, *scoring.also_report):
        found, part = named_metric(name)
        for where in {"validation", part} if part == "test" else {part}:
            wanted.setdefault(where, {}).setdefault(found.name, found)
    for name in dict.fromkeys(scoring.by_kind.values()):
        found = metric(name)
        if not found.per_task:
            raise DataError(
                f"{dataset.name}: metric_by_kind must name metrics that have values per task; '{name}' has none."
            )
        kinds = {TaskKind(kind) for kind, named in scoring.by_kind.items() if named == name}
        wanted["test"].setdefault(name, found.among(kinds))
    for part, metrics in wanted.items():
        if part not in problem.parts:
            raise DataError(
                f"{dataset.name}, split {problem.split}: it reports '{next(iter(metrics))}@{part}', but its problem "
                f"has no part {part!r}; it has {', '.join(map(repr, problem.parts))}."
            )
    return {part: list(metrics.values()) for part, metrics in wanted.items()}


def check_scoring(dataset: Dataset, problem: Problem) -> None:
    """Makes sure that methods can be trained and selected on a problem, and that its metrics mean something there.

    Raises:
        DataError: They cannot, or do not.
        UnknownName: There is no such metric.
    """
    for part, metrics in metrics_by_part(dataset, problem).items():
        for measure in metrics:
            measure.check(problem, problem.parts[part])
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
