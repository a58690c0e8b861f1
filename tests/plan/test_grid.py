"""The grid: settings, cells, groups and stacks."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from mtbench.contracts.stacking import divide, groups
from mtbench.errors import StudyError, UnknownName
from mtbench.plan.grid import parse_options, plan_cells
from mtbench.plan.study import Study
from mtbench.plugins.host import load_plugins

PLUGIN = Path(__file__).parents[1] / "tiny_plugin.py"


@pytest.fixture(scope="module")
def plugins():
    return load_plugins([PLUGIN])


@pytest.fixture
def plan(plugins, tmp_path):
    def planned(methods=("probe",), datasets=("tiny",), **parts):
        return plan_cells(Study(methods=list(methods), datasets=list(datasets), **parts), plugins, tmp_path)

    return planned


def settings(cell):
    return [tuple(setting.values()) for setting in cell.settings]


def test_every_method_of_a_data_set_gets_equal_draws_and_the_defaults_first(plan):
    probe, steady = plan(["probe", "steady"], search="random:7")
    for cell in (probe, steady):
        assert len(cell.settings) == 7
        assert cell.settings[0] == {"alpha": 1e-3, "act": "train", "mark": "", "learning_rate": 0.02}
        assert len(set(settings(cell))) == 7
    assert settings(probe)[1:] != settings(steady)[1:]


def test_draws_stay_within_the_declared_ranges_and_learning_rate_is_among_them(plan):
    (cell,) = plan(search="random:40")
    assert all(1e-5 <= setting["alpha"] <= 1e-1 for setting in cell.settings)
    assert all(0.002 <= setting["learning_rate"] <= 0.2 for setting in cell.settings)
    assert len({setting["learning_rate"] for setting in cell.settings}) == 40


def test_a_longer_random_search_extends_a_shorter_one(plan):
    (short,), (long,) = plan(search="random:10"), plan(search="random:25")
    assert settings(long)[:10] == settings(short)
    assert len(settings(long)) == 25


def test_fixing_a_hyperparameter_leaves_the_draws_of_the_others(plan):
    (free,) = plan(search="random:5")
    (fixed,) = plan(search="random:5", set={"probe.alpha": [0.05]})
    assert {setting["alpha"] for setting in fixed.settings} == {0.05}
    rates = [setting["learning_rate"] for setting in free.settings]
    assert [setting["learning_rate"] for setting in fixed.settings] == rates


def test_a_method_under_weightings_is_searched_with_the_settings_it_has_alone(tmp_path):
    plugins = load_plugins(())
    names = ["hard_sharing", "hard_sharing+cagrad", "hard_sharing+static"]
    study = Study(methods=names, datasets=["digits"], search="random:5", out=tmp_path)
    alone, cagrad, static = (cell.settings for cell in plan_cells(study, plugins, tmp_path))
    shared = [{name: setting[name] for name in alone[0]} for setting in cagrad]
    assert shared == alone == [{name: setting[name] for name in alone[0]} for setting in static]
    assert len({setting["c"] for setting in cagrad}) == len({setting["mixture"] for setting in static}) == 5


def test_what_is_set_of_a_method_holds_under_its_weightings_unless_these_have_their_own(tmp_path):
    plugins = load_plugins(())
    names = ["hard_sharing", "hard_sharing+uw", "hard_sharing+cagrad"]
    own = {"hard_sharing.lambda_": [0.1], "hard_sharing+cagrad.lambda_": [0.2, 0.3], "hard_sharing+cagrad.c": [0.7]}
    study = Study(methods=names, datasets=["digits"], set=own, out=tmp_path)
    plain, uw, cagrad = (cell.settings for cell in plan_cells(study, plugins, tmp_path))
    assert [s["lambda_"] for s in plain] == [s["lambda_"] for s in uw] == [0.1]
    assert [(s["lambda_"], s["c"]) for s in cagrad] == [(0.2, 0.7), (0.3, 0.7)]
    wrong = Study(methods=["hard_sharing+cagrad"], datasets=["digits"], set={"hard_sharing.c": [0.7]}, out=tmp_path)
    with pytest.raises(UnknownName, match="hyperparameter 'c'"):
        plan_cells(wrong, plugins, tmp_path)


def test_several_values_are_searched_whatever_the_search(plan):
    (cell,) = plan(set={"probe.alpha": ["0.1", "0.01"]})
    assert [setting["alpha"] for setting in cell.settings] == [0.1, 0.01]


def test_a_grid_search_takes_the_defaults_first_then_all_combinations(plan):
    (cell,) = plan(search="grid")
    assert cell.settings[0]["alpha"] == 1e-3
    found = {(setting["alpha"], setting["learning_rate"]) for setting in cell.settings}
    assert found == set(itertools.product((1e-3, 1e-2), (0.002, 0.02, 0.2)))
    assert len(cell.settings) == 6


def test_trials_are_settings_times_splits_times_seeds(plan):
    (cell,) = plan(search="random:3", splits=2, seeds=2)
    trials = cell.trials()
    assert len({trial.id for trial in trials}) == len(trials) == 12
    assert {(trial.split, trial.seed) for trial in trials} == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_the_data_sets_own_number_of_splits_is_the_default(plan):
    assert [list(cell.splits) for cell in plan()] == [[0, 1]]


def test_predictions_of_a_lone_setting_are_kept_as_final(plan):
    (lone,), (searched,), (refitted,) = plan(), plan(search="random:2"), plan(refit=True)
    assert (lone.cell.recipe.keep, searched.cell.recipe.keep, refitted.cell.recipe.keep) == ("all", "final", "final")
    assert lone.trials()[0].id == searched.trials()[0].id


def test_an_unsupported_cell_is_planned_as_skipped_with_its_reason(plan):
    probe, choosy = plan(["probe", "choosy"])
    assert (probe.skipped, choosy.skipped) == (None, "Choosy likes no problem.")


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"methods": ["prob"]}, UnknownName, r"Unknown method 'prob'\. Did you mean 'probe'\?"),
        ({"datasets": ["tinny"]}, UnknownName, r"Unknown data set 'tinny'\. Did you mean 'tiny'\?"),
        ({"set": {"probe.alfa": [1]}}, UnknownName, r"Unknown hyperparameter 'alfa' of probe\. Did you mean 'alpha'\?"),
        ({"set": {"steady.alpha": [1]}}, UnknownName, r"Unknown method 'steady' in --set\."),
        (
            {"recipe": {"tiny": {"max_epoch": 1}}},
            UnknownName,
            r"Unknown recipe field 'max_epoch'\. Did you mean 'max_ep",
        ),
        ({"recipe": {"digits": {"hidden": 1}}}, UnknownName, r"Unknown data set 'digits' in --recipe"),
        ({"options": {"tiny": {"noise": 1}}}, UnknownName, r"Unknown option 'noise' of tiny"),
        ({"options": {"digits": {"noise": 1}}}, UnknownName, r"Unknown data set 'digits' in --option"),
        ({"set": {"probe.alpha": [-1]}}, StudyError, r"probe\.alpha must be a finite number from 0 to inf; found -1"),
        ({"set": {"probe.alpha": ["nan"]}}, StudyError, r"probe\.alpha must be a finite number"),
        ({"set": {"probe.alpha": ["x"]}}, StudyError, r"probe\.alpha must be a number; found 'x'"),
        ({"set": {"probe.learning_rate": [-0.1]}}, StudyError, r"probe\.learning_rate must be a finite number"),
        ({"recipe": {"tiny": {"max_epochs": 0}}}, StudyError, r"tiny\.max_epochs must be a finite number from 1"),
        ({"recipe": {"tiny": {"optimiser": "lion"}}}, StudyError, r"tiny\.optimiser must be one of adam, sgd"),
        ({"splits": 4}, StudyError, r"tiny has 3 splits; found 4 asked for"),
    ],
)
def test_what_does_not_exist_or_makes_no_sense_is_refused(plan, parts, error, message):
    with pytest.raises(error, match=message):
        plan(**parts)


def test_options_are_part_of_a_cell_and_known_to_its_data_set(plugins):
    dataset = plugins.dataset("amtl_imbalanced")()
    known = vars(parse_options(dataset, {}))
    name = next(iter(known))
    assert vars(parse_options(dataset, {name: known[name]})) == known


def test_trials_that_differ_in_real_numbers_only_share_a_group(plan):
    (cell,) = plan(search="grid", splits=2, set={"probe.act": ["train", "other"]})
    found = groups(cell.trials(), cell.shapes)
    assert [{trial.params["act"] for trial in group} for group in found] == [{"train"}, {"other"}]
    for group in found:
        places = [(trial.split, trial.seed) for trial in group]
        assert places == sorted(places)
    assert sorted(trial.id for group in found for trial in group) == sorted(trial.id for trial in cell.trials())


@pytest.mark.parametrize(
    ("n_trials", "size", "n_slots", "expected"),
    [
        (10, 4, 1, [3, 4, 3]),
        (10, 10, 1, [10]),
        (10, 100, 1, [10]),
        (10, 10, 2, [5, 5]),  # enough for both slots
        (3, 3, 2, [3]),  # too few to be worth cutting
        (5, 1, 2, [1, 1, 1, 1, 1]),
    ],
)
def test_groups_are_cut_evenly_into_stacks(plan, n_trials, size, n_slots, expected):
    (cell,) = plan(search=f"random:{n_trials}", splits=1)
    trials = cell.trials()
    stacks = divide(trials, size, n_slots)
    assert [len(stack.trials) for stack in stacks] == expected
    assert [trial for stack in stacks for trial in stack.trials] == trials


def test_a_backbone_that_does_not_fit_is_skipped_with_a_reason_while_planning(plan):
    deep = ("cnn", "mt_cnn", "deep_amtl", "deep_amtfl", "hard_sharing", "stl_deep", "cross_stitch", "mmoe", "mrn",
            "dmtrl_laf", "dmtrl_tucker", "dmtrl_tt", "soft_order", "taan", "taan_distance", "taan_cosine",
            "taan_trace_norm", "cgc", "ple", "dselect_k", "mtan")  # fmt: skip
    for cell in plan((*deep, "nn", "probe"), recipe={"tiny": {"backbone": "lenet"}}):
        if cell.method.name in deep:
            assert cell.skipped == "backbone 'lenet' takes images [H, W] or [C, H, W]; a row has shape (5,)"
        else:
            assert cell.skipped is None
    assert all(cell.skipped is None for cell in plan(deep))


def test_a_base_whose_backbone_does_not_fit_stops_the_study(plan):
    with pytest.raises(StudyError, match="'cnn': backbone 'lenet' takes images"):
        plan(["cnn"], recipe={"tiny": {"backbone": "lenet", "base": "cnn"}})
