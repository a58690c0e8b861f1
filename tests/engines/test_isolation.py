"""One method cannot change another's numbers, whatever it does to the process it runs in."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mtbench.cli import main
from mtbench.store import Store

TESTS = Path(__file__).parents[1]
OFFENDER = TESTS / "offender_plugin.py"
ACTS = [
    "dtype",
    "grad",
    "threads",
    "deterministic",
    "seeds",
    "errors",
    "patch",
    "arrays",
    "caches",
    "directory",
    "signals",
    "limits",
    "environment",
    "path",
    "modules",
    "child",
    "everything",
]


def train(store, methods, *words, plugins=(OFFENDER,)):
    command = ["run", "--methods", methods, "--datasets", "tiny", "--plugin", str(TESTS / "tiny_plugin.py")]
    command += [word for path in plugins for word in ("--plugin", str(path))]
    result = CliRunner().invoke(main, [*command, "--devices", "cpu:1", "--out", str(store), *words])
    assert "quiet" not in result.stderr, result.stderr
    assert "steady" not in result.stderr, result.stderr
    return result


def numbers(store, method):
    """All that a method's trials have learned and scored, as bytes, by trial."""
    found = {}
    opened = Store.open(store)
    for path in opened.stack_paths():
        result = opened.read(path)
        for i, trial in enumerate(result.trials):
            if trial.cell.method == method:
                metrics = {(p, n): v[i].tobytes() for p, by in result.metrics.items() for n, v in by.items()}
                arrays = {n: v[i].tobytes() for n, v in (result.predictions | result.history).items()}
                found[trial.id] = (str(result.status[i]), metrics, arrays)
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Two healthy methods, trained without the offender."""
    store = tmp_path_factory.mktemp("alone") / "store"
    train(store, "quiet,steady", "--splits", "2", "--refit")
    return {method: numbers(store, method) for method in ("quiet", "steady")}


def test_healthy_methods_give_the_same_bytes_between_and_after_an_offender_of_every_kind(alone, tmp_path):
    # One worker runs all of it; each act is a setting of its own, in a stack of its own.
    words = ("--splits", "2", "--refit", "--set", f"offender.act={','.join(ACTS)}")
    result = train(tmp_path / "store", "offender,quiet,steady", *words)
    assert "trials trained" in result.stdout
    assert len(numbers(tmp_path / "store", "offender")) >= 2 * len(ACTS)
    for method, expected in alone.items():
        assert len(expected) == 4
        assert numbers(tmp_path / "store", method) == expected


IMPORTED = """
import torch
from mtbench import hookimpl
torch.set_default_dtype(torch.float64)
torch.set_num_threads(3)
torch.Tensor.__matmul__ = torch.Tensor.__sub__
@hookimpl
def mtbench_methods():
    return []
"""


def test_a_plugin_that_upsets_the_process_when_it_is_imported_reaches_no_job_of_another(alone, tmp_path):
    import torch

    before = torch.get_default_dtype(), torch.get_num_threads(), torch.Tensor.__matmul__
    path = tmp_path / "upsetting.py"
    path.write_text(IMPORTED)
    try:
        train(tmp_path / "store", "quiet,steady", "--splits", "2", "--refit", plugins=(OFFENDER, path))
    finally:
        torch.set_default_dtype(before[0])
        torch.set_num_threads(before[1])
        torch.Tensor.__matmul__ = before[2]
    for method, expected in alone.items():
        assert numbers(tmp_path / "store", method) == expected
