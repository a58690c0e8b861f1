"""Which way transfer goes under each setting of a store: `python -m benchmarks.transfer_direction [STORE]`.

Of every searched trial that kept a transfer matrix, whether selected or not: the settings in which trials differ, its
validation result, mean |transfer| from early tasks to later ones and from late tasks to earlier ones (the two triangles
of Figure 6(b)), and what the first, the middle and the last tasks feed back at all, the l1 norm of their rows of A.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.learned import learned_of
from mtbench import load
from mtbench.report.matrices import transfer_directions

DEFAULT = "results/mnist_imbalanced_transfer"


def main() -> None:
    """Prints a line for each trial."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else DEFAULT)
    print(directions(path).to_string(index=False, float_format=lambda value: f"{value:.4g}"))


def directions(path: Path) -> pd.DataFrame:
    """The trials of a store and which way their transfer goes, in order of their settings.

    Args:
        path: The store.
    """
    trials = load(path).trials
    trials = trials[(trials["phase"] == "search") & (trials["status"] == "finished")]
    params = [name for name in trials if name.startswith("param.") and trials[name].nunique() > 1]
    learned, rows = learned_of(path, trials), []
    for _, trial in trials.sort_values(["method", "split", *params]).iterrows():
        matrices = learned[trial["id"]]
        if "transfer" not in matrices:
            continue
        row = {
            **{name.removeprefix("param."): f"{trial[name]:g}" for name in params},
            "validation": trial["validation"],
            **dict(zip(("early to late", "late to early"), transfer_directions(matrices["transfer"]), strict=True)),
        }
        if "feedback" in matrices:
            given = np.abs(matrices["feedback"]).sum(1)
            for t in (0, len(given) // 2, len(given) - 1):
                row[f"|a_{t}|"] = given[t]
        rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
