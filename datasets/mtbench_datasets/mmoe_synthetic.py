"""The synthetic problem of section 3.2 of "Modeling Task Relationships in ... Mixture-of-Experts" (Ma et al. 2018).

Source: generated. Licence: none needed.
Made as the paper says: orthogonal unit vectors u_1, u_2 in R^100; w_1 = c u_1, w_2 = c (rho u_1 + sqrt(1 - rho^2) u_2);
x ~ N(0, I); y_k = w_k'x + sum_i sin(alpha_i w_k'x + beta_i) + epsilon_k, epsilon_k ~ N(0, 0.1^2). The option `rho` is
the cosine of the angle between w_1 and w_2 and dials how related the two tasks are: 1 makes them one task with two
noises, 0 unrelated, -1 opposite; the correlation of the labels grows with it.

The paper leaves open, and here is read as:
- scale: c = 1, so that w_k'x ~ N(0, 1);
- the "given parameters" of the sines: m = 4, alpha_i = i / 2, beta_i = (i - 1) pi / 2 for both tasks, so that the
  response is far from a line and from even, and about as hard in every split;
- rows: 4,000 train, 1,000 validate, 4,000 test.
Preprocessing: none.
Shapes: d = 100, T = 2, rows [100], labels [n, 2]; truth W [d, T], alpha [m], beta [m], rho and sigma [1]. A split's
u_1, u_2, rows and noises do not depend on rho, so that problems of different rho differ in nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtbench import Dataset, Part, Problem, Recipe, Reference, Task, TaskKind, hookimpl, seed_from, tunable

D = 100
SCALE, SIGMA = 1.0, 0.1
ALPHA, BETA = np.array([0.5, 1.0, 1.5, 2.0]), np.array([0.0, 0.5, 1.0, 1.5]) * np.pi
ROWS = {"train": 4000, "validation": 1000, "test": 4000}


@dataclass(frozen=True, kw_only=True)
class MMoESyntheticOptions:
    """How related the tasks are."""

    rho: float = tunable(0.5, minimum=-1.0, maximum=1.0, help="cosine of the angle between the tasks' weights")


class MMoESynthetic(Dataset):
    """Two regression tasks on the same rows, as related as asked for; every split draws weights and rows anew."""

    name = "mmoe_synthetic"
    title = "Two synthetic tasks of a given relatedness"
    licence = "generated"
    citation = Reference(
        "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", "KDD 2018",
        url="https://doi.org/10.1145/3219819.3220007",
    )  # fmt: skip
    Options = MMoESyntheticOptions
    # As wide as one expert of the paper: where capacity is ample, unrelated tasks do not disturb each other.
    self_contained = True
    recipe = Recipe(backbone="mlp", hidden=16, learning_rate=5e-3, batch_size=100, max_epochs=60, patience=10)
    selection_metric = "rmse"
    report_metric = "rmse"
    n_splits = 100
    default_splits = 5

    def load(self, root: Path, split: int, options: MMoESyntheticOptions) -> Problem:
        """Draws the truth and the rows; reads nothing below the root."""
        self.check_split(split)
        rng = np.random.default_rng(seed_from(self.name, split, "truth"))
        u, _ = np.linalg.qr(rng.standard_normal((D, 2)))
        W = SCALE * u @ np.array([[1.0, options.rho], [0.0, np.sqrt(1 - options.rho**2)]])
        rng = np.random.default_rng(seed_from(self.name, split, "rows"))
        parts = {}
        for name, n in ROWS.items():
            X, noise = rng.standard_normal((n, D)), SIGMA * rng.standard_normal((n, 2))
            parts[name] = Part(X.astype(np.float32), (response(X @ W) + noise).astype(np.float32))
        tasks = tuple(Task(f"task_{k}", TaskKind.REGRESSION) for k in (1, 2))
        truth = {"W": W, "alpha": ALPHA, "beta": BETA, "rho": np.array([options.rho]), "sigma": np.array([SIGMA])}
        return Problem(self.name, split, tasks, parts, truth)


def response(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """The label without its noise: z + sum_i sin(alpha_i z + beta_i), elementwise on z = w_k'x [n, T]."""
    return np.asarray(z + np.sin(ALPHA * z[..., None] + BETA).sum(-1))


@hookimpl
def mtbench_datasets() -> list[type[Dataset]]:
    """The data set of this file."""
    return [MMoESynthetic]
