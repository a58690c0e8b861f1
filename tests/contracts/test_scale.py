"""The scale of a problem, and what ranges make of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mtbench import Part, Problem, Task, TaskKind, tunable
from mtbench.contracts.hyperparameters import describe
from mtbench.contracts.scale import COUNTS, PLAIN, UNITS, scale_of
from mtbench.errors import PluginError
from mtbench.plan.grid import hyperparameters
from mtbench.plugins.host import load_plugins

LINEAR_IN_LABELS = {"slope": 1, "task_slope": 1, "loss": 2, "task_loss": 2, "weight": 1}
LINEAR_IN_FEATURES = {"slope": 1, "task_slope": 1, "curvature": 2, "task_curvature": 2, "weight": -1}


def regression(labels=1.0, features=1.0, rows=1, n_tasks=3):
    """Tasks whose labels have variance 4, features of variance 1, both multiplied."""
    rng = np.random.default_rng(0)
    inputs = np.tile(rng.normal(size=(400, 5)), (rows, 1))
    inputs = features * (inputs - inputs.mean(0)) / inputs.std(0)
    values = np.tile(rng.normal(size=(400, 1)), (rows, n_tasks))
    values = 7.0 + 2.0 * labels * (values - values.mean()) / values.std()
    part = Part(inputs.astype(np.float32), values.astype(np.float32))
    tasks = tuple(Task(str(t), TaskKind.REGRESSION) for t in range(n_tasks))
    return Problem("made", 0, tasks, {"train": part, "validation": part, "test": part})


def binary(share=0.5):
    rng = np.random.default_rng(0)
    labels = (np.arange(200) < 200 * share).astype(np.float32)[:, None]
    part = Part(rng.normal(size=(200, 4)).astype(np.float32), labels)
    return Problem("made", 0, (Task("a", TaskKind.BINARY),), {"train": part, "validation": part, "test": part})


def test_the_units_of_a_regression_are_variance_and_ratios_of_spreads():
    units = scale_of(regression()).units
    assert units == {
        "loss": 10.0, "slope": 6.0, "curvature": 3.0, "task_loss": 4.0, "task_slope": 2.0, "task_curvature": 1.0,
        "weight": 2.0,
    }  # fmt: skip


@pytest.mark.parametrize(("changes", "powers"), [("labels", LINEAR_IN_LABELS), ("features", LINEAR_IN_FEATURES)])
def test_units_follow_labels_and_features_that_are_multiplied_by_a_hundred(changes, powers):
    before, after = scale_of(regression()).units, scale_of(regression(**{changes: 100.0})).units
    assert after == {name: pytest.approx(unit * 100.0 ** powers.get(name, 0)) for name, unit in before.items()}


def test_units_do_not_depend_on_the_number_of_rows_and_sums_over_tasks_do_on_that_of_tasks():
    assert scale_of(regression(rows=100)) == scale_of(regression())
    one, ten = scale_of(regression(n_tasks=1)), scale_of(regression(n_tasks=10))
    assert ten.units["slope"] == 10 * one.units["slope"]
    assert ten.units["task_slope"] == one.units["task_slope"]
    assert (one.counts, ten.counts) == ({"tasks": 1, "rank": 1}, {"tasks": 10, "rank": 5})


@pytest.mark.parametrize(("share", "entropy"), [(0.5, 0.7), (0.1, 0.3)])
def test_the_loss_of_a_classification_is_its_entropy(share, entropy):
    assert scale_of(binary(share)).units["loss"] == entropy


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_labels_without_variance_leave_ranges_as_they_are(share):
    assert scale_of(binary(share)).units["loss"] == 1.0


def test_tasks_without_variance_do_not_count():
    problem = regression()
    labels = problem.parts["train"].labels.copy()
    labels[:, 0] = np.float32(0.1)
    part = dataclasses.replace(problem.parts["train"], labels=labels)
    changed = dataclasses.replace(problem, parts={**problem.parts, "train": part})
    assert scale_of(changed).units == scale_of(problem).units


def test_missing_labels_are_left_out():
    problem = regression()
    labels = problem.parts["train"].labels.copy()
    labels[::2, 1] = np.nan
    part = dataclasses.replace(problem.parts["train"], labels=labels)
    changed = dataclasses.replace(problem, parts={**problem.parts, "train": part})
    assert scale_of(changed).units["task_loss"] == 4.0


def test_bytes_of_images_are_fractions_and_other_bytes_are_values():
    rng = np.random.default_rng(0)
    labels = np.array([[0], [1]] * 50, np.float32)

    def of(shape):
        part = Part(rng.integers(0, 256, (100, *shape)).astype(np.uint8), labels)
        parts = {"train": part, "validation": part, "test": part}
        return scale_of(Problem("made", 0, (Task("a", TaskKind.BINARY),), parts))

    assert of((4, 4)).units["weight"] == pytest.approx(3.0)
    assert of((16,)).units["weight"] == pytest.approx(0.01)


def test_a_solver_finds_the_same_relative_weights_for_labels_of_any_scale():
    """Draw 0 of labels multiplied by 100 is 100 times that of the labels: ranges and defaults move with the maths."""
    import torch

    from mtbench.linear.problems import linear_data

    stl = load_plugins(()).method("stl")
    found = []
    for factor in (1.0, 100.0):
        problem = regression(labels=factor)
        known = hyperparameters(stl, load_plugins(()).dataset("digits").recipe, scale_of(problem))
        data = linear_data([problem], [0], True, torch.device("cpu"))
        params = stl.Params(**{n: torch.tensor([h.default], dtype=torch.float64) for n, h in known.items()})
        found.append(stl().solve(data, params).weights[0, :5])
    torch.testing.assert_close(found[1], 100.0 * found[0], rtol=1e-4, atol=1e-4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Params:
    plain: float = tunable(0.1, low=0.01, high=1.0)
    scaled: float = tunable(0.1, grid=(0.01, 0.1), low=0.01, high=1.0, per="task_loss")
    k: int = tunable(3, grid=(1, 3, 8, 20), up_to="rank", minimum=1)


def test_defaults_grids_and_ranges_are_multiples_of_the_unit_that_they_name():
    known = {name: h.at(scale_of(regression())) for name, h in describe(Params).items()}
    assert known["plain"] == describe(Params)["plain"]
    scaled = known["scaled"]
    assert (scaled.default, scaled.range.grid) == (0.4, (0.04, 0.4))
    assert (scaled.range.low, scaled.range.high) == (0.04, 4.0)


def test_lists_of_whole_numbers_end_at_the_count_that_they_name():
    known = {name: h.at(scale_of(regression(n_tasks=9))) for name, h in describe(Params).items()}
    assert (known["k"].default, known["k"].range.grid) == (3, (1, 3, 5))
    tiny = describe(Params)["k"].at(scale_of(regression(n_tasks=2)))
    assert (tiny.default, tiny.range.grid) == (2, (1, 2))


def test_without_a_scale_ranges_are_as_declared():
    assert {name: h.at(PLAIN) for name, h in describe(Params).items()}["k"] == describe(Params)["k"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"per": "los"}, r"per=\.\.\.\) needs a float and one of loss, slope"),
        ({"default": 3, "per": "loss"}, r"per=\.\.\.\) needs a float"),
        ({"up_to": "rank"}, r"up_to=\.\.\.\) needs a whole number"),
        ({"default": 3, "up_to": "ranks"}, r"one of tasks, rank"),
    ],
)
def test_a_declaration_that_names_no_unit_is_refused(wrong, message):
    with pytest.raises(PluginError, match=message):
        tunable(**{"default": 0.1, **wrong})


def test_every_word_is_explained_in_the_documentation_of_plugins():
    page = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
    assert all(f"`{word}`" in page for word in [*UNITS, *COUNTS])
