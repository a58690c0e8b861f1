"""Why a method cannot train on a problem: for a reason of its own, or because of weights that it does not honour."""

from __future__ import annotations

from collections.abc import Collection

from mtbench.contracts.method import GradientMethod, Method
from mtbench.contracts.recipe import Recipe
from mtbench.tasks import Problem, Weight
from mtbench.tasks.weights import in_words


def refusal(method: Method, problem: Problem, recipe: Recipe) -> str | None:
    """None, or why a cell is skipped.

    Args:
        method: The method.
        problem: The problem as methods receive it.
        recipe: The data set's.
    """
    return method.supports(problem, recipe) or _unweighted(method, problem)


def honoured_weights(method: type[Method]) -> Collection[str]:
    """The weights that a method honours, as far as is known: see `Method.honours_weights`."""
    if method.honours_weights is not None:
        return method.honours_weights
    of_terms = issubclass(method, GradientMethod) and method.terms is not GradientMethod.terms
    return tuple(Weight) if of_terms else ()


def _unweighted(method: Method, problem: Problem) -> str | None:
    ignored = [weight for weight in problem.weights if weight not in honoured_weights(type(method))]
    if not ignored:
        return None
    return (
        f"{problem.dataset} declares {in_words(ignored)} weights, and the method does not say that it honours them "
        "(`honours_weights`)"
    )
