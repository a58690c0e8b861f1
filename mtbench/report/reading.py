"""From a store's directory to what a report says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mtbench.report.cells import gather
from mtbench.report.entries import Entry, entries
from mtbench.report.leaderboard import Leaderboard, leaderboard
from mtbench.report.selection import rule_named
from mtbench.store.scan import scan
from mtbench.store.store import Store


def read(
    directory: Path, rule: str, methods: Sequence[str] = (), datasets: Sequence[str] = ()
) -> tuple[list[Entry], Leaderboard]:
    """Reads a store and selects in it.

    Args:
        directory: The store.
        rule: Name of the selection rule.
        methods: Methods the leaderboard shows, by name or label; empty shows all.
        datasets: Likewise.

    Returns:
        All cells, and the leaderboard.

    Raises:
        StoreError: There is no store, or it is of another format version.
        UnknownName: There is no such rule, method or data set.
    """
    rule_named(rule)
    found = scan(Store.open(directory))
    cells = entries(gather(found.stacks), rule)
    board = leaderboard(cells, rule, methods, datasets)
    return cells, board.with_warning(_unreadable([checked.path.name for checked in found.unreadable]))


def _unreadable(names: Sequence[str]) -> str:
    if not names:
        return ""
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    verb = (
        "file of this store is unreadable and was" if len(names) == 1 else "files of this store are unreadable and were"
    )
    return f"{len(names)} {verb} left out ({listed}); `mtbench store verify` says why."
