"""`mtbench show-transfer` on the results of a tiny run."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from mtbench.cli import main
from mtbench.report.reading import read
from mtbench.store import Store
from mtbench.testing.engines import InlineEngine

PLUGIN = Path(__file__).parents[1] / "tiny_plugin.py"
MAIN = [sys.executable, "-c", "from mtbench.cli import main; main()"]


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


class InThisProcess(InlineEngine):
    """Stands for the local engine."""

    name = "local"

    def __init__(self, devices):
        super().__init__()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A store of amtfl and of a method that learns no matrix."""
    path = tmp_path_factory.mktemp("run") / "store"
    words = ["--methods", "amtfl,probe", "--datasets", "tiny", "--plugin", PLUGIN, "--recipe", "tiny.keep=learned"]
    with pytest.MonkeyPatch.context() as patch:
        # A worker process would spend seconds on importing torch.
        patch.setattr("mtbench.engines.LocalEngine", InThisProcess)
        result = invoke("run", *words, "--search", "random:2", "--stack-size", 2, "--out", path)
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def show(path):
    return lambda *words: invoke("show-transfer", path, "amtfl", "tiny", *words)


@pytest.fixture(scope="module")
def stored(path):
    """By split, the transfer matrix of the selected trial, as the store has it."""
    entry = next(entry for entry in read(path)[0] if entry.method == "amtfl")
    store = Store.open(path)
    chosen = entry.selected.final
    assert len(chosen) == 2
    return {t.candidate.split: store.read(t.stack.path).learned["transfer"][t.row] for t in chosen}


def test_numbers_in_json_are_the_stored_ones(show, stored):
    for split, matrix in stored.items():
        record = json.loads(show("--split", split, "--signed", "--format", "json").stdout)
        assert record["values"] == matrix.tolist()
        assert (record["splits"], record["signed"], record["matrix"]) == ([split], True, "transfer")
    record = json.loads(show("--format", "json").stdout)
    mean = (abs(stored[0].astype(float)) + abs(stored[1].astype(float))) / 2
    assert record["values"] == mean.tolist()
    assert record["splits"] == [0, 1]
    n = len(mean)
    above = [mean[s, t] for s in range(n) for t in range(s + 1, n)]
    assert record["early_to_late"] == pytest.approx(sum(above) / len(above))


def test_numbers_in_csv_are_those_of_json(show):
    record = json.loads(show("--format", "json").stdout)
    head, *lines = csv.reader(io.StringIO(show("--format", "csv").stdout))
    assert head[1:] == record["columns"]
    assert [[float(cell) for cell in line[1:]] for line in lines] == record["values"]


def test_the_view_names_the_tasks_and_ends_with_the_direction(show):
    record = json.loads(show("--format", "json").stdout)
    result = show()
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:2] == ["amtfl on tiny", "|transfer|, mean over 2 splits"]
    for i, name in enumerate(record["rows"]):
        assert re.fullmatch(rf"{i} {name} [ ░▒▓█]+", lines[5 + i])
    early, late = record["early_to_late"], record["late_to_early"]
    assert lines[-1] == f"early to late tasks: {early:.4g}, late to early: {late:.4g}"


def test_a_stream_without_unicode_gets_its_view(path):
    words = [*MAIN, "show-transfer", str(path), "amtfl", "tiny"]
    done = subprocess.run(words, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert b"##" in done.stdout


@pytest.mark.parametrize("ending", ["png", "svg", "pdf", "PNG"])
def test_a_file_gets_a_picture_of_its_kind(show, tmp_path, ending):
    file = tmp_path / f"transfer.{ending}"
    result = show("--out", file)
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()
    assert first == f"Drew {file}."
    assert second.startswith("early to late tasks: ")
    if ending == "svg":
        assert ElementTree.parse(file).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    elif ending == "pdf":
        assert file.read_bytes().startswith(b"%PDF-")
    else:
        with Image.open(file) as image:
            assert image.format == "PNG"


def test_numbers_and_a_picture_can_be_had_at_once(show, tmp_path):
    result = show("--out", tmp_path / "a.png", "--format", "json")
    assert json.loads(result.stdout)["matrix"] == "transfer"
    assert result.stderr == f"Drew {tmp_path / 'a.png'}.\n"


def test_another_matrix_is_shown_by_its_name(show):
    record = json.loads(show("--matrix", "feedback", "--split", 0, "--format", "json").stdout)
    assert record["rows"] == json.loads(show("--format", "json").stdout)["rows"]
    assert record["early_to_late"] is None
    assert "Warning: 'feedback' has an axis that is not of tasks" in show("--matrix", "feedback").stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["amtfk", "tiny"], "Error: Unknown method 'amtfk' on tiny in this store. Did you mean 'amtfl'?"),
        (["amtfl", "tiney"], "Error: Unknown data set 'tiney' in this store. Did you mean 'tiny'?"),
        (["amtfl", "tiny", "--matrix", "transfers"], "Did you mean 'transfer'? `--matrix NAME` shows one of bases ["),
        (["amtfl", "tiny", "--split", "5"], "has a selected trial (0, 1); found 5."),
        (["probe", "tiny"], "Error: probe x tiny: this method learns no matrix that can be shown."),
    ],
)
def test_a_mistake_is_answered_in_one_line(path, words, message):
    result = invoke("show-transfer", path, *words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_run_that_kept_nothing_is_told_which_field_keeps(results_store, outcome):
    results_store.write(results_store.cell(), outcome())
    result = invoke("show-transfer", results_store.path, "amtl", "school")
    assert result.exit_code == 1
    assert "--recipe school.keep=learned" in result.stderr


@pytest.mark.parametrize(("name", "exit_code"), [("a.jpg", 2), ("a", 2), ("nowhere/a.png", 1)])
def test_a_file_that_cannot_be_drawn_is_refused(show, tmp_path, name, exit_code):
    result = show("--out", tmp_path / name)
    assert result.exit_code == exit_code
    expected = "must end in .png, .svg or .pdf" if exit_code == 2 else f"Cannot write {tmp_path / name}: No such file"
    assert expected in result.stderr


def test_only_drawing_imports_matplotlib_and_nothing_imports_torch(path, tmp_path):
    code = """
import sys
from mtbench.cli import main
main(sys.argv[1:5], standalone_mode=False)
heavy = {"matplotlib", "torch", "pandas", "pluggy", "mtbench_methods"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
main(sys.argv[1:], standalone_mode=False)
assert heavy & set(sys.modules) == {"matplotlib"}, heavy & set(sys.modules)
"""
    words = ["show-transfer", str(path), "amtfl", "tiny", "--out", str(tmp_path / "a.png")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
