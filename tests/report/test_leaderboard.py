import math

import pytest

from mtbench.contracts.trials import Status
from mtbench.errors import UnknownName
from mtbench.report.intervals import mean_and_interval, paired
from mtbench.report.leaderboard import Gain
from mtbench.report.reading import read
from mtbench.store import Store


def board_of(writer, rule="per_split", **only):
    return read(writer.path, rule, **only)[1]


def row_of(writer, method="amtl", **kwargs):
    return next(row for row in board_of(writer, **kwargs).rows if row.method == method)


def test_intervals_are_those_of_student():
    # Standard deviation 1, n = 3, t(0.975, 2) = 4.302653: 4.302653 / sqrt(3).
    mean, half = mean_and_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(2.484138, abs=1e-6)
    # t(0.975, 4) = 2.776445, standard deviation sqrt(2.5).
    assert mean_and_interval([1.0, 2, 3, 4, 5])[1] == pytest.approx(2.776445 * math.sqrt(2.5 / 5), abs=1e-6)
    assert mean_and_interval([7.0]) == (7.0, None)


def test_a_name_selects_exactly_the_method_of_that_name(results_store, outcome):
    for test, method in enumerate(("hard_sharing", "hard_sharing+uw", "hard_sharing+cagrad", "stl")):
        results_store.write(results_store.cell(method), outcome(test=test), outcome(1, test=test + 1))

    def shown(*methods):
        return [(row.method, row.gain and row.gain.mean) for row in board_of(results_store, methods=methods).rows]

    assert shown("hard_sharing") == [("hard_sharing", -3)]
    assert shown("hard_sharing+uw", "stl") == [("hard_sharing+uw", -2), ("stl", None)]
    with pytest.raises(UnknownName, match=r"Did you mean 'hard_sharing\+uw'"):
        shown("hard_sharing+uv")
    over = row_of(results_store, "hard_sharing+uw", baseline="hard_sharing").gain
    assert over == Gain("hard_sharing", 1, 0)


def test_variants_under_a_weighting_are_told_apart_with_it_and_without(results_store, outcome):
    for method, versions in (("nn", "12"), ("nn+uw", ("1+1", "1+2", "2+1")), ("nn+uw_b", ("1+1",))):
        for version in versions:
            results_store.write(results_store.cell(method, method_version=version), outcome())
    rows = board_of(results_store).rows
    assert len({row.method for row in rows}) == 6
    assert sorted((row.method_alone, row.weighting or "-") for row in rows) == [
        ("nn", "uw_b"),
        ("nn[version=1+1]", "uw"),
        ("nn[version=1+2]", "uw"),
        ("nn[version=1]", "-"),
        ("nn[version=2+1]", "uw"),
        ("nn[version=2]", "-"),
    ]


def test_paired_differences_use_the_splits_both_have():
    assert paired({0: 3.0, 1: 5.0, 2: 9.0}, {0: 1.0, 1: 3.0, 7: 0.0}) == (2.0, 0.0)
    assert paired({0: 3.0}, {0: 1.0}) == (2.0, None)
    assert paired({0: 3.0}, {1: 1.0}) is None


def test_a_row_is_the_mean_over_splits_of_the_selected_trials(results_store, outcome):
    results_store.write(
        results_store.cell(),
        outcome(split=0, alpha=0.1, validation=1, test=(9, 11), seconds=1.0, n_parameters=10),
        outcome(split=0, alpha=0.2, validation=2, test=0, seconds=3.0),
        outcome(split=1, alpha=0.1, validation=2, test=0, seconds=1.0),
        outcome(split=1, alpha=0.2, validation=1, test=(12, 14), seconds=3.0, n_parameters=21),
    )
    row = row_of(results_store)
    assert row.mean == pytest.approx((10 + 13) / 2)
    assert row.ci95 == pytest.approx(12.706205 * 1.5, rel=1e-6)
    assert (row.n_splits, row.n_trials, row.n_failed, row.draws) == (2, 4, 0, 2)
    assert (row.train_seconds, row.n_parameters) == (2.0, 16)
    assert (row.selection, row.refit, row.mean_without_refit) == ("per_split", False, row.mean)


def test_seeds_are_averaged_within_a_split_before_splits_are(results_store, outcome):
    results_store.write(
        results_store.cell(),
        outcome(split=0, seed=0, test=1),
        outcome(split=0, seed=1, test=3),
        outcome(split=1, seed=0, test=4),
        outcome(split=1, seed=1, test=4),
    )
    row = row_of(results_store)
    assert row.mean == 3.0
    assert row.ci95 == pytest.approx(12.706205, rel=1e-6)


def test_a_task_without_value_is_left_out_of_the_headline(results_store, outcome):
    results_store.write(results_store.cell(), outcome(test=(4, math.nan), validation=(1, math.nan)))
    assert row_of(results_store).mean == 4.0


def test_the_refit_of_the_selected_setting_is_the_score_and_the_other_is_kept(results_store, outcome):
    cell = results_store.cell()
    results_store.write(
        cell,
        outcome(split=0, alpha=0.1, validation=1, test=10, best_epoch=4),
        outcome(split=0, alpha=0.2, validation=2, test=20),
        outcome(split=1, alpha=0.1, validation=1, test=12, best_epoch=5),
    )
    results_store.write(
        cell,
        outcome(split=0, alpha=0.1, test=8, epochs=4),
        outcome(split=0, alpha=0.2, test=1, epochs=4),
        outcome(split=1, alpha=0.1, test=9, epochs=5),
    )
    row = row_of(results_store)
    assert (row.mean, row.mean_without_refit, row.refit) == (8.5, 11.0, True)
    assert (row.n_trials, row.train_seconds) == (6, 2.0)


def test_of_several_refits_the_one_for_the_chosen_epoch_counts(results_store, outcome):
    cell = results_store.cell()
    results_store.write(cell, outcome(best_epoch=4, test=10))
    results_store.write(cell, *[outcome(epochs=epochs, test=epochs) for epochs in (1, 2, 3, 4, 5, 6)])
    assert row_of(results_store).mean == 4.0


def test_a_mean_never_mixes_refits_with_others(results_store, outcome):
    cell = results_store.cell()
    results_store.write(cell, outcome(split=0, test=10), outcome(split=1, test=12))
    results_store.write(cell, outcome(split=0, test=1, epochs=7), outcome(1, epochs=7, status=Status.DIVERGED))
    row = row_of(results_store)
    assert (row.mean, row.refit, row.n_failed) == (11.0, False, 1)
    assert any("1 of 2 selected trials have no finished refit" in w for w in board_of(results_store).warnings)


def test_gains_are_paired_with_single_task_learning(results_store, outcome):
    results_store.write(results_store.cell("stl"), *[outcome(split=s, test=10 + 5 * s) for s in range(3)])
    results_store.write(results_store.cell("amtl"), *[outcome(split=s, test=9 + 5 * s + s) for s in range(3)])
    row = row_of(results_store)
    # Differences -1, 0, 1, whatever the splits' own levels.
    assert row.gain.mean == pytest.approx(0.0)
    assert row.gain.ci95 == pytest.approx(2.484138, abs=1e-6)
    assert row_of(results_store, "stl").gain is None


def test_the_baseline_serves_even_where_it_is_not_shown(results_store, outcome):
    results_store.write(results_store.cell("stl"), outcome(test=10))
    results_store.write(results_store.cell("amtl"), outcome(test=8))
    (row,) = board_of(results_store, methods=["amtl"]).rows
    assert row.gain == Gain("stl", -2.0, None)


def test_without_stl_gains_are_over_deep_single_task_learning(results_store, outcome):
    results_store.write(results_store.cell("stl_deep"), outcome(test=10))
    results_store.write(results_store.cell("mrn"), outcome(test=8))
    assert row_of(results_store, "mrn").gain == Gain("stl_deep", -2.0, None)
    results_store.write(results_store.cell("stl"), outcome(test=11))
    assert row_of(results_store, "mrn").gain == Gain("stl", -3.0, None)
    assert row_of(results_store, "stl_deep").gain == Gain("stl", -1.0, None)


def test_gains_are_over_the_baseline_that_was_asked_for(results_store, outcome):
    for method, test in (("stl", 12), ("cnn", 10), ("deep_amtfl", 7)):
        results_store.write(results_store.cell(method), outcome(test=test))
    board = board_of(results_store, baseline="cnn")
    assert {row.method: row.gain for row in board.rows} == {
        "stl": Gain("cnn", 2.0, None), "cnn": None, "deep_amtfl": Gain("cnn", -3.0, None)
    }  # fmt: skip
    with pytest.raises(UnknownName, match="Did you mean 'cnn'"):
        board_of(results_store, baseline="cn")


def test_two_cells_of_one_baseline_are_none(results_store, outcome):
    results_store.write(results_store.cell("stl"), outcome(test=10))
    results_store.write(results_store.cell("stl", method_version="2"), outcome(test=11))
    results_store.write(results_store.cell("amtl"), outcome(test=8))
    board = board_of(results_store)
    assert [row.gain for row in board.rows if row.method == "amtl"] == [None]
    labels = sorted(row.method for row in board.rows if row.method != "amtl")
    warning = f"school: gains could be over any of '{labels[0]}', '{labels[1]}'; --baseline names one."
    assert warning in board.warnings
    assert row_of(results_store, baseline=labels[0]).gain == Gain(labels[0], board.rows[0].mean - 10, None)


def test_a_name_the_store_does_not_hold_is_refused(results_store, outcome):
    results_store.write(results_store.cell("amtl"), outcome())
    with pytest.raises(UnknownName, match="Did you mean 'amtl'"):
        board_of(results_store, methods=["amtk"])
    with pytest.raises(UnknownName, match="data set 'mnist' in this store"):
        board_of(results_store, datasets=["mnist"])


def test_the_best_method_comes_first_and_those_without_score_last(results_store, outcome):
    for method, test in (("a", 3), ("b", 1), ("c", 2)):
        results_store.write(results_store.cell(method), outcome(test=test))
    results_store.write(results_store.cell("aa"), outcome(status=Status.SKIPPED, reason="no"))
    assert [row.method for row in board_of(results_store).rows] == ["b", "c", "a", "aa"]


def test_where_higher_is_better_selection_and_order_follow(results_store, outcome):
    results_store.provenance = {"metrics": {"rmse": {"higher_is_better": True, "per_task": True, "title": "score"}}}
    results_store.write(results_store.cell("a"), outcome(alpha=1, validation=1, test=5), outcome(alpha=2, validation=2))
    results_store.write(results_store.cell("b"), outcome(test=3))
    assert [(row.method, row.mean) for row in board_of(results_store).rows] == [("b", 3.0), ("a", 1.0)]


def test_further_metrics_are_rows_of_the_same_form(results_store, outcome):
    results_store.provenance = {"also_report": ["pooled_rmse"]}
    results_store.write(results_store.cell("a"), outcome(test=1, pooled=9), outcome(split=1, test=2, pooled=8))
    board = board_of(results_store)
    (row,) = board.other_metrics
    assert (row.metric, row.mean, row.n_splits) == ("pooled_rmse", 8.5, 2)
    assert [(t.metric, t.task, t.mean) for t in board.per_task] == [("rmse", "a", 1.5), ("rmse", "b", 1.5)]


def test_a_cell_without_any_score_says_why(results_store, outcome):
    results_store.write(results_store.cell("skips"), outcome(status=Status.SKIPPED, reason="needs binary tasks"))
    results_store.write(
        results_store.cell("fails"),
        *[outcome(split=s, status=Status.FAILED, reason="ValueError:\nno good\x1b[2J") for s in range(3)],
        outcome(split=3, status=Status.TIMEOUT, reason="2 h"),
    )
    skips, fails = row_of(results_store, "skips"), row_of(results_store, "fails")
    assert (skips.mean, skips.ci95, skips.n_trials, skips.reason) == (None, None, 0, "skipped: needs binary tasks")
    assert (fails.mean, fails.n_trials, fails.n_failed) == (None, 4, 4)
    assert fails.reason == "failed: ValueError: no good [2J"


def test_failed_cells_without_provenance_take_the_metric_of_their_data_set(results_store, outcome):
    results_store.write(results_store.cell("ok"), outcome())
    cell = results_store.cell("killed")
    store_result = results_store.result(cell, [outcome(status=Status.KILLED, reason="signal 9")], {})
    store_result.provenance = {}
    Store.open(results_store.path).publish_stack(store_result)
    assert row_of(results_store, "killed").metric == "rmse"


def test_a_trial_that_failed_and_then_finished_counts_once(results_store, outcome):
    cell = results_store.cell()
    results_store.write(cell, outcome(status=Status.KILLED, reason="signal 9"))
    results_store.write(cell, outcome(test=4))
    row = row_of(results_store)
    assert (row.mean, row.n_trials, row.n_failed) == (4.0, 1, 0)


def test_variants_of_a_cell_are_rows_of_their_own(results_store, outcome):
    results_store.write(results_store.cell(), outcome(test=1))
    long = results_store.cell(recipe={"max_epochs": 80})
    results_store.write(long, outcome(test=2), recipe_overrides={"max_epochs": 80})
    quiet = results_store.cell(options={"noise": 0.1})
    results_store.write(quiet, outcome(test=3))
    found = {row.dataset: row.mean for row in board_of(results_store).rows}
    assert found == {"school": 1.0, "school[max_epochs=80]": 2.0, "school[noise=0.1]": 3.0}


def test_variants_the_store_can_not_judge_all_show_what_differs(results_store, outcome):
    for noise in (0.5, 0.1):
        result = results_store.result(results_store.cell(options={"noise": noise}), [outcome()], {})
        del result.provenance["options_default"]
        Store.create(results_store.path).publish_stack(result)
    assert [row.dataset for row in board_of(results_store).rows] == ["school[noise=0.1]", "school[noise=0.5]"]


def test_defaults_that_changed_between_versions_do_not_hide_a_variant(results_store, outcome):
    for hidden in (10, 20):
        results_store.write(results_store.cell(recipe={"hidden": hidden}), outcome())
    assert [row.dataset for row in board_of(results_store).rows] == ["school[hidden=10]", "school[hidden=20]"]


def test_versions_of_a_method_are_told_apart(results_store, outcome):
    results_store.write(results_store.cell(), outcome())
    results_store.write(results_store.cell(method_version="2"), outcome())
    assert sorted(row.method for row in board_of(results_store).rows) == ["amtl[version=1]", "amtl[version=2]"]


def test_what_is_stored_besides_results_makes_no_variant(results_store, outcome):
    results_store.write(results_store.cell(recipe={"keep": "all"}), outcome(split=0, test=1))
    results_store.write(results_store.cell(recipe={"keep": "none", "refit": True}), outcome(split=1, test=3))
    (row,) = board_of(results_store).rows
    assert (row.mean, row.n_splits) == (2.0, 2)


@pytest.mark.parametrize(
    ("search", "refit", "rule"),
    [
        (["across_splits"], [], "across_splits"),
        (["per_split", "across_splits"], [], "per_split"),
        (["across_splits", None], [], "per_split"),
        (["per_split"], ["across_splits", "across_splits"], "across_splits"),
        (["across_splits"], ["per_split", "across_splits"], "per_split"),
        (["unheard_of"], [], "per_split"),
        ([["a list"]], [], "per_split"),
    ],
)
def test_unless_told_otherwise_the_rule_is_that_of_the_runs(results_store, outcome, search, refit, rule):
    for split, (epochs, name) in enumerate([*((None, name) for name in search), *((7, name) for name in refit)]):
        named = {} if name is None else {"selection": name}
        results_store.write(results_store.cell(), outcome(split=split, epochs=epochs), **named)
    assert {row.selection for row in read(results_store.path)[1].rows} == {rule}


def test_across_splits_can_be_asked_for(results_store, outcome):
    results_store.write(
        results_store.cell(),
        outcome(split=0, alpha=0.1, validation=1, test=1),
        outcome(split=0, alpha=0.2, validation=2, test=2),
        outcome(split=1, alpha=0.1, validation=9, test=3),
        outcome(split=1, alpha=0.2, validation=2, test=4),
    )
    assert row_of(results_store).mean == 2.5
    row = row_of(results_store, rule="across_splits")
    assert (row.mean, row.selection) == (3.0, "across_splits")
