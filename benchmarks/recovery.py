"""What the methods recover of the synthetic data's truth: `python -m benchmarks.recovery [results/amtfl_synthetic]`.

Reads the selected trial of each method and draw (run `mtbench run results/amtfl_synthetic.toml` first) and prints

- Figure 5(a): RMSE on easy, hard and all tasks, with the paired difference to stl and its 95 % interval over draws;
- Figure 4: how close the bases are to the true ones. Bases are known up to order, sign and scale, so each true basis is
  matched with one learned basis so that the sum of the absolute cosines is largest; the mean of these is printed (1 is
  perfect). Beside it the share of the true bases that lies in the span of the learned ones: |P L|_F^2 / |L|_F^2 with P
  the projection on that span; and the relative error |W^ - W|_F / |W|_F of the predictors of easy and of hard tasks;
- Figure 4(h): mean absolute inter-task transfer |A S| (or |B|) within and between the kinds, giver first.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from benchmarks.learned import learned_of
from mtbench import load
from mtbench.data.root import data_root
from mtbench.plan.grid import parse_options
from mtbench.plugins.host import load_plugins
from mtbench.plugins.loading import load_split
from mtbench.report.intervals import mean_and_interval
from mtbench.tasks import Array

DATASET = "amtfl_synthetic"


def main() -> None:
    """Prints the three tables."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else f"results/{DATASET}")
    results = load(path)
    errors(results.per_task)
    dataset = load_plugins().dataset(DATASET)()
    options = parse_options(dataset, {})
    chosen = results.trials[results.trials["selected"] & (results.trials["phase"] == "search")]
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    learned = learned_of(path, chosen)
    # In the order of files, which the order of the columns follows.
    for trial in chosen.sort_values("file", kind="stable").itertuples():
        truth = load_split(dataset, data_root(None), trial.split, options).truth
        for name, value in recovery(learned[trial.id], truth).items():
            found[trial.method][name].append(value)
    columns = list(dict.fromkeys(name for values in found.values() for name in values))
    print(f"\n{'method':8}" + "".join(f"{name:>20}" for name in columns))
    for method, values in sorted(found.items()):
        cells = [f"{np.mean(values[name]):.3f}" if name in values else "-" for name in columns]
        print(f"{method:8}" + "".join(f"{cell:>20}" for cell in cells))


def errors(per_task: pd.DataFrame) -> None:
    """Figure 5(a): RMSE by kind of task, with the paired difference to stl."""
    frame = per_task[per_task["metric"] == "rmse"].copy()
    frame["kind"] = frame["task"].str.split("_").str[0]
    both = frame.assign(kind="all")
    means = pd.concat([frame, both]).groupby(["method", "kind", "split"])["value"].mean().unstack("split")
    print(f"{'method':8}{'kind':>6}{'RMSE':>10}{'minus stl':>12}{'95 %':>10}")
    for (method, kind), row in means.iterrows():
        difference, half = mean_and_interval(list(row - means.loc[("stl", kind)]))
        interval = f"+-{half:.3f}" if half is not None and method != "stl" else ""
        print(f"{method:8}{kind:>6}{row.mean():10.3f}{difference:12.3f}{interval:>10}".rstrip())


def recovery(learned: Mapping[str, Array], truth: Mapping[str, Array]) -> dict[str, float]:
    """How close learned matrices are to the truth, by name of the measure."""
    values: dict[str, float] = {}
    n_easy = truth["W"].shape[1] // 2
    if "bases" in learned:
        values["bases, cosine"] = matched_cosine(learned["bases"], truth["L"])
        values["bases, span"] = shared_span(learned["bases"], truth["L"])
    weights = learned["weights"] if "weights" in learned else predictors(learned)
    if weights is not None:
        for kind, tasks in (("easy", slice(0, n_easy)), ("hard", slice(n_easy, None))):
            true = truth["W"][:, tasks]
            values[f"W error, {kind}"] = float(np.linalg.norm(weights[:30, tasks] - true) / np.linalg.norm(true))
    if "transfer" in learned:
        transfer = np.abs(learned["transfer"])
        values["easy to hard"] = float(transfer[:n_easy, n_easy:].mean())
        values["hard to easy"] = float(transfer[n_easy:, :n_easy].mean())
    return values


def predictors(learned: Mapping[str, Array]) -> Array | None:
    """W = L S [d, T] of a method that has both."""
    return learned["bases"] @ learned["coefficients"] if "coefficients" in learned else None


def matched_cosine(bases: Array, true: Array) -> float:
    """Mean absolute cosine of true bases [d, k] and their best one-to-one match among the learned [d, k']."""
    norms = np.linalg.norm(bases, axis=0)
    unit = bases[:, norms > 1e-8] / norms[norms > 1e-8]
    cosines = np.abs((true / np.linalg.norm(true, axis=0)).T @ unit)
    rows, columns = linear_sum_assignment(-cosines)
    return float(cosines[rows, columns].sum() / true.shape[1])


def shared_span(bases: Array, true: Array) -> float:
    """Share of the true bases' squared norm that lies in the span of the learned ones."""
    left, values, _ = np.linalg.svd(bases, full_matrices=False)
    span = left[:, values > 1e-6 * values[0]]
    return float(np.linalg.norm(span.T @ true) ** 2 / np.linalg.norm(true) ** 2)


if __name__ == "__main__":
    main()
