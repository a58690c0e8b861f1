"""Fit methods beside scikit-learn used by hand on the same split: `python -m benchmarks.by_hand`.

Runs fit methods with their defaults, and three others beside them, on split 0 of school, digits, amtfl_synthetic and
linked_targets, three regressions on shared rows, which chains can learn. Then fits scikit-learn on the training rows as
anybody would, predicts the test rows and computes the metric, without anything of mtbench but the rows and the seed.
Prints both numbers; ends with exit code 1 where they differ by more than 1e-9. LightGBM is among them if installed.

    python -m benchmarks.by_hand
    python -m benchmarks.by_hand --datasets digits --methods constant,random_forest

Shapes: n training rows, m test rows, d features, T tasks with an output each. X [n, d], Z [m, d].
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import MultiTaskElasticNet, MultiTaskLasso, RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.multioutput import RegressorChain
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mtbench
from mtbench import Dataset, Part, Problem, Reference, Task, TaskKind, hookimpl, seed_from
from mtbench.data.root import data_root
from mtbench.plugins.host import load_plugins

Array = NDArray[np.float64]

DATASETS = ("school", "digits", "amtfl_synthetic", "linked_targets")
BESIDE = ("stl", "nn", "hard_sharing")
CLOSE = 1e-9
LEAST = 2.220446049250313e-16  # what a probability is kept within, before it is a log odds


class LinkedTargets(Dataset):
    """Three regressions on the same rows, each a function of the one before."""

    name = "linked_targets"
    title = "Three linked targets on shared rows"
    licence = "generated"
    citation = Reference("Generated for this benchmark", "mtbench")
    self_contained = True
    selection_metric = report_metric = "rmse"

    def load(self, root: Path, split: int, options: Any) -> Problem:
        """Draws all rows of a split."""
        rng = np.random.default_rng(seed_from(self.name, split))

        def part(n: int) -> Part:
            X = rng.normal(size=(n, 6))
            first = X[:, 0] * X[:, 1] + X[:, 2]
            second = np.abs(first) + 0.5 * X[:, 3]
            Y = np.stack([first, second, 30 * second - 20 * first], 1)
            return Part(X.astype(np.float32), (Y + 0.1 * rng.normal(size=Y.shape)).astype(np.float32))

        tasks = tuple(Task(name, TaskKind.REGRESSION) for name in ("first", "second", "third"))
        return Problem(self.name, split, tasks, {"train": part(100), "validation": part(50), "test": part(200)})


@hookimpl
def mtbench_datasets() -> list[type[Dataset]]:
    """The data set of this file, for the runs that it starts."""
    return [LinkedTargets]


TREES = {"n_estimators": 100, "max_features": 0.33, "min_samples_leaf": 1}
BOOSTED = {
    "learning_rate": 0.1,
    "max_iter": 100,
    "max_leaf_nodes": 31,
    "min_samples_leaf": 5,
    "l2_regularization": 0.0,
    "early_stopping": False,
}
LIGHT = {
    "n_estimators": 100,
    "learning_rate": 0.1,
    "num_leaves": 31,
    "min_child_samples": 5,
    "reg_lambda": 0.0,
    "n_jobs": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


def ridge() -> Any:
    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-4, 6, 21)))


def lightgbm(kind: str, seed: int) -> Any:
    import lightgbm

    return getattr(lightgbm, f"LGBM{kind}")(**LIGHT, random_state=seed)


REGRESSORS: Mapping[str, Callable[[int, int], Any]] = {
    "ridge_cv": lambda seed, n: ridge(),
    "k_nearest_neighbours": lambda seed, n: make_pipeline(StandardScaler(), KNeighborsRegressor(min(5, n))),
    "random_forest": lambda seed, n: RandomForestRegressor(**TREES, random_state=seed),
    "extra_trees": lambda seed, n: ExtraTreesRegressor(**TREES, random_state=seed),
    "hist_gradient_boosting": lambda seed, n: HistGradientBoostingRegressor(**BOOSTED, random_state=seed),
    "lightgbm": lambda seed, n: lightgbm("Regressor", seed),
}
"""By method, from a seed and a number of training rows to an estimator of one target."""

CLASSIFIERS: Mapping[str, Callable[[int, int], Any]] = {
    "k_nearest_neighbours": lambda seed, n: make_pipeline(StandardScaler(), KNeighborsClassifier(min(5, n))),
    "random_forest": lambda seed, n: RandomForestClassifier(**TREES, random_state=seed),
    "extra_trees": lambda seed, n: ExtraTreesClassifier(**TREES, random_state=seed),
    "hist_gradient_boosting": lambda seed, n: HistGradientBoostingClassifier(**BOOSTED, random_state=seed),
    "lightgbm": lambda seed, n: lightgbm("Classifier", seed),
}


def one_target(method: str, X: Array, y: Array, Z: Array, classes: bool, seed: int) -> Array:
    """What a method that learns each target alone predicts on the test rows: values, or log odds of class 1: [m]."""
    if method == "constant" or (y == y[0]).all():
        return np.full(len(Z), log_odds(np.array([1 - y.mean(), y.mean()])) if classes else y.mean())
    if not classes:
        return np.asarray(REGRESSORS[method](seed, len(y)).fit(X, y).predict(Z))
    return log_odds(CLASSIFIERS[method](seed, len(y)).fit(X, y).predict_proba(Z).T)


def log_odds(probabilities: Array) -> Any:
    """Of class 1, from the probabilities of both classes, [2, ...]."""
    logs = np.log(probabilities.clip(LEAST, 1 - LEAST))
    return logs[1] - logs[0]


def bagged(seed: int) -> RandomForestRegressor:
    return RandomForestRegressor(100, max_features=1.0, min_samples_leaf=1, random_state=seed)


def chains(X: Array, Y: Array, Z: Array, seed: int) -> Array:
    folds = KFold(10, shuffle=True, random_state=seed)
    orders = itertools.permutations(range(Y.shape[1]))  # at most ten
    found = [RegressorChain(bagged(seed), order=list(order), cv=folds).fit(X, Y).predict(Z) for order in orders]
    return np.asarray(np.mean(found, 0))


def stacked(X: Array, Y: Array, Z: Array, seed: int) -> Array:
    folds = KFold(10, shuffle=True, random_state=seed)
    more = np.column_stack([X, *(cross_val_predict(bagged(seed), X, y, cv=folds) for y in Y.T)])
    asked = np.column_stack([Z, *(bagged(seed).fit(X, y).predict(Z) for y in Y.T)])
    return np.column_stack([bagged(seed).fit(more, y).predict(asked) for y in Y.T])


def linear(estimator: Any) -> Callable[[Array, Array, Array, int], Array]:
    def fitted(X: Array, Y: Array, Z: Array, seed: int) -> Array:
        return np.asarray(make_pipeline(StandardScaler(), estimator).fit(X, Y).predict(Z))

    return fitted


TOGETHER: Mapping[str, Callable[[Array, Array, Array, int], Array]] = {
    "joint_random_forest": lambda X, Y, Z, seed: RandomForestRegressor(**TREES, random_state=seed).fit(X, Y).predict(Z),
    "joint_extra_trees": lambda X, Y, Z, seed: ExtraTreesRegressor(**TREES, random_state=seed).fit(X, Y).predict(Z),
    "multi_task_lasso": linear(MultiTaskLasso(0.01, max_iter=10_000)),
    "multi_task_elastic_net": linear(MultiTaskElasticNet(0.01, l1_ratio=0.5, max_iter=10_000)),
    "stacked_targets": stacked,
    "regressor_chains": chains,
}
"""By method, from X, Y [n, T] of spread 1, Z and a seed to predictions [m, T]."""

JOINT_CLASSIFIERS = {"joint_random_forest": RandomForestClassifier, "joint_extra_trees": ExtraTreesClassifier}


def all_targets(method: str, X: Array, Y: Array, Z: Array, classes: bool, seed: int) -> Array:
    """What a method that learns all targets at once predicts on the test rows: values, or log odds: [m, T]."""
    if classes:
        found = JOINT_CLASSIFIERS[method](**TREES, random_state=seed).fit(X, Y).predict_proba(Z)
        return np.column_stack([log_odds(one.T) for one in found])
    mean, spread = Y.mean(0), Y.std(0)
    return mean + spread * TOGETHER[method](X, (Y - mean) / spread, Z, seed)


def score(method: str, problem: Problem) -> float:
    """The report metric of a method on the test rows, by hand."""
    train, test = problem.parts["train"], problem.parts["test"]
    X, Z = (part.inputs.astype(np.float64).reshape(len(part.inputs), -1) for part in (train, test))
    Y = train.labels.astype(np.float64)
    classes = problem.tasks[0].kind is TaskKind.BINARY
    seed = seed_from(problem.dataset, problem.split, 0, "fit") % 2**32
    if method in TOGETHER:
        return measured(all_targets(method, X, Y, Z, classes, seed), test.labels, classes)
    if train.task is None or test.task is None:
        columns = [one_target(method, X, y, Z, classes, seed) for y in Y.T]
        return measured(np.column_stack(columns), test.labels, classes)
    errors = []
    for t in range(problem.n_tasks):
        mine, asked = train.task == t, test.task == t
        predicted = one_target(method, X[mine], Y[mine, 0], Z[asked], classes, seed)
        errors.append(np.sqrt(np.mean((predicted - test.labels[asked, 0]) ** 2)))
    return float(np.mean(errors))


def measured(outputs: Array, labels: NDArray[Any], classes: bool) -> float:
    """The mean over tasks of their RMSE or, of one-vs-all classes, the mean over classes of the share of wrong rows."""
    if not classes:
        return float(np.sqrt(np.mean((outputs - labels) ** 2, 0)).mean())
    right, true = outputs.argmax(1) == labels.argmax(1), labels.argmax(1)
    return float(np.mean([100 * np.mean(~right[true == c]) for c in range(labels.shape[1])]))


def of_mtbench(methods: Sequence[str], datasets: Sequence[str], store: Path) -> dict[tuple[str, str], Any]:
    """Rows of the leaderboard by data set and method, of a run with defaults on split 0."""
    cells = ["--methods", ",".join(methods), "--datasets", ",".join(datasets), "--splits", "1", "--no-refit"]
    more = ["--plugin", __file__, "--devices", "cpu:1", "--out", str(store)]
    subprocess.run([sys.executable, "-m", "mtbench", "run", *cells, *more], check=True, stdout=subprocess.DEVNULL)
    rows = mtbench.load(store).leaderboard.to_dict("records")
    return {(row["dataset"], row["method"]): row for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="", help="joined by commas; all unless told otherwise")
    parser.add_argument("--datasets", default=",".join(DATASETS), help="joined by commas")
    asked = parser.parse_args()
    by_hand = [name for name in ("constant", *REGRESSORS, *TOGETHER) if name != "lightgbm" or find_spec("lightgbm")]
    methods = asked.methods.split(",") if asked.methods else [*by_hand, *BESIDE]
    datasets = asked.datasets.split(",")
    with tempfile.TemporaryDirectory() as folder:
        rows = of_mtbench(methods, datasets, Path(folder) / "store")
    known = {**load_plugins([Path(__file__)]).datasets}
    print(f"{'data set':16} {'method':23} {'mtbench':>13} {'by hand':>13} {'apart by':>9}")
    worst = 0.0
    for name in datasets:
        problem = known[name]().load(data_root(), 0, known[name].Options())
        for method in methods:
            row = rows[name, method]
            line = f"{name:16} {method:23}"
            if row["mean"] is None or np.isnan(row["mean"]):
                print(f"{line} {row['reason']}")
            elif method not in by_hand:
                print(f"{line} {row['mean']:13.9f}", flush=True)
            else:
                found = score(method, problem)
                worst = max(worst, abs(found - row["mean"]))
                print(f"{line} {row['mean']:13.9f} {found:13.9f} {abs(found - row['mean']):9.1e}", flush=True)
    print(f"Apart by at most {worst:.1e}.")
    sys.exit(worst > CLOSE)


if __name__ == "__main__":
    main()
