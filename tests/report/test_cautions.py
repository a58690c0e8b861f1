import pytest

from mtbench.contracts.trials import Status
from mtbench.report.reading import read


def warnings_of(writer):
    return read(writer.path, "per_split")[1].warnings


def both(writer, outcomes, **provenance):
    """Two methods on two splits, the second with what is given."""
    one = type(outcomes[0])
    writer.write(writer.cell("a"), one(split=0), one(split=1))
    writer.write(writer.cell("b"), *outcomes, **provenance)
    return warnings_of(writer)


def test_an_even_table_has_no_warnings(results_store, outcome):
    assert both(results_store, [outcome(0), outcome(1)]) == ()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("device", "cuda:0", r"school: trained on different devices (cpu, cuda)"),
        ("torch", "2.12.0", "school: trained with different versions of torch (2.12.0, 2.13.0)"),
        ("mtbench", "0.2.0", "school: trained with different versions of mtbench (0.1.0, 0.2.0)"),
    ],
)
def test_a_table_of_mixed_origin_says_so(results_store, outcome, field, value, words):
    (warning,) = both(results_store, [outcome(0), outcome(1)], **{field: value})
    assert warning.startswith(words)


def test_code_that_changed_is_noticed(results_store, outcome):
    results_store.provenance = {"git_commit": "a" * 40, "git_dirty": False}
    (warning,) = both(results_store, [outcome(0), outcome(1)], git_dirty=True)
    assert "commits of mtbench (aaaaaaaaaa, aaaaaaaaaa with changes)" in warning


def test_two_devices_of_one_kind_are_not_mixed(results_store, outcome):
    results_store.provenance = {"device": "cuda:0"}
    assert both(results_store, [outcome(0), outcome(1)], device="cuda:1") == ()


def test_a_plugin_that_changed_under_one_version_is_noticed(results_store, outcome):
    results_store.provenance = {"method_plugin": "p 1"}
    results_store.write(results_store.cell("b"), outcome(2), method_plugin="p 2")
    warnings = both(results_store, [outcome(0), outcome(1)])
    assert any("b x school: trained with different plugins (p 1, p 2)" in w for w in warnings)


def test_unequal_draws_are_named(results_store, outcome):
    (warning,) = both(results_store, [outcome(0), outcome(1), outcome(0, 2.0), outcome(1, 2.0)])
    assert warning == "school: methods had different numbers of draws (a 1, b 2)."


def test_draws_that_differ_between_splits_are_named(results_store, outcome):
    (warning,) = both(results_store, [outcome(0), outcome(1), outcome(1, 2.0)])
    assert warning == "school: methods had different numbers of draws (a 1, b 1 to 2)."


def test_different_splits_and_seeds_are_named(results_store, outcome):
    (warning,) = both(results_store, [outcome(s) for s in (0, 1, 2, 4)])
    assert "different splits (a 0 1, b 0-2 4)" in warning


def test_different_seeds_are_named(results_store, outcome):
    (warning,) = both(results_store, [outcome(s, seed=i) for s in (0, 1) for i in (0, 1)])
    assert warning == "school: methods ran with different seeds (a 0, b 0 1)."


def test_failures_are_counted_by_kind(results_store, outcome):
    failed = [outcome(0, 2.0, status=Status.DIVERGED), outcome(1, 2.0, status=Status.TIMEOUT)]
    results_store.write(results_store.cell("a"), outcome(0, 2.0), outcome(1, 2.0))
    warnings = both(results_store, [outcome(0), outcome(1), *failed])
    assert warnings == ("b x school: 2 of 4 trials did not finish (1 diverged, 1 timeout).",)


def test_a_split_that_is_lost_is_named(results_store, outcome):
    warnings = both(results_store, [outcome(0), outcome(1, status=Status.DIVERGED)])
    assert "b x school: no trial of split 1 could be selected; the mean leaves it out." in warnings


def test_one_split_has_no_interval(results_store, outcome):
    results_store.write(results_store.cell(), outcome())
    assert warnings_of(results_store) == ("amtl x school: one split only, so there is no interval.",)


def test_a_table_of_refits_and_others_says_so(results_store, outcome):
    results_store.write(results_store.cell("a"), outcome(0, epochs=7), outcome(1, epochs=7))
    (warning,) = both(results_store, [outcome(0), outcome(1)])
    assert warning.startswith("school: scores of b are without refit")


def test_a_skipped_cell_is_no_unequal_one(results_store, outcome):
    assert both(results_store, [outcome(0, status=Status.SKIPPED, reason="needs binary tasks")]) == ()


def test_a_mean_that_leaves_tasks_out_says_how_many_are_in_it(results_store, outcome):
    nan = float("nan")
    results_store.write(results_store.cell("a"), outcome(0, test=[1, nan]), outcome(1, test=[2, nan]))
    left_out = {"0": ["b"], "1": ["b"]}
    found = outcome(0, test=[3, nan]), outcome(1, test=[3, nan])
    results_store.write(results_store.cell("b"), *found, untrained_tasks=left_out)
    assert warnings_of(results_store) == (
        "school: 'rmse' is a mean over 1 of 2 tasks; without a value: 'b' (so for a).",
        "school: 'rmse' is a mean over 1 of 2 tasks; without a value: 'b'; without a training label: 'b' (so for b).",
    )


def test_a_task_without_a_value_in_one_split_alone_is_told_once_for_all_methods(results_store, outcome):
    for method in "ab":
        found = outcome(0, test=[1, float("nan")]), outcome(1, test=[2, 3])
        results_store.write(results_store.cell(method), *found, untrained_tasks=["nonsense"])
    assert warnings_of(results_store) == ("school: 'rmse' is a mean over 1 to 2 of 2 tasks; without a value: 'b'.",)


def test_a_solver_that_did_not_get_there_is_named(results_store, outcome):
    solved, short = outcome(0, residual=1e-7), outcome(1, residual=3e-4)
    (warning,) = both(results_store, [solved, short], tolerance=1e-6)
    assert warning == (
        "b x school: the solver stopped before its tolerance in 1 of 2 selected trials (relative residual up to "
        "0.0003; solved is 1e-06)."
    )


@pytest.mark.parametrize("residual", [1e-7, None], ids=["solved", "not stated"])
def test_a_solver_that_got_there_or_states_nothing_needs_no_word(results_store, outcome, residual):
    assert both(results_store, [outcome(0, residual=residual), outcome(1, residual=residual)], tolerance=1e-6) == ()
