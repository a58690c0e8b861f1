"""The numbers of docs/reproduction.md against the committed stores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.reproduction import TABLES, lines

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reproduction.md").read_text()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_what_its_store_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert "\n".join(lines(name)) in PAGE


@pytest.mark.parametrize(
    ("benchmark", "name"),
    [
        ("recovery", "amtfl_synthetic"),
        ("recovery", "amtfl_synthetic_l1"),
        ("transfer_direction", "mnist_imbalanced_transfer"),
        ("transfer_direction", "mnist_imbalanced_delta"),
    ],
)
def test_what_a_benchmark_reads_is_what_its_store_gives(benchmark: str, name: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", f"results/{name}"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.rstrip() in PAGE


def test_the_list_of_residuals_is_what_the_stores_give() -> None:
    command = [sys.executable, "-m", "benchmarks.residuals"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.rstrip() in PAGE
