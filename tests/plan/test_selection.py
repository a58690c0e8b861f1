import inspect
import math

import pytest

from mtbench.contracts.trials import Status
from mtbench.errors import UnknownName
from mtbench.plan.selected import selected_trials
from mtbench.plan.selection import RULES, Candidate, across_splits, per_split, rule_named
from mtbench.store import Store, scan

A, B, C = ((("alpha", value),) for value in (0.1, 1.0, 10.0))


def candidates(*rows):
    """Each row: setting, split, seed, validation."""
    return [
        Candidate(f"{i:03d}", setting, split, seed, score, 5) for i, (setting, split, seed, score) in enumerate(rows)
    ]


def stacks_of(writer):
    return scan(Store.open(writer.path)).stacks


def test_per_split_takes_the_best_setting_of_each_split():
    found = candidates((A, 0, 0, 1.0), (B, 0, 0, 2.0), (A, 1, 0, 4.0), (B, 1, 0, 3.0))
    assert per_split(found, False) == {0: A, 1: B}
    assert per_split(found, True) == {0: B, 1: A}


def test_across_splits_takes_the_setting_with_the_best_mean_over_splits():
    # A: (1 + 4) / 2 = 2.5; B: (2 + 2.5) / 2 = 2.25, although A wins split 0.
    found = candidates((A, 0, 0, 1.0), (B, 0, 0, 2.0), (A, 1, 0, 4.0), (B, 1, 0, 2.5))
    assert across_splits(found, False) == {0: B, 1: B}


def test_a_setting_is_judged_by_its_mean_over_seeds():
    # A has the single best trial, but its mean is 2.0 against 1.5.
    found = candidates((A, 0, 0, 0.5), (A, 0, 1, 3.5), (B, 0, 0, 1.4), (B, 0, 1, 1.6))
    assert per_split(found, False) == {0: B}


def test_across_splits_weighs_splits_equally_whatever_their_seeds():
    # Mean of split means: A (3 + 1) / 2 = 2; B (2 + 1.5) / 2 = 1.75. Mean over trials would prefer A, 5 / 3.
    found = candidates(
        (A, 0, 0, 3.0), (A, 1, 0, 1.0), (A, 1, 1, 1.0), (B, 0, 0, 2.0), (B, 1, 0, 1.5), (B, 1, 1, 1.5)
    )  # fmt: skip
    assert across_splits(found, False) == {0: B, 1: B}


def test_a_setting_with_a_failed_seed_loses_against_a_complete_one():
    found = candidates((A, 0, 0, 0.1), (A, 0, 1, math.nan), (B, 0, 0, 5.0), (B, 0, 1, 5.0))
    assert per_split(found, False) == {0: B}


def test_settings_are_compared_on_the_seeds_that_all_were_tried_on():
    assert per_split(candidates((A, 0, 0, 0.1), (B, 0, 0, 5.0), (B, 0, 1, 0.01)), False) == {0: A}


def test_settings_without_a_common_seed_are_compared_by_how_many_they_finished():
    assert per_split(candidates((A, 0, 0, 0.1), (B, 0, 1, 5.0), (B, 0, 2, 5.0)), False) == {0: B}


def test_where_no_setting_is_complete_the_one_with_fewest_failures_wins():
    found = candidates(
        (A, 0, 0, 0.1), (A, 0, 1, math.nan), (A, 0, 2, math.nan), (B, 0, 0, 5.0), (B, 0, 1, 5.0), (B, 0, 2, math.nan)
    )  # fmt: skip
    assert per_split(found, False) == {0: B}


def test_ties_go_to_the_smallest_trial_id_in_whatever_order_trials_come():
    found = candidates((B, 0, 0, 1.0), (A, 0, 0, 1.0), (C, 0, 0, 1.0))
    assert per_split(found, False) == per_split(found[::-1], False) == {0: B}
    assert across_splits(found, False) == across_splits(found[::-1], False) == {0: B}


def test_a_split_without_any_result_has_no_selection():
    assert per_split(candidates((A, 0, 0, math.nan), (A, 1, 0, 1.0)), False) == {1: A}
    assert across_splits(candidates((A, 0, 0, math.inf)), False) == {}


def test_rules_can_not_be_shown_a_test_value():
    assert {f for f in Candidate.__dataclass_fields__ if "test" in f} == set()
    for rule in RULES.values():
        assert list(inspect.signature(rule).parameters) == ["candidates", "higher_is_better"]
    with pytest.raises((AttributeError, TypeError)):
        candidates((A, 0, 0, 1.0))[0].test = 1.0


def test_an_unknown_rule_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'per_split'"):
        rule_named("per_splits")


def test_selected_trials_say_what_a_refit_needs(results_store, outcome):
    cell = results_store.cell()
    results_store.write(
        cell,
        outcome(split=0, seed=0, alpha=0.1, validation=1.0, best_epoch=4),
        outcome(split=0, seed=1, alpha=0.1, validation=1.2, best_epoch=6),
        outcome(split=0, seed=0, alpha=0.2, validation=2.0),
        outcome(split=0, seed=1, alpha=0.2, validation=2.0),
        outcome(split=1, seed=0, alpha=0.2, validation=0.5, best_epoch=9),
        outcome(split=1, seed=0, alpha=0.1, validation=0.9),
    )
    first, second = selected_trials(stacks_of(results_store))
    assert (first.key, first.split, first.params) == (cell.key, 0, {"alpha": 0.1})
    assert (first.seeds, first.best_epochs) == ((0, 1), (4, 6))
    assert (second.split, second.params, second.seeds, second.best_epochs) == (1, {"alpha": 0.2}, (0,), (9,))


def test_trials_that_did_not_finish_are_never_selected(results_store, outcome):
    results_store.write(
        results_store.cell(),
        outcome(alpha=0.1, status=Status.DIVERGED, reason="inf"),
        outcome(alpha=0.2, status=Status.FAILED, reason="an exception"),
        outcome(alpha=0.3, validation=9.0),
    )
    (chosen,) = selected_trials(stacks_of(results_store))
    assert chosen.params == {"alpha": 0.3}


def test_a_refit_is_no_candidate(results_store, outcome):
    cell = results_store.cell()
    results_store.write(cell, outcome(alpha=0.1, validation=1.0))
    results_store.write(cell, outcome(alpha=0.2, validation=0.0, epochs=3))
    (chosen,) = selected_trials(stacks_of(results_store))
    assert chosen.params == {"alpha": 0.1}


def test_test_values_can_not_change_the_selection(tmp_path, outcome, results_store):
    clean, corrupt = (type(results_store)(tmp_path / name) for name in ("clean", "corrupt"))
    scores = [(split, alpha, (alpha * 7 + split * 3) % 5) for split in range(3) for alpha in (0.1, 1.0, 2.0)]
    clean.write(clean.cell(), *[outcome(s, a, validation=v, test=v) for s, a, v in scores])
    wild = [math.nan, -1e9, 1e9]
    corrupt.write(corrupt.cell(), *[outcome(s, a, v, test=wild[i % 3]) for i, (s, a, v) in enumerate(scores)])
    for rule in RULES:
        assert selected_trials(stacks_of(clean), rule) == selected_trials(stacks_of(corrupt), rule)
