"""Hyperparameters selected at an edge of their range: `python -m benchmarks.edges [STORE ...]`.

Without stores it runs the searches first, with the methods' own ranges, and keeps them below `--out`, one store for
each data set, where the same command goes on:

    python -m benchmarks.edges --datasets amtfl_synthetic,school --methods stl,go_mtl --splits 5

Prints a row for each method and hyperparameter that selects at an edge in some split, and at the end how many do so in
more than one split of five. What is an edge is said in docs/reports.md. Of stores that do not say where their searches
looked, the smallest and largest value tried are taken as the range.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from mtbench.plan.cells import CellResults, gather
from mtbench.report.edges import Edge, Span, edges, spans
from mtbench.report.entries import Entry, entries
from mtbench.store import Store, scan

SHALLOW = ("stl", "go_mtl", "amtl", "nn", "mt_nn", "amtfl")
SMALL = ("amtfl_synthetic", "digits", "school", "mnist", "usps", "amtl_synthetic", "amtl_imbalanced", "mmoe_synthetic")


@click.command()
@click.argument("stores", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--datasets", default=",".join(SMALL), show_default=True, help="Data sets to search on.")
@click.option("--methods", default=",".join(SHALLOW), show_default=True, help="Methods to search for.")
@click.option("--splits", type=int, default=5, show_default=True, help="Splits, at most as many as there are.")
@click.option("--search", default="random:25", show_default=True, help="The search.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/edges"), show_default=True)
@click.option("--all", "everything", is_flag=True, help="Also print what is selected inside its range.")
def main(
    stores: tuple[Path, ...], datasets: str, methods: str, splits: int, search: str, out: Path, everything: bool
) -> None:
    """Prints the table of edges of stores, or of searches that it runs first."""
    if not stores:
        stores = tuple(_searched(name, methods, splits, search, out / name) for name in datasets.split(","))
    found = [entry for store in stores for entry in entries(gather(scan(Store.open(store)).stacks), "per_split")]
    cells = [entry for entry in found if entry.cell.search and not entry.cell.is_base]
    click.echo(
        "| data set | method | hyperparameter | range | selected, by split | at an edge |\n|---|---|---|---|---|---|"
    )
    rows = [row for entry in cells for row in table_rows(entry, everything)]
    click.echo("\n".join(rows) or "| none | | | | | |")
    n_often = sum(edge.often for entry in cells for edge in edges(entry.cell, entry.selected, _spans(entry.cell)))
    click.echo(f"\n{n_often} edge(s) in more than one split of five, of {len(cells)} searches.")


def _searched(dataset: str, methods: str, splits: int, search: str, out: Path) -> Path:
    """Runs a search on a data set, as a user would."""
    given = ["--methods", methods, "--datasets", dataset, "--search", search, "--out", str(out), "--no-refit"]
    command = [sys.executable, "-m", "mtbench", "run", *given, "--splits", str(min(splits, _n_splits(dataset)))]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return out


def _n_splits(dataset: str) -> int:
    from mtbench.plugins.host import load_plugins

    return load_plugins(()).dataset(dataset).n_splits


def table_rows(entry: Entry, everything: bool = False) -> Iterator[str]:
    """Rows of the table, in Markdown."""
    known = _spans(entry.cell)
    found: dict[str, list[Edge]] = {name: [] for name in known}
    for edge in edges(entry.cell, entry.selected, known):
        found[edge.name].append(edge)
    chosen = {row.candidate.split: dict(row.candidate.setting) for row in entry.selected.searched}
    for name, span in known.items():
        if found[name] or everything:
            values = " ".join(f"{chosen[split][name]:.3g}" for split in sorted(chosen))
            where = "; ".join(f"{e.end} in {len(e.splits)} of {e.n_splits}" for e in found[name])
            low, high = span.values[0], span.values[-1]
            label = f"| {entry.dataset} | {entry.method} | {name} | {low:g} to {high:g} "
            yield f"{label}| {values} | {where or 'no'} |"


def _spans(cell: CellResults) -> dict[str, Span]:
    """Where a search looked; what it tried, in stores that do not say."""
    if any("ranges" in trial.stack.provenance for trial in cell.search):
        return spans(cell)
    tried: dict[str, set[float]] = {}
    for candidate in cell.candidates:
        for name, value in candidate.setting:
            if isinstance(value, int | float):
                tried.setdefault(name, set()).add(float(value))
    ends = {name: (min(values), max(values)) for name, values in tried.items() if len(values) > 1}
    return {name: Span(pair, False, pair[0] > 0, frozenset()) for name, pair in ends.items()}


if __name__ == "__main__":
    main()
