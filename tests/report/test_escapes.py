"""Names of tasks as they come in Markdown and LaTeX: one row each, shown and not obeyed."""

import shutil
import subprocess

import pytest

from mtbench.report.escapes import latex, markdown, markdown_sentence
from mtbench.report.formats import as_latex, as_markdown
from mtbench.report.reading import read

AWKWARD = [
    "[3H]-uptake", "*starred*", "two\nlines", "a\rb", "\x1b[31mred", "\\end{tabular}", "% of all", "$x^2_1", "#1",
    "a~b",
    "{", "}", "a & b", "--- x", "<b>|c|", "`code`", '"q"', "IL-1β", "25 °C", "µm²", "≥ 3 × 4", "−3", "  [x", "*[",
    "é ü ß ł", "", "\\", "^^M", "\\[", "“q” – …", "\u202eevil", "?`",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[3H]-uptake", "{}[3H]-uptake"),
        ("*starred*", "{}*starred*"),
        ("  [x", "{}  [x"),
        ("two\nlines", "two lines"),
        ("50%_{a}\\", r"50\%\_\{a\}\textbackslash{}"),
        ("a--b---c", "a-{}-b-{}-{}-c"),
        ("<a>|`", r"\textless{}a\textgreater{}\textbar{}\textasciigrave{}"),
        ("-2.00 ± 0.10", r"$-$2.00 $\pm$ 0.10"),
        ("IL-1β", r"IL-1$\beta$"),
        ("\x1b[1m", r"\textbackslash{}x1b[1m"),
    ],
)
def test_a_cell_of_latex_shows_what_a_name_holds(text, shown):
    assert latex(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[3H](x)", r"\[3H\](x)"),
        ("*starred*", r"\*starred\*"),
        ("two\r\nlines", "two lines"),
        ("x|y`z", r"x\|y\`z"),
        ("deep_amtfl", "deep_amtfl"),
        ("_a_ b", r"\_a\_ b"),
        ("<img> &amp; $x$ ~~y~~", r"\<img\> \&amp; \$x\$ \~\~y\~\~"),
        ("a\\", r"a\\"),
    ],
)
def test_a_cell_of_markdown_shows_what_a_name_holds(text, shown):
    assert markdown(text) == shown


def test_a_sentence_of_markdown_keeps_its_code_and_is_neither_heading_nor_list():
    assert markdown_sentence("[x]: `mtbench store verify *` says why.") == r"\[x\]: `mtbench store verify *` says why."
    assert markdown_sentence("# a: b`c") == r"\# a: b\`c"
    assert markdown_sentence("1. a") == r"1\. a"


@pytest.fixture
def board(results_store, outcome):
    """A table by task for each two awkward names, whose best are in bold."""
    for i in range(0, len(AWKWARD), 2):
        results_store.tasks = (AWKWARD[i], AWKWARD[i + 1])
        for method in ("stl", "amtl"):
            results_store.write(results_store.cell(method, f"data{i}"), outcome(0), outcome(1, test=2))
    return read(results_store.path, "per_split")[1]


def test_each_task_has_one_row_of_latex_and_markdown(board):
    rows = [line for line in as_latex(board, per_task=True).splitlines() if line.endswith(r"\\")]
    assert len([r for r in rows if r.count(" & ") == 2 and not r.startswith("task")]) == len(AWKWARD)
    assert not any(row.startswith(("[", "*")) for row in rows)
    assert all(line.isprintable() for line in as_latex(board, per_task=True).splitlines())
    rows = [line for line in as_markdown(board, per_task=True).splitlines() if line.replace(r"\|", "").count("|") == 4]
    assert len([r for r in rows if not r.startswith(("| --- |", "| task"))]) == len(AWKWARD)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_the_tables_of_latex_compile(board, tmp_path):
    page = tmp_path / "page.tex"
    frame = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n%s\\end{document}\n"
    page.write_text(frame % as_latex(board, per_task=True))
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", page.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
