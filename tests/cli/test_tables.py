"""Tables of a terminal at any width: whole words in fewer columns, and nothing that commands the terminal."""

import pytest
from rich.cells import cell_len

from mtbench.cli import tables
from mtbench.cli.tables import print_table

COLUMNS = ["name", "kind", "paper", "venue", "hyperparameters", "from"]
ROWS = [
    [
        "deep_amtfl",
        "gradient",
        "Deep Asymmetric Multi-task Feature Learning",
        "ICML 2018",
        "hidden, alpha",
        "mtbench 1",
    ],
    ["stl", "solver", "[bold]Regularized multi-task learning", "KDD 2004", "lambda_", "mtbench 1"],
]


@pytest.fixture
def printed(monkeypatch, capsys):
    def run(width, rows=ROWS, **kwargs):
        monkeypatch.setattr(tables, "width", lambda: width)
        print_table(COLUMNS, rows, **kwargs)
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("width", [40, 50, 60, 70, 80, 90, 100, 120, 200])
def test_a_terminal_gets_whole_words_in_as_many_columns_as_fit(printed, width):
    text = printed(width)
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= width
    table, _, note = text.partition("Left out for want of width: ")
    left_out = [name.strip() for name in note.partition(".")[0].replace("\n", " ").split(",") if name.strip()]
    for row in (COLUMNS, *ROWS):
        for name, cell in zip(COLUMNS, row, strict=True):
            assert name in left_out or set(cell.split()) <= set(table.split())


def test_the_columns_named_as_least_go_first(printed):
    text = " ".join(printed(60, least=["paper"]).split())
    assert "Left out for want of width: paper, from. A wider terminal or `| less -S` shows all." in text


@pytest.mark.parametrize("width", [None, 120])
def test_control_characters_are_shown(printed, width):
    text = printed(width, [["a\x1b[2Jb", "c\nd", "e\rf", "g\x9b", "\x08", "\u202e"]])
    assert all(line.isprintable() for line in text.splitlines())
    assert r"a\x1b[2Jb" in text


def test_a_pipe_gets_every_column_in_one_line_for_each_row(printed):
    lines = printed(None, title="A title").splitlines()
    assert [line.split()[0] for line in lines] == ["A", "name", "deep_amtfl", "stl"]
