"""The numbers of docs/reproduction.md against the committed stores."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from benchmarks import recovery, residuals, transfer_direction
from benchmarks.reproduction import TABLES, lines

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reproduction.md").read_text()


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_what_its_store_gives(name: str) -> None:
    assert "\n".join(lines(name)) in PAGE


@pytest.mark.parametrize(
    ("benchmark", "name"),
    [
        (recovery, "amtfl_synthetic"),
        (recovery, "amtfl_synthetic_l1"),
        (transfer_direction, "mnist_imbalanced_transfer"),
        (transfer_direction, "mnist_imbalanced_delta"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_what_a_benchmark_reads_is_what_its_store_gives(
    benchmark: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [benchmark.__name__, f"results/{name}"])
    benchmark.main()
    assert capsys.readouterr().out.rstrip() in PAGE


def test_the_list_of_residuals_is_what_the_stores_give() -> None:
    printed = CliRunner().invoke(residuals.main, [], catch_exceptions=False)
    assert printed.stdout.rstrip() in PAGE
