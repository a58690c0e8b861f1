"""docs/api.md names all that a plugin may use, and nothing else; the site has every page."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import mtbench
from mtbench.contracts import hookspecs
from mtbench.tasks import Task, TaskKind

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text()
NAMED = re.findall(r"^::: (\S+)$", PAGE, re.MULTILINE)
HOOKS = [name for name, value in vars(hookspecs).items() if name.startswith("mtbench_") and inspect.isfunction(value)]


def found(path):
    """The module, or the attribute of a module, that a line of the page names."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", mtbench.__all__)
def test_every_exported_name_is_in_the_reference(name):
    assert f"mtbench.{name}" in NAMED, f"add the line `::: mtbench.{name}` to docs/api.md"


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_in_the_reference(name):
    path = f"{hookspecs.__name__}.{name}"
    assert path in NAMED, f"add the line `::: {path}` to docs/api.md"


@pytest.mark.parametrize("path", NAMED)
def test_what_the_reference_names_exists_and_is_documented(path):
    thing = found(path)
    if inspect.ismodule(thing) or inspect.isclass(thing) or inspect.isfunction(thing):
        assert inspect.getdoc(thing)


def test_the_reference_names_everything_once_and_nothing_private():
    assert sorted(NAMED) == sorted(set(NAMED))
    assert not [path for path in NAMED if "._" in path]


def test_every_kind_of_task_is_in_the_reference_with_its_label_columns():
    rows = re.findall(r"^\| `(\w+)` \| (1|C_t) \w+ \| (1|C_t) \|", PAGE, re.MULTILINE)
    assert [name for name, _, _ in rows] == list(TaskKind)
    for name, outputs, labels in rows:
        task = Task("t", TaskKind(name), 1 if outputs == "1" else 3)
        assert task.n_labels == (1 if labels == "1" else 3)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("**/*.md")), ids=lambda page: page.stem)
def test_the_site_knows_every_block_of_a_page(page):
    # What it does not know as the beginning of a block takes all that follows into the block before.
    fences = re.findall(r"^ *```.*$", page.read_text(), re.MULTILINE)
    assert all(re.fullmatch(r"```(\w+|console run)", fence) for fence in fences[::2])
    assert all(fence == "```" for fence in fences[1::2])


def test_every_page_is_in_the_nav_of_the_site():
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2].partition("\n\n")[0]
    listed = re.findall(r"(\S+\.md)$", nav, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))
    folders = re.findall(r" (\w+)/$", nav, re.MULTILINE)
    assert sorted(folders) == sorted({path.parent.name for path in (ROOT / "docs").glob("*/*.md")})
