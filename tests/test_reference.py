"""The second implementations of `python -m benchmarks.reference`, on a few of its problems."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from benchmarks.reference import __main__ as command
from benchmarks.reference import networks
from benchmarks.reference.comparison import Comparison, compared
from benchmarks.reference.problems import cases
from mtbench.contracts.method import GradientMethod
from mtbench.plugins.host import load_plugins

VECTORS = ("binary shared, missing labels", "regression own, a task absent", "kinds mixed, own, missing labels")


def test_every_built_in_gradient_method_has_a_second_implementation() -> None:
    known = load_plugins().methods
    built_in = {name for name, m in known.items() if m.__module__.startswith("mtbench_methods.")}
    assert set(networks.METHODS) == {name for name in built_in if issubclass(known[name], GradientMethod)}


@pytest.mark.parametrize("name", networks.METHODS)
def test_a_method_agrees_with_its_second_implementation(name: str) -> None:
    found = list(networks.comparisons([name], VECTORS))
    assert {one.problem for one in found if one.quantity == "gradient"} == set(VECTORS)
    assert [one for one in found if not one.agrees] == []


@pytest.mark.parametrize("name", ["deep_amtfl", "stl_deep", "taan", "soft_order"])
def test_methods_agree_on_images_with_batch_norm(name: str) -> None:
    found = list(networks.comparisons([name], ["conv4, images own, rows of each task"]))
    assert len(found) == 2
    assert all(one.agrees for one in found)


def test_a_wrong_objective_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    method = load_plugins().method("amtfl")
    objective = method.objective

    def without_offset(self, model, batch, params):  # type: ignore[no-untyped-def]
        return objective(self, model, batch, dataclasses.replace(params, delta=0.0))

    monkeypatch.setattr(method, "objective", without_offset)
    found = list(networks.comparisons(["amtfl"], VECTORS[:1]))
    assert not any(one.agrees for one in found)


def test_what_is_no_number_or_of_another_shape_does_not_agree() -> None:
    assert not compared("m", "p", "q", float("nan"), 1.0).agrees
    assert not compared("m", "p", "q", [1.0, 2.0], [1.0]).agrees
    assert compared("m", "p", "q", [1.0, 2.0], [1.0, 2.0 + 1e-7]).agrees


@pytest.mark.parametrize(("difference", "code"), [(1e-9, 0), (1e-3, 1), (float("nan"), 1)])
def test_the_command_prints_agreement_and_ends_by_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], difference: float, code: int
) -> None:
    found = [Comparison("nn", "a problem", "objective", difference), Comparison("nn", "another", "objective", 0.0)]
    monkeypatch.setattr(command, "comparisons", lambda asked: iter(found))
    monkeypatch.setattr(sys, "argv", ["reference", "nn"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == code
    shown = capsys.readouterr().out
    assert ("DIFFERS on a problem" in shown) == bool(code)


def test_rows_of_the_problems_are_what_batches_hold() -> None:
    for case in cases():
        batch = case.batch()
        assert (batch.inputs - case.inputs()).abs().max() < 1e-12
        assert batch.n_examples is not None
        assert batch.n_examples.tolist() == case.examples()


def test_the_command_reaches_networks_and_solvers() -> None:
    found = list(command.comparisons(["stl", "mt_nn"]))
    assert {one.subject for one in found} == {"stl", "mt_nn"}
    assert [one for one in found if not one.agrees] == []
