"""Forests and boosted trees of scikit-learn: each label column alone, or a forest for all of them.

A joint forest splits where all targets gain together, so that regressions are scaled to spread 1 before: otherwise the
one with the largest numbers would choose the splits.

Shapes: n rows, D label columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mtbench import Examples, Predictor, Reference, Target, TaskKind, tunable
from mtbench_methods.estimators.all_targets import AllTargets, Outputs, Scaled
from mtbench_methods.estimators.per_target import Array, PerTarget

_CLASSES = frozenset({TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.MULTILABEL})


@dataclass(frozen=True, kw_only=True)
class ForestParams:
    """Hyperparameters of forests, by scikit-learn's names.

    Attributes:
        n_estimators: Trees.
        max_features: Share of the features that each split looks at.
        min_samples_leaf: Rows that a leaf must hold.
    """

    n_estimators: int = tunable(100, minimum=1, help="trees")
    max_features: float = tunable(
        0.33, grid=(0.1, 0.33, 1.0), low=0.05, high=1.0, minimum=1e-6, maximum=1.0, help="share of features per split"
    )
    min_samples_leaf: int = tunable(1, grid=(1, 3, 10), low=1, high=20, minimum=1, help="rows of a leaf")


class _Forest:
    """What single and joint forests share: scikit-learn's classes, and how they are made."""

    imports: ClassVar[tuple[str, ...]] = ("sklearn.ensemble",)
    regressor: ClassVar[str] = "RandomForestRegressor"
    classifier: ClassVar[str] = "RandomForestClassifier"

    def made(self, kind: TaskKind, params: ForestParams, seed: int) -> Any:
        """A forest that is not fitted yet."""
        from sklearn import ensemble

        return getattr(ensemble, self.regressor if kind is TaskKind.REGRESSION else self.classifier)(
            params.n_estimators,
            max_features=params.max_features,
            min_samples_leaf=params.min_samples_leaf,
            random_state=seed,
            n_jobs=1,
        )


class RandomForest(_Forest, PerTarget):
    """A random forest for each task alone: trees of resampled rows, each split the best of some features."""

    name = "random_forest"
    reference = Reference("Random Forests", "Machine Learning 2001", url="https://doi.org/10.1023/A:1010933404324")
    Params = ForestParams

    def estimator(self, target: Target, params: ForestParams, seed: int, n_rows: int) -> Any:
        """A forest."""
        return self.made(target.kind, params, seed)


class ExtraTrees(RandomForest):
    """Extremely randomized trees for each task alone: all rows, each split the best of random ones."""

    name = "extra_trees"
    reference = Reference(
        "Extremely randomized trees", "Machine Learning 2006", url="https://doi.org/10.1007/s10994-006-6226-1"
    )
    regressor = "ExtraTreesRegressor"
    classifier = "ExtraTreesClassifier"


class JointRandomForest(_Forest, AllTargets):
    """A random forest for all tasks: each split is the best of some features for all of them together."""

    name = "joint_random_forest"
    reference = RandomForest.reference
    Params = ForestParams
    together = (frozenset({TaskKind.REGRESSION}), _CLASSES)
    honours_weights = ("sample",)

    def learn(
        self, train: Examples, targets: Sequence[Target], labels: Array, params: ForestParams, seed: int
    ) -> Predictor:
        """One forest; of a single target, that which is fitted alone."""
        forest = self.made(targets[0].kind, params, seed)
        column = labels[:, 0] if len(targets) == 1 else labels
        if targets[0].kind is TaskKind.REGRESSION:
            scale = Scaled.of(labels)
            values = scale.to(labels)[:, 0] if len(targets) == 1 else scale.to(labels)
            forest.fit(train.flat, values, train.sample_weight)
            return Outputs(train.tasks, targets, lambda x: scale.back(forest.predict(x).reshape(len(x), -1)).T)
        forest.fit(train.flat, column, train.sample_weight)

        def logits(inputs: Array) -> list[Array]:
            found, classes = forest.predict_proba(inputs), forest.classes_
            if len(targets) == 1:
                found, classes = [found], [classes]
            return [target.logits(p, own) for target, p, own in zip(targets, found, classes, strict=True)]

        return Outputs(train.tasks, targets, logits)


class JointExtraTrees(JointRandomForest):
    """Extremely randomized trees for all tasks: each split is the best of random ones for all of them together."""

    name = "joint_extra_trees"
    reference = ExtraTrees.reference
    regressor = "ExtraTreesRegressor"
    classifier = "ExtraTreesClassifier"


@dataclass(frozen=True, kw_only=True)
class HistGradientBoostingParams:
    """Hyperparameters of HistGradientBoosting, by scikit-learn's names but for the first.

    Attributes:
        shrinkage: scikit-learn's `learning_rate`: share of each tree that is added.
        max_iter: Trees, or trees of each class.
        max_leaf_nodes: Leaves of a tree at most.
        min_samples_leaf: Rows that a leaf must hold.
        l2_regularization: Weight of the squared values of leaves.
    """

    shrinkage: float = tunable(0.1, grid=(0.03, 0.1, 0.3), low=0.01, high=0.5, help="share of each tree")
    max_iter: int = tunable(100, grid=(100, 400), low=25, high=800, minimum=1, help="trees")
    max_leaf_nodes: int = tunable(31, grid=(4, 31), low=3, high=63, minimum=2, help="leaves of a tree")
    min_samples_leaf: int = tunable(5, grid=(5, 20), low=1, high=50, minimum=1, help="rows of a leaf")
    l2_regularization: float = tunable(0.0, grid=(0.0, 1.0), help="squared values of leaves")


class HistGradientBoosting(PerTarget):
    """Gradient boosting of trees on binned features, for each task alone."""

    name = "hist_gradient_boosting"
    reference = Reference(
        "Greedy Function Approximation: A Gradient Boosting Machine", "Annals of Statistics 2001",
        url="https://doi.org/10.1214/aos/1013203451",
    )  # fmt: skip
    Params = HistGradientBoostingParams
    imports = ("sklearn.ensemble",)

    def estimator(self, target: Target, params: HistGradientBoostingParams, seed: int, n_rows: int) -> Any:
        """All trees that were asked for: it does not stop early on rows held out."""
        from sklearn import ensemble

        kind = "Regressor" if target.kind is TaskKind.REGRESSION else "Classifier"
        return getattr(ensemble, f"HistGradientBoosting{kind}")(
            learning_rate=params.shrinkage,
            max_iter=params.max_iter,
            max_leaf_nodes=params.max_leaf_nodes,
            min_samples_leaf=params.min_samples_leaf,
            l2_regularization=params.l2_regularization,
            early_stopping=False,
            random_state=seed,
        )
