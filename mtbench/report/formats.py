"""The formats a report is printed in: text for terminals, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mtbench.report.leaderboard import Leaderboard, Row
from mtbench.report.tables import Table, leaderboard_tables, per_task_tables

RECORD_FIELDS = tuple(
    f.name for f in dataclasses.fields(Row) if f.name not in ("by_split", "higher_is_better", "title")
)
"""Fields of a row that machines are given, in order."""


def as_text(board: Leaderboard, per_task: bool = False, colour: bool = False, width: int | None = None) -> str:
    """Tables for a terminal.

    Args:
        board: What to print.
        per_task: Also print a table by task for each data set.
        colour: Set the best in bold.
        width: Columns of the terminal; None never wraps.
    """
    # Imported here: the other formats do without.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    out = io.StringIO()
    console = Console(
        file=out, width=width or 100_000, force_terminal=colour, no_color=not colour, highlight=False, markup=False
    )
    for table in _tables(board, per_task):
        console.print(Text(table.title, style="bold"), soft_wrap=True)
        grid = RichTable(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for i, name in enumerate(table.header):
            grid.add_column(name, justify="right" if i else "left")
        for i, row in enumerate(_starred(table, " *", "  ")):
            grid.add_row(*map(Text, row), style="bold" if i in table.best else None)
        console.print(grid)
        console.print("\n".join(table.notes) + "\n", soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).rstrip("\n") + "\n"


def as_markdown(board: Leaderboard, per_task: bool = False) -> str:
    """Tables in GitHub's Markdown, the best in bold, the warnings at the end."""
    parts = []
    for table in _tables(board, per_task):
        rows = [[cell.replace("|", "\\|") for cell in row] for row in (table.header, *table.rows)]
        for i in table.best:
            rows[i + 1][:2] = [f"**{cell}**" for cell in rows[i + 1][:2]]
        rule = ["---", *["--:"] * (len(table.header) - 1)]
        lines = ["| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:])]
        notes = [note.replace("* the best", "Bold: the best", 1) for note in table.notes]
        parts.append("\n".join([f"### {table.title}", "", *lines, "", *(f"- {note}" for note in notes)]))
    if board.warnings:
        parts.append("\n".join(["### Warnings", "", *(f"- {warning}" for warning in board.warnings)]))
    return "\n\n".join(parts) + "\n"


def as_latex(board: Leaderboard, per_task: bool = False) -> str:
    """One booktabs tabular for each table, the best in bold; titles, notes and warnings as comments."""
    parts = []
    for table in _tables(board, per_task):
        rows = [[_latex(cell) for cell in row] for row in (table.header, *table.rows)]
        for i in table.best:
            rows[i + 1][:2] = [f"\\textbf{{{cell}}}" for cell in rows[i + 1][:2]]
        lines = [" & ".join(row) + r" \\" for row in rows]
        notes = [note.replace("* the best", "Bold: the best", 1) for note in table.notes]
        begin = rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}"
        comments = [f"% {line}" for line in (table.title, *notes)]
        parts.append("\n".join([*comments, begin, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]))
        parts[-1] += "\n\\end{tabular}"
    if board.warnings:
        parts.append("\n".join(f"% Warning: {warning}" for warning in board.warnings))
    return "\n\n".join(parts) + "\n"


def as_csv(board: Leaderboard, per_task: bool = False) -> str:
    """One line for each method, data set and metric; with `per_task` for each task instead. Empty means unknown."""
    records: Iterable[Mapping[str, Any]]
    if per_task:
        records = [dataclasses.asdict(row) for row in board.per_task]
        names = ["method", "dataset", "metric", "task", "mean", "n_splits"]
    else:
        records = [_flat(record(row)) for row in (*board.rows, *board.other_metrics)]
        names = [name for field in RECORD_FIELDS for name in _flat_names(field)]
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def as_json(board: Leaderboard, per_task: bool = False) -> str:
    """One object: "leaderboard", "other_metrics", "warnings", and "per_task" if asked for."""
    found: dict[str, Any] = {
        "leaderboard": [record(row) for row in board.rows],
        "other_metrics": [record(row) for row in board.other_metrics],
        "warnings": list(board.warnings),
    }
    if per_task:
        found["per_task"] = [dataclasses.asdict(row) for row in board.per_task]
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


def _flat(found: Mapping[str, Any]) -> dict[str, Any]:
    gain = found["gain"] or {"baseline": None, "mean": None, "ci95": None}
    rest = {name: value for name, value in found.items() if name != "gain"}
    return rest | dict(zip(_GAIN, (gain["baseline"], gain["mean"], gain["ci95"]), strict=True))


def _flat_names(name: str) -> Sequence[str]:
    return _GAIN if name == "gain" else (name,)


def _tables(board: Leaderboard, per_task: bool) -> list[Table]:
    return leaderboard_tables(board) + (per_task_tables(board) if per_task else [])


def _starred(table: Table, star: str, blank: str) -> list[list[str]]:
    """The rows, with a mark behind the best scores; all scores stay aligned."""
    if not table.best:
        return [list(row) for row in table.rows]
    return [[row[0], row[1] + (star if i in table.best else blank), *row[2:]] for i, row in enumerate(table.rows)]


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}


def _latex(text: str) -> str:
    escaped = re.sub(r"[\\~^±&%$#_{}]", lambda found: _LATEX.get(found[0], "\\" + found[0]), text)
    return re.sub(r"^([+-])(?=\d)", r"$\1$", escaped)
