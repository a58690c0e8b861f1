"""docs/plugins.md says what is true: every hook with its signature, and examples that run."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import mtbench
from mtbench.cli import main
from mtbench.contracts import hookspecs
from mtbench.plugins.host import load_plugins

PAGE = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text()
HOOKS = [name for name, value in vars(hookspecs).items() if name.startswith("mtbench_") and inspect.isfunction(value)]
FILES = {
    name: "\n" * PAGE[: found.start()].count("\n") + body
    for found in re.finditer(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
    for name, body in [found.groups()]
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that holds the page's files, and is the working directory."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented_with_its_exact_signature(name):
    signature = str(inspect.signature(getattr(hookspecs, name))).replace("'", "")
    assert f"| `{name}{signature}` |" in PAGE


def test_no_hook_is_documented_that_does_not_exist():
    assert set(re.findall(r"\| `(mtbench_\w+)\(", PAGE)) == set(HOOKS)


def test_the_files_of_the_page_load(folder):
    files = ("my_method.py", "my_pipeline.py", "my_stages.py", "my_boosting.py")
    files += ("my_metric.py", "my_data.py", "my_listener.py")
    plugins = load_plugins([folder / name for name in files])
    assert {"soft_ties", "pca_ridge", "one_then_each", "my_boosting"} <= plugins.methods.keys()
    assert "noisy_copies" in plugins.datasets
    assert "far_off" in plugins.metrics


def test_the_fragments_of_the_page_run():
    fragments = re.findall(r"```python\n(?!# \S+\.py\n)(.*?)```", PAGE, re.DOTALL)
    assert fragments
    for fragment in fragments:
        exec(fragment, {name: getattr(mtbench, name) for name in mtbench.__all__})


def test_the_listener_is_told(folder, capsys):
    load_plugins([folder / "my_listener.py"]).notify("mtbench_run_end", store="s", n_finished=3, n_failed=1)
    assert capsys.readouterr().out == "3 trials finished, 1 did not.\n"


COMMANDS = [line.removeprefix("$ mtbench ") for line in PAGE.splitlines() if line.startswith("$ mtbench ")]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_run(folder, command):
    words = command.split()
    if words[0] == "run":
        words.append("--dry-run")
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output


def test_the_tests_of_the_page_pass(folder):
    # In a process of its own: the page's modules are imported by name.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_plugins.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
