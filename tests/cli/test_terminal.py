"""What is said to a terminal, and what is known of it."""

import sys

import pytest

from mtbench.cli import terminal


def test_what_is_said_keeps_its_lines_and_shows_control_characters(capsys):
    terminal.say("one\ntwo \x1b[31m")
    terminal.say("three\x07", err=True)
    found = capsys.readouterr()
    assert found.out == "one\ntwo \\x1b[31m\n"
    assert found.err == "three\\x07\n"


def test_a_warning_is_one_line_and_wrapped_where_somebody_looks(capsys, monkeypatch):
    text = "a name\nwith a break and \x1b[2J in the path results/of/a/long/name"
    terminal.warn(text)
    assert capsys.readouterr().err == ("Warning: a name with a break and \\x1b[2J in the path results/of/a/long/name\n")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    terminal.warn(text)
    assert capsys.readouterr().err == (
        "Warning: a name with a break and \\x1b[2J\n  in the path results/of/a/long/name\n"
    )


@pytest.mark.parametrize(
    ("at_terminal", "term", "styled"),
    [(True, "xterm-256color", True), (True, "dumb", False), (True, "", True), (False, "xterm", False)],
)
def test_a_dumb_terminal_gets_no_styles_but_has_a_width(monkeypatch, at_terminal, term, styled):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: at_terminal, raising=False)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", "60")
    assert terminal.is_styled() is styled
    assert terminal.width() == (60 if at_terminal else None)
