from __future__ import annotations

import pytest

from mtbench.errors import StoreError


def test_the_first_division_of_a_set_of_trials_holds(store):
    assert store.stack_plans.find("cell", ["a", "b", "c"]) is None
    assert store.stack_plans.keep("cell", [["a", "b"], ["c"]], {"device": "cpu"}) == [["a", "b"], ["c"]]
    assert store.stack_plans.keep("cell", [["c"], ["b"], ["a"]], {}) == [["a", "b"], ["c"]]
    assert store.stack_plans.find("cell", ["c", "a", "b"]) == [["a", "b"], ["c"]]


def test_a_racing_run_gets_the_division_that_was_first(store):
    def other_run(step: str) -> None:
        assert store.stack_plans.keep("cell", [["a"], ["b"]], {}) == [["a"], ["b"]]

    assert store.stack_plans.keep("cell", [["a", "b"]], {}, other_run) == [["a"], ["b"]]


def test_other_cells_and_other_trials_are_divided_on_their_own(store):
    store.stack_plans.keep("cell", [["a", "b"]], {"stack": 2})
    assert store.stack_plans.find("cell", ["a"]) is None
    assert store.stack_plans.find("other", ["a", "b"]) is None
    store.stack_plans.keep("cell", [["a"], ["b"], ["c"]], {})
    found = sorted(store.stack_plans.of("cell"), key=lambda division: len(division.stacks))
    assert [division.stacks for division in found] == [[["a", "b"]], [["a"], ["b"], ["c"]]]
    assert found[0].facts == {"stack": 2}
    assert found[0].cell_key == "cell"


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"format":1,"cell":"cell","stacks":[["x"]],"facts":{}}', '{"format":1,"cell":3}']
)
def test_a_damaged_division_is_named_with_a_remedy(store, content):
    store.stack_plans.keep("cell", [["a", "b"]], {})
    (path,) = (store.path / "divisions").iterdir()
    path.write_text(content)
    with pytest.raises(StoreError, match=f"{path.name}.*Move it away"):
        store.stack_plans.find("cell", ["a", "b"])
    assert [checked.ok for checked in store.verify()] == [False]
