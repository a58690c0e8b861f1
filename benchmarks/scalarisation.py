"""Whether a weighting beats tuned static weights: `python -m benchmarks.scalarisation [results/scalarisation]`.

Reads the store of `mtbench run results/scalarisation.toml` and prints, in Markdown,

- for each architecture and data set: the test score of tuned static weights, and by how much each weighting is better
  (+) or worse (-), in percent of that score, mean over splits; one star where the paired 95 % interval excludes 0, two
  where errors still differ after Holm's correction for all comparisons of the table;
- for each weighting: over how many pairs of architecture and data set it is better, worse and undecided, and its mean
  difference over the data sets with a 95 % interval, each data set counting once: the mean of its architectures;
- the same against equal weights.

All scores are errors: lower is better. Settings are selected on validation rows, scores are of test rows.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtbench.contracts.trials import WITH
from mtbench.plan.cells import gather
from mtbench.report.entries import Entry, entries
from mtbench.report.intervals import mean_and_interval
from mtbench.store import Store, scan

STATIC, EQUAL = "static", "equal"
LEVEL = 0.05
Scores = Mapping[int, float]  # of the selected trial, by split
Cells = Mapping[tuple[str, str, str], Scores]  # by architecture, data set and weighting


@dataclass(frozen=True)
class Comparison:
    """A weighting beside a reference on one data set with one architecture.

    Attributes:
        architecture: The method.
        dataset: The data set.
        weighting: The weighting.
        gain: How much lower its error is, in percent of the reference's mean error, mean over splits.
        margin: Half-width of the paired 95 % interval of `gain`.
        p: Of the paired t test of equal errors; 1 where no split differs.
    """

    architecture: str
    dataset: str
    weighting: str
    gain: float
    margin: float
    p: float

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out 0."""
        return abs(self.gain) > self.margin


def main() -> None:
    """Prints the tables."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "results/scalarisation")
    print("\n".join(lines(path)))


def lines(path: Path) -> Iterator[str]:
    """The tables, line by line."""
    cells = scores(entries(gather(scan(Store.open(path)).stacks), "per_split"))
    for reference in (STATIC, EQUAL):
        found = comparisons(cells, reference)
        sure = set(map(id, holm(found)))
        yield from _by_cell(cells, found, reference, sure)
        yield ""
        yield from _by_weighting(found, reference, sure)
        yield ""


def scores(found: Sequence[Entry]) -> Cells:
    """Test scores of the selected trials, by the metric that the data set reports."""
    known = {}
    for entry in found:
        architecture, _, weighting = entry.cell.method.partition(WITH)
        key = (architecture, entry.dataset, weighting or EQUAL)
        metric = entry.cell.test_metrics[0]
        if entry.cell.higher_is_better(metric):
            raise SystemExit(f"{entry.label}: gains are of errors; found {metric}, of which more is better.")
        known[key] = entry.selected.by_split(metric)
    return known


def comparisons(cells: Cells, reference: str) -> list[Comparison]:
    """Every weighting but the reference beside it, where both have the same splits."""
    found = []
    for (architecture, dataset, weighting), ours in cells.items():
        theirs = cells.get((architecture, dataset, reference))
        if weighting != reference and theirs is not None and ours.keys() == theirs.keys():
            found.append(_compared(architecture, dataset, weighting, ours, theirs))
    return found


def _compared(architecture: str, dataset: str, weighting: str, ours: Scores, theirs: Scores) -> Comparison:
    scale = math.fsum(theirs.values()) / len(theirs) / 100
    gains = [(theirs[split] - ours[split]) / scale for split in sorted(theirs)]
    gain, margin = mean_and_interval(gains)
    return Comparison(architecture, dataset, weighting, gain, math.inf if margin is None else margin, _p_value(gains))


def _p_value(differences: Sequence[float]) -> float:
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(differences, 0.0).pvalue) if any(differences) and len(differences) > 1 else 1.0


def holm(found: Sequence[Comparison]) -> list[Comparison]:
    """Those that differ after Holm's correction: errors of all of them together at most `LEVEL`."""
    ordered = sorted(found, key=lambda c: c.p)
    kept = []
    for i, comparison in enumerate(ordered):
        if comparison.p > LEVEL / (len(ordered) - i):
            break
        kept.append(comparison)
    return kept


def _by_cell(cells: Cells, found: Sequence[Comparison], reference: str, sure: Container[int]) -> Iterator[str]:
    weightings = list(dict.fromkeys(c.weighting for c in found))
    by_place: dict[tuple[str, str], dict[str, Comparison]] = {}
    for c in found:
        by_place.setdefault((c.architecture, c.dataset), {})[c.weighting] = c
    yield f"| architecture | data set | error of {reference} | {' | '.join(weightings)} |"
    yield "|---" * (3 + len(weightings)) + "|"
    for (architecture, dataset), row in by_place.items():
        values = [_shown(row[w], id(row[w]) in sure) if w in row else "" for w in weightings]
        score = cells[architecture, dataset, reference].values()
        yield f"| {architecture} | {dataset} | {math.fsum(score) / len(score):.3g} | {' | '.join(values)} |"


def _shown(comparison: Comparison, sure: bool) -> str:
    return f"{comparison.gain:+.1f}{'**' if sure else '*' if comparison.decided else ''}".replace("*", r"\*")


def _by_weighting(found: Sequence[Comparison], reference: str, sure: Container[int]) -> Iterator[str]:
    yield f"| weighting | better than {reference} | worse | undecided | after Holm: better | worse | mean gain, % |"
    yield "|---|---|---|---|---|---|---|"
    for weighting in dict.fromkeys(c.weighting for c in found):
        ours = [c for c in found if c.weighting == weighting]
        better, worse = (sum(c.decided and c.gain * sign > 0 for c in ours) for sign in (1, -1))
        surely = [sum(id(c) in sure and c.gain * sign > 0 for c in ours) for sign in (1, -1)]
        counts = f"{better} | {worse} | {len(ours) - better - worse} | {surely[0]} | {surely[1]}"
        yield f"| {weighting} | {counts} | {_over_datasets(ours)} |"


def _over_datasets(found: Sequence[Comparison]) -> str:
    """Mean gain over data sets with its 95 % interval; a data set's own is the mean over architectures."""
    gains: dict[str, list[float]] = {}
    for c in found:
        gains.setdefault(c.dataset, []).append(c.gain)
    mean, margin = mean_and_interval([math.fsum(values) / len(values) for values in gains.values()])
    return f"{mean:+.2f}" if margin is None else f"{mean:+.2f} ± {margin:.2f}"


if __name__ == "__main__":
    main()
