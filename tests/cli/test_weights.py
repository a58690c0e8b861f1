"""`mtbench show-weights`, and tables with weightings, on the results of a tiny run."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner

from mtbench.cli import main
from mtbench.report.reading import read
from mtbench.store import Store
from mtbench.testing.engines import InlineEngine

PLUGINS = [Path(__file__).parents[1] / name for name in ("tiny_plugin.py", "weights_plugin.py")]
METHODS = ["hard_sharing", "hard_sharing+ramp", "hard_sharing+halved", "hard_sharing+summed"]


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


class InThisProcess(InlineEngine):
    """Stands for the local engine."""

    name = "local"

    def __init__(self, devices):
        super().__init__()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A store of hard sharing with and without weightings."""
    path = tmp_path_factory.mktemp("run") / "store"
    words = ["--methods", ",".join(METHODS), "--datasets", "tiny", *(w for p in PLUGINS for w in ("--plugin", p))]
    with pytest.MonkeyPatch.context() as patch:
        # A worker process would spend seconds on importing torch.
        patch.setattr("mtbench.engines.LocalEngine", InThisProcess)
        result = invoke("run", *words, "--search", "random:2", "--stack-size", 2, "--out", path)
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def show(path):
    return lambda weighting, *words: invoke("show-weights", path, f"hard_sharing+{weighting}", "tiny", *words)


def test_numbers_in_json_are_the_stored_ones(path, show):
    entry = next(entry for entry in read(path)[0] if entry.method == "hard_sharing+ramp")
    store = Store.open(path)
    for trial in entry.selected.final:
        split, result = trial.candidate.split, store.read(trial.stack.path)
        record = json.loads(show("ramp", "--split", split, "--format", "json").stdout)
        assert record["weights"] == result.history["weights"][trial.row].tolist()
        slope = result.trials[trial.row].params["slope"]
        for epoch, row in zip(record["epochs"], record["weights"], strict=True):
            assert row == pytest.approx([1 + slope * (epoch - 1) * t for t in range(4)], rel=1e-5)
        assert (record["splits"], record["weighting"]) == ([split], "ramp")


def test_numbers_in_csv_are_those_of_json(show):
    record = json.loads(show("halved", "--format", "json").stdout)
    head, *rows = csv.reader(io.StringIO(show("halved", "--format", "csv").stdout))
    assert head == ["epoch", "trials", "gradient_cosine", "gradient_conflicts", *record["tasks"]]
    assert [float(row[2]) for row in rows] == record["gradient_cosine"]
    assert [float(row[3]) for row in rows] == record["gradient_conflicts"]
    assert [[float(cell) for cell in row[4:]] for row in rows] == record["weights"]
    assert {cell for row in record["weights"] for cell in row} == {0.5}


def test_the_view_names_every_task_and_what_is_known_of_gradients(show):
    result = show("halved")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:2] == ["hard_sharing+halved on tiny", "weights of tasks, mean over 2 splits"]
    assert [line.split()[0] for line in lines[3:10]] == [
        "task",
        *(f"group_{t}" for t in range(4)),
        "cosine",
        "conflicts",
    ]
    assert "cosine" not in show("ramp").stdout
    assert "has no weights" in show("summed").stdout


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_file_gets_a_picture_of_its_kind(show, tmp_path, ending):
    file = tmp_path / f"weights.{ending}"
    result = show("ramp", "--out", file)
    assert (result.exit_code, result.stdout) == (0, f"Drew {file}.\n")
    first = file.read_bytes()
    show("ramp", "--out", file)
    assert file.read_bytes() == first
    if ending == "svg":
        assert ElementTree.fromstring(first).tag == "{http://www.w3.org/2000/svg}svg"
    else:
        assert first.startswith({"png": b"\x89PNG", "pdf": b"%PDF-"}[ending])


def test_numbers_and_a_picture_can_be_had_at_once(show, tmp_path):
    result = show("ramp", "--out", tmp_path / "a.png", "--format", "json")
    assert json.loads(result.stdout)["weighting"] == "ramp"
    assert result.stderr == f"Drew {tmp_path / 'a.png'}.\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hard_sharing+ram", "tiny"], "Error: Unknown method 'hard_sharing+ram' on tiny in this store. Did you mean"),
        (["hard_sharing+ramp", "tiney"], "Error: Unknown data set 'tiney' in this store. Did you mean 'tiny'?"),
        (["hard_sharing", "tiny"], "Error: METHOD must have a weighting (on tiny in this store: hard_sharing+halved, "),
        (["hard_sharing+ramp", "tiny", "--split", "5"], "has a selected trial (0, 1); found 5."),
    ],
)
def test_a_mistake_is_answered_in_one_line(path, words, message):
    result = invoke("show-weights", path, *words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(("name", "exit_code"), [("a.jpg", 2), ("nowhere/a.png", 1)])
def test_a_file_that_cannot_be_drawn_is_refused(show, tmp_path, name, exit_code):
    result = show("ramp", "--out", tmp_path / name)
    assert result.exit_code == exit_code
    assert not result.stdout


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
    words = ["show-weights", str(path), "hard_sharing+ramp", "tiny", "--out", str(tmp_path / "a.png")]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()


def test_weights_outlast_slimming_and_compaction(path, show):
    before = {name: show(name, "--format", "json").stdout for name in ("ramp", "halved", "summed")}
    for words in (["store", "compact", path], ["store", "slim", path], ["store", "verify", path]):
        result = invoke(*words)
        assert result.exit_code == 0, result.output
        assert {name: show(name, "--format", "json").stdout for name in before} == before
