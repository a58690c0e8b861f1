"""Linear regressions of scikit-learn: each task alone, or all with the same features.

Inputs are standardised on the rows that are fitted, and targets where several are fitted at once: a penalty is then as
strong for each.

Shapes: n rows, d features, D label columns. X [n, d], Y [n, D], W [d, D] with rows w_j.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtbench import Examples, Predictor, Problem, Recipe, Reference, Target, TaskKind, tunable
from mtbench_methods.estimators.all_targets import AllTargets, Outputs, Scaled
from mtbench_methods.estimators.per_target import Array, PerTarget

ALPHAS = np.logspace(-4, 6, 21)
"""Weights of the squared norm, beside the sum of squared errors, that leave-one-out chooses among."""

RIDGE_IMPORTS = ("sklearn.linear_model", "sklearn.pipeline", "sklearn.preprocessing")
"""What `ridge` imports."""

_MOST_ROUNDS = 10_000  # of coordinate descent


def ridge() -> Any:
    """Ridge regression on standardised features, its penalty chosen by leave-one-out."""
    from sklearn.linear_model import RidgeCV as Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), Ridge(ALPHAS))


class RidgeCV(PerTarget):
    """Ridge regression of each task alone, with the penalty that leave-one-out errors choose."""

    name = "ridge_cv"
    reference = Reference(
        "Ridge Regression: Biased Estimation for Nonorthogonal Problems", "Technometrics 1970",
        url="https://doi.org/10.1080/00401706.1970.10488634",
    )  # fmt: skip
    imports = RIDGE_IMPORTS

    def supports(self, problem: Problem, recipe: Recipe) -> str | None:
        """Regressions."""
        if not problem.only(TaskKind.REGRESSION):
            return "it is a regression, and not all tasks are"
        return super().supports(problem, recipe)

    def estimator(self, target: Target, params: Any, seed: int, n_rows: int) -> Any:
        """The same for all targets."""
        return ridge()

    def size(self, estimator: Any) -> int:
        """A weight for each feature."""
        return int(estimator[-1].coef_.size)


@dataclass(frozen=True, kw_only=True)
class MultiTaskLassoParams:
    """Hyperparameters of MultiTaskLasso.

    Attributes:
        alpha: Weight of the sum of row norms of W, for features and targets of spread 1.
    """

    alpha: float = tunable(0.01, grid=(1e-4, 1e-3, 1e-2, 1e-1), low=1e-4, high=1.0, help="norms of the rows of W")


class _SameFeatures(AllTargets):
    """Linear regressions of all targets on the same features."""

    imports = ("sklearn.linear_model",)

    @abstractmethod
    def estimator(self, params: Any) -> Any:
        """An estimator of scikit-learn's that is not fitted yet."""

    def learn(self, train: Examples, targets: Sequence[Target], labels: Array, params: Any, seed: int) -> Predictor:
        """Fits all targets at once, all of spread 1."""
        features, values = Scaled.of(train.flat), Scaled.of(labels)
        fitted = self.estimator(params).fit(features.to(train.flat), values.to(labels))

        def predicted(inputs: Array) -> Array:
            return values.back(fitted.predict(features.to(inputs))).T

        return Outputs(train.tasks, targets, predicted, fitted.coef_.size)


class MultiTaskLasso(_SameFeatures):
    """min |Y - X W|^2 / (2 n) + alpha sum_j |w_j|: a feature is used by all tasks or by none."""

    name = "multi_task_lasso"
    reference = Reference(
        "Joint covariate selection and joint subspace selection for multiple classification problems",
        "Statistics and Computing 2010", url="https://doi.org/10.1007/s11222-008-9111-x",
    )  # fmt: skip
    Params = MultiTaskLassoParams

    def estimator(self, params: MultiTaskLassoParams) -> Any:
        """Coordinate descent."""
        from sklearn import linear_model

        return linear_model.MultiTaskLasso(params.alpha, max_iter=_MOST_ROUNDS)


@dataclass(frozen=True, kw_only=True)
class MultiTaskElasticNetParams:
    """Hyperparameters of MultiTaskElasticNet.

    Attributes:
        alpha: Weight of both penalties, for features and targets of spread 1.
        l1_ratio: Share of the sum of row norms; the rest is the squared norm.
    """

    alpha: float = tunable(0.01, grid=(1e-4, 1e-3, 1e-2, 1e-1), low=1e-4, high=1.0, help="weight of both penalties")
    l1_ratio: float = tunable(
        0.5, grid=(0.1, 0.5, 0.9), low=0.05, high=1.0, log=False, maximum=1.0, help="share of the norms of the rows"
    )


class MultiTaskElasticNet(_SameFeatures):
    """min |Y - X W|^2 / (2 n) + alpha {l1_ratio sum_j |w_j| + (1 - l1_ratio) |W|^2 / 2}."""

    name = "multi_task_elastic_net"
    reference = Reference(
        "Regularization and Variable Selection via the Elastic Net",
        "Journal of the Royal Statistical Society B 2005", url="https://doi.org/10.1111/j.1467-9868.2005.00503.x",
    )  # fmt: skip
    Params = MultiTaskElasticNetParams

    def estimator(self, params: MultiTaskElasticNetParams) -> Any:
        """Coordinate descent."""
        from sklearn import linear_model

        return linear_model.MultiTaskElasticNet(params.alpha, l1_ratio=params.l1_ratio, max_iter=_MOST_ROUNDS)
