"""`method+weighting`: a method whose sum of task losses another rule takes the place of, as a method of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any

from mtbench.contracts.hyperparameters import describe
from mtbench.contracts.method import GradientMethod, Method
from mtbench.contracts.trials import LEARNING_RATE, WITH
from mtbench.contracts.weighting import Weighting
from mtbench.errors import StudyError


def takes_weightings(method: type[Method]) -> str | None:
    """None, or why no weighting can be used with a method."""
    if not issubclass(method, GradientMethod):
        return f"it is a {method.kind} method, which has no gradient steps"
    if method.terms is GradientMethod.terms:
        return "its objective is no sum of task losses and a penalty"
    return None


@cache
def weighted(method: type[Method], weighting: type[Weighting]) -> type[GradientMethod]:
    """A method under a weighting: named "method+weighting", with the hyperparameters of both.

    A hyperparameter of the weighting that the method has one of the same name as is called "weighting_name".

    Raises:
        StudyError: The method takes no weighting.
    """
    reason = takes_weightings(method)
    if reason is not None:
        raise StudyError(f"Method '{method.name}' takes no weighting; found '{weighting.name}': {reason}.")
    assert issubclass(method, GradientMethod)
    taken = {*describe(method.Params), LEARNING_RATE}
    names = {name: f"{weighting.name}_{name}" if name in taken else name for name in describe(weighting.Params)}
    return type(
        f"{method.__name__}With{weighting.__name__}",
        (method,),
        {
            "__module__": method.__module__,
            "__doc__": f"{method.__doc__}\n\nIts task losses are combined by {weighting.__name__}.",
            "name": f"{method.name}{WITH}{weighting.name}",
            "version": f"{method.version}{WITH}{weighting.version}",
            "Params": _joint(method.Params, weighting.Params, names),
            "weighting": weighting(),
            "weighting_names": names,
        },
    )


def of_weighting(method: Method) -> tuple[str, ...]:
    """Names of the hyperparameters that a method has of its weighting."""
    return tuple(method.weighting_names.values()) if isinstance(method, GradientMethod) else ()


def weighting_params(method: GradientMethod, params: Any) -> Any:
    """The weighting's own hyperparameters out of those of a method with one.

    Args:
        method: With a weighting.
        params: An instance of the method's `Params`.

    Returns:
        An instance of the weighting's `Params`.
    """
    assert method.weighting is not None
    return method.weighting.Params(**{own: getattr(params, name) for own, name in method.weighting_names.items()})


def _joint(ours: type, theirs: type, names: Mapping[str, str]) -> type:
    """A method's Params with the fields of a weighting's, under these names; an instance of the former, too."""
    hints = describe(theirs)
    fields = [
        (names[f.name], hints[f.name].kind, dataclasses.field(default=f.default, metadata=f.metadata, kw_only=True))
        for f in dataclasses.fields(theirs)
    ]
    return dataclasses.make_dataclass(
        f"{ours.__name__}With{theirs.__name__}", fields, bases=(ours,), frozen=True, namespace={"__doc__": ours.__doc__}
    )
