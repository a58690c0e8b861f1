"""k nearest neighbours, for each task among its own rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtbench import Reference, Target, TaskKind, tunable
from mtbench_methods.estimators.per_target import PerTarget


@dataclass(frozen=True, kw_only=True)
class KNearestNeighboursParams:
    """Hyperparameters of KNearestNeighbours, by scikit-learn's names.

    Attributes:
        n_neighbors: Neighbours; as many as there are where those are fewer.
        weights: Whether all count the same, or near ones more.
    """

    n_neighbors: int = tunable(5, grid=(1, 5, 20), low=1, high=50, minimum=1, help="neighbours")
    weights: str = tunable("uniform", choices=("uniform", "distance"), help="what each counts")


class KNearestNeighbours(PerTarget):
    """The mean label, or the share of each class, of the nearest rows; features are standardised."""

    name = "k_nearest_neighbours"
    reference = Reference(
        "Nearest Neighbor Pattern Classification", "IEEE Transactions on Information Theory 1967",
        url="https://doi.org/10.1109/TIT.1967.1053964",
    )  # fmt: skip
    Params = KNearestNeighboursParams
    honours_weights = ()  # scikit-learn's neighbours count by distance alone
    imports = ("sklearn.neighbors", "sklearn.pipeline", "sklearn.preprocessing")

    def estimator(self, target: Target, params: KNearestNeighboursParams, seed: int, n_rows: int) -> Any:
        """Neighbours among the rows of the target."""
        from sklearn import neighbors
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        kind = neighbors.KNeighborsRegressor if target.kind is TaskKind.REGRESSION else neighbors.KNeighborsClassifier
        return make_pipeline(StandardScaler(), kind(min(params.n_neighbors, n_rows), weights=params.weights))
