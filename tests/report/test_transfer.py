"""Learned matrices of a store: which are shown, how they are averaged, and what they look like."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from mtbench.contracts.trials import Status
from mtbench.errors import StoreError, StudyError, UnknownName
from mtbench.report.figures import picture
from mtbench.report.matrices import Axis, LearnedMatrix
from mtbench.report.matrix_text import ASCII, UNICODE, as_csv, as_json, as_view, shades_for
from mtbench.report.transfer import learned_matrix
from mtbench.store import Store

TASKS = ("easy", "middle", "hard")


def transfers(n, seed=0):
    """n matrices [3, 3], as float32 as methods give them."""
    return np.random.default_rng(seed).normal(size=(n, 3, 3)).astype(np.float32)


@pytest.fixture
def keep(results_store):
    """Publishes a stack whose trials kept matrices; `kept` has the trials first."""
    results_store.tasks = TASKS

    def publish(cell, *outcomes, provenance=None, predictions=None, **kept):
        result = results_store.result(cell, outcomes, provenance or {})
        result.learned = {name: np.asarray(values) for name, values in kept.items()}
        result.predictions = predictions or {}
        Store.create(results_store.path).publish_stack(result)

    return publish


@pytest.fixture
def shown(results_store):
    """Reads a matrix of amtl on school."""
    return lambda **how: learned_matrix(results_store.path, "amtl", "school", **how)


def test_only_what_the_report_selected_is_shown(results_store, outcome, keep, shown):
    found = transfers(3)
    keep(
        results_store.cell(),
        outcome(alpha=0.1, validation=3),
        outcome(alpha=0.2, validation=1),
        outcome(alpha=0.3, status=Status.DIVERGED),
        transfer=found,
    )
    matrix = shown(signed=True)
    assert matrix.values.tolist() == found[1].tolist()
    assert (matrix.name, matrix.splits, matrix.n_trials, matrix.refit) == ("transfer", (0,), 1, False)
    assert matrix.rows == matrix.columns == Axis(TASKS, True)


def test_refits_are_shown_where_the_score_is_theirs(results_store, outcome, keep, shown):
    cell, found = results_store.cell(), transfers(2)
    keep(cell, outcome(), transfer=found[:1])
    keep(cell, outcome(epochs=7), transfer=found[1:])
    matrix = shown(signed=True)
    assert matrix.refit
    assert matrix.values.tolist() == found[1].tolist()
    assert matrix.title == ("amtl on school", "transfer, split 0, refits")


def test_absolute_values_are_averaged_over_splits_and_seeds_within(results_store, outcome, keep, shown):
    found = transfers(3)
    keep(results_store.cell(), outcome(split=0, seed=0), outcome(split=0, seed=1), outcome(split=1), transfer=found)
    sizes = np.abs(found.astype(float))
    assert shown().values == pytest.approx(((sizes[0] + sizes[1]) / 2 + sizes[2]) / 2)
    assert shown(signed=True).values == pytest.approx(((found[0] + found[1]) / 2 + found[2]) / 2, abs=1e-6)
    assert shown(split=0).values == pytest.approx((sizes[0] + sizes[1]) / 2)
    assert shown().title[1] == "|transfer|, mean over 2 splits (3 trials)"


def test_the_selection_rule_can_be_chosen(results_store, outcome, keep, shown):
    found = transfers(4)
    keep(
        results_store.cell(),
        outcome(split=0, alpha=0.1, validation=1.0),
        outcome(split=0, alpha=0.2, validation=1.5),
        outcome(split=1, alpha=0.1, validation=9.0),
        outcome(split=1, alpha=0.2, validation=1.0),
        transfer=found,
    )
    assert shown(split=0, signed=True).values.tolist() == found[0].tolist()
    assert shown(split=0, signed=True, rule="across_splits").values.tolist() == found[1].tolist()


def test_the_directions_are_the_means_above_and_below_the_diagonal(results_store, outcome, keep, shown):
    keep(results_store.cell(), outcome(), transfer=[[[9, -1, 2], [-4, 9, 3], [5, 6, 9]]])
    for signed in (False, True):
        matrix = shown(signed=signed)
        assert matrix.directions == (2.0, 5.0)
        assert matrix.direction_line == "early to late tasks: 2, late to early: 5"


def test_what_is_no_transfer_has_no_direction(results_store, outcome, keep, shown):
    keep(results_store.cell(), outcome(), transfer=transfers(1), task_covariance=transfers(1))
    assert shown(matrix="task_covariance").directions is None
    assert shown(matrix="task_covariance").direction_line == ""


def test_without_a_transfer_the_only_matrix_between_tasks_is_shown(results_store, outcome, keep, shown):
    keep(results_store.cell(), outcome(), head=np.ones((1, 3, 3)), task_covariance=transfers(1))
    assert shown().name == "task_covariance"
    keep(results_store.cell("mmoe"), outcome(), gates=np.ones((1, 3, 8)), weights=np.ones((1, 9, 3)))
    assert learned_matrix(results_store.path, "mmoe", "school").name == "gates"
    keep(results_store.cell("taan"), outcome(), task_distance=transfers(1), stitch=np.ones((1, 2, 3, 3)))
    with pytest.raises(UnknownName, match=r"one of stitch\.0 to stitch\.1 \[3, 3\], task_distance \[3, 3\]\.$"):
        learned_matrix(results_store.path, "taan", "school")


def test_names_of_tasks_stand_at_the_axes_that_are_of_tasks(results_store, outcome, keep, shown):
    # As wide as there are tasks: their sizes alone would not tell.
    kept = {name: np.ones((1, 3, 3)) for name in ("feedback", "coefficients", "bases", "stitch")}
    keep(results_store.cell(), outcome(), gates=np.ones((1, 3, 8)), **kept)
    found = {name: shown(matrix=name) for name in ("gates", *kept)}
    tasks = {name: (matrix.rows.tasks, matrix.columns.tasks) for name, matrix in found.items()}
    assert tasks == {
        "gates": (True, False),
        "feedback": (True, False),
        "coefficients": (False, True),
        "bases": (False, False),
        "stitch": (True, True),
    }
    assert found["gates"].rows.labels == TASKS
    assert found["gates"].columns.labels == tuple("01234567")


def test_tasks_whose_names_differ_between_splits_are_numbered(results_store, outcome, keep, shown):
    keep(results_store.cell(), outcome(split=0), transfer=transfers(1))
    results_store.tasks = ("easy", "other", "hard")
    keep(results_store.cell(), outcome(split=1), transfer=transfers(1))
    assert shown().rows == Axis(("0", "1", "2"), True)
    assert shown(split=1).rows == Axis(("easy", "other", "hard"), True)


def test_names_that_would_steer_a_terminal_lose_their_power(results_store, outcome, keep, shown):
    results_store.tasks = ("a\x1b[2Jb", "c\n", "d")
    keep(results_store.cell(), outcome(), transfer=transfers(1))
    assert shown().rows.labels == ("a [2Jb", "c ", "d")


def test_an_array_of_three_axes_is_shown_matrix_by_matrix(results_store, outcome, keep, shown):
    stitch = np.random.default_rng(0).normal(size=(1, 2, 3, 3))
    keep(results_store.cell(), outcome(), stitch=stitch)
    assert shown(matrix="stitch.1", signed=True).values.tolist() == stitch[0, 1].tolist()


def test_the_mean_over_units_of_different_trials_comes_with_a_warning(results_store, outcome, keep, shown):
    kept = {"transfer": transfers(2), "feedback": np.ones((2, 3, 5))}
    keep(results_store.cell(), outcome(split=0), outcome(split=1), **kept)
    assert "`--split N` shows one split" in shown(matrix="feedback").warnings[0]
    assert shown(matrix="feedback", split=1).warnings == ()
    assert shown().warnings == ()


def test_trials_that_kept_nothing_are_counted_aloud(results_store, outcome, keep, shown):
    keep(results_store.cell(), outcome(split=0), transfer=transfers(1))
    keep(results_store.cell(), outcome(split=1))
    assert shown().splits == (0,)
    assert shown().warnings == ("'transfer' was kept of 1 of the 2 selected trials; the mean is over these.",)


def test_matrices_of_different_shapes_have_no_mean(results_store, outcome, keep, shown):
    for split, k in ((0, 4), (1, 6)):
        keep(results_store.cell(), outcome(split=split), feedback=np.ones((1, 3, k)))
    with pytest.raises(StudyError, match=r"'feedback' has shapes \[3, 4\] and \[3, 6\].*`--split N`"):
        shown(matrix="feedback")
    assert shown(matrix="feedback", split=1).values.shape == (3, 6)


@pytest.mark.parametrize(
    ("method", "dataset", "how", "message"),
    [
        ("amtk", "school", {}, "Unknown method 'amtk' on school in this store. Did you mean 'amtl'?"),
        ("amtl", "scool", {}, "Unknown data set 'scool' in this store. Did you mean 'school'?"),
        ("amtl", "school", {"matrix": "transfr"}, "Did you mean 'transfer'? `--matrix NAME` shows one of feedback"),
        ("amtl", "school", {"split": 7}, "--split must be one in which amtl x school has a selected trial (0, 1)"),
        ("amtl", "school", {"rule": "best"}, "Unknown selection rule 'best'."),
    ],
)
def test_what_does_not_exist_is_answered_with_what_does(results_store, outcome, keep, method, dataset, how, message):
    kept = {"transfer": transfers(2), "feedback": np.ones((2, 3, 5))}
    keep(results_store.cell(), outcome(split=0), outcome(split=1), **kept)
    with pytest.raises((UnknownName, StudyError)) as caught:
        learned_matrix(results_store.path, method, dataset, **how)
    assert message in str(caught.value)


def test_where_nothing_was_kept_the_recipes_field_is_named(results_store, outcome, shown):
    results_store.write(results_store.cell(), outcome())
    with pytest.raises(StoreError, match=r"'keep' decides that.* a new store with --recipe school\.keep=learned"):
        shown()


@pytest.mark.parametrize("sign", ["the recipe says so", "predictions were kept"])
def test_a_method_that_learns_no_matrix_is_told_from_a_recipe_that_keeps_none(
    results_store, outcome, keep, shown, sign
):
    overrides = {"recipe_overrides": {"keep": "learned"}} if sign == "the recipe says so" else {}
    predictions = {} if overrides else {"test": np.ones((1, 4, 3), np.float32)}
    keep(results_store.cell(), outcome(), provenance=overrides, predictions=predictions)
    with pytest.raises(StoreError, match="this method learns no matrix"):
        shown()


def test_a_cell_without_a_selected_trial_says_why(results_store, outcome, shown):
    results_store.write(results_store.cell(), outcome(status=Status.SKIPPED, reason="amtl likes no problem."))
    with pytest.raises(StoreError, match=r"amtl x school has no selected trial.*skipped: amtl likes no problem\."):
        shown()


def test_variants_of_a_data_set_are_named_by_their_labels(results_store, outcome, keep, shown):
    found = transfers(2)
    overrides = {"recipe_overrides": {"max_epochs": 80}}
    keep(results_store.cell(recipe={"max_epochs": 80}), outcome(), provenance=overrides, transfer=found[:1])
    keep(results_store.cell(), outcome(), transfer=found[1:])
    assert shown(signed=True).values.tolist() == found[1].tolist()
    matrix = learned_matrix(results_store.path, "amtl", "school[max_epochs=80]", signed=True)
    assert matrix.values.tolist() == found[0].tolist()


def test_a_name_that_fits_several_variants_is_not_guessed(results_store, outcome, keep, shown):
    for epochs in (80, 90):
        overrides = {"recipe_overrides": {"max_epochs": epochs}}
        keep(results_store.cell(recipe={"max_epochs": epochs}), outcome(), provenance=overrides, transfer=transfers(1))
    with pytest.raises(UnknownName, match=r"'amtl' on 'school\[max_epochs=80\]', 'amtl' on 'school\[max_epochs=90\]'"):
        shown()


def test_bases_of_other_methods_are_never_shown(results_store, outcome, keep):
    keep(results_store.cell("cnn", role="base"), outcome(), weight=transfers(1))
    with pytest.raises(UnknownName, match="Unknown data set 'school' in this store"):
        learned_matrix(results_store.path, "cnn", "school")


def made(values, name="transfer", signed=False, rows=None, columns=None):
    """A matrix between tasks, unless it has axes of its own."""
    values = np.asarray(values, float)
    tasks = Axis(tuple(f"task_{i}" for i in range(len(values))), True)
    where = {"splits": (0, 1), "n_trials": 2, "refit": False, "selection": "per_split"}
    return LearnedMatrix(
        "amtfl", "digits", name, values, rows or tasks, columns or tasks, signed, directions=None, warnings=(), **where
    )


def test_a_zero_diagonal_is_not_drawn_and_any_other_is():
    found = made([[0, 1], [2, 0]])
    assert np.isnan(found.drawn).tolist() == [[True, False], [False, True]]
    assert found.values.tolist() == [[0, 1], [2, 0]]
    assert not np.isnan(made([[0, 1], [2, 5]]).drawn).any()
    numbered = Axis(("0", "1"), False)
    assert not np.isnan(made([[0, 1], [2, 0]], rows=numbered, columns=numbered).drawn).any()


def test_between_tasks_the_scale_is_that_off_the_diagonal():
    found = made([[9, 1], [-2, 9]], signed=True)
    assert (found.scale, found.exceeds_scale) == (2.0, True)
    numbered = Axis(("0", "1"), False)
    found = made([[9, 1], [2, 9]], rows=numbered, columns=numbered)
    assert (found.scale, found.exceeds_scale) == (9.0, False)
    assert made([[0, 0], [0, 0]]).scale == 1.0
    assert made([[3]]).scale == 3.0


def body(view):
    """The rows of cells in a view."""
    return [line for line in view.splitlines() if "task_" in line]


def test_the_view_shades_each_cell_by_its_share_of_the_scale():
    assert body(as_view(made([[0, 1, 0.3], [0.6, 0, 0.04], [0.8, 0.2, 0]]))) == [
        "0 task_0 ╲╲██▒▒",
        "1 task_1 ▓▓╲╲",
        "2 task_2 ██░░╲╲",
    ]


def test_the_view_tells_signs_without_colour_and_with(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    found = made([[0, 1, -1], [0.6, 0, -0.6], [0.1, -0.1, 0]], signed=True)
    assert body(as_view(found)) == ["0 task_0 ╲╲██≡≡", "1 task_1 ▓▓╲╲==", "2 task_2 ░░··╲╲"]
    assert body(as_view(found, ASCII)) == ["0 task_0 \\\\##%%", "1 task_1 **\\\\==", "2 task_2 ..''\\\\"]
    assert "\x1b[31m██\x1b[0m\x1b[34m≡≡\x1b[0m" in as_view(found, colour=True)
    assert as_view(found, ASCII).isascii()


def test_a_stream_that_cannot_encode_shades_gets_ascii():
    assert shades_for("utf-8") is UNICODE
    assert shades_for("ascii") is shades_for("latin-1") is shades_for(None) is shades_for("no such") is ASCII


@pytest.mark.parametrize(
    ("width", "label", "cell"),
    [(None, "49 task_49", 2), (140, "49 task_49", 2), (80, "49 task_49", 1), (60, "49 task_4", 1)],
)
def test_fifty_tasks_fit_a_terminal(width, label, cell):
    lines = body(as_view(made(np.full((50, 50), 3.0)), width=width))
    assert len(lines) == 50
    assert lines[-1] == f"{label} " + "█" * 50 * cell


def test_columns_are_numbered_with_their_digits_below_each_other():
    lines = as_view(made(np.ones((12, 12)))).splitlines()
    assert lines[4:6] == [" " * 31 + "1 1", " " * 11 + "0 1 2 3 4 5 6 7 8 9 0 1"]


def test_what_does_not_fit_a_terminal_is_not_printed_in_pieces():
    view = as_view(made(np.ones((300, 300))), width=80)
    assert "300 columns do not fit into 80 characters: --out FILE.png draws them" in view
    assert not body(view)


def test_json_and_csv_hold_the_very_numbers():
    found = made(transfers(1)[0], signed=True)
    record = json.loads(as_json(found))
    assert record["values"] == found.values.tolist()
    assert record["rows"] == record["columns"] == ["task_0", "task_1", "task_2"]
    head, *lines = csv.reader(io.StringIO(as_csv(found)))
    assert head == ["transfer", "task_0", "task_1", "task_2"]
    assert [line[0] for line in lines] == record["rows"]
    assert [[float(cell) for cell in line[1:]] for line in lines] == found.values.tolist()


def test_what_is_not_finite_is_null_in_json():
    assert json.loads(as_json(made([[1, np.inf], [np.nan, 1]])))["values"] == [[1, None], [None, 1]]


@pytest.mark.parametrize("n", [1, 2, 50])
@pytest.mark.parametrize("signed", [False, True])
def test_pictures_have_a_sensible_size_whatever_the_number_of_tasks(n, signed):
    image = Image.open(io.BytesIO(picture(made(np.random.default_rng(0).normal(size=(n, n)), signed=signed), "png")))
    assert image.format == "PNG"
    width, height = (pixels / 200 for pixels in image.size)  # inches
    assert 0.8 < height < 11
    assert 0.8 < width < 11


def test_the_colour_of_zero_is_neutral_where_signs_are_kept():
    axes = {"rows": Axis(("0", "1"), False), "columns": Axis(("0", "1", "2"), False)}
    image = Image.open(io.BytesIO(picture(made([[0, 0, 3], [0, 0, -3]], signed=True, **axes), "png")))
    counted = {colour: count for count, colour in image.convert("RGB").getcolors(1 << 24)}
    neutral = max(counted.keys() - {(255, 255, 255)}, key=counted.get)
    assert max(neutral) - min(neutral) < 4
    assert {(59, 76, 192), (180, 4, 38)} <= set(counted)  # blue and red


def test_an_svg_has_the_names_of_the_tasks_as_text_and_is_the_same_each_time():
    found = made(transfers(1)[0], signed=True)
    image = picture(found, "svg")
    root = ElementTree.fromstring(image)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"task_0", "task_1", "task_2", "from task", "to task", "amtfl on digits"} <= set(texts)
    assert image == picture(found, "svg")


def test_names_are_drawn_as_they_are():
    names = Axis(("$x^$", "a_b", "\N{CJK UNIFIED IDEOGRAPH-6F22}"), True)
    image = picture(made(np.ones((3, 3)), rows=names, columns=names), "svg").decode()
    assert "$x^$" in image
    assert "a_b" in image


def test_a_pdf_is_one():
    assert picture(made(np.ones((2, 2))), "pdf").startswith(b"%PDF-")


def test_a_matrix_larger_than_any_label_is_drawn_too():
    numbered = [Axis(tuple(map(str, range(size))), False) for size in (785, 500)]
    image = Image.open(io.BytesIO(picture(made(np.ones((785, 500)), rows=numbered[0], columns=numbered[1]), "png")))
    assert max(image.size) / 200 < 12


def test_drawing_imports_no_torch():
    code = "import sys, mtbench.report.figures; assert 'matplotlib' in sys.modules and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
