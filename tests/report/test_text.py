"""Leaderboards in terminals: what narrow ones leave out, and that they say so."""

import json

import pytest
from rich.cells import cell_len

from mtbench.report.formats import as_csv, as_json
from mtbench.report.narrow import columns_that_fit, shortened, wrapped
from mtbench.report.reading import read
from mtbench.report.text import as_text


@pytest.fixture
def board(results_store, outcome):
    results_store.provenance = {"also_report": ["pooled_rmse"]}
    for n, method in enumerate(("stl", "amtl", "nn", "deep_amtfl", "cross_stitch", "hard_sharing", "taan_distance")):
        cell = results_store.cell(method)
        outcomes = [outcome(s, test=(20 + n + s, 21 + n), pooled=n + s, n_parameters=10**7) for s in range(3)]
        results_store.write(cell, *outcomes)
    return read(results_store.path, "per_split")[1]


def table_of(text):
    """Header, and first row."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(" method"))
    return lines[at], lines[at + 2]


def test_without_a_width_nothing_is_left_out(board):
    text = as_text(board)
    assert "pooled_rmse" in table_of(text)[0]
    assert "Left out" not in text
    assert as_text(board, width=200).split() == text.split()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_a_narrow_terminal_shows_fewer_columns_and_whole_words(board, width):
    full, text = as_text(board, per_task=True), as_text(board, per_task=True, width=width)
    assert max(map(cell_len, text.splitlines())) <= width
    known = set(full.split())
    note = text[text.index("Left out") :].split() if "Left out" in text else []
    assert [word for word in text.split() if word not in known and word not in note and set(word) != {"─"}] == []
    assert table_of(text)[1].split()[:2] == ["stl", "21.00"]


@pytest.mark.parametrize("width", [48, 60, 80, 120])
def test_a_narrow_terminal_keeps_methods_weightings_and_scores(results_store, outcome, width):
    for n, method in enumerate(("stl", "hard_sharing", "hard_sharing+uw", "hard_sharing+aligned_mtl")):
        results_store.write(results_store.cell(method), *[outcome(s, test=20 + n + s) for s in range(3)])
    text = as_text(read(results_store.path, "per_split")[1], width=width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert table_of(text)[0].split()[:3] == ["method", "weighting", "rmse"]
    assert [line.split()[:2] for line in text.splitlines() if line.startswith(" hard")] == [
        ["hard_sharing", "-"],
        ["hard_sharing", "uw"],
        ["hard_sharing", "aligned_mtl"],
    ]


def test_what_is_left_out_is_named_with_the_way_to_see_it(board):
    text = " ".join(as_text(board, width=80).split())
    assert "Left out for want of width: the columns pooled_rmse, trials, s/trial, parameters. A wider " in text
    assert "terminal, `| less -S` or --format csv shows all." in text


def test_the_gain_and_the_failures_stay_longest(board):
    header = table_of(as_text(board, width=60))[0].split()
    assert header == ["method", "rmse", "vs", "stl", "draws", "failed"]
    assert table_of(as_text(board, width=48))[0].split() == ["method", "rmse", "vs", "stl"]
    assert table_of(as_text(board, width=10))[0].split() == ["method", "rmse"]


def test_by_task_the_methods_that_did_worst_go_first(board):
    lines = as_text(board, per_task=True, width=40).splitlines()
    header = next(line for line in lines if line.startswith(" task"))
    assert header.split() == ["task", "stl", "amtl", "nn", "deep_amtfl"]


def test_long_names_are_shortened_in_the_middle_and_that_is_said(results_store, outcome):
    results_store.tasks = ("a task whose name is as long as any sentence may be, number 1", "b")
    results_store.write(results_store.cell("stl"), outcome(0), outcome(1))
    text = as_text(read(results_store.path, "per_split")[1], per_task=True, width=60)
    assert " a task whose …mber 1" in text
    assert "Left out for want of width: the middle of long names." in text
    assert "as long as any sentence" in as_text(read(results_store.path, "per_split")[1], per_task=True)


def test_control_characters_of_names_and_reasons_reach_no_terminal(results_store, outcome):
    results_store.tasks = ("\x1b[2Jgone", "two\nlines")
    results_store.provenance = {"metrics": {"rmse": {"title": "\x1b]0;title\x07", "higher_is_better": False}}}
    results_store.write(results_store.cell("st\x1bl", "sch\x9bool"), outcome(0), outcome(1))
    results_store.write(
        results_store.cell("nn", "sch\x9bool"), outcome(status="failed", reason="bad\x1b[2J\nworse\x08")
    )
    board = read(results_store.path, "per_split")[1]
    for text in (as_text(board, per_task=True, width=80), as_csv(board), as_csv(board, True), as_json(board, True)):
        assert all(line.isprintable() for line in text.splitlines())
    assert json.loads(as_json(board, True))["per_task"][0]["task"] == "\x1b[2Jgone"


def test_without_styles_the_best_are_marked_by_a_star_at_any_width(board, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert "21.00 ± 1.24 *" in as_text(board, width=120)
    assert "\x1b" not in as_text(board, width=120)


def test_columns_leave_by_their_order_until_the_rest_fits():
    assert columns_that_fit([10, 10, 10], [2, 1], 30) == [0, 1, 2]
    assert columns_that_fit([10, 10, 10], [1, 2], 29) == [0, 2]
    assert columns_that_fit([10, 10, 10], [1, 2], 5) == [0]


@pytest.mark.parametrize("room", [1, 2, 3, 5, 8, 13])
def test_a_shortened_text_keeps_beginning_and_end_and_fits(room):
    for text in ("abcdefghijklmnopq", "語語語語語語語語語語"):
        found = shortened(text, room)
        assert cell_len(found) <= room
        assert "…" in found
    assert shortened("abc", 3) == "abc"


def test_wrapping_never_breaks_a_word():
    path = "results/a-very-long-name/that-has-no-blank"
    assert wrapped(f"see {path} there", 10, "  ") == f"see\n  {path}\n  there"
