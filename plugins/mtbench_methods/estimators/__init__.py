"""Estimators of scikit-learn, LightGBM and XGBoost as methods: what a practitioner would try first.

Most learn each label column alone, from the rows in which it is known, and take any problem (`per_target`). Some learn
all at once, from rows that have all labels (`all_targets`). Labels with fewer than two different values are predicted
as they are. scikit-learn is imported where it is used: it takes a second.
"""

from __future__ import annotations

from mtbench import FitMethod, hookimpl
from mtbench_methods.estimators.boosting import JointXGBoost, LightGBM, XGBoost
from mtbench_methods.estimators.chains import RegressorChains, StackedTargets
from mtbench_methods.estimators.constant import Constant
from mtbench_methods.estimators.linear import MultiTaskElasticNet, MultiTaskLasso, RidgeCV
from mtbench_methods.estimators.neighbours import KNearestNeighbours
from mtbench_methods.estimators.trees import (
    ExtraTrees,
    HistGradientBoosting,
    JointExtraTrees,
    JointRandomForest,
    RandomForest,
)


@hookimpl
def mtbench_methods() -> list[type[FitMethod]]:
    """The methods of this package."""
    return [
        Constant,
        RidgeCV,
        KNearestNeighbours,
        RandomForest,
        ExtraTrees,
        JointRandomForest,
        JointExtraTrees,
        HistGradientBoosting,
        LightGBM,
        XGBoost,
        JointXGBoost,
        MultiTaskLasso,
        MultiTaskElasticNet,
        StackedTargets,
        RegressorChains,
    ]
