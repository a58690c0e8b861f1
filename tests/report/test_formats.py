import csv
import io
import json

import pytest

from mtbench.contracts.trials import Status
from mtbench.report.formats import as_csv, as_json, as_latex, as_markdown
from mtbench.report.reading import read
from mtbench.report.tables import best_of
from mtbench.report.text import as_text

ROW_KEYS = [
    "method", "dataset", "metric", "mean", "ci95", "n_splits", "n_trials", "n_failed", "selection", "train_seconds",
    "n_parameters", "draws", "refit", "mean_without_refit", "gain", "reason", "search", "weighting",
    "from_predictions",
]  # fmt: skip


@pytest.fixture
def board(results_store, outcome):
    """Three methods on two splits (amtl and nn within noise of each other), one skipped, a second data set."""
    results_store.provenance = {"also_report": ["pooled_rmse"]}
    for method, tests in (("stl", (12, 14)), ("amtl", (10, 12)), ("nn", (10.2, 11.9))):
        cell = results_store.cell(method)
        results_store.write(cell, *[outcome(s, test=(t - 1, t + 1), pooled=t) for s, t in enumerate(tests)])
    results_store.write(results_store.cell("my_net"), outcome(status=Status.SKIPPED, reason="needs 100% binary tasks"))
    results_store.write(results_store.cell("stl", "mnist"), outcome())
    return read(results_store.path, "per_split")[1]


def test_json_has_exactly_the_documented_form(board):
    found = json.loads(as_json(board))
    assert list(found) == ["leaderboard", "other_metrics", "warnings"]
    for row in found["leaderboard"] + found["other_metrics"]:
        assert list(row) == ROW_KEYS
    first = found["leaderboard"][1]
    assert (first["method"], first["dataset"], first["metric"]) == ("amtl", "school", "rmse")
    assert (first["mean"], first["n_splits"], first["n_failed"], first["reason"]) == (11.0, 2, 0, None)
    assert first["gain"] == {"baseline": "stl", "mean": -2.0, "ci95": 0.0}
    assert found["leaderboard"][0]["ci95"] is None
    assert found["leaderboard"][-1]["mean"] is None
    assert found["leaderboard"][-1]["reason"] == "skipped: needs 100% binary tasks"
    assert all(isinstance(warning, str) for warning in found["warnings"])


def test_json_gives_tasks_where_asked(board):
    found = json.loads(as_json(board, per_task=True))["per_task"]
    assert {
        "method": "amtl", "dataset": "school", "metric": "rmse", "task": "b", "mean": 12.0, "n_splits": 2
    } in found  # fmt: skip


def test_csv_has_a_line_for_each_row_and_empty_fields_for_what_is_unknown(board):
    rows = list(csv.DictReader(io.StringIO(as_csv(board))))
    assert len(rows) == len(board.rows) + len(board.other_metrics)
    assert set(rows[0]) == {*ROW_KEYS, "baseline", "gain_mean", "gain_ci95"} - {"gain"}
    skipped = next(row for row in rows if row["method"] == "my_net")
    assert (skipped["mean"], skipped["reason"]) == ("", "skipped: needs 100% binary tasks")


def test_csv_of_tasks_has_a_line_for_each_task(board):
    rows = list(csv.DictReader(io.StringIO(as_csv(board, per_task=True))))
    assert len(rows) == len(board.per_task)
    assert list(rows[0]) == ["method", "dataset", "metric", "task", "mean", "n_splits"]


def test_the_best_shares_its_place_with_what_it_does_not_beat(board):
    school = [row for row in board.rows if row.dataset == "school"]
    assert [row.method for row in school] == ["amtl", "nn", "stl", "my_net"]
    # nn - amtl is 0.2 and -0.1; stl - amtl is 2 on both splits.
    assert best_of(school) == {0, 1}


def test_a_method_without_rivals_is_not_called_best(board):
    assert best_of([row for row in board.rows if row.dataset == "mnist"]) == frozenset()


def test_text_says_selection_draws_and_failures_beside_the_score(board):
    text = as_text(board)
    assert "school: rmse (root mean squared error, mean over tasks; lower is better)" in text
    header = next(line for line in text.splitlines() if "vs stl" in line).split()
    assert header[:2] == ["method", "rmse"]
    assert header[-6:] == ["splits", "draws", "trials", "failed", "s/trial", "parameters"]
    assert "pooled_rmse" in header
    amtl = next(line for line in text.splitlines() if line.startswith(" amtl"))
    assert amtl.split()[:5] == ["amtl", "11.00", "±", "12.71", "*"]
    assert "Selection: per_split" in text
    assert "my_net: no score (skipped: needs 100% binary tasks)." in text
    assert "\x1b" not in text


def test_text_on_a_terminal_is_bold_and_fits_its_width(board, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    text = as_text(board, colour=True, width=200)
    assert "\x1b[1m" in text
    assert "\x1b[3" not in text


def test_refits_are_stated(results_store, outcome):
    cell = results_store.cell()
    results_store.write(cell, outcome(test=3))
    results_store.write(cell, outcome(test=2, epochs=7))
    text = as_text(read(results_store.path, "per_split")[1])
    assert "without refit" in text
    assert "trained again on training and validation rows" in text


def test_units_stand_in_the_header(results_store, outcome):
    results_store.provenance = {"metrics": {"rmse": {"title": "error in %", "higher_is_better": False}}}
    results_store.write(results_store.cell(), outcome())
    assert "rmse [%]" in as_text(read(results_store.path, "per_split")[1])


def test_tables_by_task_have_methods_across(board):
    lines = as_text(board, per_task=True).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("school, by task: rmse"))
    assert lines[at + 2].split() == ["task", "amtl", "nn", "stl"]
    assert lines[at + 4].split() == ["a", "10.00", "10.05", "12.00"]


def test_markdown_marks_the_best_and_holds_the_warnings(board):
    text = as_markdown(board)
    assert "| **amtl** | **11.00 ± 12.71** |" in text
    assert "| stl | 13.00 ± 12.71 |" in text
    assert "### Warnings" in text
    assert "- stl x mnist: one split only, so there is no interval." in text


def test_markdown_and_latex_escape_what_would_break_a_table(results_store, outcome):
    results_store.write(results_store.cell("my_net", options={"noise": "a|b & 5%"}), outcome())
    board = read(results_store.path, "per_split")[1]
    assert "my\\_net" in as_latex(board)
    results_store.tasks = ("x|y", "50%_{a}\\")
    results_store.write(results_store.cell("other"), outcome())
    board = read(results_store.path, "per_split")[1]
    assert "| x\\|y |" in as_markdown(board, per_task=True)
    assert r"50\%\_\{a\}\textbackslash{}" in as_latex(board, per_task=True)


def test_latex_is_a_booktabs_tabular_with_the_best_in_bold(board):
    text = as_latex(board)
    assert r"\textbf{amtl} & \textbf{11.00 $\pm$ 12.71} & $-$2.00 $\pm$ 0.00" in text
    for line in text.splitlines():
        if line and not line.startswith(("%", "\\")):
            assert line.endswith(r"\\"), line
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2


@pytest.fixture
def weighted(results_store, outcome):
    """Hard sharing alone, under two weightings, and a single-task method; a second data set without weightings."""
    for n, method in enumerate(("hard_sharing+uw", "hard_sharing", "hard_sharing+a_b", "stl")):
        results_store.write(results_store.cell(method), *[outcome(s, test=(n + s, n + s + 2)) for s in range(2)])
    results_store.write(results_store.cell("stl", "mnist"), outcome(), outcome(1))
    return read(results_store.path, "per_split")[1]


def lines_of(text, start):
    """The lines of the one table, header and all, that begin as rows of it do."""
    return [line for line in text.splitlines() if line.startswith(start)]


def test_weightings_have_a_column_where_some_row_has_one(weighted):
    rows = [line.split()[:3] for line in lines_of(as_text(weighted), (" method", " hard", " stl"))]
    assert rows == [
        ["method", "rmse", "splits"],
        ["stl", "1.00", "±"],
        ["method", "weighting", "rmse"],
        ["hard_sharing", "uw", "1.50"],
        ["hard_sharing", "-", "2.50"],
        ["hard_sharing", "a_b", "3.50"],
        ["stl", "-", "4.50"],
    ]


def test_markdown_and_latex_set_weightings_flush_left_and_the_best_in_bold(weighted):
    text = as_markdown(weighted)
    assert "| method | weighting | rmse | vs stl |" in text
    assert "| --- | --- | --: | --: |" in text
    assert "| **hard_sharing** | **uw** | **1.50 ± 6.35** | -3.00 ± 0.00 |" in text
    assert "| hard_sharing | - | 2.50 ± 6.35 | -2.00 ± 0.00 |" in text
    text = as_latex(weighted)
    assert r"\begin{tabular}{llrrr" in text
    assert r"\textbf{hard\_sharing} & \textbf{uw} & \textbf{1.50 $\pm$ 6.35}" in text
    assert r"hard\_sharing & a\_b & 3.50" in text


def test_a_best_row_without_a_weighting_has_no_bold_dash(results_store, outcome):
    for n, method in enumerate(("nn", "nn+uw")):
        results_store.write(results_store.cell(method), *[outcome(s, test=n + s) for s in range(2)])
    assert "| **nn** | - | **0.50" in as_markdown(read(results_store.path, "per_split")[1])


def test_a_table_without_weightings_is_what_it_was(results_store, outcome, weighted):
    board = read(results_store.path, "per_split", methods=["hard_sharing", "stl"])[1]
    for write in (as_text, as_markdown, as_latex):
        assert "weighting" not in write(board)


def test_csv_and_json_name_the_weighting_and_the_method_in_full(weighted):
    rows = {(row["method"], row["dataset"]): row["weighting"] for row in json.loads(as_json(weighted))["leaderboard"]}
    assert rows == {
        ("stl", "mnist"): None,
        ("stl", "school"): None,
        ("hard_sharing", "school"): None,
        ("hard_sharing+uw", "school"): "uw",
        ("hard_sharing+a_b", "school"): "a_b",
    }
    lines = csv.DictReader(io.StringIO(as_csv(weighted)))
    assert {(line["method"], line["dataset"]): line["weighting"] or None for line in lines} == rows


def test_tables_by_task_name_methods_in_full(weighted):
    assert "hard_sharing+uw  hard_sharing  hard_sharing+a_b" in as_text(weighted, per_task=True)


def test_an_empty_store_gives_empty_reports(results_store):
    from mtbench.store import Store

    Store.create(results_store.path)
    board = read(results_store.path, "per_split")[1]
    assert json.loads(as_json(board)) == {"leaderboard": [], "other_metrics": [], "warnings": []}
    assert as_text(board).strip() == as_markdown(board).strip() == as_latex(board).strip() == ""
    assert len(as_csv(board).splitlines()) == 1
