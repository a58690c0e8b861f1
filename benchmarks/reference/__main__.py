"""Prints the agreement of every method and solver with its second implementation.

    python -m benchmarks.reference
    python -m benchmarks.reference mrn taan amtl

Ends with exit code 1 where one differs by more than 1e-6, relative.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby

import benchmarks.reference
from benchmarks.reference.comparison import Comparison


def comparisons(asked: Collection[str]) -> Iterator[Comparison]:
    """What each module beside this one compares in its `comparisons`; of the subjects asked for, or of all."""
    for module in pkgutil.iter_modules(benchmarks.reference.__path__, "benchmarks.reference."):
        if not module.name.endswith("__main__"):
            own = getattr(importlib.import_module(module.name), "comparisons", None)
            yield from own(asked) if own is not None else ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", help="methods; all where none is named")
    asked = parser.parse_args().subjects
    found = list(comparisons(asked))
    if unknown := set(asked) - {one.subject for one in found}:
        parser.error(f"no such method: {', '.join(sorted(unknown))}")
    sys.exit(0 if printed(found) else 1)


def printed(found: Iterable[Comparison]) -> bool:
    """Prints a line for each subject and quantity, and those that differ; whether all agree."""
    ordered = sorted(found, key=lambda one: (one.subject, one.quantity))
    print(f"{'':18} {'quantity':22} {'problems':>8} {'largest difference':>19}")
    for (subject, quantity), some in groupby(ordered, lambda one: (one.subject, one.quantity)):
        each = list(some)
        worst = max(each, key=lambda one: float("inf") if one.difference != one.difference else one.difference)
        verdict = "" if all(one.agrees for one in each) else f"  DIFFERS on {worst.problem}"
        print(f"{subject:18} {quantity:22} {len(each):8} {worst.difference:19.1e}{verdict}")
    n_bad = sum(not one.agrees for one in ordered)
    print(f"{len(ordered)} comparisons, {n_bad} of them apart by more than stated.")
    return not n_bad


if __name__ == "__main__":
    main()
