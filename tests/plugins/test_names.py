"""The names that completion offers: remembered, and made again when they are stale."""

import os
import sys

import pytest

from mtbench.plugins import names
from mtbench.plugins.host import load_plugins


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return names.cache_file()


def refuse_to_refresh():
    raise AssertionError("the remembered names should have been enough")


def test_loading_plugins_remembers_their_names(monkeypatch):
    plugins = load_plugins()
    monkeypatch.setattr(names, "_refresh", refuse_to_refresh)
    known = names.known_names()
    assert known.methods == sorted(plugins.methods)
    assert known.datasets == sorted(plugins.datasets)


def test_missing_names_are_found_in_a_process_of_their_own(cache):
    assert not cache.exists()
    known = names.known_names()
    assert "digits" in known.datasets
    assert cache.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"fingerprint": 1, "methods": [], "datasets": []}', "\0"])
def test_a_corrupt_file_is_ignored(cache, monkeypatch, text):
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(text)
    monkeypatch.setattr(names, "_refresh", lambda: None)
    assert names.read() is None
    assert names.known_names().methods == []


def test_an_edited_plugin_makes_the_names_stale(cache, monkeypatch, tmp_path):
    module = tmp_path / "pack" / "a_plugin_module.py"
    module.parent.mkdir()
    module.write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(module.parent))
    monkeypatch.setattr(names, "entry_points", lambda: [Entry])
    names.write(names.Names(names.fingerprint(), ["old"], [], [], []))
    monkeypatch.setattr(names, "_refresh", lambda: names.write(names.Names(names.fingerprint(), ["new"], [], [], [])))
    assert names.known_names().methods == ["old"]
    os.utime(module, ns=(1, 1))
    assert names.known_names().methods == ["new"]


class Entry:
    value = module = "a_plugin_module"
    dist = None


def test_a_plugin_that_was_removed_is_no_fault(monkeypatch):
    monkeypatch.setattr(names, "entry_points", lambda: [Entry])
    assert len(names.fingerprint()) == 64
    assert "a_plugin_module" not in sys.modules


def test_a_place_that_cannot_be_written_is_no_fault(cache, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(names, "cache_file", lambda: tmp_path / "file" / "names.json")
    names.write(names.Names("", [], [], [], []))
    assert names.read() is None
