import json
import os
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from mtbench.cli import main
from mtbench.contracts.trials import Status
from mtbench.store import Store
from mtbench.testing.problems import OwnRegression


@pytest.fixture
def store_path(results_store, outcome):
    results_store.write(results_store.cell("stl"), outcome(0, test=10), outcome(1, test=12))
    results_store.write(results_store.cell("amtl"), outcome(0, test=9), outcome(1, test=10))
    results_store.write(results_store.cell("stl", "digits"), outcome(0), outcome(1))
    return results_store.path


def invoke(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def damaged(store_path):
    """Cuts one stack's file short."""
    path = Store.open(store_path).stack_paths()[0]
    path.write_bytes(path.read_bytes()[:300])
    return path


@pytest.mark.parametrize("form", ["table", "markdown", "latex", "csv", "json"])
@pytest.mark.parametrize("per_task", [[], ["--per-task"]])
def test_report_prints_every_format(store_path, form, per_task):
    result = invoke("report", store_path, "--format", form, *per_task)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "amtl" in result.stdout


def test_report_reads_results_default_unless_told_otherwise(store_path, monkeypatch):
    monkeypatch.chdir(store_path.parent)
    nothing = invoke("report")
    assert nothing.exit_code == 1
    assert "mtbench run --out results/default" in nothing.stderr
    store_path.rename(store_path.parent / "elsewhere")
    (store_path.parent / "results").mkdir()
    (store_path.parent / "elsewhere").rename(store_path.parent / "results" / "default")
    assert invoke("report").exit_code == 0


def test_report_shows_the_methods_and_data_sets_asked_for(store_path):
    result = invoke("report", store_path, "--format", "json", "--methods", "amtl, stl", "--datasets", "school")
    assert [(r["method"], r["dataset"]) for r in json.loads(result.stdout)["leaderboard"]] == [
        ("amtl", "school"),
        ("stl", "school"),
    ]


def test_an_unknown_method_is_one_line_on_stderr(store_path):
    result = invoke("report", store_path, "--methods", "amtk")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: Unknown method 'amtk' in this store. Did you mean 'amtl'?\n"


def test_the_selection_rule_can_be_chosen(store_path):
    result = invoke("report", store_path, "--format", "json", "--select", "across_splits")
    assert {row["selection"] for row in json.loads(result.stdout)["leaderboard"]} == {"across_splits"}


def test_unreadable_files_are_counted_and_named_and_the_rest_reported(store_path):
    path = damaged(store_path)
    result = invoke("report", store_path, "--format", "json")
    assert result.exit_code == 0
    warning = json.loads(result.stdout)["warnings"][0]
    assert warning.startswith("1 file of this store is unreadable")
    assert path.name in warning
    assert f"Warning: {warning}" in result.stderr
    assert len(json.loads(result.stdout)["leaderboard"]) == 2


def test_an_empty_store_is_reported_as_such(tmp_path):
    Store.create(tmp_path / "store")
    result = invoke("report", tmp_path / "store")
    assert result.exit_code == 0
    assert "holds no finished stack yet" in result.stderr


@pytest.mark.parametrize("command", [["report"], ["store", "list"], ["store", "verify"]])
def test_where_there_is_no_store_one_line_says_how_to_make_one(tmp_path, command):
    result = invoke(*command, tmp_path / "none")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "mtbench run --out" in result.stderr


def test_store_list_shows_cells_files_and_how_trials_ended(results_store, store_path, outcome):
    results_store.write(results_store.cell("nn"), outcome(status=Status.DIVERGED), outcome(1, epochs=3))
    result = invoke("store", "list", store_path)
    assert result.exit_code == 0
    row = next(line for line in result.stdout.splitlines() if line.startswith("nn"))
    assert row.split()[:3] == ["nn", "school", "1"]
    assert row.endswith("1 diverged, 1 finished")
    assert "4 files" in result.stdout.splitlines()[-1]
    assert "8 trials in 4 cells" in result.stdout.splitlines()[-1]


def test_store_list_tells_bases_from_cells_that_are_compared(results_store, outcome):
    base = results_store.cell("cnn", role="base", recipe={"max_epochs": 5})
    results_store.write(base, outcome())
    results_store.write(results_store.cell("cnn", base=base.digest({}), recipe={"base": "cnn"}), outcome())
    lines = invoke("store", "list", results_store.path).stdout.splitlines()[1:-1]
    assert [re.split("  +", line)[:2] for line in lines] == [["cnn", "school"], ["cnn (base)", "school"]]


def test_store_list_names_unreadable_files(store_path):
    path = damaged(store_path)
    result = invoke("store", "list", store_path)
    assert result.exit_code == 0
    assert path.name in result.stderr


def test_store_verify_says_that_all_is_well(store_path):
    result = invoke("store", "verify", store_path)
    assert (result.exit_code, result.stdout) == (0, "3 files checked, 0 bad.\n")


def test_store_verify_names_bad_files_and_fails(store_path):
    path = damaged(store_path)
    result = invoke("store", "verify", store_path)
    assert result.exit_code == 1
    assert result.stdout == "3 files checked, 1 bad.\n"
    assert path.name in result.stderr


PLUGIN = """
from mtbench import Metric, hookimpl
from mtbench.metrics import metric
from mtbench.testing.problems import OwnRegression

def twice(problem, part, predictions):
    return 2 * metric("mae").values(problem, part, predictions)

@hookimpl
def mtbench_metrics():
    return [Metric("twice", "twice the error", False, True, twice)]

@hookimpl
def mtbench_datasets():
    return [OwnRegression]
"""


def test_metrics_of_plugin_files_are_computed_from_kept_predictions(results_store, outcome, tmp_path):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    content = OwnRegression().content_hash(tmp_path, None)
    cell = results_store.cell("stl", OwnRegression.name, content=content, options={})
    result = results_store.result(cell, [outcome()], {})
    result.predictions["test"] = OwnRegression().load(tmp_path, 0, None).parts["test"].labels[None] + 3
    Store.create(results_store.path).publish_stack(result)
    words = ["report", results_store.path, "--format", "json", "--plugin", tmp_path / "plugin.py", "--metrics"]
    found = invoke(*words, "twice, mae")
    rows = json.loads(found.stdout)["other_metrics"]
    assert {row["metric"]: row["mean"] for row in rows} == pytest.approx({"twice": 6, "mae": 3}, rel=1e-5)
    assert all(row["from_predictions"] for row in rows)
    assert "--plugin is for the files of --metrics" in invoke(*words[:-1]).stderr
    unknown = invoke(*words, "twise")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert unknown.stderr.startswith("Error: Unknown metric 'twise'. Did you mean 'twice'?")


def test_reporting_imports_neither_torch_nor_plugins(store_path):
    code = (
        "import sys; from mtbench.cli import main; main(['report', sys.argv[1]], standalone_mode=False);"
        "bad = {'torch', 'pandas', 'pluggy', 'mtbench_methods', 'mtbench_datasets'} & set(sys.modules);"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_terminal_without_unicode_gets_its_table(store_path):
    code = "import sys; from mtbench.cli import main; main(['report', sys.argv[1]])"
    command = [sys.executable, "-c", code, str(store_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert "amtl" in done.stdout


def test_help_imports_neither_numpy_nor_torch():
    code = (
        "import sys; from mtbench.cli import main\n"
        "try: main(['report', '--help'])\n"
        "except SystemExit: pass\n"
        "bad = {'torch', 'numpy', 'rich', 'h5py'} & set(sys.modules)\n"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
