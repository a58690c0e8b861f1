"""What every command shares: light start-up, help with examples, one-line errors."""

import subprocess
import sys

import click
import pytest

from mtbench.cli import main

HEAVY = {"torch", "pandas", "rich", "h5py", "scipy", "sklearn", "pydantic"}


def commands(group=main, path=()):
    """Every command as a list of words."""
    found = []
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        found += [(*path, name), *(commands(command, (*path, name)) if isinstance(command, click.Group) else [])]
    return found


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["report", "--help"], ["run", "--help"], ["show", "--help"]]
)
def test_help_imports_nothing_heavy(words):
    code = f"""
import sys
from mtbench.cli import main
main({words!r}, standalone_mode=False)
heavy = {HEAVY!r} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_completing_names_imports_nothing_heavy():
    code = """
import sys
from click.shell_completion import ShellComplete
from mtbench.plugins import names
from mtbench.cli import main
names.known_names = lambda: names.Names("", ["stl"], [], ["digits"], [])
import mtbench.cli.completion
mtbench.cli.completion.known_names = names.known_names
for words in (["show"], ["data", "verify"], ["list"], []):
    assert ShellComplete(main, {}, "mtbench", "X").get_completions(words, ""), words
heavy = {"torch", "pandas", "h5py"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_command_is_listed_in_help(mtbench):
    result = mtbench("--help")
    assert result.exit_code == 0
    for name in main.list_commands(click.Context(main)):
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize("name", main.list_commands(click.Context(main)))
def test_every_command_shows_an_example(mtbench, name):
    found = [words for words in commands() if words[0] == name]
    for words in found:
        result = mtbench(*words, "--help")
        assert result.exit_code == 0, words
        assert "Example" in result.stdout, words
        assert f"mtbench {words[0]}" in result.stdout, words


def test_the_line_in_the_list_of_commands_is_one_sentence():
    for target in main._targets.values():
        assert target.short_help.endswith(".")


def test_an_unknown_command_is_a_usage_error_with_a_suggestion(mtbench):
    result = mtbench("shwo")
    assert result.exit_code == 2
    assert "No such command 'shwo'" in result.stderr
    assert "'show'" in result.stderr


def test_an_error_of_mtbench_is_one_line_on_stderr(mtbench, tmp_path):
    result = mtbench("show", "stl", "--plugin", tmp_path / "nowhere.py")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: Plugin file ")
    assert result.stderr.count("\n") == 1


def test_a_broken_plugin_file_is_one_line_and_no_traceback(mtbench, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def f(:\n")
    result = mtbench("list", "methods", "--plugin", file)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: Plugin file {file} could not be run: SyntaxError")
    assert "line 1)" in result.stderr
    assert "Traceback" not in result.output


def test_warnings_of_plugins_go_to_stderr_and_the_command_goes_on(mtbench, monkeypatch, tmp_path):
    from mtbench.plugins.host import Plugins

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def load(files):
        plugins = Plugins()
        plugins.warn("The plugin x of y 1 was left out: ImportError")
        return plugins

    monkeypatch.setattr("mtbench.plugins.host.load_plugins", load)
    result = mtbench("list", "methods")
    assert result.exit_code == 0
    assert result.stderr == "Warning: The plugin x of y 1 was left out: ImportError\n"
    assert result.stdout == "There are no methods.\n"


def test_it_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "mtbench", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("mtbench ")
