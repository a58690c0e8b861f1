"""`mtbench new`; that the written packages install and pass their tests is shown in test_third_party.py."""

import re
import tomllib

import pytest

from mtbench.plugins.host import load_plugins
from mtbench.testing.problems import OwnMulticlass, OwnRegression, SharedOneVsAll, miniature_trials
from mtbench.training import train_stack


@pytest.mark.parametrize("kind", ["method", "fit-method", "metric", "dataset"])
def test_it_writes_a_complete_package(mtbench, tmp_path, kind):
    result = mtbench("new", kind, "my_thing", "--directory", tmp_path)
    assert result.exit_code == 0, result.output
    package = tmp_path / "mtbench-my-thing"
    assert str(package) in result.stdout
    written = sorted(str(path.relative_to(package)) for path in package.rglob("*") if path.is_file())
    assert written == ["README.md", "mtbench_my_thing.py", "pyproject.toml", "tests/test_my_thing.py"]
    project = tomllib.loads((package / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["mtbench"] == {"my_thing": "mtbench_my_thing"}
    assert "$" not in "".join((package / path).read_text() for path in written)


@pytest.mark.parametrize("kind", ["method", "fit-method", "metric", "dataset"])
def test_its_module_also_works_as_a_plugin_file(mtbench, tmp_path, kind):
    mtbench("new", kind, "my_thing", "--directory", tmp_path)
    plugins = load_plugins([tmp_path / "mtbench-my-thing" / "mtbench_my_thing.py"])
    offered = {"dataset": plugins.datasets, "metric": plugins.metrics}.get(kind, plugins.methods)
    assert "my_thing" in offered


@pytest.mark.parametrize("kind", ["method", "fit-method", "weighting", "metric", "dataset"])
def test_the_commands_that_it_prints_are_commands(mtbench, tmp_path, monkeypatch, kind):
    result = mtbench("new", kind, "my_thing", "--directory", tmp_path)
    monkeypatch.chdir(tmp_path / "mtbench-my-thing")
    commands = re.findall(r"^  mtbench (.*)$", result.stdout, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["run", "report"]
    dry = mtbench(*commands[0].split(), "--dry-run")
    assert dry.exit_code == 0, dry.output
    # There is no store yet, which is said once plugin file and names are known.
    assert "mtbench run --out results/default" in mtbench(*commands[1].split()).stderr
    assert "--plugin mtbench_my_thing.py" in result.stdout


@pytest.mark.parametrize("dataset", [SharedOneVsAll, OwnRegression, OwnMulticlass])
def test_its_fit_method_trains_on_every_kind_of_task(mtbench, tmp_path, dataset):
    mtbench("new", "fit-method", "my_thing", "--directory", tmp_path)
    method = load_plugins([tmp_path / "mtbench-my-thing" / "mtbench_my_thing.py"]).methods["my_thing"]()
    result = train_stack(method, {0: dataset().load(tmp_path, 0, None)}, miniature_trials(method, dataset()), dataset())
    assert result.status == ["finished"]


@pytest.mark.parametrize("name", ["My", "a-b", "1a", "a__b", "../a", "a b", ""])
def test_a_malformed_name_is_refused(mtbench, tmp_path, name):
    result = mtbench("new", "method", "--directory", tmp_path, "--", name)
    assert result.exit_code == 1
    assert "must be lower-case words joined by underscores" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_word_of_python_is_refused(mtbench, tmp_path):
    result = mtbench("new", "method", "class", "--directory", tmp_path)
    assert result.exit_code == 1
    assert "must not be a word of Python's own; found 'class'" in result.stderr


def test_a_taken_name_is_refused(mtbench, tmp_path):
    load_plugins()
    result = mtbench("new", "method", "digits", "--directory", tmp_path)
    assert result.exit_code == 1
    assert "'digits' is taken" in result.stderr


def test_nothing_is_overwritten(mtbench, tmp_path):
    mtbench("new", "method", "mine", "--directory", tmp_path)
    result = mtbench("new", "dataset", "mine", "--directory", tmp_path)
    assert result.exit_code == 1
    assert f"{tmp_path / 'mtbench-mine'} is there already" in result.stderr


def test_a_place_that_cannot_be_written_is_one_line(mtbench, tmp_path):
    (tmp_path / "file").write_text("")
    result = mtbench("new", "method", "mine", "--directory", tmp_path / "file" / "below")
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.output
    assert "Cannot write" in result.stderr
