"""Metrics of what outranks what: the largest of one-vs-all outputs, the first ten labels.

Shapes: R trials, n rows, O outputs of all tasks, C the widest task's outputs, T tasks. Predictions are [R, n, O] in the
shared layout and [R, n, C] (each row the outputs of its own task) in the own layout.
"""

from __future__ import annotations

import numpy as np

from mtbench.metrics.blocks import Block, blocks
from mtbench.tasks import Array, Layout, Part, Problem, TaskKind


def one_vs_all_tasks(problem: Problem) -> str | None:
    """None, or that the tasks cannot be classes against all others."""
    if problem.layout is not Layout.SHARED or not problem.only(TaskKind.BINARY):
        return "binary tasks that share their rows. Name another, such as 'error'."
    return None


def one_class_each(problem: Problem, part: Part) -> str | None:
    """Why rows are not each of one class, if they are not."""
    known = ~np.isnan(part.labels)
    there = known.any(1)
    wrong = np.flatnonzero(there & ~(known.all(1) & (np.nansum(part.labels, 1) == 1)))
    if not len(wrong):
        return None
    name = next((repr(name) for name, one in problem.parts.items() if one is part), "a part")
    row = wrong[0]
    found = "some labels missing" if not known[row].all() else f"{int(part.labels[row].sum())} labels of 1"
    return (
        f"exactly one label of 1 in every row, or none at all (all NaN); {name}, row {row} has {found}. Add a task for "
        "rows of no other class, give NaN to leave them out, or name metric 'error'."
    )


def one_vs_all_error(problem: Problem, part: Part, predictions: Array) -> Array:
    """Per class, in percent: rows of the class whose largest output is another task's.

    Rows count by their sample weights; a weight of the class changes no share of its own rows.
    """
    there = ~np.isnan(part.labels[:, 0])
    weights = part.sample_weight
    if weights is not None:
        there &= weights > 0
        weights = weights[there]
    if not there.all():
        predictions = predictions[:, there]
    classes = part.labels[there].argmax(1)
    wrong = predictions.argmax(2) != classes
    shares = [_share(wrong, classes == t, weights) for t in range(problem.n_tasks)]
    return np.stack(shares, 1)


def _share(wrong: Array, rows: Array, weights: Array | None) -> Array:
    """In percent, the share of some rows (bool [n]) that are wrong (bool [R, n]): [R]; NaN of no rows."""
    if not rows.any():
        return np.full(len(wrong), np.nan)
    return np.asarray(100.0 * np.average(wrong[:, rows], 1, None if weights is None else weights[rows]))


RANKS = 10  # of "map_at_10"


def map_at_10(problem: Problem, part: Part, predictions: Array) -> Array:
    """Mean over rows of the average precision of their ten highest ranked labels, in percent; multilabel tasks.

    A row with P labels has a precision, the share of its labels among the first r, at each of the ranks r up to ten
    that hold one of them; their sum over min(P, 10) is its average precision. Equal outputs rank in the order of the
    labels. Rows without a label do not count. The mean is over rows, not labels, because the other measures of
    YouTube-8M with a cut-off (Hit@1, PERR, GAP@20) cut the ranking of each video's labels too.
    """
    return np.stack([_mean_precision(block) for block in blocks(problem, part, predictions)], 1)


def _mean_precision(block: Block) -> Array:
    """Of one task: [R]. Labels that are missing are left out of a row's ranking."""
    true = block.labels > 0.5
    labelled = true.any(1)
    if not labelled.any():
        return np.full(len(block.outputs), np.nan)
    gaps = None if block.known is None else ~block.known[labelled]
    found = []
    # One trial at a time: a ranking takes twice the memory of the outputs that it ranks.
    for outputs in block.outputs:
        ranked = outputs[labelled] if gaps is None else np.where(gaps, -np.inf, outputs[labelled])
        weights = None if block.weights is None else block.weights[labelled]
        found.append(100.0 * np.average(_average_precision(ranked, true[labelled]), weights=weights))
    return np.array(found)


def _average_precision(outputs: Array, labels: Array) -> Array:
    """Of the first ten ranks of each row: outputs and labels (bool, at least one a row) [n, C] -> [n]."""
    ranked = np.argsort(-outputs, axis=1, kind="stable")[:, :RANKS]
    hits = np.take_along_axis(labels, ranked, 1)
    precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
    return np.asarray((precision * hits).sum(1) / np.minimum(labels.sum(1), RANKS))
