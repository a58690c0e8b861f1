"""Selection: the named rules that pick a setting per cell and split from validation results.

Guarantee: a rule receives candidates, and a candidate has no field for a test value; so no test result can influence
which setting a table shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mtbench.contracts.values import Value
from mtbench.errors import UnknownName

Setting = tuple[tuple[str, Value], ...]
"""Hyperparameters as (name, value) pairs in order of name."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A search trial as selection sees it.

    Attributes:
        id: The trial's id.
        setting: Its hyperparameters.
        split: Its split.
        seed: Its seed.
        validation: Headline of the selection metric on the validation part; NaN unless the trial finished.
        best_epoch: The epoch that value belongs to.
    """

    id: str
    setting: Setting
    split: int
    seed: int
    validation: float
    best_epoch: int


Rule = Callable[[Sequence[Candidate], bool], dict[int, Setting]]
"""(search trials of one cell, whether higher is better) -> the setting chosen for each split."""


def per_split(candidates: Sequence[Candidate], higher_is_better: bool) -> dict[int, Setting]:
    """For each split its own setting: the one with the best validation result there, mean over seeds."""
    chosen = {}
    for split in sorted({c.split for c in candidates}):
        setting = _best([c for c in candidates if c.split == split], higher_is_better)
        if setting is not None:
            chosen[split] = setting
    return chosen


def across_splits(candidates: Sequence[Candidate], higher_is_better: bool) -> dict[int, Setting]:
    """One setting for all splits: the one with the best mean validation result over splits."""
    setting = _best(candidates, higher_is_better)
    if setting is None:
        return {}
    usable = {c.split for c in candidates if c.setting == setting and math.isfinite(c.validation)}
    return dict.fromkeys(sorted(usable), setting)


RULES: Mapping[str, Rule] = {"per_split": per_split, "across_splits": across_splits}


def rule_named(name: str) -> Rule:
    """The rule of that name.

    Raises:
        UnknownName: There is none.
    """
    if name not in RULES:
        raise UnknownName.among("selection rule", name, RULES)
    return RULES[name]


def _best(candidates: Sequence[Candidate], higher_is_better: bool) -> Setting | None:
    """The setting that finished most often, among those the best validation, among those the smallest trial id.

    Validation is the mean over splits of the mean over seeds. A setting with a failed seed loses against complete
    ones: its mean would leave out the runs in which it did worst. Settings are compared on the splits and seeds that
    all of them were tried on, so that a later run of some settings with more seeds does not decide by itself.
    """
    tried: dict[Setting, set[tuple[int, int]]] = {}
    for c in candidates:
        tried.setdefault(c.setting, set()).add((c.split, c.seed))
    shared = set.intersection(*tried.values()) if tried else set()
    candidates = [c for c in candidates if not shared or (c.split, c.seed) in shared]
    runs = {(c.split, c.seed) for c in candidates}
    by_setting: dict[Setting, list[Candidate]] = {}
    for c in candidates:
        if math.isfinite(c.validation):
            by_setting.setdefault(c.setting, []).append(c)
    sign = -1.0 if higher_is_better else 1.0
    order = {
        setting: (len(runs) - len(done), sign * _mean_over_splits(done), min(c.id for c in done))
        for setting, done in by_setting.items()
    }
    return min(order, key=order.__getitem__, default=None)


def _mean_over_splits(done: Sequence[Candidate]) -> float:
    by_split: dict[int, list[float]] = {}
    # In order of id, so that the sum does not depend on where trials are stored.
    for c in sorted(done, key=lambda c: c.id):
        by_split.setdefault(c.split, []).append(c.validation)
    return math.fsum(math.fsum(values) / len(values) for values in by_split.values()) / len(by_split)
