"""README and docs show what works: Python runs, commands parse, commands of blocks marked `run` are run.

A Python block that begins with "# name.py" is a file, for the commands after it. What a page shows below a command of a
block that is not marked is compared where it is an error.
"""

import importlib.util
import re
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from click.testing import CliRunner

from mtbench.cli import main
from mtbench.plan.study import study_from
from mtbench.plugins.host import load_plugins

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))]
BLOCK = re.compile(r"^```([\w-]+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    kind: str
    mark: str | None
    text: str

    @property
    def file(self):
        """The name of the file it is, if it is one."""
        found = re.match(r"# (\w+\.py)\n", self.text) if self.kind == "python" else None
        return found[1] if found else None

    @property
    def runs(self):
        """Whether something of it is run."""
        return self.mark == "run" or (self.kind == "python" and not self.file)

    @property
    def commands(self):
        """(words of a command, what is shown below it)"""
        if self.kind == "bash":
            return [(shlex.split(line, comments=True), "") for line in self.text.splitlines()]
        if self.kind != "console":
            return []
        parts = [part.partition("\n") for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]]
        return [(shlex.split(line, comments=True), shown) for line, _, shown in parts]


def blocks(page):
    return [Block(*found.groups()) for found in BLOCK.finditer((ROOT / page).read_text())]


SHOWN = [part for page in PAGES for block in blocks(page) for part in block.commands]
COMMANDS = dict.fromkeys(shlex.join(words) for words, shown in SHOWN if not shown.startswith("Error:"))
ERRORS = {shlex.join(words): shown for words, shown in SHOWN if shown.startswith("Error:")}
# The examples of the page on plugins have tests of their own.
RUNNING = [page for page in PAGES if page != "docs/plugins.md" and any(block.runs for block in blocks(page))]
FILES = [block.text for page in PAGES for block in blocks(page) if block.file]


def parse(words):
    """Parses a command line without running it; click complains about what it does not know."""
    command, name, context = main, "mtbench", None
    while True:
        context = command.make_context(name, list(words), parent=context)
        if not isinstance(command, click.Group):
            return context
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


def _started_by_python(module: str) -> str:
    """What `python -m` starts: of a package its `__main__`."""
    spec = importlib.util.find_spec(module)
    return f"{module}.__main__" if spec.submodule_search_locations else module


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_exists(command):
    words = shlex.split(command)
    if words[0] == "mtbench":
        _check_mtbench(words[1:])
    elif words[0] == "make":
        assert set(words[1:]) <= set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    elif words[:2] == ["python", "-m"]:
        source = Path(importlib.util.find_spec(_started_by_python(words[2])).origin).read_text()
        assert all(f'"{option}"' in source for option in words if option.startswith("--"))
    else:
        assert (ROOT / words[0]).is_file() or shutil.which(words[0])


def _check_mtbench(words):
    given = parse(words).params
    if words[0] != "run":
        return
    assert not given["study_file"] or (ROOT / given["study_file"]).is_file()
    plugins = load_plugins()
    methods = {**plugins.methods, **plugins.weightings}
    for option, known in (("methods", methods), ("datasets", plugins.datasets)):
        named = [name for name in re.split(r"[,+]", given[option] or "") if name not in known]
        assert all(any(f'name = "{name}"' in text for text in FILES) for name in named if name)


@pytest.mark.parametrize(("command", "shown"), ERRORS.items())
def test_errors_are_what_a_page_shows(command, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, shlex.split(command)[1:])
    assert result.exit_code == 1
    assert result.output == shown


@pytest.mark.parametrize("page", PAGES)
def test_studies_of_a_page_are_studies(page):
    for block in blocks(page):
        if block.kind == "toml" and "methods" in block.text:
            study_from(tomllib.loads(block.text), page)


@pytest.mark.parametrize("page", RUNNING)
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch, results_store, outcome):
    found = blocks(page)
    monkeypatch.chdir(tmp_path)
    for block in found:
        if block.file:
            (tmp_path / block.file).write_text(block.text)
    if not any(block.mark == "run" for block in found):
        results_store.path = tmp_path / "results" / "default"
        for method in ("stl", "amtfl"):
            results_store.write(results_store.cell(method), outcome(split=0), outcome(split=1, validation=2.0))
    namespace = {}
    for block in found:
        if block.mark == "run":
            for words, _ in block.commands:
                result = CliRunner().invoke(main, words[1:])
                assert result.exit_code == 0, result.output
        elif block.runs:
            exec(compile(block.text, page, "exec"), namespace)
