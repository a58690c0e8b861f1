"""What list and show tell without importing torch, and that it is the same as with."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mtbench.cli import catalogue
from mtbench.errors import PluginError, UnknownName
from mtbench.plugins.host import load_modules, load_plugins

MINE = """
from mtbench import Reference, hookimpl
from mtbench_methods.nn import NN

class Mine(NN):
    name = "{name}"
    reference = Reference("A test", "here")

@hookimpl
def mtbench_methods():
    return [Mine]
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def known():
    plugins = load_plugins()
    catalogue.remember(plugins)
    return catalogue.remembered()


def test_what_is_remembered_is_what_the_plugins_offer(known):
    plugins = load_plugins()
    assert known.listed["methods"] == catalogue.method_rows(plugins)
    assert known.listed["plugins"] == catalogue.plugin_rows(plugins)
    assert known.homes["nn"] == "mtbench_methods.nn"
    assert known.shown["nn"] == catalogue.method_page(plugins, "nn")


LIGHT = ("list methods", "list datasets", "list metrics", "show nn", "show auc", "show school")
TOLD = """
import os, sys
from click.testing import CliRunner
from mtbench.cli import main
for words, cache in zip(sys.argv[1::2], sys.argv[2::2]):
    os.environ["XDG_CACHE_HOME"] = cache
    done = CliRunner().invoke(main, words.split(), catch_exceptions=False)
    print(done.output, done.exit_code, sep="", end=chr(0))
print(sorted({"torch", "sklearn", "scipy"} & set(sys.modules)))
"""


def test_commands_tell_the_same_from_memory_and_import_neither_torch_nor_scikit_learn(tmp_path):
    # One process that remembers nothing before any command, and one that remembers what that left behind.
    places = [word for i, words in enumerate(LIGHT) for word in (words, str(tmp_path / str(i)))]
    command = [sys.executable, "-c", TOLD, *places]
    (*first, heavy), (*second, light) = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(chr(0)) for _ in range(2)
    )
    assert "torch" in heavy
    assert light == "[]\n"
    for words, before, after in zip(LIGHT, first, second, strict=True):
        assert len(before) > 100, words
        assert before.endswith("\n0")
        assert after == before, words


def test_an_edited_method_makes_it_stale(known, monkeypatch):
    assert any(source[0].endswith("nn.py") for source in known.sources)
    monkeypatch.setattr(catalogue.names, "fingerprint", lambda: "another")
    assert catalogue.remembered() is None


def test_an_edited_base_class_makes_it_stale(known, monkeypatch):
    stamp = catalogue._stamp
    edited = known.sources[0][0]
    monkeypatch.setattr(catalogue, "_stamp", lambda path: [path, 0, 0] if path == edited else stamp(path))
    assert catalogue.remembered() is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fingerprint": 1}'])
def test_a_corrupt_file_is_ignored(known, text):
    catalogue._file().write_text(text)
    assert catalogue.remembered() is None


def test_plugins_with_faults_are_not_remembered():
    plugins = load_plugins()
    plugins.warn("The plugin x is broken.")
    catalogue.remember(plugins)
    assert catalogue.remembered() is None


def some(known, *wanted, files=()):
    return load_modules(known.offering(wanted), files, known.homes)


def test_a_run_loads_the_plugins_it_names_and_others_when_they_are_asked_for(known):
    plugins = some(known, "nn", "amtfl_synthetic")
    assert set(plugins.methods) | set(plugins.datasets) < {*known.homes}
    assert "nn" in plugins.methods
    assert "go_mtl" not in plugins.methods
    assert plugins.method("go_mtl").name == "go_mtl"
    assert set(plugins.methods) <= set(known.shown)
    assert plugins.warnings == []


def test_an_unknown_name_is_told_from_all_there_are(known):
    with pytest.raises(UnknownName, match="Did you mean 'amtl'"):
        some(known, "nn").method("amftl")


def test_a_file_that_offers_a_name_of_a_plugin_that_is_not_loaded_is_refused(known, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE.format(name="go_mtl"))
    with pytest.raises(PluginError, match="'go_mtl' is offered by the plugin mtbench_methods.go_mtl"):
        some(known, "nn", files=[path])
    path.write_text(MINE.format(name="mine"))
    assert "mine" in some(known, "mine", files=[path]).methods
