"""Edges: what was selected at an end of the range that was searched."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.edges import main as print_edges
from mtbench.report.edges import edges, spans
from mtbench.report.reading import read

RANGE = {"low": 1e-3, "high": 1e3, "log": True, "final": []}
VALUES = [10.0 ** (e / 2) for e in range(-6, 7)]


def better_low(value):
    """Validation, that gets better towards small values."""
    return 5.0 + math.log10(value)


def write(store, outcome, validation, values=VALUES, ranges=RANGE, splits=5, n_low=5, method="a"):
    """A search whose validation is a function of alpha; in all but `n_low` splits the middle is best."""

    def of(split, value):
        return validation(value) if split < n_low else abs(math.log10(value)) + 1.0

    said = {} if ranges is None else {"ranges": {"alpha": ranges}}
    outcomes = [outcome(split, value, of(split, value)) for split in range(splits) for value in values]
    store.write(store.cell(method), *outcomes, **said)


def said(store):
    return [w for w in read(store.path, "per_split")[1].warnings if "edge" in w]


def test_what_is_best_at_the_low_end_is_said_with_its_splits(results_store, outcome):
    write(results_store, outcome, better_low, n_low=3)
    assert said(results_store) == [
        "a x school: alpha was selected at the low edge of its range (0.001) in 3 of 5 splits; a wider range may do "
        "better."
    ]


def test_what_is_best_at_the_high_end_is_said(results_store, outcome):
    write(results_store, outcome, lambda value: 9.0 - math.log10(value))
    (warning,) = said(results_store)
    assert "the high edge of its range (1000) in 5 of 5 splits" in warning


@pytest.mark.parametrize(("n_low", "n_said"), [(0, 0), (1, 0), (2, 1)])
def test_one_split_of_five_is_no_caution(results_store, outcome, n_low, n_said):
    write(results_store, outcome, better_low, n_low=n_low)
    assert len(said(results_store)) == n_said


def test_one_split_alone_is_enough_where_there_are_no_more(results_store, outcome):
    write(results_store, outcome, better_low, splits=1)
    assert len(said(results_store)) == 1


def test_stores_that_do_not_say_where_a_search_looked_say_nothing(results_store, outcome):
    write(results_store, outcome, better_low, ranges=None)
    assert said(results_store) == []


def test_a_best_value_inside_its_range_is_no_edge(results_store, outcome):
    write(results_store, outcome, lambda value: abs(math.log10(value) + 1.5))
    assert said(results_store) == []


def test_the_outermost_value_tried_is_an_edge_within_a_fifth_of_the_range(results_store, outcome):
    write(results_store, outcome, better_low, values=[v for v in VALUES if v >= 0.01])
    assert len(said(results_store)) == 1


def test_the_outermost_value_tried_is_none_where_the_range_goes_much_further(results_store, outcome):
    write(results_store, outcome, better_low, values=[v for v in VALUES if v > 0.1])
    assert said(results_store) == []


def test_a_penalty_that_makes_no_difference_below_some_size_is_no_edge(results_store, outcome):
    noise = dict(zip(VALUES, (0, 3, 1, 5, 2, 4, 6, 0, 0, 0, 0, 0, 0), strict=True))
    write(results_store, outcome, lambda v: 1.0 + 1e-3 * noise[v] if v <= 1 else 5.0)
    flat = {v: n for v, n in noise.items() if v <= 1}
    assert min(flat, key=flat.get) == VALUES[0]
    assert said(results_store) != []  # validation happens to rise here: 0 3 1 5 2 4 6
    results_store.path = results_store.path.with_name("other")
    noise = dict(zip(VALUES, (0, 6, 4, 5, 2, 1, 3, 0, 0, 0, 0, 0, 0), strict=True))
    write(results_store, outcome, lambda v: 1.0 + 1e-3 * noise[v] if v <= 1 else 5.0)
    assert said(results_store) == []


def test_an_end_beyond_which_nothing_makes_sense_is_no_edge(results_store, outcome):
    write(results_store, outcome, better_low, ranges={**RANGE, "final": ["low"]})
    assert said(results_store) == []


def test_the_end_of_a_list_is_an_edge_and_its_next_value_is_not(results_store, outcome):
    listed = {"values": [0.01, 0.1, 1.0, 10.0], "final": []}
    write(results_store, outcome, better_low, values=[0.01, 0.1, 1.0, 10.0], ranges=listed)
    write(results_store, outcome, lambda v: abs(v - 0.1), values=[0.01, 0.1, 1.0, 10.0], ranges=listed, method="b")
    (warning,) = said(results_store)
    assert warning.startswith("a x school: alpha was selected at the low edge of its range (0.01)")


def test_fewer_than_three_settings_say_nothing(results_store, outcome):
    write(results_store, outcome, better_low, values=[0.001, 1.0])
    assert said(results_store) == []


def test_higher_is_better_metrics_pull_the_other_way(results_store, outcome):
    about = {"rmse": {"higher_is_better": True, "per_task": True, "title": "gain"}}
    results_store.provenance = {"metrics": about}
    write(results_store, outcome, lambda v: -better_low(v))
    (warning,) = said(results_store)
    assert "low edge" in warning


def test_a_hyperparameter_that_makes_no_difference_is_seldom_at_an_edge(results_store, outcome):
    """Draws of 25 whose validation is noise: at an edge in more than one split of five by chance alone."""
    rng = np.random.default_rng(0)
    n_cells = 60
    for i in range(n_cells):
        values = [float(10.0**u) for u in rng.uniform(-3, 3, 25)]
        write(results_store, outcome, lambda v: rng.normal(), values=values, splits=1, method=f"m{i}")
    assert len(said(results_store)) <= 0.1 * 2 * n_cells / 2


@pytest.mark.parametrize(
    "nonsense",
    [[], "alpha", {"alpha": 3}, {"alpha": {"low": "a", "high": 2}}, {"alpha": {"values": ["relu", "tanh"]}},
     {"alpha": {"low": 1, "high": 10**400}}, {"alpha": {"low": -1.0, "high": 1.0, "log": True}},
     {"alpha": {"values": [1.0]}}, {"alpha": {"low": 0.1, "high": 1.0, "final": 7}}, {"beta": RANGE}],
)  # fmt: skip
def test_a_provenance_that_makes_no_sense_stops_no_report(results_store, outcome, nonsense):
    outcomes = [outcome(split, value, better_low(value)) for split in range(2) for value in (0.1, 1.0, 10.0)]
    results_store.write(results_store.cell("a"), *outcomes, ranges=nonsense)
    said(results_store)


def test_two_searches_of_one_cell_count_together(results_store, outcome):
    narrow = {"low": 0.1, "high": 10.0, "log": True, "final": ["low"]}
    write(results_store, outcome, better_low, values=[0.1, 1.0, 10.0], ranges=narrow)
    wide = [v for v in VALUES if v not in (0.1, 1.0, 10.0)]
    write(results_store, outcome, better_low, values=wide)
    (entry,) = read(results_store.path, "per_split")[0]
    (span,) = spans(entry.cell).values()
    assert (span.values, span.final) == ((1e-3, 1e3), frozenset())
    assert [edge.end for edge in edges(entry.cell, entry.selected)] == ["low"]


def test_the_table_of_edges_is_printed_of_stores_new_and_old(results_store, outcome):
    write(results_store, outcome, better_low)
    write(results_store, outcome, better_low, ranges=None, method="old")
    shown = CliRunner().invoke(print_edges, [str(Path(results_store.path))], catch_exceptions=False).output
    assert "| school | a | alpha | 0.001 to 1000 | 0.001 0.001 0.001 0.001 0.001 | low in 5 of 5 |" in shown
    assert "| school | old | alpha |" in shown
    assert "2 edge(s) in more than one split of five, of 2 searches." in shown
