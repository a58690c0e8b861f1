"""How far from optimal the solvers of stored trials ended: `python -m benchmarks.residuals [STORE ...]`.

Prints a row for each store, data set and solver method: how many finished trials, and how many of the selected ones,
end at or below the method's tolerance, and the median and the largest residual. Without stores it reads all below
`results`.
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

from mtbench import load


@click.command()
@click.argument("stores", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(stores: tuple[Path, ...]) -> None:
    """Prints the table."""
    found = [rows(store) for store in stores or sorted(path for path in Path("results").iterdir() if path.is_dir())]
    table = pd.concat(found, ignore_index=True)
    if table.empty:
        raise click.ClickException("no trial of a solver method in these stores.")
    print(table.to_string(index=False))


def rows(store: Path) -> pd.DataFrame:
    """A row for each data set and method of a store whose trials were solved for."""
    trials = load(store).trials
    solved = trials[(trials["status"] == "finished") & trials["residual"].notna()]
    return pd.DataFrame(
        [
            {
                "store": store.name,
                "dataset": dataset,
                "method": method,
                "tolerance": f"{some['tolerance'].max():.0e}",
                "solved": within(some),
                "of the selected": within(some[some["selected"]]),
                "median": f"{some['residual'].median():.1e}",
                "largest": f"{some['residual'].max():.1e}",
                "largest selected": f"{some.loc[some['selected'], 'residual'].max():.1e}",
            }
            for (dataset, method), some in solved.groupby(["dataset", "method"])
        ]
    )


def within(trials: pd.DataFrame) -> str:
    """How many of some trials end at or below their tolerance."""
    return f"{int((trials['residual'] <= trials['tolerance']).sum())} of {len(trials)}"


if __name__ == "__main__":
    main()
