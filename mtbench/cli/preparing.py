"""What preparing data looks like: the licence before a download, and how far it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from mtbench.cli.tables import in_bytes
from mtbench.cli.terminal import is_dumb, say
from mtbench.contracts.dataset import Dataset
from mtbench.data.preparation import watched


def agreed(dataset: type[Dataset], size: str, yes: bool) -> bool:
    """Shows a data set's licence before it is fetched, and asks whether to go on; without a terminal nobody accepts it.

    Args:
        dataset: The data set.
        size: How much that is.
        yes: The answer is yes already.

    Returns:
        Whether to fetch it.
    """
    if not dataset.licence_text:
        return True
    say(f"\n{dataset.licence_text.strip()}\n")
    if yes:
        return True
    return at_a_terminal() and click.confirm(f"{dataset.name}: fetch {size} under this licence?")


def at_a_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


@contextmanager
def progress_shown() -> Iterator[None]:
    """Shows how far preparations are, in a terminal; elsewhere nothing."""
    if not sys.stderr.isatty() or is_dumb():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bars: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int, unit: str) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, count="")
            progress.update(bars[what], completed=done, total=total or None, count=how_far(done, total, unit))
            if done >= total > 0:
                progress.remove_task(bars.pop(what))

        with watched(show):
            yield


def how_far(done: int, total: int, unit: str) -> str:
    """A state in words, such as "3 of 8 shards"; without a total what is done alone."""
    if unit == "B":
        return f"{in_bytes(done)} of {in_bytes(total)}" if total else in_bytes(done)
    return f"{done:,} of {total:,} {unit}" if total else f"{done:,} {unit}"
