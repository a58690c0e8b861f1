"""Names for the rows of a table: the method's and the data set's, with whatever tells variants of a cell apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtbench.contracts.recipe import NOT_IDENTITY, Recipe
from mtbench.plan.cells import CellResults


@dataclass(frozen=True)
class Side:
    """One variant of a method, or of a data set with its options and recipe.

    Attributes:
        fields: All that can differ between variants.
        changed: Fields known to differ from the data set's defaults.
        judged: Fields of which the store says whether they differ from the defaults.
    """

    fields: Mapping[str, Any]
    changed: frozenset[str] = frozenset()
    judged: frozenset[str] = frozenset()


def labels(cells: Sequence[CellResults]) -> dict[str, tuple[str, str]]:
    """By key of the cell, the label of its method and of its data set: never the same pair twice.

    A label shows what was changed from the defaults, "school[max_epochs=80]", and whatever else is needed to tell the
    variants present apart. Bases, whose method's label says so, are told apart among themselves.
    """
    found: dict[str, tuple[str, str]] = {}
    for mark, some in (("", [c for c in cells if not c.is_base]), (" (base)", [c for c in cells if c.is_base])):
        methods = _label_all([(c.method, _method_side(c)) for c in some])
        datasets = _label_all([(c.dataset, _dataset_side(c)) for c in some])
        for cell, method, dataset in zip(some, methods, datasets, strict=True):
            found[cell.key] = (method + mark, dataset)
    return found


def _method_side(cell: CellResults) -> Side:
    return Side({"version": cell.cell["method_version"], "from": cell.cell["distribution"]})


def _dataset_side(cell: CellResults) -> Side:
    options = dict(cell.cell["options"])
    # An identity leaves out defaults, and what is only stored or done after the search.
    defaults = {name: value for name, value in dataclasses.asdict(Recipe()).items() if name not in NOT_IDENTITY}
    recipe = {**defaults, **cell.cell["recipe"]}
    fields = {"version": cell.cell["dataset_version"], "content": cell.cell["content"][:8], **options, **recipe}
    changed: set[str] = set()
    judged: set[str] = set()
    if "recipe_overrides" in cell.provenance:
        judged |= recipe.keys()
        changed |= recipe.keys() & set(cell.provenance["recipe_overrides"])
    if "options_default" in cell.provenance:
        usual = cell.provenance["options_default"]
        judged |= options.keys()
        changed |= {name for name, value in options.items() if value != usual.get(name)}
    return Side(fields, frozenset(changed), frozenset(judged))


def _label_all(named: Sequence[tuple[str, Side]]) -> list[str]:
    """Labels, in order; variants of one name are told apart."""
    by_name: dict[str, list[Side]] = {}
    for name, side in named:
        by_name.setdefault(name, []).append(side)
    differing = {name: _differing(sides) for name, sides in by_name.items()}
    short = [_label(name, s, s.changed | (differing[name] - s.judged)) for name, s in named]
    owners: dict[str, list[Side]] = {}
    for text, (_, side) in zip(short, named, strict=True):
        owners.setdefault(text, []).append(side)
    ambiguous = {text for text, sides in owners.items() if _differing(sides)}
    return [
        _label(name, s, s.changed | differing[name]) if text in ambiguous else text
        for text, (name, s) in zip(short, named, strict=True)
    ]


def _differing(sides: Sequence[Side]) -> frozenset[str]:
    names = {name for side in sides for name in side.fields}
    return frozenset(n for n in names if any(s.fields.get(n) != sides[0].fields.get(n) for s in sides))


def _label(name: str, side: Side, shown: frozenset[str] | set[str]) -> str:
    parts = [f"{field}={value}" for field, value in side.fields.items() if field in shown]
    return f"{name}[{', '.join(parts)}]" if parts else name
