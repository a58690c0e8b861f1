"""What a reader must know before believing a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtbench.contracts.trials import Status
from mtbench.report.edges import edges
from mtbench.report.entries import Entry
from mtbench.report.searches import ADAPTIVE, comparable_draws, in_words, searches
from mtbench.report.valued_tasks import tasks_in_means
from mtbench.tasks.fingerprint import Fingerprint

_ENVIRONMENT = {
    "torch": "versions of torch",
    "mtbench": "versions of mtbench",
    "git_commit": "commits of mtbench",
    "optuna": "versions of Optuna",
    "dataset_plugin": "versions of the data set's plugin",
}
"""Provenance that may move results slightly, and its name."""


def cautions(entries: Sequence[Entry]) -> Iterator[str]:
    """One sentence for each thing that weakens a table, data set by data set."""
    by_dataset: dict[str, list[Entry]] = {}
    for entry in entries:
        by_dataset.setdefault(entry.dataset, []).append(entry)
    for dataset, members in by_dataset.items():
        yield from _mixed(dataset, members)
        yield from _unequal(dataset, [entry for entry in members if entry.cell.search])
        yield from tasks_in_means(dataset, members)
        for entry in members:
            yield from _of_cell(entry)


def _mixed(dataset: str, members: Sequence[Entry]) -> Iterator[str]:
    """Trials of one table that were trained under different circumstances."""
    devices = _values(members, "device")
    if len(devices) > 1:
        yield f"{dataset}: trained on different devices ({', '.join(devices)}); do not compare training times."
    for entry in members:
        plugins = _values([entry], "method_plugin")
        if len(plugins) > 1:
            yield f"{entry.label}: trained with different plugins ({', '.join(plugins)}); results may differ."
    yield from _other_content(dataset, members)
    for field, words in _ENVIRONMENT.items():
        found = _values(members, field)
        if len(found) > 1:
            yield f"{dataset}: trained with different {words} ({', '.join(found)}); results may differ slightly."


def _other_content(dataset: str, members: Sequence[Entry]) -> Iterator[str]:
    """Splits that were not the same problem for all that was trained on them, but for rounding."""
    first: dict[int, Fingerprint] = {}
    differ: set[int] = set()
    stacks = {id(t.stack): t.stack for entry in members for t in entry.cell.trials if t.status is Status.FINISHED}
    for stack in stacks.values():
        for split, content in stack.content.items():
            if not first.setdefault(split, content).is_like(content):
                differ.add(split)
    if differ:
        listed = _list(sorted(differ))
        yield f"{dataset}: split {listed} was not the same data for all trials (a file changed, or code)."


def _known(provenance: Mapping[str, Any], field: str) -> Any:
    if field == "device":
        # "cuda:0" and "cuda:1" are the same kind of device, unless their names say otherwise.
        return provenance.get("device_name") or str(provenance.get("device", "")).partition(":")[0]
    if field == "git_commit" and field in provenance:
        return str(provenance[field])[:10] + (" with changes" if provenance.get("git_dirty") else "")
    return provenance.get(field)


def _values(members: Sequence[Entry], field: str) -> list[str]:
    """What the stacks that finished say of a field of their provenance."""
    stacks = {id(t.stack): t.stack for entry in members for t in entry.cell.trials if t.status is Status.FINISHED}
    return sorted({str(value) for stack in stacks.values() if (value := _known(stack.provenance, field))})


def _unequal(dataset: str, members: Sequence[Entry]) -> Iterator[str]:
    """Methods of one table that did not get the same chances."""
    draws = {e.method: comparable_draws(e.cell) for e in members}
    if len({tuple(counts) for counts in draws.values()}) > 1 or any(len(counts) > 1 for counts in draws.values()):
        listed = ", ".join(f"{method} {_span(counts)}" for method, counts in draws.items())
        yield f"{dataset}: methods had different numbers of draws ({listed})."
    kinds = {e.method: [found.kind for found in searches(e.cell)] for e in members}
    if len({tuple(found) for found in kinds.values()}) > 1 and any(
        set(found) & set(ADAPTIVE) for found in kinds.values()
    ):
        listed = ", ".join(f"{e.method} {in_words(e.cell) or 'unknown'}" for e in members)
        yield f"{dataset}: methods were searched in different ways ({listed})."
    runs = {e.method: sorted({(c.split, c.seed) for c in e.cell.candidates}) for e in members}
    splits = {method: sorted({split for split, _ in found}) for method, found in runs.items()}
    if len({tuple(found) for found in splits.values()}) > 1:
        listed = ", ".join(f"{method} {_list(found)}" for method, found in splits.items())
        yield f"{dataset}: methods ran on different splits ({listed}); only paired differences compare like with like."
    elif len({tuple(found) for found in runs.values()}) > 1:
        seeds = {method: sorted({seed for _, seed in found}) for method, found in runs.items()}
        listed = ", ".join(f"{method} {_list(found)}" for method, found in seeds.items())
        yield f"{dataset}: methods ran with different seeds ({listed})."
    refits = {e.selected.refit for e in members if e.selected.searched}
    if len(refits) > 1:
        without = ", ".join(e.method for e in members if e.selected.searched and not e.selected.refit)
        yield f"{dataset}: scores of {without} are without refit, the others' with; compare 'without refit'."


def _of_cell(entry: Entry) -> Iterator[str]:
    counted = [t for t in entry.cell.trials if t.status is not Status.SKIPPED]
    failed = Counter(t.status for t in counted if t.status is not Status.FINISHED)
    if failed:
        listed = ", ".join(f"{n} {status}" for status, n in sorted(failed.items()))
        yield f"{entry.label}: {failed.total()} of {len(counted)} trials did not finish ({listed})."
    if entry.selected.missing_refits:
        missing, wanted = entry.selected.missing_refits, len(entry.selected.searched)
        yield f"{entry.label}: {missing} of {wanted} selected trials have no finished refit, so the score is without."
    splits = {t.candidate.split for t in entry.selected.final}
    lost = sorted(entry.cell.draws.keys() - splits)
    if lost and splits:
        yield f"{entry.label}: no trial of split {_list(lost)} could be selected; the mean leaves it out."
    if len(splits) == 1:
        yield f"{entry.label}: one split only, so there is no interval."
    yield from _unsolved(entry)
    yield from _at_edges(entry)


def _unsolved(entry: Entry) -> Iterator[str]:
    """Scores of problems that their solver did not solve to its method's own tolerance."""
    short = [trial for trial in entry.selected.final if not trial.solved]
    if short:
        worst = max(trial.residual for trial in short)
        tolerance = short[0].tolerance
        yield (
            f"{entry.label}: the solver stopped before its tolerance in {len(short)} of {len(entry.selected.final)} "
            f"selected trials (relative residual up to {worst:.1g}; solved is {tolerance:.1g})."
        )


def _at_edges(entry: Entry) -> Iterator[str]:
    """Hyperparameters whose best values may lie beyond the range that was searched."""
    for edge in edges(entry.cell, entry.selected):
        if edge.often:
            where = f"the {edge.end} edge of its range ({edge.value:g}) in {len(edge.splits)} of {edge.n_splits} splits"
            yield f"{entry.label}: {edge.name} was selected at {where}; a wider range may do better."


def _span(counts: Sequence[int]) -> str:
    return str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"


def _list(numbers: Sequence[int]) -> str:
    """Numbers for people: runs of three or more as "0-4"."""
    parts: list[str] = []
    start = 0
    for i in range(1, len(numbers) + 1):
        if i == len(numbers) or numbers[i] != numbers[i - 1] + 1:
            run = numbers[start:i]
            parts += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(n) for n in run]
            start = i
    return " ".join(parts)
