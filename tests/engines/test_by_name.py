"""Engines of plugins: a run takes the one that is named, and its faults cost no more than they must."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mtbench.cli import main
from mtbench.engines.by_name import engine_class, make_engine
from mtbench.engines.local import LocalEngine
from mtbench.errors import PluginError, StudyError, UnknownName
from mtbench.plugins.host import load_plugins
from mtbench.store import Store, scan

TESTS = Path(__file__).parents[1]
ENGINES = TESTS / "engine_plugin.py"
PAGE = (TESTS.parent / "docs" / "plugins.md").read_text()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory, monkeypatch):
    """Keeps these tests out of the user's cache of names, and off GPUs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="module")
def plugins():
    return load_plugins([ENGINES])


@pytest.fixture
def run(tmp_path):
    """Runs the tiny grid on an engine; gives the result and the store."""

    def go(engine, *words, plugin=ENGINES):
        store = tmp_path / engine
        command = ["run", "--methods", "probe,steady", "--datasets", "tiny", "--stack-size", "2", "--refit"]
        command += ["--plugin", str(TESTS / "tiny_plugin.py"), "--plugin", str(plugin), "--engine", engine]
        return CliRunner().invoke(main, [*command, "--out", str(store), *words]), store

    return go


def results(store):
    """The metrics of every trial of a store."""
    found = {}
    for stack in scan(Store.open(store)).stacks:
        for part, metrics in stack.metrics.items():
            for name, values in metrics.items():
                found |= {(trial, part, name): v.tolist() for trial, v in zip(stack.ids, values, strict=True)}
    return found


def test_a_grid_gives_the_same_results_on_the_local_engine_and_on_a_plugins(run):
    words = ("--search", "random:3", "--splits", "2")
    local, here = run("local", *words, "--devices", "cpu:1"), run("in_process", *words, "--devices", "here")
    assert (local[0].exit_code, here[0].exit_code) == (0, 0), here[0].output
    assert "16 trials trained, 0 were there already." in here[0].stdout
    assert results(here[1]) == results(local[1])
    assert len(results(here[1])) >= 16
    (name,) = {stack.provenance["engine"] for stack in scan(Store.open(here[1])).stacks}
    assert name == "in_process"


def test_the_devices_of_a_plugins_engine_are_its_own(run, plugins):
    result, store = run("in_process", "--devices", "elsewhere")
    assert result.exit_code == 1
    assert result.stderr == "Error: --engine in_process knows the devices auto and here; found 'elsewhere'.\n"
    assert not store.exists()
    with pytest.raises(StudyError):
        make_engine("in_process", "cpu:2", plugins)
    assert make_engine("local", "cpu:2", plugins).slots == 2


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_an_unknown_engine_is_told_with_a_suggestion(run, words):
    result, store = run("in_proces", *words)
    assert result.exit_code == 1
    message = "Error: Unknown engine 'in_proces'. Did you mean 'in_process'? `mtbench list engines` shows all 12.\n"
    assert result.stderr == message
    assert not store.exists()


def test_the_local_engine_is_suggested_too(plugins):
    with pytest.raises(UnknownName, match="Unknown engine 'locl'. Did you mean 'local'?"):
        engine_class("locl", plugins)
    assert engine_class("local", plugins) is LocalEngine


def test_engines_are_listed(plugins):
    result = CliRunner().invoke(main, ["list", "engines", "--plugin", str(ENGINES)])
    assert result.exit_code == 0
    assert re.search(r"^local +Workers on this machine.* mtbench \d", result.stdout, re.MULTILINE)
    assert re.search(rf"^in_process +Jobs one after another.* {ENGINES}$", result.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        ("raises", "failed in submit: ConnectionError: no cluster is there"),
        ("exits", "failed in submit: SystemExit: 3"),
        ("mute", "failed in submit: AttributeError: 'NoneType'"),
        ("cancels", "gave no result: CancelledError"),
        ("junk", "gave bytes that are no answer to its job: "),
        ("boasts", "says that a job failed as 'finished'."),
    ],
)
def test_an_engine_that_breaks_the_contract_fails_its_jobs_and_is_blamed(run, engine, reason):
    result, store = run(engine)
    assert result.exit_code == 1
    assert "No trial finished." in result.stderr.splitlines()[-1]
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("Warning: probe x tiny")]
    assert f"2 trial(s) failed: The plugin file {ENGINES} {reason}" in warning
    assert "Traceback" not in result.output
    assert {status for stack in scan(Store.open(store)).stacks for status in stack.status} == {"failed"}


def test_an_answer_to_another_job_is_refused(run):
    result, store = run("swaps")
    assert result.exit_code == 0
    assert "gave the answer to another job." in result.stderr
    assert "4 trials trained" not in result.stdout
    assert all(checked.ok for checked in Store.open(store).verify())


def test_measuring_on_a_broken_engine_is_told_and_trials_fail_one_by_one(run):
    result, _ = run("junk", "--stack-size", "auto", "--search", "random:3")
    assert "stacks could not be measured, so trials ran alone: The plugin file" in result.stderr
    assert "No trial finished." in result.stderr


def test_an_engine_that_cannot_be_closed_is_a_warning(run):
    result, _ = run("clings")
    assert result.exit_code == 0
    message = f"Warning: The plugin file {ENGINES} failed to close its engine: OSError: the cluster does not let go"
    assert message in result.stderr


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("unmade", "could not make its engine 'unmade': ImportError: no module of the cluster's"),
        ("slotless", "made an engine that must have at least 1 slot; found 0."),
    ],
)
def test_an_engine_that_cannot_be_made_ends_the_run_before_a_store_is_made(run, engine, message):
    result, store = run(engine)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: The plugin file {ENGINES} {message}")
    assert not store.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class E:\n    name = 'e'", "subclasses of mtbench.Engine; found <class"),
        ("E = 3", "subclasses of mtbench.Engine; found 3"),
        ("class E(Engine):\n    name = 'e'", "must implement every abstract method of Engine; missing: close, submit"),
        ("class E(Engine):\n    submit = close = lambda *_: None", "E.name must be lower-case words"),
        ("class E(Engine):\n    name = 'local'\n    submit = close = lambda *_: None", "which is mtbench's own"),
        ("class E(Engine):\n    name = 'e'\n    submit = close = lambda *_: None", r"E\(devices\) must work with one"),
    ],
)
def test_what_cannot_serve_as_an_engine_is_refused_when_it_is_offered(tmp_path, text, message):
    path = tmp_path / "bad.py"
    hook = "@hookimpl\ndef mtbench_engines():\n    return [E]\n"
    path.write_text(f"from mtbench import Engine, hookimpl\n{text}\n{hook}")
    with pytest.raises(PluginError, match=message):
        load_plugins([path])


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """An ssh whose hosts are all this machine, but that "slow" does not answer and "dead" breaks off."""
    tool = tmp_path / "bin" / "ssh"
    tool.parent.mkdir()
    there = 'case "$1" in slow) exec sleep 600;; dead) exit 255;; *) shift; exec sh -c "$*";; esac'
    tool.write_text(f'#!/bin/sh\necho "$1" >> {shlex.quote(str(tmp_path))}/hosts\n{there}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
    return tmp_path / "hosts"


@pytest.fixture
def page_engine(tmp_path, monkeypatch):
    """The engine of docs/plugins.md."""
    path = tmp_path / "my_engine.py"
    path.write_text(re.search(r"```python\n# my_engine\.py\n(.*?)```", PAGE, re.DOTALL)[1])
    # Processes on other hosts have the environment that they have there.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return path


def test_the_engine_of_the_page_runs_a_grid_on_its_hosts(run, ssh, page_engine):
    words = ("--methods", "probe", "--no-refit", "--stack-size", "1")
    result, there = run("ssh", *words, "--devices", "one,two", plugin=page_engine)
    assert "2 trials trained, 0 were there already." in result.stdout
    _, here = run("local", *words, "--devices", "cpu:1", plugin=page_engine)
    assert results(there) == results(here)
    assert set(ssh.read_text().split()) == {"one", "two"}


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("slow", "timeout: Took longer than 0.2 s on slow."),
        ("dead", "killed: The process on dead ended with exit code 255."),
    ],
)
def test_the_engine_of_the_page_tells_time_limits_and_deaths(run, ssh, page_engine, host, reason):
    words = ("--methods", "probe", "--splits", "1", "--no-refit", "--time-limit", "0.2" if host == "slow" else "100")
    result, _ = run("ssh", *words, "--devices", host, plugin=page_engine)
    assert f"1 trial(s) {reason}" in result.stderr
