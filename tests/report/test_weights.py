"""Task weights of a store: which trials they are of, how they are averaged, and what they look like."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image
from rich.cells import cell_len

from mtbench.errors import StoreError, StudyError, UnknownName
from mtbench.report.course_figures import LINES_UP_TO, picture, spread
from mtbench.report.course_text import ASCII, UNICODE, as_csv, as_json, as_view, blocks_for
from mtbench.report.courses import WeightCourses, bounds, mean_of_known
from mtbench.report.weights import task_weights
from mtbench.store import Store

METHOD = "hard_sharing+uw"
NAN = float("nan")


@pytest.fixture
def keep(results_store):
    """Publishes a stack whose trials kept histories; what is given has the trials first."""

    def publish(cell, *outcomes, **kept):
        result = results_store.result(cell, outcomes, {})
        result.history = {name: np.asarray(values, float) for name, values in kept.items()}
        Store.create(results_store.path).publish_stack(result)

    return publish


@pytest.fixture
def shown(results_store):
    return lambda **how: task_weights(results_store.path, METHOD, "school", **how)


@pytest.fixture
def cell(results_store):
    return results_store.cell(METHOD)


def test_only_what_the_report_selected_is_shown(outcome, keep, cell, shown):
    weights = np.arange(12.0).reshape(2, 3, 2)
    keep(cell, outcome(alpha=0.1, validation=3), outcome(alpha=0.2), epoch=[[1, 2, 3]] * 2, weights=weights)
    found = shown()
    assert found.weights.tolist() == weights[1].tolist()
    assert (found.method, found.weighting, found.tasks) == (METHOD, "uw", ("a", "b"))
    assert (found.epochs.tolist(), found.n_trials.tolist(), found.best_epochs) == ([1, 2, 3], [1, 1, 1], (7,))
    assert (found.cosine, found.conflicts, found.warnings) == (None, None, ())


def test_refits_are_shown_where_the_score_is_theirs(outcome, keep, cell, shown):
    keep(cell, outcome(), epoch=[[1]], weights=[[[1, 1]]])
    keep(cell, outcome(epochs=2, best_epoch=2), epoch=[[1, 2]], weights=[[[2, 3], [4, 5]]])
    found = shown()
    assert found.refit
    assert found.weights.tolist() == [[2, 3], [4, 5]]
    assert found.title == (f"{METHOD} on school", "weights of tasks, split 0, refits")


def test_the_mean_is_over_the_trials_that_still_trained_and_says_how_many(outcome, keep, cell, shown):
    outcomes = [outcome(split=0, best_epoch=1), outcome(split=0, seed=1, best_epoch=3), outcome(split=1, best_epoch=2)]
    keep(
        cell,
        *outcomes,
        epoch=[[1, NAN, NAN], [1, 2, 3], [1, 2, NAN]],
        weights=[[[1, 0], [NAN, NAN], [NAN, NAN]], [[3, 0], [4, 0], [5, 0]], [[6, 1], [8, 1], [NAN, NAN]]],
        gradient_cosine=[[0.5, NAN, NAN], [0.7, 0.1, 0.2], [0.2, 0.3, NAN]],
        gradient_conflicts=[[0, NAN, NAN], [0, 0, 1], [1, 1, NAN]],
    )
    found = shown()
    assert found.weights.tolist() == [[4, 0.5], [6, 0.5], [5, 0]]
    assert found.cosine == pytest.approx([0.4, 0.2, 0.2])
    assert found.conflicts.tolist() == [0.5, 0.5, 1]
    assert found.n_trials.tolist() == [3, 2, 1]
    assert found.trials_line == "3 trials to epoch 1, 2 to 2, 1 to 3"
    assert (found.best_epochs, found.best_epoch) == ((1, 2, 3), 2)
    assert found.best_line == "best epochs 1 to 3, median 2"
    assert found.title[1] == "weights of tasks, mean over 2 splits (3 trials)"
    assert shown(split=1).weights.tolist() == [[6, 1], [8, 1]]


def test_trials_that_were_looked_at_in_different_epochs_meet_by_epoch(outcome, keep, cell, shown):
    keep(cell, outcome(split=0), epoch=[[5, 10]], weights=[[[1, 1], [2, 2]]])
    keep(cell, outcome(split=1), epoch=[[5, 8, 10]], weights=[[[3, 3], [5, 5], [4, 4]]])
    found = shown()
    assert found.epochs.tolist() == [5, 8, 10]
    assert found.weights[:, 0].tolist() == [2, 5, 3]


def test_many_lengths_are_told_by_their_first_half_and_last():
    n = [9] * 3 + [8] * 2 + [6] * 2 + [4] * 5 + [2] + [1]
    assert made(np.ones((14, 1)), n_trials=n).trials_line == "9 trials to epoch 3, 4 to 12, 1 to 14"
    assert made(np.ones((3, 1))).trials_line == ""


def test_a_weighting_without_weights_shows_its_gradients(outcome, keep, cell, shown):
    keep(cell, outcome(), epoch=[[1, 2]], gradient_cosine=[[0.25, -0.5]], gradient_conflicts=[[0, 1]])
    found = shown()
    assert (found.weights, found.tasks) == (None, ())
    view = as_view(found)
    assert "gradients of tasks, split 0" in view
    assert "The weighting uw makes one gradient of the tasks' and has no weights." in view
    assert json.loads(as_json(found))["weights"] is None
    assert as_csv(found).splitlines()[1:] == ["1,1,0.25,0.0", "2,1,-0.5,1.0"]
    assert picture(found, "png")


def test_trials_that_kept_no_history_are_counted_aloud(outcome, keep, cell, shown):
    keep(cell, outcome(split=0), epoch=[[1]], weights=[[[1, 2]]])
    keep(cell, outcome(split=1))
    assert shown().splits == (0,)
    assert shown().warnings == ("Weights were kept of 1 of the 2 selected trials; the mean is over these.",)


def test_without_any_history_the_reason_is_given(results_store, outcome, keep, cell, shown):
    keep(cell, outcome(), epoch=[[NAN]], weights=[[[NAN, NAN]]])
    with pytest.raises(StoreError, match=r"hard_sharing\+uw x school: no history of its selected trials is in the"):
        shown()


def test_trials_with_different_tasks_have_no_mean(outcome, keep, cell, shown):
    keep(cell, outcome(split=0), epoch=[[1]], weights=[[[1, 2]]])
    keep(cell, outcome(split=1), epoch=[[1]], weights=[[[1, 2, 3]]])
    with pytest.raises(StudyError, match=r"trials weigh 2 and 3 tasks, .*`--split N` shows one split"):
        shown()
    assert shown(split=1).tasks == ("0", "1", "2")


@pytest.mark.parametrize(
    "kept",
    [
        {"weights": [[[1, 2]]]},
        {"epoch": [[1, 2]], "weights": [[[1, 2]]]},
        {"epoch": [[1]], "weights": [[1]]},
        {"epoch": [[1]], "gradient_cosine": [[[1]]]},
    ],
)
def test_histories_that_do_not_fit_each_other_are_refused(outcome, keep, cell, shown, kept):
    keep(cell, outcome(), **kept)
    with pytest.raises(StoreError, match="histories must have a value of each trial for each 'epoch'; found '"):
        shown()


def test_a_method_without_a_weighting_is_answered_with_those_that_have_one(results_store, outcome, keep, cell):
    keep(results_store.cell("hard_sharing"), outcome())
    with pytest.raises(StudyError, match=r"none on school in this store has; .*`mtbench run --methods hard_sharing\+"):
        task_weights(results_store.path, "hard_sharing", "school")
    keep(cell, outcome(), epoch=[[1]], weights=[[[1, 2]]])
    with pytest.raises(StudyError, match=r"\(on school in this store: hard_sharing\+uw\); found 'hard_sharing', which"):
        task_weights(results_store.path, "hard_sharing", "school")


@pytest.mark.parametrize(
    ("method", "how", "message"),
    [
        ("hard_sharing+uv", {}, "Did you mean 'hard_sharing+uw'?"),
        (METHOD, {"split": 7}, "--split must be one in which hard_sharing+uw x school has a selected trial (0)"),
        (METHOD, {"rule": "best"}, "Unknown selection rule 'best'."),
    ],
)
def test_what_does_not_exist_is_answered_with_what_does(results_store, outcome, keep, cell, method, how, message):
    keep(cell, outcome(), epoch=[[1]], weights=[[[1, 2]]])
    with pytest.raises((UnknownName, StudyError)) as caught:
        task_weights(results_store.path, method, "school", **how)
    assert message in str(caught.value)


def made(weights, cosine=None, conflicts=None, n_trials=None, best=(2,), tasks=None):
    """Courses with these numbers, [E, T]."""
    weights = np.asarray(weights, float)
    n_epochs, n_tasks = weights.shape
    return WeightCourses(
        METHOD,
        "digits",
        "uw",
        tuple(tasks or (f"task_{t}" for t in range(n_tasks))),
        np.arange(1, n_epochs + 1),
        weights,
        None if cosine is None else np.asarray(cosine, float),
        None if conflicts is None else np.asarray(conflicts, float),
        np.asarray(n_trials or [1] * n_epochs),
        best,
        (0,),
        False,
        "per_split",
        (),
    )


def waves(n_epochs, n_tasks):
    """Weights of which no two tasks' move equally far; the last task's moves most."""
    t = np.arange(1, n_tasks + 1)
    return 1 + t / n_tasks * np.sin(np.linspace(0, 9, n_epochs))[:, None]


def test_the_view_has_a_line_for_each_task_with_its_course_below_the_best_epoch():
    found = made([[1, 1], [0.5, 2], [0.75, 3]], cosine=[0.5, 0, -0.5], conflicts=[0, 0.5, 1])
    assert as_view(found).splitlines()[3:] == [
        "task       first  last  least  largest  1▼3",
        "task_0         1  0.75    0.5        1  ▂▁▂",
        "task_1         1     3      1        3  ▂▅█",
        "cosine       0.5  -0.5   -0.5      0.5  █▅▁",
        "conflicts      0     1      0        1  ▁▅█",
        "",
        "Best epoch 2 (▼).",
        "Courses of weights are drawn from 0.5 to 3.",
        "cosine: mean cosine between the gradients of two tasks, drawn from its least to its largest.",
        "conflicts: share of pairs of tasks whose gradients point in opposite directions, likewise.",
    ]


def test_weights_that_do_not_move_are_drawn_level_and_unknown_ones_as_gaps():
    assert "  ▅▅▅" in as_view(made([[1], [1], [1]]))
    assert "  ▁·█" in as_view(made([[1], [NAN], [2]]))
    assert as_view(made([[1]], best=(1,))).splitlines()[-1] == "Best epoch 1."


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(("n_epochs", "n_tasks"), [(1, 1), (2, 3), (40, 12), (300, 139)])
def test_the_view_fits_the_terminal_and_keeps_all_its_numbers(width, n_epochs, n_tasks):
    tasks = [f"語 task with a name that is rather long {t}" for t in range(n_tasks)]
    numbers = np.linspace(0, 1, n_epochs)
    found = made(waves(n_epochs, n_tasks) * -1.234e-5, numbers, numbers, tasks=tasks, best=(1, n_epochs))
    for every_task in (False, True):
        lines = as_view(found, width=width, every_task=every_task).splitlines()
        assert max(map(cell_len, lines)) <= width
        assert sum("語" in line for line in lines) == (n_tasks if every_task else min(n_tasks, 12))


def test_of_many_tasks_those_that_move_most_are_listed_in_their_order_and_the_rest_counted():
    found = made(waves(10, 14)[:, ::-1])
    lines = as_view(found).splitlines()
    assert [line.split()[0] for line in lines if line.startswith("task_")] == [f"task_{t}" for t in range(12)]
    least = float(np.ptp(found.weights[:, 12]))
    assert lines[-1] == f"2 more tasks move less, by {least:.3g} at most; --all shows them."
    assert "--all" not in as_view(found, every_task=True)
    assert as_view(made(waves(10, 13))).splitlines()[-1].startswith("1 more task moves less")


def test_signs_are_ascii_where_a_stream_has_no_others():
    assert [blocks_for(name) for name in ("utf-8", "ascii", "latin-1", None, "none such")] == [UNICODE, *[ASCII] * 4]
    assert as_view(made(waves(9, 3)), ASCII).isascii()


def test_csv_has_a_line_for_each_epoch_and_json_the_same_numbers():
    found = made([[1, 2], [NAN, 3]], cosine=[0.5, NAN], conflicts=[0, 1], n_trials=[2, 1], tasks=["a,b", "c"])
    head, *rows = csv.reader(io.StringIO(as_csv(found)))
    assert head == ["epoch", "trials", "gradient_cosine", "gradient_conflicts", "a,b", "c"]
    assert rows == [["1", "2", "0.5", "0.0", "1.0", "2.0"], ["2", "1", "", "1.0", "", "3.0"]]
    record = json.loads(as_json(found))
    assert record["weights"] == [[1, 2], [None, 3]]
    assert (record["gradient_cosine"], record["gradient_conflicts"]) == ([0.5, None], [0, 1])
    assert (record["tasks"], record["epochs"], record["trials"]) == (["a,b", "c"], [1, 2], [2, 1])
    assert (record["method"], record["weighting"], record["best_epochs"]) == (METHOD, "uw", [2])


def test_names_that_would_steer_a_terminal_lose_their_power():
    found = made(np.ones((2, 2)), tasks=["a\x1b[2Jb", "c\nd"])
    for text in (as_view(found, width=60), as_csv(found)):
        assert all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize("n_tasks", [3, LINES_UP_TO, LINES_UP_TO + 1, 200])
def test_pictures_have_the_same_bytes_each_time_and_name_their_tasks(n_tasks):
    numbers = np.linspace(-1, 1, 6)
    found = made(waves(6, n_tasks), numbers, numbers, n_trials=[3, 3, 3, 2, 2, 1], best=(2, 3, 6))
    svg = picture(found, "svg")
    assert picture(found, "svg") == svg
    root = ElementTree.fromstring(svg)
    texts = {text for node in root.iter("{http://www.w3.org/2000/svg}text") for text in node.itertext()}
    assert {f"task_{t}" for t in range(n_tasks if n_tasks < 60 else 1)} <= texts
    assert {"mean cosine of gradients", "share of conflicts", "epoch", "gradients"} <= texts
    assert "best epochs 2 to 6, median 3 (dashed); 3 trials to epoch 3, 2 to 5, 1 to 6" in texts


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_other_kinds_of_pictures_have_the_same_bytes_each_time(kind):
    image = picture(made(waves(6, 3)), kind)
    assert picture(made(waves(6, 3)), kind) == image
    if kind == "png":
        assert Image.open(io.BytesIO(image)).format == "PNG"


@pytest.mark.parametrize("weights", [[[1.0, 1.0]], [[NAN, NAN], [NAN, 2]], [[0, 0], [0, 0]], [[-1, 0], [1, 0]]])
def test_odd_numbers_are_drawn_all_the_same(weights):
    assert picture(made(weights, best=(1,)), "svg")
    assert picture(made(np.repeat(weights, 10, 1), best=(1,)), "svg")


def test_names_are_spread_no_more_than_they_must_be():
    assert spread([0, 0.5, 1], 0.25) == [0, 0.5, 1]
    assert spread([0.5, 0.51, 0.9], 0.1) == pytest.approx([0.455, 0.555, 0.9])
    found = spread([0.5] * 12, 0.05)
    assert np.diff(found) == pytest.approx(np.full(11, 0.05))
    assert np.mean(found) == pytest.approx(0.5)
    assert spread([], 1) == []


def test_names_stay_beside_their_panel_where_it_has_room_for_them():
    assert spread([0.99, 1, 1], 0.1) == pytest.approx([0.8, 0.9, 1])
    assert spread([0, 0, 0.1, 1], 0.1) == pytest.approx([0, 0.1, 0.2, 1])
    assert spread([0.5, 0.5, 0.5], 0.6) == pytest.approx([0, 0.6, 1.2])


def test_means_and_bounds_are_of_what_is_known():
    assert mean_of_known(np.array([[1, NAN, NAN], [3, 2, NAN]])).tolist()[:2] == [2, 2]
    assert np.isnan(mean_of_known(np.array([[NAN], [np.inf]]))).all()
    assert bounds([NAN, 2, -1]) == (-1, 2)
    assert np.isnan(bounds([NAN])).all()
