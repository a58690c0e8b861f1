"""Estimators as methods give the numbers that scikit-learn, LightGBM and XGBoost give by hand on the same rows."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from mtbench_datasets.amtfl_synthetic import AMTFLSynthetic
from mtbench_datasets.digits import Digits
from mtbench_methods.estimators import mtbench_methods
from mtbench_methods.estimators.chains import orders
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import MultiTaskElasticNet, MultiTaskLasso, RidgeCV
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.multioutput import RegressorChain
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mtbench import Part, Problem, Task, TaskKind, seed_from
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.trials import Status
from mtbench.testing.problems import (
    MINIATURES,
    CompleteRegression,
    Miniature,
    OwnImages,
    miniature_trials,
)
from mtbench.training import train_stack

METHODS = {method.name: method for method in mtbench_methods()}
PACKAGES = {"lightgbm": "lightgbm", "xgboost": "xgboost", "joint_xgboost": "xgboost"}
FEW = {"n_estimators": 3, "max_iter": 3, "n_chains": 2, "n_folds": 2, "n_neighbors": 3}

MIXED = (
    Task("two_values", TaskKind.REGRESSION, 2),
    Task("yes", TaskKind.BINARY),
    Task("always", TaskKind.BINARY),
    Task("three", TaskKind.MULTICLASS, 3),
    Task("labels", TaskKind.MULTILABEL, 2),
)


class ByLoss(Miniature):
    """Scores any problem by its loss."""

    name = "by_loss"
    title = "A problem that is given"
    selection_metric = report_metric = "loss"
    tasks: ClassVar[tuple[Task, ...]] = MIXED


class MixedShared(ByLoss):
    """Shared inputs, every kind of task, targets of scale 1 and 1,000, a task of one class, gaps."""

    gaps: ClassVar[float] = 0.15
    kinds: ClassVar[tuple[TaskKind, ...]] = tuple(TaskKind)

    def generate(self, rng: np.random.Generator) -> dict[str, Part]:
        return {name: self.part(rng, n) for name, n in {"train": 40, "validation": 20, "test": 30}.items()}

    def part(self, rng: np.random.Generator, n: int) -> Part:
        inputs = rng.normal(size=(n, 4)).astype(np.float32)
        columns = {
            "two_values": np.stack([inputs[:, 0], 1000 * inputs[:, 1]], 1) + 0.1 * rng.normal(size=(n, 2)),
            "yes": inputs[:, :1] + 0.3 * rng.normal(size=(n, 1)) > 0,
            "always": np.ones((n, 1)),
            "three": inputs[:, :3].argmax(1)[:, None],
            "labels": inputs[:, 1:3] + 0.3 * rng.normal(size=(n, 2)) > 0,
        }
        labels = np.concatenate([columns[task.name] for task in self.tasks], 1).astype(np.float32)
        labels[rng.uniform(size=labels.shape) < self.gaps] = np.nan
        return Part(inputs, labels)


class Classes(MixedShared):
    """Shared inputs, every kind of classification, no gaps."""

    name = "by_loss_classes"
    gaps = 0.0
    tasks = MIXED[1:]


class Values(MixedShared):
    """Shared inputs, a regression with targets of scale 1 and 1,000, no gaps."""

    name = "by_loss_values"
    gaps = 0.0
    tasks = MIXED[:1]


class MixedOwn(MixedShared):
    """Own inputs, every kind of task."""

    name = "by_loss_own"

    def part(self, rng: np.random.Generator, n: int) -> Part:
        shared = super().part(rng, 2 * n)
        task = np.arange(2 * n) % len(self.tasks)
        labels = np.full((2 * n, 2), np.nan, np.float32)
        start = 0
        for t, one in enumerate(self.tasks):
            labels[task == t, : one.n_labels] = shared.labels[task == t, start : start + one.n_labels]
            start += one.n_labels
        return Part(shared.inputs, labels, task)


PROBLEMS = (
    Digits, AMTFLSynthetic, *MINIATURES, CompleteRegression, OwnImages, MixedShared, MixedOwn, Classes,
    Values,
)  # fmt: skip


@cache
def loaded(dataset: type[Any]) -> Problem:
    problem: Problem = dataset().load(Path(), 0, dataset.Options())
    if problem.parts["test"].n_rows > 200 and problem.parts["test"].task is None:
        test = problem.parts["test"]
        parts = {**problem.parts, "test": Part(np.asarray(test.inputs[:200]), test.labels[:200])}
        return replace(problem, parts=parts)
    return problem


def setting(name: str) -> dict[str, Any]:
    return {key: value for key, value in FEW.items() if hasattr(METHODS[name].Params, key)}


def trained(name: str, problem: Problem) -> Any:
    dataset = ByLoss()
    trials = miniature_trials(METHODS[name](), dataset, [setting(name)])
    return train_stack(METHODS[name](), {0: problem}, trials, dataset)


SEED = seed_from("by_loss", 0, 0, "fit") % 2**32


# By hand: the loss of each task on the test part, written without anything of mtbench's but the arrays.


def columns(problem: Problem) -> Iterator[tuple[int, bool, int, Any, Any, Any, Any]]:
    """Of each label column: task, whether it is a regression, classes, X and y of training and of test rows."""
    place = 0
    for t, task in enumerate(problem.tasks):
        for j in range(task.n_labels):
            found = []
            for name in ("train", "test"):
                part = problem.parts[name]
                y = part.labels[:, j if part.task is not None else place + j].astype(np.float64)
                X = np.asarray(part.inputs).astype(np.float32)
                X = (X / np.float32(255) if part.is_image else X).reshape(len(y), -1).astype(np.float64)
                known = ~np.isnan(y) & (True if part.task is None else part.task == t)
                found += [X[known], y[known]]
            yield t, task.kind is TaskKind.REGRESSION, max(task.n_outputs, 2), *found
        place += task.n_labels


def mean_losses(problem: Problem, losses: list[tuple[int, float, int]]) -> Any:
    """From (task, mean loss, labels) of each column to the mean loss over the labels of each task."""
    found = np.zeros(problem.n_tasks), np.zeros(problem.n_tasks)
    for t, loss, n in losses:
        found[0][t] += loss * n
        found[1][t] += n
    return found[0] / found[1]


def class_loss(y: Any, probabilities: Any, classes: Any, n_classes: int) -> float:
    filled = np.zeros((len(y), n_classes))
    filled[:, classes.astype(int)] = probabilities
    return float(log_loss(y, filled, labels=np.arange(n_classes)))


def one_by_one(problem: Problem, regressor: Callable[[int], Any], classifier: Callable[[int], Any]) -> Any:
    losses = []
    for t, is_regression, n_classes, X, y, X_test, y_test in columns(problem):
        if len(set(y)) == 1:
            loss = mean_squared_error(y_test, np.full(len(y_test), y[0])) if is_regression else class_loss(
                y_test, np.ones((len(y_test), 1)), y[:1], n_classes)  # fmt: skip
        elif is_regression:
            loss = mean_squared_error(y_test, regressor(len(y)).fit(X, y).predict(X_test))
        else:
            fitted = classifier(len(y)).fit(X, y)
            loss = class_loss(y_test, fitted.predict_proba(X_test), fitted.classes_, n_classes)
        losses.append((t, loss, len(y_test)))
    return mean_losses(problem, losses)


def single(regressor: Any, classifier: Any = None, scaled: bool = False, **settings: Any) -> Callable[[Problem], Any]:
    def made(kind: Any) -> Any:
        return make_pipeline(StandardScaler(), kind(**settings)) if scaled else kind(**settings)

    return lambda problem: one_by_one(problem, lambda n: made(regressor), lambda n: made(classifier))


def together(problem: Problem, regressor: Any = None, classifier: Any = None) -> Any:
    """The same for estimators of all targets; a regressor is fitted to targets of spread 1."""
    found = list(columns(problem))
    (_, is_regression, _, X, _, X_test, _), Y = found[0], np.stack([one[4] for one in found], 1)
    Y_test = np.stack([one[6] for one in found], 1)
    if is_regression:
        # In these words, not StandardScaler's: trees break ties by the last bit.
        mean, spread = Y.mean(0), Y.std(0)
        predicted = mean + spread * regressor(X, (Y - mean) / spread, X_test)
        each = [mean_squared_error(Y_test[:, j], predicted[:, j]) for j in range(len(found))]
    else:
        fitted = classifier.fit(X, Y)
        rows = zip(found, fitted.predict_proba(X_test), fitted.classes_, Y_test.T, strict=True)
        each = [class_loss(y, p, classes, one[2]) for one, p, classes, y in rows]
    return mean_losses(problem, [(one[0], loss, len(Y_test)) for one, loss in zip(found, each, strict=True)])


def forests(regressor: Any, classifier: Any) -> Callable[[Problem], Any]:
    settings = {"max_features": 0.33, "random_state": SEED}

    def fitted(X: Any, Y: Any, X_test: Any) -> Any:
        return regressor(FEW["n_estimators"], **settings).fit(X, Y).predict(X_test)

    return lambda problem: together(problem, fitted, classifier(FEW["n_estimators"], **settings))


def linear(made: Any) -> Callable[[Problem], Any]:
    def fitted(X: Any, Y: Any, X_test: Any) -> Any:
        scaler = StandardScaler().fit(X)
        return made.fit(scaler.transform(X), Y).predict(scaler.transform(X_test))

    return lambda problem: together(problem, fitted)


def bagged() -> Any:
    return RandomForestRegressor(FEW["n_estimators"], max_features=1.0, random_state=SEED)


def folds() -> Any:
    return KFold(FEW["n_folds"], shuffle=True, random_state=SEED)


def chained(X: Any, Y: Any, X_test: Any) -> Any:
    drawn = orders(Y.shape[1], FEW["n_chains"], SEED)
    return np.mean([RegressorChain(bagged(), order=o, cv=folds()).fit(X, Y).predict(X_test) for o in drawn], 0)


def stacked(X: Any, Y: Any, X_test: Any) -> Any:
    meta = np.stack([cross_val_predict(bagged(), X, y, cv=folds()) for y in Y.T], 1)
    meta_test = np.stack([bagged().fit(X, y).predict(X_test) for y in Y.T], 1)
    both, both_test = np.hstack([X, meta]), np.hstack([X_test, meta_test])
    return np.stack([bagged().fit(both, y).predict(both_test) for y in Y.T], 1)


def constant(problem: Problem) -> Any:
    losses = []
    for t, is_regression, n_classes, _, y, _, y_test in columns(problem):
        if is_regression:
            losses.append((t, float(np.mean((y_test - y.mean()) ** 2)), len(y_test)))
        else:
            shares = np.array([(y == c).mean() for c in range(n_classes)])
            losses.append((t, float(-np.log(shares.clip(2.0**-52)[y_test.astype(int)]).mean()), len(y_test)))
    return mean_losses(problem, losses)


def neighbours(problem: Problem) -> Any:
    def made(kind: Any) -> Callable[[int], Any]:
        return lambda n: make_pipeline(StandardScaler(), kind(min(3, n)))

    return one_by_one(problem, made(KNeighborsRegressor), made(KNeighborsClassifier))


def lightgbm(problem: Problem) -> Any:
    found = importlib.import_module("lightgbm")
    settings = {
        "min_child_samples": 5,
        "random_state": SEED,
        "n_jobs": 1,
        "deterministic": True,
        "force_row_wise": True,
    }
    settings |= {"n_estimators": FEW["n_estimators"], "verbose": -1}
    return single(found.LGBMRegressor, found.LGBMClassifier, **settings)(problem)


def xgboost(problem: Problem) -> Any:
    """Losses from margins, which are as exact as its float32 allows."""
    from scipy.special import log_softmax

    found = importlib.import_module("xgboost")
    settings = {
        "n_estimators": FEW["n_estimators"],
        "learning_rate": 0.1,
        "random_state": SEED,
        "n_jobs": 1,
        "tree_method": "hist",
    }
    losses = []
    for t, is_regression, n_classes, X, y, X_test, y_test in columns(problem):
        if len(set(y)) == 1:
            loss = class_loss(y_test, np.ones((len(y_test), 1)), y[:1], n_classes)
        elif is_regression:
            mean, spread = y.mean(), y.std()
            model = found.XGBRegressor(**settings).fit(X, (y - mean) / spread)
            predicted = mean + spread * model.predict(X_test).astype(np.float64)
            loss = mean_squared_error(y_test, predicted)
        else:
            margins = found.XGBClassifier(**settings).fit(X, y).predict(X_test, output_margin=True).astype(np.float64)
            margins = np.stack([0 * margins, margins], 1) if margins.ndim == 1 else margins
            loss = -np.take_along_axis(log_softmax(margins, 1), y_test.astype(int)[:, None], 1).mean()
        losses.append((t, loss, len(y_test)))
    return mean_losses(problem, losses)


def joint_xgboost(problem: Problem) -> Any:
    found = importlib.import_module("xgboost")
    settings = {"n_estimators": FEW["n_estimators"], "learning_rate": 0.1, "random_state": SEED, "n_jobs": 1}
    settings |= {"tree_method": "hist", "multi_strategy": "multi_output_tree"}
    if problem.only(TaskKind.REGRESSION):
        return together(
            problem, lambda X, Y, X_test: found.XGBRegressor(**settings).fit(X, Y).predict(X_test).astype(float)
        )
    one = list(columns(problem))
    model = found.XGBClassifier(**settings).fit(one[0][3], np.stack([c[4] for c in one], 1))
    margins = model.predict(one[0][5], output_margin=True).astype(np.float64)
    each = [np.logaddexp(0, m).mean() - (m * c[6]).mean() for m, c in zip(margins.T, one, strict=True)]
    return mean_losses(problem, [(c[0], loss, 1) for c, loss in zip(one, each, strict=True)])


FOREST = {"n_estimators": FEW["n_estimators"], "max_features": 0.33, "random_state": SEED}
BOOSTED = {"max_iter": FEW["max_iter"], "min_samples_leaf": 5, "early_stopping": False, "random_state": SEED}
BY_HAND: dict[str, Callable[[Problem], Any]] = {
    "constant": constant,
    "ridge_cv": single(RidgeCV, scaled=True, alphas=np.logspace(-4, 6, 21)),
    "k_nearest_neighbours": neighbours,
    "random_forest": single(RandomForestRegressor, RandomForestClassifier, **FOREST),
    "extra_trees": single(ExtraTreesRegressor, ExtraTreesClassifier, **FOREST),
    "joint_random_forest": forests(RandomForestRegressor, RandomForestClassifier),
    "joint_extra_trees": forests(ExtraTreesRegressor, ExtraTreesClassifier),
    "hist_gradient_boosting": single(HistGradientBoostingRegressor, HistGradientBoostingClassifier, **BOOSTED),
    "lightgbm": lightgbm,
    "xgboost": xgboost,
    "joint_xgboost": joint_xgboost,
    "multi_task_lasso": linear(MultiTaskLasso(0.01, max_iter=10_000)),
    "multi_task_elastic_net": linear(MultiTaskElasticNet(0.01, max_iter=10_000)),
    "stacked_targets": lambda problem: together(problem, stacked),
    "regressor_chains": lambda problem: together(problem, chained),
}


@pytest.mark.parametrize("dataset", PROBLEMS, ids=lambda dataset: dataset.name)
@pytest.mark.parametrize("name", BY_HAND)
def test_the_loss_is_that_of_the_same_estimator_by_hand(name, dataset):
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    problem = loaded(dataset)
    if (reason := METHODS[name]().supports(problem.without_test(), Recipe())) is not None:
        pytest.skip(reason)
    result = trained(name, problem)
    assert result.status == [Status.FINISHED], result.reason
    np.testing.assert_allclose(result.metrics["test"]["loss"][0], BY_HAND[name](problem), 1e-9, 1e-9)


def test_every_estimator_is_held_against_its_package():
    assert set(BY_HAND) == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_the_same_trial_gives_the_same_bytes(name):
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    dataset = next(d for d in (MixedOwn, Classes, Values, CompleteRegression) if not refused(name, loaded(d)))
    first, second = (trained(name, loaded(dataset)) for _ in range(2))
    assert first.predictions["test"].tobytes() == second.predictions["test"].tobytes()
    assert first.metrics["validation"]["loss"].tobytes() == second.metrics["validation"]["loss"].tobytes()


def refused(name: str, problem: Problem) -> str | None:
    return METHODS[name]().supports(problem.without_test(), Recipe())


REFUSALS = [
    ("ridge_cv", Digits, "it is a regression, and not all tasks are"),
    ("multi_task_lasso", Digits, "one estimator learns all tasks, and they must be all regression"),
    ("multi_task_lasso", MixedOwn, "it learns all tasks from the same rows, and here each row belongs to one task"),
    ("regressor_chains", MINIATURES[1], "it learns all tasks from the same rows, and some of their labels are missing"),
    ("joint_random_forest", MixedShared, "one estimator learns all tasks, and they must be all regression, or all "
     "binary or multiclass or multilabel"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "dataset", "reason"), REFUSALS)
def test_what_cannot_be_is_refused_in_one_line(name, dataset, reason):
    assert refused(name, loaded(dataset)) == reason


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_that_is_not_installed_is_named_with_what_to_do(name, monkeypatch):
    monkeypatch.setattr("mtbench_methods.estimators.boosting.find_spec", lambda package: None)
    expected = f"it needs the package {PACKAGES[name]}: python -m pip install 'mtbench[boosting]'"
    assert refused(name, loaded(Values)) == expected


@pytest.mark.parametrize("name", [name for name in METHODS if name != "constant"])
def test_rows_of_large_images_are_refused(name):
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    part = Part(np.zeros((2, 20_001), np.float32), np.zeros((2, 1), np.float32))
    tasks = (Task("values", TaskKind.REGRESSION),)
    problem = Problem("wide", 0, tasks, dict.fromkeys(("train", "validation", "test"), part))
    assert "at most 20,000; rows have 20,001" in refused(name, problem)


def test_trees_of_vectors_have_a_most_of_targets():
    tasks = tuple(Task(f"t{i}", TaskKind.REGRESSION) for i in range(65))
    part = Part(np.zeros((2, 1), np.float32), np.zeros((2, 65), np.float32))
    problem = Problem("many", 0, tasks, dict.fromkeys(("train", "validation", "test"), part))
    assert refused("joint_xgboost", problem) == "its memory grows with targets, of which it takes 64; here are 65"


def test_the_error_of_the_constant_is_that_of_its_formula():
    problem = loaded(AMTFLSynthetic)
    dataset = AMTFLSynthetic()
    result = train_stack(METHODS["constant"](), {0: problem}, miniature_trials(METHODS["constant"](), dataset), dataset)
    train, test = problem.parts["train"], problem.parts["test"]
    expected = [
        np.sqrt(
            np.mean(
                (test.labels[test.task == t].astype(float) - train.labels[train.task == t].astype(float).mean()) ** 2
            )
        )
        for t in range(problem.n_tasks)
    ]
    np.testing.assert_allclose(result.metrics["test"]["rmse"][0], expected, 1e-12)


def test_a_joint_forest_learns_small_targets_beside_large_ones():
    """Of targets of scale 1 and 1,000 the first is learned as well as the second: they are scaled before."""
    problem = loaded(Values)
    trials = miniature_trials(METHODS["joint_random_forest"](), ByLoss(), [{"n_estimators": 30, "max_features": 1.0}])
    result = train_stack(METHODS["joint_random_forest"](), {0: problem}, trials, ByLoss())
    errors = (result.predictions["test"][0] - problem.parts["test"].labels).var(0) / problem.parts["test"].labels.var(0)
    assert (errors < 0.5).all()


@pytest.mark.parametrize(("n_targets", "n_orders", "expected"), [(1, 10, 1), (3, 10, 6), (4, 10, 10), (12, 3, 3)])
def test_orders_of_chains_are_different_and_no_more_than_there_are(n_targets, n_orders, expected):
    found = orders(n_targets, n_orders, 0)
    assert len({tuple(order) for order in found}) == len(found) == expected
    assert all(sorted(order) == list(range(n_targets)) for order in found)
    assert found == orders(n_targets, n_orders, 0)
