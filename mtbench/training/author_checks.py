"""What the harness asks of what a method's functions return, told in words that help its author."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection
from types import CodeType

import torch
from torch import Tensor, nn

from mtbench.contracts.method import Method
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.terms import Terms
from mtbench.errors import PluginError
from mtbench.plugins.sources import describe_fault

_MIXED_DTYPES = re.compile(r"same dtype|Double|Float and|Half|BFloat16|dtype.* but (got|found)", re.IGNORECASE)


def check_model(method: Method, model: object, recipe: Recipe) -> None:
    """Refuses what `build` returned where it cannot be trained.

    Raises:
        PluginError: It is no module, has nothing to train, or is of a dtype of its own.
    """
    if not isinstance(model, nn.Module):
        raise broken_promise(method, "build", "must return an nn.Module", what(model))
    trained = dict(model.named_parameters())
    if not trained:
        raise broken_promise(method, "build", "must return an nn.Module with an nn.Parameter or more to train", "none")
    for name, parameter in trained.items():
        if parameter.dtype not in (torch.float32, getattr(torch, recipe.dtype)):
            raise broken_promise(
                method,
                "build",
                f"must return a model in float32, which the harness converts to the recipe's {recipe.dtype}",
                f"'{name}' of {parameter.dtype}",
                "Leave out .double() and the like; --dtype float64 trains in float64.",
            )


def tensor_objective(method: Method, objective: object) -> Tensor:
    """An objective, which must be a tensor.

    Raises:
        PluginError: It is not.
    """
    if not isinstance(objective, Tensor):
        advice = "Leave out .item(), float() and numpy."
        raise broken_promise(method, "objective", "must return a scalar tensor", what(objective), advice)
    return objective


def checked_terms(method: Method, terms: object, n_tasks: int) -> Terms:
    """The parts of an objective, which must be a loss [T] and a scalar, both tensors.

    Raises:
        PluginError: They are not.
    """
    if not isinstance(terms, Terms):
        raise broken_promise(method, "terms", "must return mtbench.Terms(tasks, penalty)", what(terms))
    for name, value, shape in (("tasks", terms.tasks, (n_tasks,)), ("penalty", terms.penalty, ())):
        if not isinstance(value, Tensor) or tuple(value.shape) != shape:
            found = f"shape {list(value.shape)}" if isinstance(value, Tensor) else what(value)
            wanted = f"[T] = [{n_tasks}]" if shape else "a scalar"
            raise broken_promise(method, "terms", f"must give {name} as a tensor, {wanted}", found)
    return terms


def check_graph(method: Method, objective: Tensor) -> None:
    """Refuses objectives that no gradient can be taken of.

    Raises:
        PluginError: They have none.
    """
    if not objective.requires_grad:
        raise broken_promise(
            method,
            "objective",
            "must depend on the model's parameters by operations that torch differentiates",
            "a tensor without a gradient",
            "Leave out .detach(), torch.no_grad(), numpy and torch.tensor(...).",
        )


def check_names(method: Method, function: str, named: Collection[str], known: Collection[str]) -> None:
    """Refuses updates of what the model does not have.

    Raises:
        PluginError: A name is none of a parameter or buffer.
    """
    for name in named:
        if name not in known:
            raise broken_promise(method, function, f"must name parameters or buffers: {', '.join(known)}", f"'{name}'")


def checked_value(method: Method, name: str, value: object, held: Tensor) -> Tensor:
    """What `between` returned for a parameter or buffer, in that one's dtype.

    Raises:
        PluginError: It is no tensor of the same shape, or not finite.
    """
    if not isinstance(value, Tensor) or value.shape != held.shape:
        found = f"shape {list(value.shape)}" if isinstance(value, Tensor) else what(value)
        raise broken_promise(method, "between", f"must give '{name}' as a tensor of shape {list(held.shape)}", found)
    cast = value.detach().to(held)
    if not bool(torch.isfinite(cast).all()):
        raise broken_promise(method, "between", f"must give finite values for '{name}'", "NaN or infinity")
    return cast


def mixed_dtypes(method: Method, function: str, error: Exception, dtype: torch.dtype) -> PluginError | None:
    """What to say of an error where dtypes do not go together, or None for any other error.

    Args:
        method: The method.
        function: Its function that made what failed.
        error: What it raised.
        dtype: That of the batch.
    """
    line = str(error).partition("\n")[0]
    if not ("dtype" in line and _MIXED_DTYPES.search(line)):
        return None
    return broken_promise(
        method,
        function,
        f"must compute in the dtype of the batch, {dtype}",
        line.rstrip("."),
        "Keep constants as buffers (register_buffer), which the harness converts, and leave out .double().",
    )


def broken_promise(
    method: Method, function: str, must: str, found: str, advice: str = "", owner: type | None = None
) -> PluginError:
    """A promise that one of a method's functions breaks, with the place where it is written.

    Args:
        method: The method.
        function: The function's name.
        must: What it must do.
        found: What it did.
        advice: What to do about it.
        owner: The class that the function is of; as it stands, the method's.
    """
    code = _code(owner or type(method), function)
    place = f" ({code.co_filename}, line {code.co_firstlineno})" if code is not None else ""
    text = f"Method '{method.name}': {_function(owner, function)} {must}; found {found}{place}."
    return PluginError(f"{text} {advice}".rstrip())


def raised(method: Method, function: str, error: Exception, owner: type | None = None) -> PluginError:
    """An exception that came out of one of a method's functions, in one line with the place it came from.

    Args:
        method: The method.
        function: The function's name.
        error: What it raised.
        owner: As in `broken_promise`.
    """
    code = _code(owner or type(method), function)
    fault = describe_fault(error, code.co_filename if code is not None else "")
    advice = "What it is handed cannot be written to; take a copy before you change it: np.array(...)."
    text = f"Method '{method.name}': {_function(owner, function)} must not raise; found {fault}."
    return PluginError(f"{text} {advice}" if "read-only" in str(error) else text)


def _function(owner: type | None, function: str) -> str:
    return f"`{function}`" if owner is None else f"`{owner.__name__}.{function}`"


def _code(owner: type, function: str) -> CodeType | None:
    return getattr(inspect.unwrap(getattr(owner, function)), "__code__", None)


def what(value: object) -> str:
    """A value that should have been another, in words."""
    if value is None:
        return "None (is a `return` missing?)"
    if isinstance(value, bool | int | float):
        return f"the {type(value).__name__} {value!r}"
    return f"{'the class ' + value.__name__ if isinstance(value, type) else 'a ' + type(value).__name__}"
