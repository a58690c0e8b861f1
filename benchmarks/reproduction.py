"""Published numbers beside ours, from the committed stores: `python -m benchmarks.reproduction [NAME ...]`.

Prints the tables of docs/reproduction.md in Markdown; a test holds the page against this output. The stores are made by
`mtbench run results/NAME.toml`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from mtbench import load

METHODS = {
    "stl": "STL", "go_mtl": "GO-MTL", "amtl": "AMTL", "nn": "NN", "mt_nn": "MT-NN", "amtfl": "AMTFL",
    "cnn": "CNN", "mt_cnn": "MT-CNN", "deep_amtl": "Deep-AMTL", "deep_amtfl": "Deep-AMTFL",
    "stl_deep": "separate networks", "hard_sharing": "hard sharing", "mrn": "MRN", "dmtrl_laf": "DMTRL-LAF",
    "dmtrl_tucker": "DMTRL-Tucker", "dmtrl_tt": "DMTRL-TT", "soft_order": "soft ordering",
    "cross_stitch": "cross-stitch", "mmoe": "MMoE", "taan": "TAAN", "taan_distance": "TAAN, distance",
    "taan_cosine": "TAAN, cosine", "taan_trace_norm": "TAAN, trace norm",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A study and what was published for it.

    Attributes:
        title: Of the table.
        metrics: Metrics shown, the headline first, with their headings.
        published: By method, as printed in the paper; None where the paper has no such table.
        reference: By method, values of independent trials with plain PyTorch or scikit-learn.
        baseline: The method that the others are compared with.
    """

    title: str
    metrics: dict[str, str]
    published: dict[str, str]
    reference: dict[str, str]
    baseline: str = "stl"


SCHOOL = Table(
    "School: RMSE, five splits, refit on training and validation rows",
    {"rmse": "mean of per-school RMSE", "pooled_rmse": "pooled RMSE"},
    {"stl": "10.16 ± 0.08", "go_mtl": "9.87 ± 0.06", "amtl": "10.13 ± 0.08", "nn": "9.89 ± 0.03",
     "mt_nn": "9.91 ± 0.04", "amtfl": "9.89 ± 0.09"},
    {},
)  # fmt: skip

TABLES = {
    "school": SCHOOL,
    "school_published_ranges": replace(SCHOOL, title="School: the same with the paper's ranges of alpha and gamma"),
    "mnist": Table(
        "MNIST: mean per-class error in %, five splits",
        {"one_vs_all_error": "500 test images", "one_vs_all_error@test_10000": "10,000 test images"},
        {"stl": "14.8 ± 0.6", "go_mtl": "14.4 ± 1.3", "amtl": "12.9 ± 1.4", "nn": "8.96 ± 0.9", "mt_nn": "8.76 ± 1.0",
         "amtfl": "8.68 ± 0.9"},
        {},
    ),
    "usps": Table(
        "USPS: mean per-class error in %, the published split of 500 test images (standard error 1.5)",
        {"one_vs_all_error": "500 test images"},
        {},
        {"stl": "14.8", "go_mtl": "15.0", "amtl": "14.4", "nn": "11.4", "mt_nn": "11.4", "amtfl": "11.2"},
    ),
    "amtl_synthetic": Table(
        "AMTL's synthetic set: RMSE, the published split",
        {"rmse": "RMSE"},
        {},
        {"stl": "19.7", "amtl": "16.3"},
    ),
    "mnist_imbalanced": Table(
        "MNIST-Imbalanced: mean per-class error in %, three runs",
        {"one_vs_all_error": "10,000 test images"},
        {"cnn": "8.13", "mt_cnn": "8.72", "deep_amtl": "8.52", "deep_amtfl": "5.82"},
        {},
        baseline="cnn",
    ),
    "awa_c": Table(
        "AWA-C: mean per-class error in %, five splits",
        {"one_vs_all_error": "2,500 test images"},
        {"cnn": "33.36", "mt_cnn": "32.80", "deep_amtl": "32.32", "deep_amtfl": "31.88"},
        {},
        baseline="cnn",
    ),
    "awa_c_soft_sharing": Table(
        "AWA-C: mean per-class error in %, defaults, one split",
        {"one_vs_all_error": "2,500 test images"},
        {"cnn": "33.36", "deep_amtfl": "31.88"},
        {},
        baseline="stl_deep",
    ),
    "cub": Table(
        "CUB: mean per-class error in %, one run",
        {"one_vs_all_error": "50 species, 64 pixels, 14 epochs"},
        {"cnn": "46.18", "mt_cnn": "43.92", "deep_amtl": "45.26", "deep_amtfl": "43.75"},
        {},
        baseline="cnn",
    ),
    "omniglot": Table(
        "Omniglot: error in %, mean over 50 alphabets, one split with a tenth of the images for testing",
        {"error": "28 pixels, 20 epochs"},
        {"stl_deep": "34.36", "hard_sharing": "29.98", "dmtrl_laf": "31.08", "dmtrl_tucker": "29.67",
         "dmtrl_tt": "28.78", "soft_order": "23.19", "taan": "15.88 *", "taan_distance": "13.28 to 14.47 *",
         "taan_cosine": "16.98 to 19.35 *", "taan_trace_norm": "20.13 to 24.14 *"},
        {},
        baseline="stl_deep",
    ),
}  # fmt: skip


def main() -> None:
    """Prints the tables of the named studies, or of all."""
    for name in sys.argv[1:] or TABLES:
        print("\n".join(lines(name)), end="\n\n")


def lines(name: str) -> list[str]:
    """One study's table, line by line."""
    table = TABLES[name]
    results = load(Path("results") / name, baseline=table.baseline)
    rows = pd.concat([results.leaderboard, results.other_metrics])
    theirs = ("published", table.published) if table.published else ("independent trials", table.reference)
    refit = bool(results.leaderboard["refit"].any())
    head = [
        "",
        theirs[0],
        *table.metrics.values(),
        *(["without refit"] if refit else []),
        f"minus {METHODS[table.baseline]}, paired",
    ]
    printed = [f"**{table.title}**", "", _row(head), _row(["---"] * len(head))]
    for method in [method for method in METHODS if method in set(rows["method"])]:
        mine = rows[rows["method"] == method].set_index("metric")
        first = mine.loc[next(iter(table.metrics))]
        cells = [METHODS[method], theirs[1].get(method, "-"), *(_value(mine.loc[m]) for m in table.metrics)]
        if refit:
            cells.append(f"{first['mean_without_refit']:.2f}")
        cells.append("" if method == table.baseline else _difference(first["gain"]))
        printed.append(_row(cells))
    return printed


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _value(row: pd.Series) -> str:
    return f"{row['mean']:.2f}" + ("" if pd.isna(row["ci95"]) else f" ± {row['ci95']:.2f}")


def _difference(against: dict[str, float | None]) -> str:
    half = against["ci95"]
    return f"{against['mean']:+.2f}" + ("" if half is None else f" ± {half:.2f}")


if __name__ == "__main__":
    main()
