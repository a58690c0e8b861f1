"""How many tasks a mean over tasks is over, where some have no value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mtbench.plan.selected import Selected
from mtbench.report.entries import Entry
from mtbench.tasks import Array

_NAMED = 3  # tasks that a sentence names


def tasks_in_means(dataset: str, members: Sequence[Entry]) -> Iterator[str]:
    """One sentence for each metric and set of tasks that a mean leaves out, with the methods it is true of."""
    methods: dict[str, list[str]] = {}
    for entry in members:
        for metric in dict.fromkeys(entry.cell.test_metrics):
            sentence = _sentence(metric, entry.selected)
            if sentence:
                methods.setdefault(sentence, []).append(entry.method)
    for sentence, found in methods.items():
        whose = "" if len(found) == len(members) else f" (so for {', '.join(found)})"
        yield f"{dataset}: {sentence}{whose}."


def _sentence(metric: str, selected: Selected) -> str:
    """What the means of the selected trials leave out; nothing where they leave out nothing, or all."""
    found: list[Array] = []
    names: Sequence[object] = ()
    for trial in selected.final:
        values, known = trial.values(metric), trial.stack.provenance.get("task_names", ())
        if len(values) > 1 and len(values) == len(known) and np.isfinite(values).any():
            found.append(np.isfinite(values))
            names = known
    if not found or all(one.all() for one in found) or len({len(one) for one in found}) > 1:
        return ""
    counts = sorted({int(one.sum()) for one in found})
    without = [str(names[t]) for t in np.flatnonzero(~np.all(found, 0)).tolist()]
    span = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    untrained = [name for name in without if name in _untrained(selected)]
    why = f"; without a training label: {_listed(untrained)}" if untrained else ""
    return f"'{metric}' is a mean over {span} of {len(names)} tasks; without a value: {_listed(without)}{why}"


def _untrained(selected: Selected) -> set[str]:
    """Names of the tasks that some selected trial could not be trained on."""
    found: set[str] = set()
    for trial in selected.final:
        by_split = trial.stack.provenance.get("untrained_tasks", {})
        names = by_split.get(str(trial.candidate.split), ()) if isinstance(by_split, Mapping) else ()
        found.update(str(name) for name in names if isinstance(name, str))
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:_NAMED]) + more
