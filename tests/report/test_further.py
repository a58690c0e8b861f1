"""Metrics that a report computes from the predictions that selected trials kept."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mtbench import Metric
from mtbench.errors import UnknownName
from mtbench.metrics import METRICS
from mtbench.report.further import Further
from mtbench.report.reading import read
from mtbench.report.text import as_text
from mtbench.store import Store
from mtbench.tasks.fingerprint import fingerprint
from mtbench.testing.problems import OwnRegression

PROBLEMS = {split: OwnRegression().load(Path(), split, None) for split in (0, 1, 2)}


class Changed(OwnRegression):
    """Gives other rows under the same name."""

    def load(self, root, split, options):
        problem = super().load(root, split, options)
        part = problem.parts["test"]
        return dataclasses.replace(
            problem, parts={**problem.parts, "test": dataclasses.replace(part, labels=-part.labels)}
        )


def dataset_named(name):
    if name != OwnRegression.name:
        raise UnknownName.among("data set", name, [OwnRegression.name])
    return OwnRegression


def further(*names, dataset=dataset_named, **metrics):
    known = {name: METRICS[name.partition("@")[0]] for name in names}
    return Further(known | metrics, dataset, Path())


@pytest.fixture
def cell(results_store):
    results_store.tasks = tuple(task.name for task in OwnRegression.tasks)
    content = OwnRegression().content_hash(Path(), None)
    return lambda method: results_store.cell(method, OwnRegression.name, content=content, options={})


@pytest.fixture
def keep(results_store):
    """Publishes a stack whose trials predict each label but for an error of theirs; None keeps no predictions."""

    def publish(cell, *outcomes, errors, **provenance):
        content = {str(split): fingerprint(problem).to_record() for split, problem in PROBLEMS.items()}
        result = results_store.result(cell, outcomes, {"content": content, **provenance})
        if None not in errors:
            labels = [PROBLEMS[o.split].parts["test"].labels for o in outcomes]
            result.predictions["test"] = np.stack([y + np.float32(e) for y, e in zip(labels, errors, strict=True)])
        Store.create(results_store.path).publish_stack(result)

    return publish


@pytest.fixture
def board(results_store):
    """Reads the leaderboard with further metrics."""
    return lambda more, **how: read(results_store.path, further=more, **how)[1]


def means(board):
    return {(row.method, row.metric): row.mean for row in board.other_metrics}


def test_it_is_the_metric_of_the_selected_trials_predictions(cell, keep, board, outcome):
    keep(cell("stl"), outcome(0), outcome(1), errors=[1, 2])
    keep(cell("amtl"), outcome(0), outcome(1), errors=[3, 5])
    joint = Metric("joint", "of all rows", False, False, METRICS["pooled_rmse"].values)
    found = board(further("mae", joint=joint))
    assert means(found) == pytest.approx(
        {("stl", "mae"): 1.5, ("amtl", "mae"): 4, ("stl", "joint"): 1.5, ("amtl", "joint"): 4}, rel=1e-5
    )
    (row,) = [row for row in found.other_metrics if (row.method, row.metric) == ("amtl", "mae")]
    assert row.by_split == pytest.approx({0: 3, 1: 5}, rel=1e-5)
    assert row.gain.mean == pytest.approx(2.5, rel=1e-5)
    assert row.from_predictions
    tasks = [t for t in found.per_task if (t.method, t.metric) == ("stl", "mae")]
    assert [t.mean for t in tasks] == pytest.approx([1.5] * 4, rel=1e-5)


def test_it_has_no_part_in_the_selection(cell, keep, board, outcome, results_store):
    keep(cell("stl"), outcome(alpha=0.1, validation=1), outcome(alpha=0.2, validation=9), errors=[7, 0])
    assert means(board(further("mae"))) == pytest.approx({("stl", "mae"): 7}, rel=1e-5)
    assert board(further("mae")).rows == board(None).rows


def test_it_is_that_of_refits_where_the_score_is_theirs(cell, keep, board, outcome):
    keep(cell("stl"), outcome(), errors=[None])
    keep(cell("stl"), outcome(epochs=7), errors=[2])
    found = board(further("mae"))
    assert means(found) == pytest.approx({("stl", "mae"): 2}, rel=1e-5)
    assert found.warnings == board(None).warnings


def test_a_cell_of_which_one_trial_kept_nothing_has_no_value_and_the_others_theirs(cell, keep, board, outcome):
    keep(cell("stl"), outcome(0), errors=[1])
    keep(cell("stl"), outcome(1), errors=[None])
    keep(cell("amtl"), outcome(0), outcome(1), errors=[1, 1])
    found = board(further("mae"))
    assert means(found) == pytest.approx({("amtl", "mae"): 1}, rel=1e-5)
    said = "'mae' has no value for stl, whose selected trials kept no predictions of the part 'test'"
    assert found.warnings[-1].startswith(f"{OwnRegression.name}: {said}")


def test_predictions_that_were_slimmed_away_are_none(cell, keep, board, outcome):
    keep(cell("stl"), outcome(), errors=[np.nan])
    assert means(board(further("mae"))) == {}


def test_a_part_of_which_nothing_was_kept_has_no_value(cell, keep, board, outcome):
    keep(cell("stl"), outcome(), errors=[1])
    found = board(further("mae@test 2"))
    assert means(found) == {}
    assert "kept no predictions of the part 'test 2'" in found.warnings[-1]


def test_data_that_are_not_what_trials_were_trained_on_are_refused(cell, keep, board, outcome):
    keep(cell("stl"), outcome(), errors=[1])
    found = board(further("mae", dataset=lambda name: Changed))
    assert means(found) == {}
    assert "split 0 of miniature_ragged is not what the trials of this store were trained on" in found.warnings[-1]


def test_results_that_do_not_tell_their_data_need_a_data_set_that_declares_to_be_the_same(cell, keep, board, outcome):
    keep(cell("stl"), outcome(), errors=[1], content=None)
    assert means(board(further("mae"))) == pytest.approx({("stl", "mae"): 1}, rel=1e-5)
    newer = type("Newer", (OwnRegression,), {"version": "2"})
    assert means(board(further("mae", dataset=lambda name: newer))) == {}


def test_a_metric_of_other_tasks_is_told_and_leaves_the_others_theirs(cell, keep, board, outcome):
    keep(cell("stl"), outcome(), errors=[1])
    found = board(further("auc", "mae"))
    assert means(found) == pytest.approx({("stl", "mae"): 1}, rel=1e-5)
    assert found.warnings[-1].startswith("miniature_ragged: metric 'auc' needs classification tasks")


def test_a_data_set_that_nobody_offers_is_told(results_store, keep, board, outcome):
    keep(results_store.cell("stl", "elsewhere"), outcome(), errors=[1])
    found = board(further("mae"))
    assert found.warnings[-1].startswith("elsewhere: nothing further can be computed: Unknown data set 'elsewhere'")
    assert found.rows == board(None).rows


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (lambda problem, part, predictions: 1 / 0, "metric 'mine' failed: ZeroDivisionError: division by zero"),
        (lambda problem, part, predictions: np.zeros(1), "metric 'mine' must give values of shape [1, 4]; found [1]."),
    ],
)
def test_a_metric_at_fault_is_one_line(cell, keep, board, outcome, values, said):
    keep(cell("stl"), outcome(), errors=[1])
    found = board(further(mine=Metric("mine", "mine", False, True, values)))
    assert said in found.warnings[-1]
    assert "\n" not in found.warnings[-1]


def test_what_the_store_has_is_shown_as_it_is_and_once(cell, keep, board, outcome):
    keep(cell("stl"), outcome(test=3, pooled=4), errors=[1])
    found = board(further("rmse", "pooled_rmse"))
    assert means(found) == {("stl", "pooled_rmse"): 4}
    assert not found.other_metrics[0].from_predictions


def test_a_table_says_that_it_was_computed_for_the_report(cell, keep, board, outcome):
    keep(cell("stl"), outcome(), errors=[1])
    said = "mae: no part in the selection; computed for this report from the selected trials' predictions."
    assert said in as_text(board(further("mae")), False, colour=False, width=None)
    assert said not in as_text(board(further("pooled_rmse")), False, colour=False, width=None)
