"""LightGBM and XGBoost, each label column alone; XGBoost's trees of vectors for all of them.

Both are imported where they are used; `supports` says what to install.

Shapes: n rows, D label columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from mtbench import Examples, Predictor, Problem, Recipe, Reference, Target, TaskKind, tunable
from mtbench_methods.estimators.all_targets import AllTargets, Outputs, Scaled
from mtbench_methods.estimators.per_target import Array, PerTarget, flat

MOST_TARGETS = 64
"""Of trees of vectors: their histograms hold numbers for each target, feature, bin and node."""


@dataclass(frozen=True, kw_only=True)
class LightGBMParams:
    """Hyperparameters of LightGBM, by its names but for the first.

    Attributes:
        shrinkage: `learning_rate`: share of each tree that is added.
        n_estimators: Trees, or trees of each class.
        num_leaves: Leaves of a tree at most.
        min_child_samples: Rows that a leaf must hold.
        reg_lambda: Weight of the squared values of leaves.
    """

    shrinkage: float = tunable(0.1, grid=(0.03, 0.1, 0.3), low=0.01, high=0.5, help="share of each tree")
    n_estimators: int = tunable(100, grid=(100, 400), low=25, high=800, minimum=1, help="trees")
    num_leaves: int = tunable(31, grid=(4, 31), low=3, high=63, minimum=2, help="leaves of a tree")
    min_child_samples: int = tunable(5, grid=(5, 20), low=1, high=50, minimum=1, help="rows of a leaf")
    reg_lambda: float = tunable(0.0, grid=(0.0, 1.0), help="squared values of leaves")


class LightGBM(PerTarget):
    """LightGBM for each task alone."""

    name = "lightgbm"
    reference = Reference("LightGBM: A Highly Efficient Gradient Boosting Decision Tree", "NeurIPS 2017")
    Params = LightGBMParams
    imports = ("lightgbm",)

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Any problem whose rows are not too wide, where the package is installed."""
        return lacking("lightgbm") or super().supports(problem, recipe)

    def estimator(self, target: Target, params: LightGBMParams, seed: int, n_rows: int) -> Any:
        """Trees that repeat themselves to the last bit."""
        import lightgbm

        kind = lightgbm.LGBMRegressor if target.kind is TaskKind.REGRESSION else lightgbm.LGBMClassifier
        return kind(
            n_estimators=params.n_estimators,
            learning_rate=params.shrinkage,
            num_leaves=params.num_leaves,
            min_child_samples=params.min_child_samples,
            reg_lambda=params.reg_lambda,
            random_state=seed,
            n_jobs=1,
            deterministic=True,
            force_row_wise=True,
            verbose=-1,
        )


@dataclass(frozen=True, kw_only=True)
class XGBoostParams:
    """Hyperparameters of XGBoost, by its names but for the first.

    Attributes:
        shrinkage: `learning_rate`: share of each tree that is added.
        n_estimators: Trees, or trees of each class.
        max_depth: Splits between root and leaf at most.
        min_child_weight: Rows that a leaf must hold, each weighed by its loss's curvature.
        reg_lambda: Weight of the squared values of leaves.
    """

    shrinkage: float = tunable(0.1, grid=(0.03, 0.1, 0.3), low=0.01, high=0.5, help="share of each tree")
    n_estimators: int = tunable(100, grid=(100, 400), low=25, high=800, minimum=1, help="trees")
    max_depth: int = tunable(6, grid=(2, 6), low=1, high=10, minimum=1, help="splits between root and leaf")
    min_child_weight: float = tunable(1.0, grid=(1.0, 10.0), low=0.1, high=30.0, help="weight of a leaf")
    reg_lambda: float = tunable(1.0, grid=(0.1, 1.0, 10.0), low=0.01, high=100.0, help="squared values of leaves")


_XGBOOST = Reference("XGBoost: A Scalable Tree Boosting System", "KDD 2016", arxiv="1603.02754")


class XGBoost(PerTarget):
    """XGBoost for each task alone."""

    name = "xgboost"
    reference = _XGBOOST
    Params = XGBoostParams
    imports = ("xgboost",)

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Any problem whose rows are not too wide, where the package is installed."""
        return lacking("xgboost") or super().supports(problem, recipe)

    def estimator(self, target: Target, params: XGBoostParams, seed: int, n_rows: int) -> Any:
        """Trees in double precision where it matters: see `_Boosted`."""
        return _Boosted(target.kind, params, seed)


class _Boosted:
    """XGBoost behind scikit-learn's interface, for labels of any scale and classes that are not all there.

    It computes in float32: values are scaled to spread 1, and probabilities are made of its margins in float64.
    """

    def __init__(self, kind: TaskKind, params: XGBoostParams, seed: int) -> None:
        self._model = _model("XGBRegressor" if kind is TaskKind.REGRESSION else "XGBClassifier", params, seed)
        self._values = kind is TaskKind.REGRESSION

    def fit(self, inputs: Array, labels: Array, sample_weight: Array | None = None) -> _Boosted:
        """Fits values [n], or classes [n], of which there are at least two."""
        if self._values:
            self._scale = Scaled.of(labels[:, None])
            self._model.fit(inputs, self._scale.to(labels[:, None])[:, 0], sample_weight=sample_weight)
        else:
            self.classes_, numbered = np.unique(labels, return_inverse=True)
            self._model.fit(inputs, numbered, sample_weight=sample_weight)
        return self

    def predict(self, inputs: Array) -> Array:
        """Values [n, 1]."""
        return self._scale.back(self._model.predict(inputs).astype(np.float64)[:, None])

    def predict_proba(self, inputs: Array) -> Array:
        """Probabilities [n, len(classes_)]."""
        from scipy.special import softmax

        margins = self._model.predict(inputs, output_margin=True).astype(np.float64)
        if margins.ndim == 1:
            margins = np.stack([np.zeros_like(margins), margins], 1)
        found: Array = softmax(margins, 1)
        return found


class JointXGBoost(AllTargets):
    """XGBoost for all tasks: each leaf holds a value for every one, each split is the best for all together."""

    name = "joint_xgboost"
    reference = _XGBOOST
    Params = XGBoostParams
    imports = ("xgboost",)
    together = (frozenset({TaskKind.REGRESSION}), frozenset({TaskKind.BINARY, TaskKind.MULTILABEL}))
    honours_weights = ("sample",)

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Not too many targets, where the package is installed."""
        if problem.n_outputs > MOST_TARGETS:
            return f"its memory grows with targets, of which it takes {MOST_TARGETS}; here are {problem.n_outputs}"
        return lacking("xgboost") or super().supports(problem, recipe)

    def learn(
        self, train: Examples, targets: Sequence[Target], labels: Array, params: XGBoostParams, seed: int
    ) -> Predictor:
        """Margins of classes are logits as they are."""
        values = targets[0].kind is TaskKind.REGRESSION
        scale = Scaled.of(labels) if values else Scaled(np.zeros(len(targets)), np.ones(len(targets)))
        model = _model("XGBRegressor", params, seed, multi_strategy="multi_output_tree")
        if not values:
            model.set_params(objective="binary:logistic")
        model.fit(train.flat, scale.to(labels), sample_weight=train.sample_weight)

        def predicted(inputs: Array) -> Array:
            margins = model.predict(flat(inputs), output_margin=True).astype(np.float64)
            return scale.back(margins.reshape(len(inputs), -1)).T

        return Outputs(train.tasks, targets, predicted)


def lacking(package: str) -> str | None:
    """None, or what to install."""
    return None if find_spec(package) else f"it needs the package {package}: python -m pip install 'mtbench[boosting]'"


def _model(name: str, params: XGBoostParams, seed: int, **more: Any) -> Any:
    import xgboost

    return getattr(xgboost, name)(
        n_estimators=params.n_estimators,
        learning_rate=params.shrinkage,
        max_depth=params.max_depth,
        min_child_weight=params.min_child_weight,
        reg_lambda=params.reg_lambda,
        tree_method="hist",
        random_state=seed,
        n_jobs=1,
        **more,
    )
