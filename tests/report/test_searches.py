"""What a table says of how settings were searched for."""

from __future__ import annotations

import pytest

from mtbench.plan.cells import gather
from mtbench.report.reading import read
from mtbench.report.searches import in_words
from mtbench.report.text import as_text
from mtbench.store import Store, scan


def board_of(writer):
    return read(writer.path, "per_split")[1]


def words_of(writer):
    return in_words(gather(scan(Store.open(writer.path)).stacks)[0])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"search": "default"}, "default"),
        ({"search": "grid"}, "grid"),
        ({"search": "tpe:25"}, "tpe:25"),
        ({"search": "halving:64", "search_share": 0.3225}, "halving:64 (32 %)"),
        ({"search": "halving:64", "search_share": 0.3225, "search_in_full": 20}, "halving:64 (32 %, 20 in full)"),
        ({"search": "halving:64", "search_share": "all"}, "halving:64"),
        ({"search": "| by | hand"}, ""),
        ({"search": None}, ""),
    ],
)
def test_a_search_is_told_as_far_as_a_store_says(results_store, outcome, said, expected):
    results_store.write(results_store.cell(), outcome(), **said)
    assert words_of(results_store) == expected


def test_of_searches_of_one_kind_the_largest_is_told(results_store, outcome):
    for alpha, search in enumerate(["tpe:5", "random:25", "tpe:10", "random:8"]):
        results_store.write(results_store.cell(), outcome(alpha=alpha), search=search)
    assert words_of(results_store) == "random:25, tpe:10"


def test_a_table_has_the_column_where_results_decided_what_was_trained(results_store, outcome):
    results_store.write(results_store.cell("a"), outcome(), search="random:8")
    assert "search" not in as_text(board_of(results_store)).splitlines()[2].split()
    results_store.write(results_store.cell("b"), outcome(), search="tpe:8")
    header, _, *rows = as_text(board_of(results_store)).splitlines()[2:6]
    assert header.split()[-7:-4] == ["splits", "search", "draws"]
    assert sorted(row.split()[0] for row in rows) == ["a", "b"]
    assert {word for row in rows for word in row.split()} >= {"random:8", "tpe:8"}


def test_methods_that_were_searched_in_different_ways_are_named(results_store, outcome):
    results_store.write(results_store.cell("a"), outcome(0), outcome(1), search="random:8")
    results_store.write(results_store.cell("b"), outcome(0), outcome(1), search="default")
    assert board_of(results_store).warnings == ()
    results_store.write(results_store.cell("c"), outcome(0), outcome(1), search="tpe:8")
    (warning,) = board_of(results_store).warnings
    assert warning == "school: methods were searched in different ways (a random:8, b default, c tpe:8)."


def test_full_trainings_that_stand_for_more_draws_are_not_unequal(results_store, outcome):
    share = {"search": "halving:4", "search_share": 0.75}
    results_store.write(results_store.cell("a"), *(outcome(s, float(i)) for s in (0, 1) for i in range(4)), **share)
    three = [outcome(s, float(i)) for s in (0, 1) for i in range(3)]
    results_store.write(results_store.cell("b"), *three, **share, search_in_full=3)
    assert board_of(results_store).warnings == ()
    results_store.write(results_store.cell("c"), *three[:5], **share, search_in_full=3)
    assert board_of(results_store).warnings == ("school: methods had different numbers of draws (a 4, b 4, c 2 to 4).",)
    assert "halving:N: draws are the settings that began" in as_text(board_of(results_store))
