import numpy as np
import pytest

import mtbench
from mtbench.contracts.trials import Status
from mtbench.errors import StoreError
from mtbench.store import Store


@pytest.fixture
def results(results_store, outcome):
    cell = results_store.cell()
    results_store.write(
        cell,
        outcome(split=0, alpha=0.1, validation=(1, 3), test=(4, 6)),
        outcome(split=0, alpha=0.2, validation=9, test=777),
        outcome(split=0, alpha=0.3, status=Status.DIVERGED, reason="loss became inf"),
    )
    results_store.write(results_store.cell("stl"), outcome(split=0, alpha=0.1, test=8))
    return mtbench.load(results_store.path)


def test_trials_has_a_row_for_each_trial(results):
    mine = results.trials[results.trials.method == "amtl"].sort_values("param.alpha")
    assert mine["param.alpha"].tolist() == [0.1, 0.2, 0.3]
    assert mine.status.tolist() == ["finished", "finished", "diverged"]
    assert mine.selected.tolist() == [True, False, False]
    assert mine.validation.tolist()[:2] == [2.0, 9.0]
    assert np.isnan(mine.validation.tolist()[2])
    assert mine.reason.tolist()[2] == "loss became inf"
    assert set(mine.device) == {"cpu"}
    assert mine.file.str.endswith(".h5").all()
    for column in ("id", "dataset", "split", "seed", "phase", "best_epoch", "train_seconds", "n_parameters", "torch"):
        assert column in mine


def test_trials_say_how_far_from_optimal_they_ended(results_store, outcome):
    outcomes = [outcome(0, residual=1e-7), outcome(1, residual=3e-4)]
    results_store.write(results_store.cell("a"), *outcomes, tolerance=1e-6)
    results_store.write(results_store.cell("b"), outcome(0))
    trials = mtbench.load(results_store.path).trials.set_index(["method", "split"])
    assert trials.loc["a", "residual"].to_dict() == {0: 1e-7, 1: 3e-4}
    assert trials.loc["a", "tolerance"].to_dict() == {0: 1e-6, 1: 1e-6}
    assert trials.loc["b", ["residual", "tolerance"]].isna().all(axis=None)


def test_no_frame_holds_a_test_result_of_a_trial_that_was_not_selected(results):
    for frame in (results.trials, results.per_task, results.leaderboard, results.other_metrics):
        assert not (frame == 777).to_numpy().any()


def test_per_task_has_the_selected_trials_test_results(results):
    mine = results.per_task[results.per_task.method == "amtl"]
    assert list(mine) == ["method", "dataset", "split", "task", "metric", "value"]
    assert mine[["task", "value"]].to_numpy().tolist() == [["a", 4.0], ["b", 6.0]]


def test_the_leaderboard_is_that_of_the_report(results):
    board = results.leaderboard.set_index("method")
    assert board.loc["amtl", "mean"] == 5.0
    assert board.loc["amtl", "n_failed"] == 1
    assert board.loc["amtl", "gain"] == {"baseline": "stl", "mean": -3.0, "ci95": None}
    assert any("did not finish" in warning for warning in results.warnings)


def test_an_empty_store_has_empty_frames_with_their_columns(results_store):
    Store.create(results_store.path)
    results = mtbench.load(str(results_store.path))
    assert len(results.trials) == len(results.per_task) == len(results.leaderboard) == 0
    assert {"id", "method", "dataset", "validation"} <= set(results.trials)
    assert list(results.per_task) == ["method", "dataset", "split", "task", "metric", "value"]
    assert {"method", "dataset", "mean", "ci95"} <= set(results.leaderboard)


def test_a_directory_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no store"):
        mtbench.load(tmp_path)
