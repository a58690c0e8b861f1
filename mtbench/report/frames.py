"""Results as pandas DataFrames: `mtbench.load(DIR)`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtbench.report.entries import Entry
from mtbench.report.formats import RECORD_FIELDS, record
from mtbench.report.reading import read

if TYPE_CHECKING:
    from pandas import DataFrame

_BEFORE_PARAMS = ("id", "method", "dataset", "split", "seed", "phase", "status", "reason")
_AFTER_PARAMS = (
    "best_epoch", "validation", "selected", "train_seconds", "n_parameters", "residual", "tolerance", "device",
    "torch", "file"
)  # fmt: skip
_PER_TASK = ("method", "dataset", "split", "task", "metric", "value")


@dataclass(frozen=True, eq=False)
class Results:
    """The results of a store as pandas frames.

    Test results are of selected trials only: nobody can pick a setting by them.

    Attributes:
        trials: One row per trial: id, method, dataset, split, seed, phase, status, reason, a column "param.<name>"
            for each hyperparameter, best_epoch, validation (headline of the selection metric, NaN unless the trial
            finished, and of refits), selected, train_seconds, n_parameters (NaN where the method does not know),
            residual and tolerance (how far from optimal its solver ended, and where it calls a problem solved; NaN
            where it does not say), device, torch, file.
        per_task: Test results of the selected trials: method, dataset, split, task, metric, value (mean over seeds).
        leaderboard: The rows of `mtbench report`, by the data sets' report metrics.
        other_metrics: As `leaderboard`, by the data sets' further metrics (`also_report`).
        warnings: Cautions that `mtbench report` prints, such as failed trials or values selected at an edge.
    """

    trials: DataFrame
    per_task: DataFrame
    leaderboard: DataFrame
    other_metrics: DataFrame
    warnings: tuple[str, ...]


def load(directory: str | Path, select: str | None = None, baseline: str | None = None) -> Results:
    """Reads a results store into pandas frames.

    Args:
        directory: The store.
        select: Name of the selection rule, "per_split" or "across_splits"; None for the one that the store's runs
            name, "per_split" where they do not agree.
        baseline: The method that gains are measured against; None for the data set's single-task method.

    Returns:
        The frames `trials`, `per_task`, `leaderboard` and `other_metrics`, and the warnings.

    Raises:
        StoreError: There is no store, or it is of another format version.
        UnknownName: There is no such rule or method.
    """
    # Imported here: `mtbench report` does without pandas, which takes longer to import than a store to read.
    import pandas as pd

    entries, board = read(Path(directory), select, baseline=baseline)
    rows = [row for entry in entries for row in _trials(entry)]
    params = dict.fromkeys(name for row in rows for name in row if name.startswith("param."))
    trials = pd.DataFrame(rows, columns=[*_BEFORE_PARAMS, *params, *_AFTER_PARAMS])
    per_task = pd.DataFrame([row for entry in entries for row in _per_task(entry)], columns=_PER_TASK)
    boards = [[record(row) for row in part] for part in (board.rows, board.other_metrics)]
    leaderboard, others = (pd.DataFrame(records, columns=RECORD_FIELDS) for records in boards)
    return Results(trials, per_task, leaderboard, others, board.warnings)


def _per_task(entry: Entry) -> list[tuple[Any, ...]]:
    return [
        (entry.method, entry.dataset, split, task, metric, value)
        for metric in entry.cell.task_metrics
        for (split, task), value in entry.selected.by_task(metric).items()
    ]


def _trials(entry: Entry) -> list[dict[str, Any]]:
    selected = {id(trial) for trial in (*entry.selected.searched, *entry.selected.final)}
    return [
        {
            "id": trial.candidate.id,
            "method": entry.method,
            "dataset": entry.dataset,
            "split": trial.candidate.split,
            "seed": trial.candidate.seed,
            "phase": trial.phase,
            "status": str(trial.status),
            "reason": trial.reason,
            **{f"param.{name}": value for name, value in trial.candidate.setting},
            "best_epoch": trial.candidate.best_epoch,
            "validation": trial.candidate.validation,
            "selected": id(trial) in selected,
            "train_seconds": trial.train_seconds,
            "n_parameters": math.nan if trial.n_parameters is None else trial.n_parameters,
            "residual": trial.residual,
            "tolerance": trial.tolerance,
            "device": trial.stack.provenance.get("device"),
            "torch": trial.stack.provenance.get("torch"),
            "file": trial.stack.path.name,
        }
        for trial in entry.cell.trials
    ]
