"""`mtbench run` as a user meets it: mistakes, interruptions, and what is shown."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.kill_drill import children
from mtbench.run.runner import Runner
from mtbench.store import Store
from mtbench.store.publish import explained

PLUGIN = Path(__file__).parents[1] / "tiny_plugin.py"
MAIN = [sys.executable, "-c", "from mtbench.cli import main; main()"]
TINY = ("run", "--methods", "probe", "--datasets", "tiny", "--plugin", str(PLUGIN), "--devices", "cpu:1")


@pytest.fixture
def run(mtbench, tmp_path):
    """Runs the tiny grid in this process; later options win."""
    return lambda *words: mtbench(*TINY, "--out", tmp_path / "store", *words)


def failed(result, *parts):
    """One line on stderr that holds these parts, an exit code, and no traceback."""
    assert result.exit_code not in (0, None)
    assert isinstance(result.exception, SystemExit)
    lines = result.stderr.strip().splitlines()
    if result.exit_code == 1:
        assert len(lines) == 1
    assert "Traceback" not in result.output
    for part in parts:
        assert part in lines[-1]


def test_a_dry_run_shows_the_grid_and_what_is_missing_and_makes_nothing(run, tmp_path):
    result = run("--methods", "probe,choosy", "--search", "random:3", "--refit", "--dry-run")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[2] == ["probe", "tiny", "2", "1", "3", "6", "6", "2"]
    assert lines[3][:7] == ["choosy", "tiny", "2", "1", "3", "6", "skipped"]
    assert not (tmp_path / "store").exists()


def test_a_dry_run_counts_the_rounds_to_come(run):
    for search, settings, trials in (("tpe:12", "12", "24"), ("halving:8", "8", "28")):
        result = run("--methods", "probe", "--search", search, "--dry-run")
        assert result.stdout.splitlines()[2].split()[2:] == ["2", "1", settings, trials, trials, "none"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--methods", "prob"], ["Unknown method 'prob'. Did you mean 'probe'?"]),
        (["--datasets", "tiney"], ["Unknown data set 'tiney'. Did you mean 'tiny'?"]),
        (["--set", "probe.alpa=1"], ["Unknown hyperparameter 'alpa' of probe. Did you mean 'alpha'?"]),
        (["--set", "probe.alpha=-1"], ["probe.alpha must be a finite number from 0 to inf; found '-1'."]),
        (["--set", "alpha=1"], ["--set must read NAME.FIELD=VALUE; found 'alpha=1'."]),
        (["--recipe", "tiny.epochs=3"], ["Unknown recipe field 'epochs'."]),
        (["--recipe", "tiny.max_epochs=0.5"], ["tiny.max_epochs must be a whole number"]),
        (["--search", "random"], ["Options: key 'search': expected default, grid, random:N"]),
        (
            ["--search", "halving:3"],
            ["Options: key 'search': expected", "halving:N (N from 4 to 10000); found 'halving:3'"],
        ),
        (["--stack-size", "many"], ["Options: key 'stack_size': expected auto or a whole number"]),
        (["--splits", "9"], ["tiny has 3 splits; found 9 asked for."]),
        (["--devices", "tpu"], ["Options: key 'devices': expected auto, cpu"]),
        (["--plugin", "no.py"], ["Plugin file no.py must be a readable Python file"]),
        (["--splits", "x"], ["Invalid value for '--splits'"]),
        (["no.toml"], ["Study file no.toml does not exist."]),
    ],
)
def test_a_mistake_is_answered_in_one_line(run, tmp_path, words, parts):
    failed(run(*words), *parts)
    assert not (tmp_path / "store").exists()


def test_methods_and_data_sets_are_asked_for(mtbench):
    failed(mtbench("run", "--methods", "nn"), "Give --methods and --datasets, or a study file.")


def test_a_gpu_that_does_not_exist_is_refused_before_a_store_is_made(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    failed(run("--devices", "cuda:0"), "this machine has 0 CUDA devices")
    assert not (tmp_path / "store").exists()


def test_missing_data_names_the_command_that_fetches_them_and_the_place(mtbench, tmp_path):
    result = mtbench("run", "--methods", "nn", "--datasets", "school", "--data", tmp_path, "--out", tmp_path / "s")
    failed(result, "`mtbench data prepare school`", str(tmp_path / "school"))


def test_a_corrupt_data_file_is_told_by_expected_and_found_hash(mtbench, tmp_path):
    (tmp_path / "school").mkdir()
    (tmp_path / "school" / "school_b.mat").write_bytes(b"cut off")
    result = mtbench("run", "--methods", "nn", "--datasets", "school", "--data", tmp_path, "--out", tmp_path / "s")
    failed(result)
    assert len(re.findall(r"\b[0-9a-f]{64}\b", result.stderr)) == 2


def test_options_win_over_the_study_file(run, tmp_path):
    study = tmp_path / "study.toml"
    study.write_text('methods = ["steady"]\ndatasets = ["tiny"]\nsplits = 3\nsearch = "random:4"\nrefit = true\n')
    result = run(study, "--splits", "1", "--no-refit", "--dry-run")
    assert result.stdout.splitlines()[2].split() == ["probe", "tiny", "1", "1", "4", "4", "4", "none"]


def test_a_study_narrowed_on_the_command_line_drops_what_it_says_of_the_rest(run, tmp_path):
    study = tmp_path / "study.toml"
    study.write_text(
        'methods = ["steady", "probe"]\ndatasets = ["tiny", "digits"]\n[set]\n"steady.alpha" = 0.1\n'
        "[recipe.digits]\nmax_epochs = 3\n[recipe.tiny]\nmax_epochs = 2\n"
    )
    result = run(study, "--dry-run")
    assert result.exit_code == 0, result.output
    assert [line.split()[:2] for line in result.stdout.splitlines()[2:]] == [["probe", "tiny"]]
    failed(run(study, "--dry-run", "--recipe", "digits.max_epochs=3"), "Unknown data set 'digits' in --recipe.")
    study.write_text(study.read_text().replace("[recipe.digits]", "[recipe.digit]"))
    failed(run(study, "--dry-run"), "Unknown data set 'digit' in --recipe.")


@pytest.mark.parametrize("words", [["steady,", "probe"], ["steady, probe"], ["steady", ",probe"]])
def test_lists_may_have_blanks(run, words):
    result = run("--methods", *words, "--dry-run")
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == ["steady", "probe"]


def test_a_study_with_a_mistake_is_answered_with_file_and_key(run, tmp_path):
    study = tmp_path / "study.toml"
    study.write_text('methods = ["steady"]\ndatasets = ["tiny"]\nsplit = 3\n')
    failed(run(study), f"{study}: unknown key 'split'.")


def test_a_store_of_another_format_is_refused(run, tmp_path):
    store = Store.create(tmp_path / "store").path
    record = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps({**record, "format": 99}))
    failed(run(), "has format 99", "name a new directory")


def test_a_folder_that_holds_other_things_is_no_store(run, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.tex").touch()
    failed(run(), "holds 'thesis.tex'. Name a new directory.")


def test_a_store_without_write_permission_is_refused(run, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr("mtbench.store.publish.open", refuse, raising=False)  # root may write anywhere
    failed(run(), "there is no permission to write there")


def test_a_disk_that_fills_up_ends_the_run_with_one_line_and_no_worker(run, tmp_path, monkeypatch):
    runners, pids = [], []
    start = Runner.__init__

    def remember(self, *args):
        start(self, *args)
        runners.append(self)

    def fill(self, image):
        pids.extend(runners[0]._engine.pids)
        raise explained(OSError(28, os.strerror(28)), tmp_path / "store" / "stacks" / "x.h5")

    monkeypatch.setattr(Runner, "__init__", remember)
    monkeypatch.setattr(Store, "publish_image", fill)
    failed(run(), "the disk is full. Free some space and run the same command again")
    assert len(pids) == 1
    assert not alive(pids[0])


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_keeps_what_was_finished_and_tells_how_to_go_on(mtbench, tmp_path, number):
    mark = tmp_path / "mark"
    words = [*TINY, "--set", "probe.act=train,wait", "--set", f"probe.mark={mark}", "--out", str(tmp_path / "store")]
    # A shell starts background commands with SIGINT ignored, and so would be what these tests start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen([*MAIN, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    until(mark.with_suffix(".begun").exists)
    workers = children(process.pid)
    # The whole process group, as a terminal does it, would be this test's own: workers are in no group of the driver's.
    assert all(os.getpgid(worker) != os.getpgid(process.pid) for worker in workers)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    lines = stderr.splitlines()
    assert lines[0] == "Interrupted. What has finished is in the store; go on with:"
    assert lines[1].split()[:3] == ["mtbench", "run", "--methods"]
    assert len(lines) == 2
    assert workers
    assert not any(map(alive, workers))
    store = Store.open(tmp_path / "store")
    assert all(checked.ok for checked in store.verify())
    assert len(store.finished_ids()) == 2
    mark.touch()
    again = mtbench(*words)
    assert again.exit_code == 0
    assert again.stdout.splitlines()[-1].startswith("2 trials trained, 2 were there already. See `mtbench report ")
    assert again.stderr == ""


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A run in a terminal: what it wrote there, and its store."""
    path = tmp_path_factory.mktemp("shown")
    driver, terminal = pty.openpty()
    words = [*TINY, "--methods", "probe,choosy,steady", "--set", "steady.act=raise", "--refit", "--out", path / "store"]
    process = subprocess.Popen(
        [*MAIN, *map(str, words)], stdout=terminal, stderr=subprocess.PIPE, env={**os.environ, "COLUMNS": "120"}
    )
    os.close(terminal)
    text = b""
    while True:
        try:
            chunk = os.read(driver, 65536)
        except OSError:  # how a terminal says that its last writer is gone
            break
        text += chunk
    stderr = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 0
    os.close(driver)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.decode()), stderr, path / "store"


def test_a_terminal_shows_cells_trials_and_failures_live(shown):
    text, _, _ = shown
    last = text[text.rindex("cell") :]
    assert re.search(r"probe x tiny +4 of 4 +0 +done", last)
    assert re.search(r"choosy x tiny +- +0 +skipped", last)
    assert re.search(r"steady x tiny +0 of 2 +2 +done", last)
    assert "4 of 6 trials done, 2 failed" in last


def test_failures_and_skipped_cells_are_told_at_the_end(shown):
    text, stderr, path = shown
    assert f"4 trials trained, 0 were there already, 2 failed. See `mtbench report {path}`." in text
    assert "Skipped choosy x tiny: Choosy likes no problem." in stderr
    assert "Warning: steady x tiny: 2 trial(s) failed: ValueError: an act of misbehaviour (" in stderr


def test_elsewhere_progress_is_plain_lines_and_a_second_run_has_nothing_to_do(shown, mtbench):
    result = mtbench(*TINY, "--refit", "--out", shown[2])
    assert result.exit_code == 0
    assert "4 of 4 trials done, 0 failed" in result.stdout
    said = f"0 trials trained, 4 were there already. Nothing was left to train. See `mtbench report {shown[2]}`."
    assert result.stdout.splitlines()[-1] == said
    assert "\x1b" not in result.output


def test_a_run_in_which_nothing_finished_fails(run, tmp_path):
    result = run("--set", "probe.act=raise")
    assert result.exit_code == 1
    assert f"No trial finished. `mtbench report {tmp_path / 'store'}` shows why." in result.stderr


def test_a_plugin_file_that_changed_since_trials_were_trained_is_named(mtbench, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN.read_text())
    words = ["run", "--methods", "probe,steady", "--datasets", "tiny", "--plugin", plugin, "--devices", "cpu:1"]
    words += ["--out", tmp_path / "store"]
    first = mtbench(*words, "--methods", "probe", "--splits", 1)
    assert (first.exit_code, first.stderr) == (0, "")
    assert mtbench(*words, "--dry-run").stderr == ""
    plugin.write_text(PLUGIN.read_text() + "\n# A change.\n")
    named = f"Warning: The plugin file {plugin} has changed since "
    for again in (mtbench(*words, "--dry-run"), mtbench(*words)):
        (warning,) = again.stderr.splitlines()
        assert warning.startswith(f"{named}1 trial(s) of probe x tiny were trained with it; they stay as they are. ")
        assert warning.endswith("raise the `version` of what has changed, or name another store with --out.")
    assert "3 trials trained, 1 were there already." in again.stdout
    report = " ".join(mtbench("report", tmp_path / "store").output.split())
    assert f"probe x tiny: trained with different plugins (plugin file {plugin}, SHA-256 " in report
    assert "steady x tiny: trained with different plugins" not in report
    plugin.write_text(plugin.read_text().replace('name = "steady"', 'name = "steady"\n    version = "2"'))
    (warning,) = mtbench(*words, "--dry-run").stderr.splitlines()
    assert warning.startswith(f"{named}2 trial(s) of probe x tiny were trained with it")
    plugin.write_text(PLUGIN.read_text())
    (warning,) = mtbench(*words, "--dry-run").stderr.splitlines()
    assert warning.startswith(f"{named}3 trial(s) of ")


def test_a_plugin_file_that_was_moved_is_no_change(mtbench, tmp_path):
    words = ["run", "--methods", "probe", "--datasets", "tiny", "--devices", "cpu:1", "--out", tmp_path / "store"]
    mtbench(*words, "--plugin", PLUGIN)
    moved = tmp_path / "moved.py"
    moved.write_text(PLUGIN.read_text())
    again = mtbench(*words, "--plugin", moved)
    assert (again.exit_code, again.stderr) == (0, "")
    assert "0 trials trained, 2 were there already." in again.stdout
