"""`mtbench store`: the files of a results store."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from mtbench.cli.tables import in_bytes, print_table

_directory = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))


@click.group()
def store() -> None:
    """Lists and verifies the files of a results store.

    \b
    Example:
      mtbench store list results/default
    """


@store.command()
@_directory
@click.pass_context
def verify(ctx: click.Context, directory: Path) -> None:
    """Checks every file of the store in DIR in full: hashes, identities, names. Exit code 1 if any is bad.

    \b
    Example:
      mtbench store verify results/default
    """
    # Imported here, because numpy and h5py would make `--help` slow.
    from mtbench.store.store import Store

    checked = list(Store.open(directory).verify())
    bad = [found for found in checked if not found.ok]
    for found in bad:
        click.echo(f"Bad: {found.path}: {found.reason}", err=True)
    click.echo(f"{len(checked)} files checked, {len(bad)} bad.")
    if bad:
        click.echo("A bad stack file can be deleted: the same `mtbench run` trains its trials again.", err=True)
        ctx.exit(1)


@store.command("list")
@_directory
def list_(directory: Path) -> None:
    """Lists what the store in DIR holds: files, bytes, and the trials of each cell by how they ended.

    \b
    Example:
      mtbench store list results/default
    """
    from mtbench.report.cells import gather
    from mtbench.report.labels import labels
    from mtbench.store.scan import scan
    from mtbench.store.store import Store

    opened = Store.open(directory)
    found = scan(opened)
    cells = gather(found.stacks)
    named = labels(cells)
    rows = []
    for cell in cells:
        paths = {trial.stack.path for trial in cell.trials}
        ended = Counter(str(trial.status) for trial in cell.trials)
        listed = ", ".join(f"{n} {status}" for status, n in sorted(ended.items()))
        phases = Counter(trial.phase for trial in cell.trials)
        method, dataset = named[cell.key]
        size = in_bytes(sum(path.stat().st_size for path in paths))
        rows.append([method, dataset, str(len(paths)), size, str(phases["search"]), str(phases["refit"]), listed])
    if rows:
        print_table(["method", "data set", "files", "bytes", "search", "refit", "trials"], rows)
    files = opened.stack_paths()
    total = in_bytes(sum(path.stat().st_size for path in files))
    n_trials = sum(len(cell.trials) for cell in cells)
    click.echo(f"{len(files)} files, {total if files else '0 B'}, {n_trials} trials in {len(cells)} cells.")
    for checked in found.unreadable:
        click.echo(f"Warning: unreadable: {checked.path}: {checked.reason}", err=True)
