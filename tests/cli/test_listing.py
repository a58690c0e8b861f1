import json
import re

import pytest

FILE = '''
from mtbench import GradientMethod, Reference, hookimpl
from torch import nn

class Mine(GradientMethod):
    """Does what I want."""

    name = "mine"
    reference = Reference("My paper", "Nowhere 2020")

    def build(self, problem, params, recipe):
        return nn.Linear(problem.n_features, problem.n_outputs)

    def objective(self, model, batch, params):
        return batch.task_losses(model(batch.inputs)).sum()

@hookimpl
def mtbench_methods():
    return [Mine]
'''


@pytest.fixture
def plugin_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_list_methods_names_paper_and_provider(mtbench):
    result = mtbench("list", "methods")
    assert result.exit_code == 0, result.output
    assert re.search(r"^amtfl +gradient +Deep Asymmetric.*ICML 2018.*alpha, .*mtbench \d", result.stdout, re.MULTILINE)


def test_list_is_the_same_as_json(mtbench):
    record = json.loads(mtbench("list", "methods", "--format", "json").stdout)
    amtfl = next(row for row in record["methods"] if row["name"] == "amtfl")
    assert amtfl["venue"] == "ICML 2018"
    assert "alpha" in amtfl["hyperparameters"]
    assert record["warnings"] == []


def test_list_data_sets_says_whether_their_data_are_there(mtbench, tmp_path):
    def state(name):
        record = json.loads(mtbench("list", "datasets", "--format", "json", "--data", tmp_path).stdout)
        return next(row["data"] for row in record["datasets"] if row["name"] == name)

    assert state("digits") == "none needed"
    assert state("mnist") == "4 of 4 files missing"
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"")
    assert state("mnist") == "3 of 4 files missing"


def test_list_plugins_tells_where_each_comes_from(mtbench, plugin_file):
    record = json.loads(mtbench("list", "plugins", "--format", "json", "--plugin", plugin_file).stdout)
    rows = {row["plugin"]: row for row in record["plugins"]}
    assert rows["mtbench_datasets.digits"]["offers"] == ["digits"]
    assert rows["mtbench_datasets.digits"]["distribution"] == "mtbench"
    assert rows[str(plugin_file)]["offers"] == ["mine"]
    assert rows[str(plugin_file)]["distribution"] == "file"


def test_tables_are_ruled_on_a_terminal(capsys, monkeypatch):
    from mtbench.cli.tables import print_table

    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    print_table(["name", "title"], [["a", "[b] is no markup"]], "A title")
    assert "─" in (printed := capsys.readouterr().out)
    assert "[b] is no markup" in printed


@pytest.mark.parametrize(
    ("n_bytes", "said"),
    [(0, "?"), (999, "999 B"), (28881, "28.9 kB"), (9912422, "9.91 MB"), (4_100_000_000_000, "4.1 TB")],
)
def test_sizes_are_for_people(n_bytes, said):
    from mtbench.cli.tables import in_bytes

    assert in_bytes(n_bytes) == said


def test_show_a_method(mtbench):
    shown = mtbench("show", "amtfl").stdout
    assert "arXiv:1708.00260" in shown
    assert re.search(r"^alpha +float +0\.1 +1\.0, 0\.1, .*0\.0001 to 1, logarithmic", shown, re.MULTILINE)
    assert re.search(r"^learning_rate +float +the recipe's", shown, re.MULTILINE)


def test_show_a_method_of_a_file(mtbench, plugin_file):
    shown = mtbench("show", "mine", "--plugin", plugin_file).stdout
    assert shown.startswith("mine: Does what I want.\n")
    assert "My paper. Nowhere 2020." in shown
    assert f"the plugin file {plugin_file}" in shown


def test_show_a_data_set(mtbench, tmp_path):
    shown = mtbench("show", "mnist", "--data", tmp_path).stdout
    assert re.search(r"^licence  +\w", shown, re.MULTILINE)
    assert re.search(r"^report metric +one_vs_all_error$", shown, re.MULTILINE)
    assert re.search(r"^batch_size +\d+$", shown, re.MULTILINE)
    assert re.search(r"^mnist/t10k-labels-idx1-ubyte\.gz +4\.54 kB +https://.* [0-9a-f]{64}$", shown, re.MULTILINE)
    assert f"4 of 4 files missing (data root {tmp_path})" in shown


def test_show_an_unknown_name_suggests_the_nearest(mtbench):
    result = mtbench("show", "digts")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "Error: Unknown method, weighting, data set or metric 'digts'. Did you mean 'digits'? `mtbench list"
    )


def test_show_marks_hyperparameters_that_are_ramped(mtbench, tmp_path):
    path = tmp_path / "mine.py"
    params = """
from dataclasses import dataclass

from mtbench import tunable

@dataclass(frozen=True, kw_only=True)
class Params:
    pull: float = tunable(1.0, help="weight of the spread", ramped=True)
    reach: float = tunable(1.0, help="of neighbours")
"""
    path.write_text(params + FILE.replace('    name = "mine"\n', '    name = "mine"\n    Params = Params\n'))
    result = mtbench("show", "mine", "--plugin", path)
    assert re.search(r"^pull .*weight of the spread \(ramped\)$", result.stdout, re.MULTILINE), result.output
    assert re.search(r"^reach .*of neighbours$", result.stdout, re.MULTILINE)
