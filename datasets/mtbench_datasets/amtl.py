"""The example data of "Asymmetric Multi-task Learning Based on Task Relatedness and Loss" (ICML 2016).

Source: github GWLee0524/AMTL, folder dataset. Licence: not stated; its authors ask for citation of the paper.
- `usps`: handwritten digits, ten one-vs-all tasks, shared layout, rows [87]: principal components that came with the
  file (what they were fitted on is not stated), 100 / 50 / 50 images per class.
- `amtl_synthetic`: 12 regression tasks, own layout, rows [20], 30 / 50 / 50 rows per task.
- `amtl_imbalanced`: the same form; tasks 4 to 6 and 10 to 12 have 5 training rows, the others 500. The option
  `variant` picks one of the five data sets that were published.
Preprocessing: none. Split 0 is the published one. The others draw rows of the same numbers per class or task from all
rows together, so that their results are comparable but not independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtbench import (
    Dataset,
    Part,
    Problem,
    Recipe,
    Reference,
    Source,
    Task,
    TaskKind,
    draw_by_group,
    hookimpl,
    seed_from,
    tunable,
    verified,
)

ADDRESS = "https://raw.githubusercontent.com/GWLee0524/AMTL/0e4038dfd25eaa3693d39effa2f7ece1d5d9c018/dataset/"
CITATION = Reference("Asymmetric Multi-task Learning Based on Task Relatedness and Loss", "ICML 2016")
LICENCE = "not stated; the authors ask for citation"
PARTS = {"train": "train", "validation": "val", "test": "test"}
FIRST_ROWS = {"train": "trindex", "validation": "valindex", "test": "teindex"}

Published = dict[str, tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]


def _source(file: str, n_bytes: int, sha256: str) -> Source:
    return Source(f"amtl/{file}", sha256, ADDRESS + file, n_bytes)


DIGITS = _source("usps1.mat", 1339444, "4c20abd244ac7590385041656c3b770d0fbfbd8951b6f356eb8263eadef4a714")
BALANCED = _source("synthetic_dataset.mat", 253253, "fe8309ddc49db35b6a700781f3a5ad9dfd58f30f4bdf8e371dcdf2093cf2e7e1")
VARIANTS = (
    _source("synthetic_inbalance_1.mat", 685238, "beeb6ef5b33b5bda75108dc192e3b5fe7c9fe96c01d9c3b21819a1e28ce83ff8"),
    _source("synthetic_inbalance_2.mat", 685248, "54dc165af2259a6c29a5bc9008c93c4024db74c248b19a51a4f80f088a506b68"),
    _source("synthetic_inbalance_3.mat", 685212, "7488a367172ad323d3005ee67589f5c5d97b2844d64fd076c9f435db43705aba"),
    _source("synthetic_inbalance_4.mat", 685126, "0943e7d8a630de539b54fad30aa1f17d7e2498625560a716b8429677cc65dfa4"),
    _source("synthetic_inbalance_5.mat", 685192, "c54b8b8c2408b411622a21abffd32f0e8eb559713e849cc4192f6bdb97fef1b8"),
)


class USPS(Dataset):
    """Ten handwritten digits, 100 training images each."""

    name = "usps"
    title = "USPS digits, 87 principal components, one-vs-all"
    licence = LICENCE
    citation = CITATION
    sources = (DIGITS,)
    recipe = Recipe(hidden=500, learning_rate=2e-3, batch_size=100, max_epochs=100, patience=20)
    selection_metric = "one_vs_all_error"
    report_metric = "one_vs_all_error"
    n_splits = 5
    default_splits = 1

    def load(self, root: Path, split: int, options: Any) -> Problem:
        """Reads the published split, or draws another from its rows."""
        self.check_split(split)
        from scipy.io import loadmat  # imported where a file is read

        content = loadmat(verified(DIGITS, root, self.name))
        published: Published = {
            part: (content[f"{key}_x"], content[f"{key}_y"], content[f"{key}_y"].ravel().astype(np.int64) - 1)
            for part, key in PARTS.items()
        }
        one_hot = np.eye(10, dtype=np.float32)
        parts = {
            part: Part(x.astype(np.float32), one_hot[classes])
            for part, (x, _, classes) in _split(published, self.name, split).items()
        }
        return Problem(self.name, split, tuple(Task(f"class_{c + 1}", TaskKind.BINARY) for c in range(10)), parts)


class AMTLSynthetic(Dataset):
    """Twelve related regression tasks of equal size."""

    name = "amtl_synthetic"
    title = "AMTL's synthetic regression tasks"
    licence = LICENCE
    citation = CITATION
    sources = (BALANCED,)
    recipe = Recipe(hidden=15, intercept=False, learning_rate=1e-2, batch_size=100, max_epochs=500, patience=50)
    selection_metric = "rmse"
    report_metric = "rmse"
    n_splits = 5
    default_splits = 1

    def load(self, root: Path, split: int, options: Any) -> Problem:
        """Reads the published split, or draws another from its rows."""
        self.check_split(split)
        return _regression(verified(BALANCED, root, self.name), self.name, self.name, split)


@dataclass(frozen=True, kw_only=True)
class AMTLImbalancedOptions:
    """Which of the published data sets."""

    variant: int = tunable(1, choices=(1, 2, 3, 4, 5), help="which of the five published data sets")


class AMTLImbalanced(Dataset):
    """Twelve related regression tasks, half of them with 5 training rows."""

    name = "amtl_imbalanced"
    title = "AMTL's synthetic regression tasks of 500 or 5 training rows"
    licence = LICENCE
    citation = CITATION
    sources = VARIANTS
    Options = AMTLImbalancedOptions
    recipe = Recipe(hidden=15, intercept=False, learning_rate=1e-2, batch_size=100, max_epochs=100, patience=20)
    selection_metric = "rmse"
    report_metric = "rmse"
    n_splits = 5
    default_splits = 1

    def load(self, root: Path, split: int, options: AMTLImbalancedOptions) -> Problem:
        """Reads the published split of a variant, or draws another from its rows."""
        self.check_split(split)
        path = verified(VARIANTS[options.variant - 1], root, self.name)
        return _regression(path, self.name, f"{self.name}_{options.variant}", split)


def _regression(path: Path, dataset: str, purpose: str, split: int) -> Problem:
    """The problem in a file of regression tasks; `purpose` names the draw of further splits."""
    from scipy.io import loadmat  # imported where a file is read

    content = loadmat(path)
    published: Published = {}
    for part, key in PARTS.items():
        # 1-based first row of each task; stored as uint16.
        first = content[FIRST_ROWS[part]].ravel().astype(np.int64) - 1
        rows = content[f"{key}_x"]
        task = np.searchsorted(first, np.arange(len(rows)), side="right") - 1
        published[part] = (rows, content[f"{key}_y"], task)
    parts = {
        part: Part(x.astype(np.float32), y.astype(np.float32), task)
        for part, (x, y, task) in _split(published, purpose, split).items()
    }
    n_tasks = int(published["train"][2].max()) + 1
    return Problem(dataset, split, tuple(Task(f"task_{t + 1}", TaskKind.REGRESSION) for t in range(n_tasks)), parts)


def _split(published: Published, purpose: str, split: int) -> Published:
    """Inputs, labels and group (class or task) of each part: as published, or drawn from all rows, group by group."""
    if split == 0:
        return published
    pooled = [np.concatenate(arrays) for arrays in zip(*published.values(), strict=True)]
    sizes = [np.bincount(group) for _, _, group in published.values()]
    *drawn, _ = draw_by_group(pooled[2], sizes, np.random.default_rng(seed_from(purpose, split, "split")))
    return {
        part: (pooled[0][rows], pooled[1][rows], pooled[2][rows]) for part, rows in zip(published, drawn, strict=True)
    }


@hookimpl
def mtbench_datasets() -> list[type[Dataset]]:
    """The data sets of this file."""
    return [USPS, AMTLSynthetic, AMTLImbalanced]
