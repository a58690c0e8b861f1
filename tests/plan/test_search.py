"""A study's own ranges, and what is said of where a search looked."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtbench.contracts.hyperparameters import describe
from mtbench.contracts.scale import UNITS, Scale
from mtbench.errors import StudyError
from mtbench.plan.grid import plan_cells
from mtbench.plan.study import Study
from mtbench.plugins.host import load_plugins

PLUGIN = Path(__file__).parents[1] / "tiny_plugin.py"


@pytest.fixture(scope="module")
def plugins():
    return load_plugins([PLUGIN])


@pytest.fixture
def plan(plugins, tmp_path):
    def planned(method="probe", dataset="tiny", **parts):
        (cell,) = plan_cells(Study(methods=[method], datasets=[dataset], **parts), plugins, tmp_path)
        return cell

    return planned


def alphas(cell):
    return [setting["alpha"] for setting in cell.settings]


def test_the_declared_range_given_as_a_studys_own_draws_the_same(plan):
    declared = plan(search="random:9")
    assert plan(search="random:9", set={"probe.alpha": "1e-5:0.1"}).settings == declared.settings


def test_a_studys_own_range_moves_its_hyperparameter_and_no_other(plan):
    declared, own = plan(search="random:9"), plan(search="random:9", set={"probe.alpha": "1:100"})
    assert all(1 <= alpha <= 100 for alpha in alphas(own))
    assert [s["learning_rate"] for s in own.settings] == [s["learning_rate"] for s in declared.settings]


def test_a_value_before_the_range_is_that_of_draw_0(plan):
    assert alphas(plan(search="random:3", set={"probe.alpha": [0.5, "1:100"]}))[0] == 0.5
    assert alphas(plan(set={"probe.alpha": ["0.5", "1:100"]})) == [0.5]


def test_draw_0_lies_inside_a_range_that_does_not_hold_the_default(plan):
    assert alphas(plan(set={"probe.alpha": "1:100"})) == [10.0]
    assert alphas(plan(set={"probe.alpha": "1e-4:1"})) == [1e-3]


def test_a_range_is_five_points_of_a_grid(plan):
    grid = plan(search="grid", set={"probe.alpha": "1:100"}, recipe={"tiny": {"learning_rate_span": 1.0}})
    assert sorted(set(alphas(grid))) == [1.0, 3.16228, 10.0, 31.6228, 100.0]


def test_a_list_can_take_the_place_of_the_declared_range(plan):
    own = plan(search="random:20", set={"probe.alpha": [0.2, "1|2|3"]})
    assert alphas(own)[0] == 0.2
    assert set(alphas(own)[1:]) == {1.0, 2.0, 3.0}


def test_a_range_from_zero_is_drawn_evenly(plan):
    assert all(0 <= alpha <= 1 for alpha in alphas(plan(search="random:20", set={"probe.alpha": "0:1"})))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1:2", "3:4"], r"probe\.alpha must be one range 'low:high'.*found 1:2, 3:4"),
        (["1:2", 0.5], r"must be one range"),
        ([1, 2, "1:2"], r"must be one range"),
        (["2:1"], r"from a smaller to a larger number; found '2:1'"),
        (["1:x"], r"must be a number; found 'x'"),
        (["-1:2"], r"must be a finite number from 0"),
        (["1:2:3"], r"must be a number; found '2:3'"),
        (["1||2"], r"must be a number; found ''"),
    ],
)
def test_what_is_no_range_is_refused_in_one_line(plan, values, message):
    with pytest.raises(StudyError, match=message):
        plan(set={"probe.alpha": values})


def test_words_may_hold_colons(plan):
    assert plan(set={"probe.mark": ["a:b", "c|d"]}).settings[1]["mark"] == "c|d"


def test_a_plan_says_where_it_looks_for_what_it_varies(plan):
    random = plan(search="random:3").ranges
    assert random["alpha"] == {"low": 1e-5, "high": 0.1, "log": True, "final": []}
    assert set(random) == {"alpha", "learning_rate"}
    assert plan().ranges == {}
    assert plan(search="grid").ranges["alpha"] == {"values": [1e-3, 1e-2], "final": []}
    assert plan(set={"probe.alpha": [0, 1]}).ranges["alpha"] == {"values": [0.0, 1.0], "final": ["low"]}
    assert plan(search="random:3", set={"probe.alpha": [1]}).ranges.keys() == {"learning_rate"}


def test_a_list_that_ends_at_the_number_of_tasks_is_final_there(plan):
    ranges = plan("go_mtl", search="random:3").ranges
    assert ranges["k"]["final"] == ["low", "high"]
    most = max(ranges["k"]["values"])
    for k, ends in (([1, most], ["low", "high"]), ([2, most], ["high"]), ([1, most - 1], ["low"])):
        assert plan("go_mtl", set={"go_mtl.k": k}).ranges["k"] == {"values": k, "final": ends}


def test_settings_do_not_depend_on_how_many_splits_are_asked_for(plan):
    assert plan("go_mtl", search="random:5", splits=1).settings == plan("go_mtl", search="random:5", splits=3).settings


def test_defaults_and_ranges_of_built_in_methods_move_with_the_scale_of_the_data(plugins):
    hundred = Scale(dict.fromkeys(UNITS, 100.0), {})
    for method in plugins.methods:
        for name, declared in describe(plugins.method(method).Params).items():
            moved, factor = declared.at(hundred), 100.0 if declared.per else 1.0
            if declared.kind is float:
                assert moved.default == pytest.approx(declared.default * factor)
            if declared.range is not None and declared.range.low is not None:
                assert declared.range.low <= declared.default <= declared.range.high, f"{method}.{name}"
                assert moved.range.low == pytest.approx(declared.range.low * factor)


def test_every_penalty_of_a_built_in_method_names_its_unit(plugins):
    """A weight that is drawn from a range is in the units of something, or has none by its formula.

    Fit methods scale features and targets themselves, where their size matters.
    """
    bare = {
        f"{name}.{h.name}"
        for name in plugins.methods
        if name not in ("probe", "steady", "choosy") and plugins.method(name).kind != "fit"
        for h in describe(plugins.method(name).Params).values()
        if h.stackable and h.range is not None and h.range.low is not None and not h.per
    }
    # AMTL's are multiples of losses, which its formula measures itself; DSelect-k's is a width, and no penalty.
    assert bare == {"amtl.alpha", "amtl.delta", "dselect_k.gamma"}
