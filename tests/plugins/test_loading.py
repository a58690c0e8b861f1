"""Loading: a problem or one line; what `load` gives is compared with what it gave."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest

from mtbench.contracts.dataset import Dataset
from mtbench.contracts.trials import Status
from mtbench.engines.workers import worker
from mtbench.errors import DataError
from mtbench.plan.grid import plan_cells
from mtbench.plan.study import Study
from mtbench.plugins.host import load_plugins
from mtbench.plugins.loading import content_hash, content_splits, load_as_planned, load_split
from mtbench.report.reading import read
from mtbench.run.provenance import changed_content
from mtbench.run.runner import Runner
from mtbench.store import Store, scan
from mtbench.tasks.fingerprint import fingerprint
from mtbench.testing.engines import InlineEngine, Silent
from mtbench.testing.problems import OwnRegression, SharedRegression

PLUGIN = Path(__file__).parents[1] / "tiny_plugin.py"


def raising(error):
    class Raises(OwnRegression):
        name = "raises"

        def load(self, root, split, options):
            if error is np.load:
                return np.load("no_such_file.npy")
            raise error

    return Raises()


@pytest.mark.parametrize(
    "error", [KeyError("x"), SystemExit(3), ValueError("two\nlines"), NotImplementedError(), np.load, MemoryError()]
)
def test_whatever_load_raises_becomes_one_line_with_data_set_split_file_and_line(error, tmp_path):
    dataset = raising(error)
    _, first = inspect.getsourcelines(type(dataset).load)
    with pytest.raises(DataError) as caught:
        load_split(dataset, tmp_path, 3, None, tmp_path / "logs")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("raises, split 3: its `load` failed: ")
    line = first + (2 if error is np.load else 3)
    assert f"({__file__}, line {line})" in message
    log = tmp_path / "logs" / "load-raises.log"
    assert str(log) in message
    assert "Traceback" in log.read_text()


def test_what_mtbench_itself_refuses_stays_as_it_is(tmp_path):
    with pytest.raises(DataError, match=r"^a sentence$"):
        load_split(raising(DataError("a sentence")), tmp_path, 0, None, tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


def test_an_interruption_is_no_fault(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        load_split(raising(KeyboardInterrupt()), tmp_path, 0, None)


def test_load_must_give_a_problem(tmp_path):
    class Nothing(OwnRegression):
        def load(self, root, split, options):
            return None

    with pytest.raises(DataError, match="must return a Problem; found NoneType"):
        load_split(Nothing(), tmp_path, 0, None)


def test_a_log_that_cannot_be_written_hides_nothing(tmp_path):
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(DataError, match="KeyError"):
        load_split(raising(KeyError("x")), tmp_path, 0, None, tmp_path / "logs")


class Unseeded(OwnRegression):
    name = "unseeded"

    def load(self, root, split, options):
        problem = super().load(root, split, options)
        part = problem.parts["train"]
        inputs = np.random.default_rng().normal(size=part.inputs.shape)
        return dataclasses.replace(problem, parts={**problem.parts, "train": dataclasses.replace(part, inputs=inputs)})


def test_randomness_without_a_seed_is_found_out(tmp_path):
    dataset = Unseeded()
    first = fingerprint(load_split(dataset, tmp_path, 0, None))
    with pytest.raises(DataError, match=r"unseeded, split 0: `load` must give the same each time") as caught:
        load_as_planned(dataset, tmp_path, 0, None, first)
    assert "\n" not in str(caught.value)


def test_what_load_gives_again_is_taken(tmp_path):
    dataset = OwnRegression()
    first = fingerprint(load_split(dataset, tmp_path, 0, None))
    problem, again = load_as_planned(dataset, tmp_path, 0, None, first)
    assert again == first
    assert problem.split == 0
    assert load_as_planned(dataset, tmp_path, 1, None, None)[1] != first


class Filed(SharedRegression):
    """Reads a file that it does not declare."""

    name = "filed"
    self_contained = False
    default_splits = 2

    def load(self, root, split, options):
        problem = super().load(root, split, options)
        factor = np.float32((root / "factor.txt").read_text())
        parts = {
            name: dataclasses.replace(part, inputs=np.asarray(part.inputs) * factor)
            for name, part in problem.parts.items()
        }
        return dataclasses.replace(problem, parts=parts)


def identity(dataset, root, wanted):
    found = {
        split: fingerprint(load_split(dataset, root, split, dataset.Options()))
        for split in content_splits(dataset, wanted)
    }
    return content_hash(dataset, root, dataset.Options(), found)


def test_data_that_declare_nothing_are_known_by_what_load_gives(tmp_path):
    (tmp_path / "factor.txt").write_text("1")
    first = identity(Filed(), tmp_path, [0])
    assert identity(Filed(), tmp_path, [0, 1, 2]) == first
    (tmp_path / "factor.txt").write_text("100")
    assert identity(Filed(), tmp_path, [0]) != first
    (tmp_path / "factor.txt").write_text("1")
    assert identity(Filed(), tmp_path, [0]) == first


def test_data_that_declare_themselves_are_known_by_it(tmp_path):
    class Declared(Filed):
        self_contained = True

    class Hashed(Filed):
        def content_hash(self, root, options):
            return "mine"

    (tmp_path / "factor.txt").write_text("1")
    assert content_splits(Declared(), [3]) == [3]
    declared = identity(Declared(), tmp_path, [0])
    assert declared == Declared().content_hash(tmp_path, None)
    (tmp_path / "factor.txt").write_text("2")
    assert identity(Declared(), tmp_path, [0]) == declared
    assert identity(Hashed(), tmp_path, [0]) == "mine"


def test_built_in_data_keep_their_identities(tmp_path):
    for cls in load_plugins().datasets.values():
        if issubclass(cls, Dataset) and cls.__module__.startswith("mtbench_datasets."):
            declared = cls.sources or cls.self_contained or cls.content_hash is not Dataset.content_hash
            assert declared, cls.name


FILED = """
import dataclasses
import numpy as np
from mtbench import hookimpl
from mtbench.testing.problems import SharedRegression

class Filed(SharedRegression):
    name = "filed"
    self_contained = DECLARED
    default_splits = 1

    def load(self, root, split, options):
        problem = super().load(root, split, options)
        factor = np.float32((root / "factor.txt").read_text())
        scaled = {n: dataclasses.replace(p, inputs=np.asarray(p.inputs) * factor) for n, p in problem.parts.items()}
        return dataclasses.replace(problem, parts=scaled)

@hookimpl
def mtbench_datasets():
    return [Filed]
"""


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Plans a study on data whose file holds a factor; gives its cells, its store, and a function that runs it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    worker._load.cache_clear()

    def plan(factor, declared):
        (tmp_path / "factor.txt").write_text(factor)
        plugin = tmp_path / "filed_plugin.py"
        plugin.write_text(FILED.replace("DECLARED", str(declared)))
        files = [PLUGIN, plugin]
        plugins = load_plugins(files)
        study = Study(methods=["probe"], datasets=["filed"], plugins=files, splits=1, out=tmp_path / "store")
        cells, store = plan_cells(study, plugins, tmp_path), Store.create(study.out)
        runner = Runner(study, cells, store, InlineEngine(), plugins, tmp_path, Silent())
        return cells, store, runner.run

    return plan


def test_a_file_that_changes_while_a_run_goes_on_fails_its_trials_in_one_line(planned, tmp_path):
    _, _, run = planned("1", declared=True)
    (tmp_path / "factor.txt").write_text("2")
    summary = run()
    ((_, status, reason),) = summary.failures
    assert status is Status.FAILED
    assert "filed, split 0: `load` must give the same each time" in reason
    assert "\n" not in reason


def test_undeclared_files_that_change_mean_new_trials(planned):
    assert planned("1", declared=False)[2]().n_finished == 1
    worker._load.cache_clear()
    assert planned("1", declared=False)[2]().n_present == 1
    worker._load.cache_clear()
    assert planned("2", declared=False)[2]().n_finished == 1


def test_the_content_is_in_provenance_and_other_content_is_told(planned):
    cells, store, run = planned("1", declared=True)
    run()
    (stack,) = scan(store).stacks
    assert stack.content == {0: cells[0].content[0]}
    assert list(changed_content(cells, [stack])) == []
    # A last digit more or less is no other content.
    assert list(changed_content(planned("1.0000001", declared=True)[0], [stack])) == []
    worker._load.cache_clear()
    cells, store, run = planned("2", declared=True)
    (told,) = changed_content(cells, scan(store).stacks)
    assert told.startswith("filed gives something else in split(s) 0 than 1 trial(s) of probe x filed were trained on")


def test_a_table_of_different_content_carries_a_caution(results_store, outcome):
    cell = results_store.cell()
    first = fingerprint(OwnRegression().load(Path(), 0, None)).to_record()
    other = fingerprint(OwnRegression().load(Path(), 1, None)).to_record()
    results_store.write(cell, outcome(0, alpha=1), content={"0": first})
    results_store.write(cell, outcome(0, alpha=2), content={"0": first})
    assert not any("same data" in text for text in read(results_store.path)[1].warnings)
    results_store.write(cell, outcome(0, alpha=3), content={"0": other})
    assert any("split 0 was not the same data for all trials" in text for text in read(results_store.path)[1].warnings)
