"""Hyperparameters as an author declares them: what does not fit is refused in one line that says what must hold."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass

import pytest

from mtbench import PluginError, tunable
from mtbench.contracts.hyperparameters import describe


def params(kind, *default):
    return make_dataclass("Params", [("x", kind, *default)], frozen=True)


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (params(float), r"Params\.x must have a default, .*: `x: float = tunable\(0\.1\)`; found none\."),
        (params(int), r"must have a default, .*: `x: int = tunable\(4\)`; found none\."),
        (params(float, field(default_factory=float)), r"Params\.x must have a default"),
        (params(list, 3), r"Params\.x must be a float, int, str or bool; found <class 'list'>\."),
        (params("Nowhere", 3), r"must be annotated as float, int, str or bool; found: name 'Nowhere' is not defined"),
        (params(float, "much"), r"Params\.x is a float, and so must be its default; found 'much'\."),
        (params(int, 0.5), r"Params\.x is a int, and so must be its default; found 0\.5\."),
        (params(float, True), r"Params\.x is a float, and so must be its default; found True\."),
        (params(bool, 1), r"Params\.x is a bool, and so must be its default; found 1\."),
        (params(float, tunable(-1.0)), r"Params\.x must be a finite number from 0 to inf; found -1\.0\."),
        (params(float, tunable(2.0, maximum=1.0)), r"from 0 to 1; found 2\.0\. It stands in the default"),
        (params(float, tunable(float("nan"), minimum=None)), r"must be a finite number; found nan"),
        (params(str, tunable("c", choices=("a", "b"))), r"Params\.x must be one of a, b; found 'c'\."),
        (params(float, tunable(0.1, grid=(0.1, -1.0))), r"found -1\.0\. It stands in the grid of the hyperparameter\."),
        (params(float, tunable(0.1, grid=(0.1, "a"))), r"Params\.x is a float, and so must be its grid; found 'a'\."),
        (params(float, tunable(5.0, low=0.1, high=1.0)), r"the default must lie in the range .*, 0\.1 to 1;"),
        (params(float, tunable(0.5, low=0.1, high=9.0, maximum=1.0)), r"found 9\.0\. It stands in the range"),
        (params(str, tunable("a", low=1.0, high=2.0)), r"low and high are for numbers; found a str\."),
        (params(int, tunable(1, low=0.5, high=2.5)), r"must be a whole number; found 0\.5\. It stands in the range"),
        (make_dataclass("Params", [("x", float, 1.0)]), r"Params must be a frozen dataclass"),
        (int, r"must be a frozen dataclass: .*; found <class 'int'>\."),
        (None, r"must be a frozen dataclass: .*; found None\."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(cls, said):
    with pytest.raises(PluginError, match=said) as caught:
        describe(cls)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            {"low": 0.0, "high": 1.0},
            r"draws on the logarithmic scale from a low above 0; found 0\.0\. Or say log=False\.",
        ),
        ({"low": 0.1}, "needs low and high together"),
        ({"low": 2.0, "high": 1.0}, "low below high"),
    ],
)
def test_a_range_that_cannot_be_drawn_from_is_refused_where_it_is_declared(words, said):
    with pytest.raises(PluginError, match=said):
        tunable(0.5, **words)


def test_what_fits_is_described():
    @dataclass(frozen=True, kw_only=True)
    class Params:
        a: float = tunable(1, low=0.5, high=2.0)
        b: int = tunable(4, low=1, high=64)
        c: str = tunable("u", choices=("u", "v"))
        d: bool = tunable(True, grid=(True, False))
        e: float = 0.3
        f: float = tunable(0.0, low=0.0, high=1.0, log=False)

    found = describe(Params)
    assert list(found) == ["a", "b", "c", "d", "e", "f"]
    assert [found[name].kind for name in "abcd"] == [float, int, str, bool]


def test_a_float_that_trials_of_a_stack_must_share_splits_stacks() -> None:
    @dataclass(frozen=True)
    class Params:
        share: float = tunable(0.2, stackable=False)
        decay: float = tunable(0.2)

    known = describe(Params)
    assert [known[name].stackable for name in ("share", "decay")] == [False, True]
    assert [name for name, h in known.items() if h.shared] == ["share"]
