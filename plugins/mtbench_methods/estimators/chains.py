"""Regressor chains and stacked targets: other targets' predictions as inputs.

Paper: Spyromitros-Xioufis, Tsoumakas, Groves and Vlahavas, "Multi-target regression via input space expansion: treating
targets as inputs", Machine Learning 2016. Both are what it calls corrected: a model is trained on cross-validated
predictions of the other targets, not on their true values, which it will not see when it predicts.

Shapes: n rows, d features, D label columns.

Departures: bagged trees are scikit-learn's and not pruned. Targets have spread 1 on the training rows, which changes
nothing for trees.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtbench import Examples, Predictor, Reference, Target, tunable
from mtbench_methods.estimators.all_targets import AllTargets, Outputs, Scaled
from mtbench_methods.estimators.linear import RIDGE_IMPORTS, ridge
from mtbench_methods.estimators.per_target import Array


@dataclass(frozen=True, kw_only=True)
class StackedTargetsParams:
    """Hyperparameters of StackedTargets.

    Attributes:
        base: What learns a single target: bagged trees, or ridge regression with a penalty chosen by leave-one-out.
        n_estimators: Trees.
        min_samples_leaf: Rows that a leaf must hold.
        n_folds: Folds of cross-validated predictions.
    """

    base: str = tunable("trees", choices=("trees", "ridge"), help="what learns a single target")
    n_estimators: int = tunable(100, minimum=1, help="trees")
    min_samples_leaf: int = tunable(1, grid=(1, 3, 10), low=1, high=20, minimum=1, help="rows of a leaf")
    n_folds: int = tunable(10, minimum=2, help="folds of cross-validated predictions")


@dataclass(frozen=True, kw_only=True)
class RegressorChainsParams(StackedTargetsParams):
    """Hyperparameters of RegressorChains.

    Attributes:
        n_chains: Orders of the targets, over which predictions are averaged.
    """

    n_chains: int = tunable(10, minimum=1, help="orders of the targets")


_REFERENCE = Reference(
    "Multi-target regression via input space expansion: treating targets as inputs",
    "Machine Learning 2016",
    arxiv="1211.6581",
)
_IMPORTS = (*RIDGE_IMPORTS, "sklearn.ensemble", "sklearn.model_selection", "sklearn.multioutput")


class StackedTargets(AllTargets):
    """SST: a second model of each target has the first ones' predictions of all targets as further inputs."""

    name = "stacked_targets"
    reference = _REFERENCE
    Params = StackedTargetsParams
    imports = _IMPORTS

    def learn(
        self, train: Examples, targets: Sequence[Target], labels: Array, params: StackedTargetsParams, seed: int
    ) -> Predictor:
        """Two models for each target."""
        from sklearn.model_selection import cross_val_predict

        scale, inputs = Scaled.of(labels), train.flat
        columns = list(scale.to(labels).T)
        folds = _folds(params, len(inputs), seed)
        first = [_base(params, seed).fit(inputs, y) for y in columns]
        held_out = [cross_val_predict(_base(params, seed), inputs, y, cv=folds) for y in columns]
        expanded = np.column_stack([inputs, *held_out])
        second = [_base(params, seed).fit(expanded, y) for y in columns]

        def predicted(inputs: Array) -> Array:
            more = np.column_stack([inputs, *(model.predict(inputs) for model in first)])
            return scale.back(np.column_stack([model.predict(more) for model in second])).T

        return Outputs(train.tasks, targets, predicted)


class RegressorChains(AllTargets):
    """ERC: the mean of chains, in each of which a target has those before it, as predicted, as further inputs."""

    name = "regressor_chains"
    reference = _REFERENCE
    Params = RegressorChainsParams
    imports = _IMPORTS

    def learn(
        self, train: Examples, targets: Sequence[Target], labels: Array, params: RegressorChainsParams, seed: int
    ) -> Predictor:
        """A chain for each order."""
        from sklearn.multioutput import RegressorChain

        scale, inputs = Scaled.of(labels), train.flat
        folds = _folds(params, len(inputs), seed)
        chains = [
            RegressorChain(_base(params, seed), order=order, cv=folds).fit(inputs, scale.to(labels))
            for order in orders(len(targets), params.n_chains, seed)
        ]

        def predicted(inputs: Array) -> Array:
            return scale.back(np.mean([chain.predict(inputs) for chain in chains], 0)).T

        return Outputs(train.tasks, targets, predicted)


def orders(n_targets: int, n_orders: int, seed: int) -> list[list[int]]:
    """Different orders of targets, or all where those are not more."""
    if math.factorial(n_targets) <= n_orders:
        return [list(order) for order in itertools.permutations(range(n_targets))]
    rng = np.random.default_rng(seed)
    found: dict[tuple[int, ...], None] = {}
    while len(found) < n_orders:
        found[tuple(rng.permutation(n_targets).tolist())] = None
    return [list(order) for order in found]


def _base(params: StackedTargetsParams, seed: int) -> Any:
    if params.base == "ridge":
        return ridge()
    from sklearn.ensemble import RandomForestRegressor

    # With all features at each split a forest is bagged trees.
    return RandomForestRegressor(
        params.n_estimators, max_features=1.0, min_samples_leaf=params.min_samples_leaf, random_state=seed, n_jobs=1
    )


def _folds(params: StackedTargetsParams, n_rows: int, seed: int) -> Any:
    from sklearn.model_selection import KFold

    return KFold(min(params.n_folds, n_rows), shuffle=True, random_state=seed)
