"""From a store's directory to what a report says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from mtbench.errors import MtbenchError
from mtbench.plan.cells import gather
from mtbench.plan.selection import RULES, rule_named
from mtbench.report.entries import Entry, dataset_names, entries
from mtbench.report.further import Further, with_further
from mtbench.report.leaderboard import Leaderboard, leaderboard
from mtbench.store.scan import StackColumns, scan
from mtbench.store.store import Store


def read(
    directory: Path,
    rule: str | None = None,
    methods: Sequence[str] = (),
    datasets: Sequence[str] = (),
    baseline: str | None = None,
    further: Further | None = None,
) -> tuple[list[Entry], Leaderboard]:
    """Reads a store and selects in it.

    Args:
        directory: The store.
        rule: Name of the selection rule; None for the one that the store's runs name.
        methods: Methods the leaderboard shows, by name or label; empty shows all.
        datasets: Likewise.
        baseline: Method that gains are measured against; None for the data set's single-task method.
        further: Metrics that the leaderboard shows beside those in the store; None for no more.

    Returns:
        All cells, and the leaderboard.

    Raises:
        StoreError: There is no store, or it is of another format version.
        UnknownName: There is no such rule, method or data set.
    """
    if rule is not None:
        rule_named(rule)
    store = Store.open(directory)
    found = scan(store)
    try:
        cells, board = _read(found.stacks, rule, methods, datasets, baseline)
    except MtbenchError:
        raise
    except Exception:
        # Whatever a file holds that nobody thought of must not cost the others their report.
        found = found.without(_faults(found.stacks))
        cells, board = _read(found.stacks, rule, methods, datasets, baseline)
    if further is not None:
        shown = [cell for cell in cells if not datasets or set(dataset_names(cell)) & set(datasets)]
        stacks, lacks = with_further(found.stacks, shown, further, store)
        cells, board = _read(stacks, rule, methods, datasets, baseline)
        board = replace(board, warnings=(*board.warnings, *lacks))
    return cells, board.with_warning(_unreadable([checked.path.name for checked in found.unreadable]))


def _read(
    stacks: Sequence[StackColumns],
    rule: str | None,
    methods: Sequence[str],
    datasets: Sequence[str],
    baseline: str | None,
) -> tuple[list[Entry], Leaderboard]:
    rule = rule or _recorded_rule(stacks)
    cells = entries([cell for cell in gather(stacks) if not cell.is_base], rule)
    return cells, leaderboard(cells, rule, methods, datasets, baseline)


def _faults(stacks: Sequence[StackColumns]) -> dict[Path, str]:
    """By file, why no report can be made of it alone."""
    faults: dict[Path, str] = {}
    for stack in stacks:
        try:
            rule = _recorded_rule([stack])
            leaderboard(entries(gather([stack]), rule), rule)
        except Exception as error:
            faults[stack.path] = f"{stack.path.name}: no report can be made of it: {error!r}"
    return faults


def _recorded_rule(stacks: Iterable[StackColumns]) -> str:
    """The selection rule all stacks name, else "per_split".

    Where there are refits they alone are asked: a rule decides what is refitted, and may change after the search.
    """
    named: dict[bool, set[str]] = {True: set(), False: set()}
    for stack in stacks:
        named["refit" in stack.phase].add(str(stack.provenance.get("selection")))
    agreed = named[True] or named[False]
    return next((rule for rule in RULES if agreed == {rule}), "per_split")


def _unreadable(names: Sequence[str]) -> str:
    if not names:
        return ""
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    verb = (
        "file of this store is unreadable and was" if len(names) == 1 else "files of this store are unreadable and were"
    )
    return f"{len(names)} {verb} left out ({listed}); `mtbench store verify` says why."
