"""The synthetic problem of section 4.1 of "Deep Asymmetric Multi-task Feature Learning" (ICML 2018).

Source: generated. Licence: none needed.
Made as the paper says: six bases l_1 to l_6 in R^30; easy tasks (sigma 1) combine two of l_1 to l_4, hard tasks
(sigma 2) two of l_3 to l_6, so that l_3 and l_4 serve both; 50 / 50 / 100 rows per easy task, 25 / 25 / 100 per hard.
Six tasks of a kind take the six pairs of four bases once each; further tasks go through the pairs again.

Departures: the noise is in the labels, y = w_t'x + epsilon, epsilon ~ N(0, sigma^2). The paper's words, "generate
parameters for 12 tasks from them with noise epsilon ~ N(0, sigma)", put it in the parameters, w_t = L s_t + epsilon.
Then labels would have none: 50 rows of 30 features determine w_t exactly, single-task learning would end at an error of
0 on easy tasks, where the paper has AMTFL better than that (section 4.1, Figure 5(a)). With noise in the labels w_t = L
s_t exactly, so that the truth that Figure 4 compares with is known.

The paper leaves open, and here is read as:
- inputs: x ~ N(0, I);
- coefficients: the two picked have a random sign and a size drawn evenly from 0.5 to 1.5;
- bases: normal entries, by the option `bases` on five features of its own ("block", the look of Figure 4(a)), on a
  random third of the features ("sparse") or on all ("dense"); scaled to length sqrt(5), so that the signal is equally
  strong for all three.
Preprocessing: none, and no constant column, since there is no intercept to find.
Shapes: d = 30, k = 6, T = `tasks` (12), truth W [d, T], L [d, k], S [k, T], sigma [T]. A task's rows do not depend on
how many other tasks there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
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
    StudyError,
    Task,
    TaskKind,
    hookimpl,
    seed_from,
    tunable,
)

D, K = 30, 6
FIRST_BASIS = {"easy": 0, "hard": 2}
SIGMA = {"easy": 1.0, "hard": 2.0}
ROWS = {
    "easy": {"train": 50, "validation": 50, "test": 100},
    "hard": {"train": 25, "validation": 25, "test": 100},
}
PAIRS = tuple(combinations(range(4), 2))


@dataclass(frozen=True, kw_only=True)
class AMTFLSyntheticOptions:
    """What can be varied: the kind of bases, and T for Figure 5(c)."""

    bases: str = tunable("block", choices=("block", "sparse", "dense"), help="which entries of a basis are not zero")
    tasks: int = tunable(12, minimum=2, help="number of tasks, half of them easy; even")


class AMTFLSynthetic(Dataset):
    """Easy and hard regression tasks over partly shared bases; every split is a fresh draw of everything."""

    name = "amtfl_synthetic"
    title = "Synthetic easy and hard tasks over six bases"
    licence = "generated"
    citation = Reference("Deep Asymmetric Multi-task Feature Learning", "ICML 2018", arxiv="1708.00260")
    Options = AMTFLSyntheticOptions
    # The networks are linear, as in the paper: features that are linear by construction need no ReLU and no biases.
    self_contained = True
    recipe = Recipe(
        hidden=K,
        activation="identity",
        intercept=False,
        learning_rate=1e-2,
        batch_size=50,
        learning_rate_span=3.0,
        max_epochs=150,
        patience=30,
    )
    selection_metric = "rmse"
    report_metric = "rmse"
    n_splits = 100
    default_splits = 10

    def load(self, root: Path, split: int, options: AMTFLSyntheticOptions) -> Problem:
        """Draws the truth and the rows; reads nothing below the root."""
        self.check_split(split)
        if options.tasks % 2:
            raise StudyError(f"{self.name}.tasks must be even, half easy and half hard; found {options.tasks}.")
        kinds = ["easy"] * (options.tasks // 2) + ["hard"] * (options.tasks // 2)
        names = [f"{kind}_{i % (options.tasks // 2)}" for i, kind in enumerate(kinds)]
        L = _bases(options.bases, np.random.default_rng(seed_from(self.name, split, "bases", options.bases)))
        S = np.zeros((K, options.tasks))
        rows: dict[str, list[tuple[NDArray[Any], NDArray[Any]]]] = {"train": [], "validation": [], "test": []}
        for t, (task, kind) in enumerate(zip(names, kinds, strict=True)):
            rng = np.random.default_rng(seed_from(self.name, split, "task", task))
            pair = np.array(PAIRS[t % (options.tasks // 2) % len(PAIRS)]) + FIRST_BASIS[kind]
            S[pair, t] = rng.choice([-1.0, 1.0], 2) * rng.uniform(0.5, 1.5, 2)
            for part, drawn in rows.items():
                X = rng.standard_normal((ROWS[kind][part], D))
                drawn.append((X, X @ L @ S[:, t] + SIGMA[kind] * rng.standard_normal(len(X))))
        truth = {"W": L @ S, "L": L, "S": S, "sigma": np.array([SIGMA[kind] for kind in kinds])}
        tasks = tuple(Task(name, TaskKind.REGRESSION) for name in names)
        return Problem(self.name, split, tasks, {part: _part(drawn) for part, drawn in rows.items()}, truth)


def _bases(kind: str, rng: np.random.Generator) -> NDArray[Any]:
    """L [d, k], each column of length sqrt(d / k)."""
    L = rng.standard_normal((D, K))
    if kind == "block":
        L *= np.kron(np.eye(K), np.ones((D // K, 1)))
    elif kind == "sparse":
        L *= rng.permuted(np.arange(D)[:, None] < np.full(K, D // 3), axis=0)
    return np.asarray(L * np.sqrt(D / K) / np.linalg.norm(L, axis=0))


def _part(drawn: list[tuple[NDArray[Any], NDArray[Any]]]) -> Part:
    """One part from the (X [N_t, d], y [N_t]) of all tasks."""
    inputs = np.concatenate([X for X, _ in drawn]).astype(np.float32)
    labels = np.concatenate([y for _, y in drawn]).astype(np.float32)[:, None]
    return Part(inputs, labels, np.repeat(np.arange(len(drawn)), [len(X) for X, _ in drawn]))


@hookimpl
def mtbench_datasets() -> list[type[Dataset]]:
    """The data set of this file."""
    return [AMTFLSynthetic]
