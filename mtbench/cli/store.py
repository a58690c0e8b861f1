"""`mtbench store`: the files of a results store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtbench.cli.tables import counted, in_bytes, print_table
from mtbench.cli.terminal import say, warn

if TYPE_CHECKING:
    from mtbench.store.compact import Compacted

_directory = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))


@click.group()
def store() -> None:
    """Lists, verifies, compacts and slims the files of a results store.

    \b
    Examples:
      mtbench store list results/default
      mtbench store compact results/default
      mtbench store slim results/default --dry-run
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
        say(f"Bad: {found.path}: {found.reason}", err=True)
    say(f"{counted(len(checked), 'file')} checked, {len(bad)} bad.")
    if bad:
        say("A bad stack file can be deleted: the same `mtbench run` trains its trials again.", err=True)
        if any(".pack" in str(found.path) for found in bad):
            say(f"A bad pack too, once `mtbench store compact {directory}` has copied what is intact.", err=True)
        ctx.exit(1)


@store.command("list")
@_directory
def list_(directory: Path) -> None:
    """Lists what the store in DIR holds: files, bytes, and the trials of each cell by how they ended.

    \b
    Example:
      mtbench store list results/default
    """
    from mtbench.plan.cells import gather
    from mtbench.report.labels import labels
    from mtbench.store.scan import scan
    from mtbench.store.store import Store

    opened = Store.open(directory)
    found = scan(opened)
    sizes = opened.files.sizes()
    cells = gather(found.stacks)
    named = labels(cells)
    rows = []
    for cell in cells:
        stacks = {trial.stack.path for trial in cell.trials}
        ended = Counter(str(trial.status) for trial in cell.trials)
        listed = ", ".join(f"{n} {status}" for status, n in sorted(ended.items()))
        phases = Counter(trial.phase for trial in cell.trials)
        method, dataset = named[cell.key]
        size = in_bytes(sum(sizes.get(path, 0) for path in stacks))
        searched = str(phases["search"] + phases["rung"])
        rows.append([method, dataset, str(len(stacks)), size, searched, str(phases["refit"]), listed])
    if rows:
        print_table(["method", "data set", "stacks", "bytes", "search", "refit", "trials"], rows)
    n_trials = sum(len(cell.trials) for cell in cells)
    say(f"{_extent(*opened.files.extent())}, {n_trials} trials in {counted(len(cells), 'cell')}.")
    for checked in found.unreadable:
        warn(f"unreadable: {checked.path}: {checked.reason}")


@store.command()
@_directory
@click.option("--drop-failed", is_flag=True, help="Remove failed tries whose trials have all come to an end since.")
def compact(directory: Path, drop_failed: bool) -> None:
    """Moves the many small files of the store in DIR into few packs; reports and runs may be using it meanwhile.

    Every result stays as it is, byte for byte. Whatever is killed, nothing is lost, and the same command goes on.

    \b
    Examples:
      mtbench store compact results/default
      mtbench store compact results/default --drop-failed
    """
    from mtbench.store.compact import compact as compact_store
    from mtbench.store.store import Store

    done = compact_store(Store.open(directory), drop_failed)
    for checked in done.left:
        warn(f"left as it is: {checked.path}: {checked.reason}")
    for told in _told(done):
        say(told)
    after = _extent(done.n_after, done.bytes_after)
    if done.n_packs or done.n_twice or done.n_dropped:
        say(f"Before: {_extent(done.n_before, done.bytes_before)}. Now: {after}.")
    else:
        say(f"Nothing to compact: {after}.")


@store.command()
@_directory
@click.option("--matrices", is_flag=True, help="Keep the learned matrices of all trials.")
@click.option(
    "--older-versions", is_flag=True, help="Remove results of methods of which the store has a later version."
)
@click.option("--dry-run", is_flag=True, help="Say what would be dropped and how much would stay; change nothing.")
def slim(directory: Path, matrices: bool, older_versions: bool, dry_run: bool) -> None:
    """Drops what no report, figure or resume needs from the store in DIR, and packs the rest, compressed.

    Every trial keeps its settings and scores, and stays finished. Predictions, histories and learned matrices stay of
    the trials that a selection rule picks, of their refits and of bases; those of others are dropped for good. Whatever
    is killed, nothing else is lost, and the same command goes on.

    \b
    Examples:
      mtbench store slim results/default --dry-run
      mtbench store slim results/default
      mtbench store slim results/default --matrices
      mtbench store slim results/default --older-versions
    """
    from mtbench.plan.selected import replaced_trials, shown_trials
    from mtbench.store.slim import slim as slim_store
    from mtbench.store.store import Store

    replaced = replaced_trials if older_versions else None
    done = slim_store(Store.open(directory), shown_trials, matrices, dry_run, replaced)
    for checked in done.left:
        click.echo(f"Warning: left as it is: {checked.path}: {checked.reason}", err=True)
    before, after = _extent(done.n_before, done.bytes_before), _extent(done.n_after, done.bytes_after)
    if (done.n_before, done.bytes_before) == (done.n_after, done.bytes_after):
        click.echo(f"Nothing to drop: {after}.")
        return
    verb = "Would drop" if dry_run else "Dropped"
    click.echo(f"{verb} details of {counted(done.n_trials, 'trial')}; {done.n_kept} keep theirs.")
    if done.n_dropped:
        verb = "Would remove" if dry_run else "Removed"
        click.echo(f"{verb} {counted(done.n_dropped, 'failed try', 'failed tries')}.")
    if done.n_replaced:
        verb = "Would remove" if dry_run else "Removed"
        click.echo(f"{verb} {counted(done.n_replaced, 'stack')} of older versions.")
    click.echo(f"Before: {before}. {'Then' if dry_run else 'Now'}: {after}.")


def _told(done: Compacted) -> Iterator[str]:
    """What a compaction did, in sentences."""
    packs = counted(done.n_packs, "pack")
    if done.n_packed:
        yield f"Moved {counted(done.n_packed, 'file')} into {packs}."
    if done.n_merged:
        yield f"Replaced {counted(done.n_merged, 'pack')} by {packs}."
    if done.n_rescued:
        yield f"Copied {counted(done.n_rescued, 'file')} out of damaged packs into {packs}."
    if done.n_twice:
        yield f"Removed {counted(done.n_twice, 'file')} that a pack held already."
    if done.n_dropped:
        yield f"Removed {counted(done.n_dropped, 'failed try', 'failed tries')}."


def _extent(n_files: int, n_bytes: int) -> str:
    return f"{counted(n_files, 'file')}, {in_bytes(n_bytes) if n_files else '0 B'}"
