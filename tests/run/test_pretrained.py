"""Recipes that name a base: it is trained and stored first, once, and others start from its backbone."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from mtbench.contracts.trials import Status
from mtbench.engines import JobFailed
from mtbench.errors import StudyError
from mtbench.plan.grid import plan_cells
from mtbench.plan.study import Study
from mtbench.plugins.host import load_plugins
from mtbench.report.reading import read
from mtbench.run.runner import Runner
from mtbench.store import Store, scan
from mtbench.testing.engines import InlineEngine, Silent

PLUGIN = Path(__file__).parents[1] / "tiny_plugin.py"
RECIPE = {"backbone": "mlp", "base": "cnn", "base_epochs": 5, "base_learning_rate": 0.01}


def planned(path: Path, methods: tuple[str, ...], **recipe: object):
    study = Study(methods=list(methods), datasets=["tiny"], plugins=[PLUGIN], recipe={"tiny": {**RECIPE, **recipe}})
    plugins = load_plugins([PLUGIN])
    return study, plugins, plan_cells(study, plugins, path)


class LosesBases(InlineEngine):
    """Loses the workers that train a base."""

    def submit(self, job):
        if job.trials[0].cell.role == "base":
            future: Future[bytes] = Future()
            future.set_exception(JobFailed(Status.KILLED, "The worker process was killed."))
            return future
        return super().submit(job)


def go(path: Path, methods=("cnn", "deep_amtfl", "stl"), engine=None, **recipe: object):
    study, plugins, cells = planned(path, methods, **recipe)
    engine = engine or InlineEngine()
    runner = Runner(study, cells, Store.create(path / "store"), engine, plugins, path, Silent())
    return runner.run(), engine, cells


def jobs_of(engine, role: str):
    return [job for job in engine.jobs if job.trials[0].cell.role == role]


def test_the_base_is_trained_once_before_all_that_start_from_it(tmp_path: Path) -> None:
    summary, engine, cells = go(tmp_path)
    assert not summary.failures
    trained = [(job.trials[0].cell.role, job.trials[0].cell.method) for job in engine.jobs if job.kind == "train"]
    assert trained.index(("base", "cnn")) < min(trained.index(("", m)) for m in ("cnn", "deep_amtfl"))
    assert sum(len(job.trials) for job in jobs_of(engine, "base")) == 2  # splits
    base = next(cell.base for cell in cells if cell.base)
    assert base.cell.recipe.max_epochs == 5
    assert base.cell.recipe.learning_rate == 0.01
    assert not base.cell.recipe.base


def test_others_start_from_its_weights_and_solvers_from_nothing(tmp_path: Path) -> None:
    _, engine, _ = go(tmp_path)
    stored = [s for s in scan(Store.open(tmp_path / "store")).stacks if s.cell.get("role") == "base"]
    weights = {}
    for stack in stored:
        result = Store.open(tmp_path / "store").read(stack.path)
        for row, trial in enumerate(result.trials):
            weights[trial.split, trial.seed] = {name: v[row] for name, v in result.learned.items()}
    assert weights.keys() == {(0, 0), (1, 0)}
    for job in jobs_of(engine, ""):
        if job.trials[0].cell.method == "stl":
            assert job.pretrained == {}
            continue
        for place in {(t.split, t.seed) for t in job.trials}:
            assert weights[place].keys() == job.pretrained[place].keys() == {"layers.0.weight", "layers.0.bias"}
            assert all(np.array_equal(weights[place][name], job.pretrained[place][name]) for name in weights[place])


def test_starting_from_a_base_changes_results_and_identity(tmp_path: Path) -> None:
    _, _, with_base = go(tmp_path / "with", ("deep_amtfl",))
    _, _, without = go(tmp_path / "without", ("deep_amtfl",), base="")
    assert with_base[0].cell.base
    assert not without[0].cell.base
    assert with_base[0].trials()[0].id != without[0].trials()[0].id
    scores = [read(tmp_path / where / "store", None)[1].rows[0].mean for where in ("with", "without")]
    assert scores[0] != scores[1]


def test_a_base_of_other_epochs_is_another_identity(tmp_path: Path) -> None:
    ids = {planned(tmp_path, ("cnn",), base_epochs=n)[2][0].trials()[0].id for n in (3, 4)}
    assert len(ids) == 2


def test_a_second_run_trains_nothing_and_all_further_methods_take_the_stored_base(tmp_path: Path) -> None:
    go(tmp_path)
    _, again, _ = go(tmp_path)
    assert again.jobs == []
    summary, further, _ = go(tmp_path, ("cnn", "mt_cnn", "deep_amtl"))
    assert [job.trials[0].cell.method for job in further.jobs if job.kind == "train"] == ["mt_cnn", "deep_amtl"]
    assert all(set(job.pretrained) == {(0, 0), (1, 0)} for job in further.jobs)
    _, board = read(tmp_path / "store", None)
    assert summary.n_finished == sum(row.n_trials for row in board.rows if row.method in ("mt_cnn", "deep_amtl"))


def test_no_report_compares_a_base(tmp_path: Path) -> None:
    go(tmp_path)
    _, board = read(tmp_path / "store", None)
    assert sorted(row.method for row in board.rows) == ["cnn", "deep_amtfl", "stl"]


def test_what_starts_from_a_base_that_failed_fails_with_the_reason_and_is_tried_again(tmp_path: Path) -> None:
    summary, _, _ = go(tmp_path, ("mt_cnn", "stl"), engine=LosesBases())
    failures = [(trial.cell.role, trial.cell.method, status, reason) for trial, status, reason in summary.failures]
    lost = [(status, reason) for role, method, status, reason in failures if method == "mt_cnn"]
    assert lost
    assert all(status is Status.FAILED and "cnn x tiny (base)" in reason for status, reason in lost)
    summary, _, _ = go(tmp_path, ("mt_cnn", "stl"))
    assert not summary.failures
    _, board = read(tmp_path / "store", None)
    assert sorted(row.method for row in board.rows) == ["mt_cnn", "stl"]


@pytest.mark.parametrize(("base", "words"), [("stl", "has no backbone"), ("cnnn", "Did you mean 'cnn'")])
def test_a_base_must_be_a_known_method_with_a_backbone(tmp_path: Path, base: str, words: str) -> None:
    with pytest.raises(Exception, match=words) as caught:
        planned(tmp_path, ("cnn",), base=base)
    assert base == "cnnn" or isinstance(caught.value, StudyError)
