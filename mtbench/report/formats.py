"""The formats a report is printed in for other programs: Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mtbench.printable import one_line
from mtbench.report.escapes import latex, markdown, markdown_sentence
from mtbench.report.leaderboard import Leaderboard, Row, TaskRow
from mtbench.report.tables import NOTHING, Table, tables

RECORD_FIELDS = tuple(
    f.name for f in dataclasses.fields(Row) if f.name not in ("by_split", "higher_is_better", "title")
)
"""Fields of a row that machines are given, in order."""

TASK_FIELDS = tuple(f.name for f in dataclasses.fields(TaskRow) if f.name != "title")
"""The same of a task's row."""


def as_markdown(board: Leaderboard, per_task: bool = False) -> str:
    """Tables in GitHub's Markdown, the best in bold, the warnings at the end."""
    parts = []
    for table in tables(board, per_task):
        rows = [[markdown(cell) for cell in row] for row in (table.header, *table.rows)]
        for i in table.best:
            rows[i + 1] = _bold(rows[i + 1], table.n_bold, lambda cell: f"**{cell.strip()}**")
        rule = ["---"] * table.n_names + ["--:"] * (len(table.header) - table.n_names)
        lines = ["| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:])]
        notes = [f"- {markdown_sentence(note)}" for note in _without_star(table)]
        parts.append("\n".join([f"### {markdown_sentence(table.title)}", "", *lines, "", *notes]))
    if board.warnings:
        parts.append("\n".join(["### Warnings", "", *(f"- {markdown_sentence(w)}" for w in board.warnings)]))
    return "\n\n".join(parts) + "\n"


def as_latex(board: Leaderboard, per_task: bool = False) -> str:
    """One booktabs tabular for each table, the best in bold; titles, notes and warnings as comments."""
    parts = []
    for table in tables(board, per_task):
        rows = [[latex(cell) for cell in row] for row in (table.header, *table.rows)]
        for i in table.best:
            rows[i + 1] = _bold(rows[i + 1], table.n_bold, lambda cell: f"\\textbf{{{cell}}}")
        lines = [" & ".join(row) + r" \\" for row in rows]
        begin = rf"\begin{{tabular}}{{{'l' * table.n_names}{'r' * (len(table.header) - table.n_names)}}}"
        comments = [f"% {one_line(line)}" for line in (table.title, *_without_star(table))]
        parts.append("\n".join([*comments, begin, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]))
        parts[-1] += "\n\\end{tabular}"
    if board.warnings:
        parts.append("\n".join(f"% Warning: {one_line(warning)}" for warning in board.warnings))
    return "\n\n".join(parts) + "\n"


def as_csv(board: Leaderboard, per_task: bool = False) -> str:
    """One line for each method, data set and metric; with `per_task` for each task instead. Empty means unknown."""
    records: Iterable[Mapping[str, Any]]
    if per_task:
        records, names = [_task_record(row) for row in board.per_task], list(TASK_FIELDS)
    else:
        records = [_flat(record(row)) for row in (*board.rows, *board.other_metrics)]
        names = [name for field in RECORD_FIELDS for name in _flat_names(field)]
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_printed, records))
    return out.getvalue()


def as_json(board: Leaderboard, per_task: bool = False) -> str:
    """One object: "leaderboard", "other_metrics", "warnings", and "per_task" if asked for."""
    found: dict[str, Any] = {
        "leaderboard": [record(row) for row in board.rows],
        "other_metrics": [record(row) for row in board.other_metrics],
        "warnings": list(board.warnings),
    }
    if per_task:
        found["per_task"] = [_task_record(row) for row in board.per_task]
    return json.dumps(found, indent=2, allow_nan=False) + "\n"


FORMATS: Mapping[str, Callable[[Leaderboard, bool], str]] = {
    "markdown": as_markdown,
    "latex": as_latex,
    "csv": as_csv,
    "json": as_json,
}
"""All but the terminal's, which depends on the terminal."""


_GAIN = ("baseline", "gain_mean", "gain_ci95")


def record(row: Row) -> dict[str, Any]:
    """A row as plain data, as JSON shows it."""
    found = dataclasses.asdict(row)
    return {name: found[name] for name in RECORD_FIELDS}


def _task_record(row: TaskRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in TASK_FIELDS}


def _flat(found: Mapping[str, Any]) -> dict[str, Any]:
    gain = found["gain"] or {"baseline": None, "mean": None, "ci95": None}
    rest = {name: value for name, value in found.items() if name != "gain"}
    return rest | dict(zip(_GAIN, (gain["baseline"], gain["mean"], gain["ci95"]), strict=True))


def _flat_names(name: str) -> Sequence[str]:
    return _GAIN if name == "gain" else (name,)


def _bold(row: Sequence[str], n: int, mark: Callable[[str], str]) -> list[str]:
    """A row whose first n cells are in bold, where they say something."""
    return [mark(cell) if i < n and cell != NOTHING else cell for i, cell in enumerate(row)]


def _without_star(table: Table) -> list[str]:
    """The notes of a table whose best are in bold."""
    return [note.replace("* the best", "Bold: the best", 1) for note in table.notes]


def _printed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record whose texts are one line each, so that it is one line of CSV; JSON has the texts as they are."""
    return {name: one_line(value) if isinstance(value, str) else value for name, value in record.items()}
