"""Leaderboards laid out for people: which columns a table has, what its cells say, and what is in bold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mtbench.report.intervals import paired
from mtbench.report.leaderboard import Leaderboard, Row, TaskRow
from mtbench.report.searches import ADAPTIVE

NOTHING = "-"

Estimate = tuple[float, float | None]
"""A mean and the half-width of its interval."""


@dataclass(frozen=True)
class Table:
    """A table before it is given a format.

    Attributes:
        title: The data set, and what is measured.
        header: Names of the columns.
        rows: Texts, one for each column: names, set flush left, then what is set flush right, a score first.
        best: Rows that share the first place.
        notes: How to read it, a sentence each.
        least: Columns that narrow terminals leave out, by index, the least important first; the others always stay.
        n_names: Columns of names.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[int]
    notes: tuple[str, ...]
    least: tuple[int, ...] = ()
    n_names: int = 1

    @property
    def n_bold(self) -> int:
        """Columns in bold in the best rows: the names, and the score."""
        return self.n_names + 1


_LEAST = ("parameters", "s/trial", "trials")
"""Columns a narrow table does without first; further metrics and whether refits helped follow, then `_LAST`."""

_LAST = ("splits", "search", "draws", "failed")
"""These say how far a score can be believed; only the gain is kept longer."""


def tables(board: Leaderboard, per_task: bool = False) -> list[Table]:
    """All tables of a leaderboard, those by task last."""
    return leaderboard_tables(board) + (per_task_tables(board) if per_task else [])


def leaderboard_tables(board: Leaderboard) -> list[Table]:
    """One table for each data set: a row for each method, the best first."""
    return [
        _leaderboard_table(rows, [r for r in board.other_metrics if r.dataset == dataset])
        for dataset, rows in _by_dataset(board.rows)
    ]


def per_task_tables(board: Leaderboard) -> list[Table]:
    """One table for each data set and metric that has values per task: tasks down, methods across."""
    tables = []
    for dataset, rows in _by_dataset(board.rows):
        methods = [row.method for row in rows]
        of_dataset = [row for row in board.per_task if row.dataset == dataset]
        for metric in dict.fromkeys(row.metric for row in of_dataset):
            found = [row for row in of_dataset if row.metric == metric]
            title = found[0].title.replace(", mean over tasks", "", 1)
            tables.append(_per_task_table(f"{dataset}, by task: {metric} ({title})", methods, found))
    return tables


def best_of(rows: Sequence[Row]) -> frozenset[int]:
    """Indices of the best row and of all whose paired 95 % interval to it covers 0; none where nothing competes."""
    scored = {i: row.mean if row.higher_is_better else -row.mean for i, row in enumerate(rows) if row.mean is not None}
    if len(scored) < 2:
        return frozenset()
    best = max(scored, key=lambda i: (scored[i], -i))
    return frozenset(i for i in scored if i == best or _ties(rows[i], rows[best]))


def _ties(row: Row, best: Row) -> bool:
    difference = paired(row.by_split, best.by_split)
    if difference is None or difference[1] is None:
        return row.mean == best.mean
    return abs(difference[0]) <= difference[1]


def _by_dataset(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.dataset, []).append(row)
    return list(groups.items())


def _leaderboard_table(rows: Sequence[Row], others: Sequence[Row]) -> Table:
    """Columns that would be empty for all rows are left out."""
    lead = rows[0]
    scores = [_estimate(row.mean, row.ci95) for row in rows]
    decimals = _decimals(scores)
    columns = _names(rows)
    n_names = len(columns)
    columns[_header(lead)] = _scores(rows, _texts(scores, decimals))
    gains = [(row.gain.mean, row.gain.ci95) if row.gain else None for row in rows]
    baseline = next((row.gain.baseline for row in rows if row.gain), None)
    if baseline:
        columns[f"vs {baseline}"] = _texts(gains, decimals, "+")
    refit = any(row.refit for row in rows)
    if refit:
        columns["without refit"] = _texts([_estimate(row.mean_without_refit) for row in rows], decimals)
    for metric in dict.fromkeys(row.metric for row in others):
        by_method = {row.method: row for row in others if row.metric == metric}
        matching = [by_method.get(row.method) for row in rows]
        named = next(row for row in matching if row)
        values = [_estimate(row.mean, row.ci95) if row else None for row in matching]
        columns[_header(named)] = _texts(values, _decimals(values))
    columns["splits"] = [str(row.n_splits) for row in rows]
    if _adaptive(rows):
        columns["search"] = [row.search or NOTHING for row in rows]
    columns |= {
        "draws": [str(row.draws) for row in rows],
        "trials": [str(row.n_trials) for row in rows],
        "failed": [str(row.n_failed) for row in rows],
        "s/trial": [_short(row.train_seconds) for row in rows],
        "parameters": [NOTHING if row.n_parameters is None else str(row.n_parameters) for row in rows],
    }
    best = best_of(rows)
    direction = "higher" if lead.higher_is_better else "lower"
    return Table(
        f"{lead.dataset}: {lead.metric} ({lead.title}; {direction} is better)",
        tuple(columns),
        tuple(zip(*columns.values(), strict=True)),
        best,
        tuple(_notes(rows, others, refit, bool(best))),
        _least_first(tuple(columns), n_names, f"vs {baseline}"),
        n_names,
    )


def _names(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The columns of names: methods and, where some row has one, weightings."""
    if all(row.weighting is None for row in rows):
        return {"method": [row.method for row in rows]}
    return {"method": [row.method_alone for row in rows], "weighting": [row.weighting or NOTHING for row in rows]}


def _least_first(columns: Sequence[str], n_names: int, gain: str) -> tuple[int, ...]:
    """Columns beside names and score, in the order in which narrow terminals leave them out."""
    rest = [name for name in columns[n_names + 1 :] if name not in (*_LEAST, *_LAST, gain)]
    order = [*_LEAST, *reversed(rest), *_LAST, gain]
    return tuple(columns.index(name) for name in order if name in columns)


def _adaptive(rows: Sequence[Row]) -> list[str]:
    """The kinds of searches among those of the rows in which results decide what is trained next."""
    return [kind for kind in ADAPTIVE if any(f"{kind}:" in row.search for row in rows)]


def _notes(rows: Sequence[Row], others: Sequence[Row], refit: bool, has_best: bool) -> list[str]:
    notes = [
        f"Mean over splits of the selected trials' test results, ± half of the 95 % interval. Selection: "
        f"{rows[0].selection}, by validation results alone."
    ]
    if refit:
        notes.append("Scores are of refits: the selected setting trained again on training and validation rows.")
    if "halving" in _adaptive(rows):
        notes.append(
            "halving:N: draws are the settings that began; the worse half left at each rung, so that epochs were the "
            "stated share of N full trainings. A method without epochs trains as many settings in full."
        )
    if has_best:
        notes.append("* the best, and all whose paired 95 % interval to the best covers 0.")
    notes += [f"{metric}: {title}." for metric, title in dict.fromkeys((r.metric, r.title) for r in others)]
    if computed := ", ".join(dict.fromkeys(r.metric for r in others if r.from_predictions)):
        notes.append(
            f"{computed}: no part in the selection; computed for this report from the selected trials' predictions."
        )
    notes += [f"{row.method}: no score ({row.reason})." for row in rows if row.reason]
    return notes


def _per_task_table(title: str, methods: Sequence[str], found: Sequence[TaskRow]) -> Table:
    value = {(row.task, row.method): row.mean for row in found}
    tasks = list(dict.fromkeys(row.task for row in found))
    present = [m for m in methods if any((task, m) in value for task in tasks)]
    means = [[_estimate(value.get((task, m))) for task in tasks] for m in present]
    decimals = _decimals(mean for column in means for mean in column)
    rows = tuple(zip(tasks, *(_texts(column, decimals) for column in means), strict=True))
    notes = ("Mean over splits of the selected trials' test results.",)
    # Methods stand in the order of the leaderboard, so the last are the least.
    return Table(title, ("task", *present), rows, frozenset(), notes, tuple(range(len(present), 1, -1)))


def _header(row: Row) -> str:
    return f"{row.metric} [%]" if "%" in row.title else row.metric


def _scores(rows: Sequence[Row], texts: Sequence[str]) -> list[str]:
    """The headline column: words where there is no number."""
    nothing = ["skipped" if (row.reason or "").startswith("skipped") else "no score" for row in rows]
    return [word if row.mean is None else text for row, text, word in zip(rows, texts, nothing, strict=True)]


def _estimate(mean: float | None, ci95: float | None = None) -> Estimate | None:
    return None if mean is None else (mean, ci95)


def _decimals(values: Iterable[Estimate | None]) -> int:
    """Enough for the smallest half-width, and for three digits of the smallest mean."""
    known = [value for value in values if value is not None]
    # Half-widths that are nothing but rounding are left out.
    scale = [ci95 for mean, ci95 in known if ci95 and ci95 > 1e-6 * abs(mean)]
    scale = scale or [abs(mean) / 100 for mean, _ in known if mean]
    return min(6, max(2, *(math.ceil(-math.log10(s)) for s in scale))) if scale else 2


def _texts(values: Sequence[Estimate | None], decimals: int, sign: str = "") -> list[str]:
    """Means with their half-widths."""
    return [
        NOTHING
        if value is None
        else f"{value[0]:{sign}z.{decimals}f}" + (f" ± {value[1]:.{decimals}f}" if value[1] is not None else "")
        for value in values
    ]


def _short(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{seconds:.3g}"
