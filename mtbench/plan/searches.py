"""From what a study asks for to the search of a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mtbench.contracts.dataset import Dataset
from mtbench.contracts.hyperparameters import Hyperparameter
from mtbench.contracts.method import Method
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.seeds import seed_from
from mtbench.contracts.trials import plain_name
from mtbench.contracts.values import Value
from mtbench.contracts.weighted import of_weighting
from mtbench.plan.halving import halving
from mtbench.plan.search import Search, listed, parse_search
from mtbench.plan.settings import axes, settings
from mtbench.plan.tpe import check_optuna, tpe


def check_search(text: str) -> None:
    """Makes sure that what a search needs is installed.

    Args:
        text: What a study asks for, such as "tpe:25".

    Raises:
        StudyError: It is not.
    """
    if parse_search(text)[0] == "tpe":
        check_optuna()


def search_of(
    text: str,
    method: Method,
    dataset: Dataset,
    recipe: Recipe,
    known: Mapping[str, Hyperparameter],
    fixed: Mapping[str, Sequence[Value]],
) -> Search:
    """The search of one method on one data set. All that draw from ranges have the same draws.

    Args:
        text: What a study asks for, such as "tpe:25".
        method: The method.
        dataset: The data set.
        recipe: Its recipe.
        known: The method's hyperparameters.
        fixed: Values given by the user, already parsed.
    """
    kind, n = parse_search(text)
    # What a method has with and without a weighting is drawn alike, so that the two differ in the weighting alone.
    plain = plain_name(method.name)
    rng, apart = (_source(name, dataset) for name in (plain, method.name))
    drawn = settings(
        known,
        kind if kind in ("default", "grid") else "random",
        n,
        rng,
        fixed,
        dict.fromkeys(of_weighting(method), apart),
    )
    if kind == "tpe":
        return tpe(drawn, axes(known, fixed), n, (plain, dataset.name))
    if kind == "halving":
        return halving(drawn, n, recipe.max_epochs, method.in_epochs)
    return listed(drawn)


def _source(method: str, dataset: Dataset) -> np.random.Generator:
    """Where the random settings of a method on a data set come from."""
    return np.random.default_rng(seed_from(method, dataset.name, "search"))
