"""What a class or metric must be to be registered: checked when it is offered, so that no run meets half a plugin.

Nothing here imports torch unless a method is checked; whoever offers one has imported it already.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from mtbench.contracts.hyperparameters import describe
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.reference import Reference
from mtbench.errors import PluginError
from mtbench.metrics import METRICS, Metric
from mtbench.tasks import TaskKind, Weight

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
"""What a method, weighting, metric, data set or engine may be called: lower-case words joined by underscores."""


LOCAL_ENGINE = "local"
"""The engine that is no plugin's."""


def check_method(cls: Any) -> None:
    """Checks that a class can serve as a method.

    Raises:
        PluginError: It cannot; says what must hold and what was found.
    """
    from mtbench.contracts.method import FitMethod, GradientMethod, SolverMethod

    kinds = (GradientMethod, SolverMethod, FitMethod)
    _check_published(cls, kinds)
    _check_honours(cls)
    if issubclass(cls, GradientMethod):
        _check_objective(cls, GradientMethod)
    if "learning_rate" in describe(cls.Params) and issubclass(cls, GradientMethod):
        raise PluginError(
            f"{cls.Params.__qualname__} must not declare 'learning_rate': every gradient method has it from the recipe."
        )
    _check_constructible(cls)


def check_weighting(cls: Any) -> None:
    """Checks that a class can serve as a weighting.

    Raises:
        PluginError: It cannot; says what must hold and what was found.
    """
    from mtbench.contracts.weighting import GramWeighting, JacobianWeighting, LossWeighting

    kinds = (LossWeighting, GramWeighting, JacobianWeighting)
    _check_published(cls, kinds)
    if issubclass(cls, GramWeighting) and cls.heads not in ("own", "weighted"):
        raise PluginError(f"{cls.__qualname__}.heads must be 'own' or 'weighted'; found {cls.heads!r}.")
    describe(cls.Params)
    _check_constructible(cls)


def check_metric(found: Any) -> None:
    """Checks that an object can serve as a metric.

    Raises:
        PluginError: It cannot; says what must hold and what was found.
    """
    if not isinstance(found, Metric):
        raise PluginError(f"The hook must return a list of mtbench.Metric(...), not of classes; found {found!r}.")
    if not (isinstance(found.name, str) and NAME.fullmatch(found.name)):
        raise PluginError(
            f"Metric.name must be lower-case words joined by underscores, like 'my_metric'; found {found.name!r}."
        )
    where = f"Metric '{found.name}'"
    if found.name in METRICS:
        raise PluginError(f"{where}: the name is taken by a metric of mtbench; choose another.")
    if not isinstance(found.title, str) or not found.title or "\n" in found.title:
        raise PluginError(f"{where}: title must be one line of text; found {found.title!r}.")
    for field in ("higher_is_better", "per_task", "by_task"):
        if not isinstance(value := getattr(found, field), bool):
            raise PluginError(f"{where}: {field} must be True or False; found {value!r}.")
    for field, taken in _CALLED.items():
        _check_callable(f"{where}: {field}", getattr(found, field), taken)
    if not found.kinds or not isinstance(found.kinds, tuple) or not all(isinstance(k, TaskKind) for k in found.kinds):
        raise PluginError(f"{where}: kinds must be a tuple of TaskKind, with one at least; found {found.kinds!r}.")


_CALLED = {
    "values": ("problem", "part", "predictions"),
    "needs": ("problem",),
    "needs_of_rows": ("problem", "part"),
}
"""What the functions of a metric are called with."""


def _check_callable(what: str, function: Any, taken: tuple[str, ...]) -> None:
    try:
        inspect.signature(function).bind(*taken)
    except ValueError:
        return  # compiled, with no signature to look at
    except TypeError:
        found = inspect.signature(function) if callable(function) else repr(function)
        raise PluginError(f"{what} must be a function of ({', '.join(taken)}); found {found}.") from None


def check_dataset(cls: Any) -> None:
    """Checks that a class can serve as a data set.

    Raises:
        PluginError: It cannot; says what must hold and what was found.
    """
    from mtbench.contracts.dataset import Dataset
    from mtbench.data.sources import Source

    _check_class(cls, (Dataset,))
    _check_signatures(cls, (Dataset,))
    for attribute in ("title", "version", "licence"):
        _check_kind(cls, attribute, str)
    _check_metric_by_kind(cls)
    _check_kind(cls, "citation", Reference)
    _check_kind(cls, "recipe", Recipe)
    if not all(isinstance(source, Source) for source in cls.sources):
        raise PluginError(f"{cls.__qualname__}.sources must be a tuple of Source; found {cls.sources!r}.")
    describe(cls.Options)
    if isinstance(cls.also_report, str) or not all(isinstance(name, str) for name in cls.also_report):
        raise PluginError(f"{cls.__qualname__}.also_report must be a tuple of str; found {cls.also_report!r}.")
    if not 1 <= cls.default_splits <= cls.n_splits:
        raise PluginError(
            f"{cls.__qualname__}.default_splits must lie in 1 to n_splits = {cls.n_splits}; found {cls.default_splits}."
        )
    _check_constructible(cls)


def _check_metric_by_kind(cls: Any) -> None:
    by_kind = cls.metric_by_kind
    kinds = ", ".join(f"'{kind}'" for kind in TaskKind)
    texts = isinstance(by_kind, Mapping) and all(isinstance(name, str) and name for name in by_kind.values())
    if not texts or not all(kind in set(TaskKind) for kind in by_kind):
        raise PluginError(
            f"{cls.__qualname__}.metric_by_kind must name metrics by kind of task, of {kinds}; found {by_kind!r}."
        )
    for attribute in ("selection_metric", "report_metric"):
        if not by_kind or getattr(cls, attribute):
            _check_kind(cls, attribute, str)


def check_engine(cls: Any) -> None:
    """Checks that a class can serve as an engine.

    Raises:
        PluginError: It cannot; says what must hold and what was found.
    """
    # Named, not imported: engines are a floor above.
    mro = cls.__mro__ if isinstance(cls, type) else ()
    contract = [c for c in mro if (c.__module__, c.__qualname__) == ("mtbench.contracts.engine", "Engine")]
    if not contract:
        raise PluginError(f"The hook must return a list of subclasses of mtbench.Engine; found {cls!r}.")
    _check_class(cls, tuple(contract))
    if cls.name == LOCAL_ENGINE:
        raise PluginError(f"{cls.__qualname__}.name must not be '{LOCAL_ENGINE}', which is mtbench's own engine.")
    try:
        inspect.signature(cls).bind("auto")
    except (TypeError, ValueError) as error:
        raise PluginError(
            f"{cls.__qualname__}(devices) must work with one text, such as 'auto'; found: {error}"
        ) from None


def _check_published(cls: Any, kinds: tuple[type, ...]) -> None:
    """What methods and weightings have in common: a contract, a paper and a version."""
    _check_class(cls, kinds)
    _check_signatures(cls, kinds)
    _check_kind(cls, "reference", Reference)
    _check_kind(cls, "version", str)


def _check_honours(cls: Any) -> None:
    honoured, known = cls.honours_weights, {str(weight) for weight in Weight}
    if honoured is not None and (isinstance(honoured, str) or not set(honoured) <= known):
        raise PluginError(
            f"{cls.__qualname__}.honours_weights must be a tuple of 'sample', 'class' and 'task', or of some of them; "
            f"found {honoured!r}."
        )


def _check_class(cls: Any, bases: tuple[type, ...]) -> None:
    *others, last = (base.__name__ for base in bases)
    wanted = f"{', '.join(others)} or {last}" if others else last
    if not (isinstance(cls, type) and issubclass(cls, bases)):
        raise PluginError(f"The hook must return a list of subclasses of {wanted}; found {cls!r}.")
    name = getattr(cls, "name", None)
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        found = "none" if name is None else repr(name)
        raise PluginError(
            f"{cls.__qualname__}.name must be lower-case words joined by underscores, like 'my_method'; found {found}."
        )
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise PluginError(f"{cls.__qualname__} must implement every abstract method of {wanted}; missing: {missing}.")


def _check_signatures(cls: type, bases: tuple[type, ...]) -> None:
    """Every method of the contract that a class has of its own takes what the harness calls it with."""
    contracts = [base for contract in bases if issubclass(cls, contract) for base in contract.__mro__[:-1]]
    for contract in contracts:
        for name, function in vars(contract).items():
            own = inspect.getattr_static(cls, name)
            if name.startswith("_") or not inspect.isfunction(function) or own is function:
                continue
            _, *wanted = inspect.signature(function).parameters.values()
            taken = [p.name for p in wanted if p.default is p.empty]
            bound = [] if isinstance(own, classmethod | staticmethod) else ["self"]
            found = inspect.signature(getattr(cls, name))
            try:
                found.bind(*bound, *taken)
            except TypeError:
                raise PluginError(
                    f"{cls.__qualname__}.{name} must take ({', '.join(['self', *taken])}); found {found}."
                ) from None


def _check_objective(cls: type, contract: type) -> None:
    own = [name for name in ("terms", "objective") if getattr(cls, name) is not getattr(contract, name)]
    if len(own) != 1:
        raise PluginError(
            f"{cls.__qualname__} must implement `terms`, where its objective is a sum of task losses and a penalty, or "
            f"`objective`, where it is anything else; found {'both' if own else 'neither'}."
        )


def _check_kind(cls: type, attribute: str, kind: type) -> None:
    value = getattr(cls, attribute, None)
    if not isinstance(value, kind) or value == "":
        found = "none" if value is None or value == "" else repr(value)
        raise PluginError(f"{cls.__qualname__}.{attribute} must be a {kind.__name__}; found {found}.")


def _check_constructible(cls: type) -> None:
    try:
        cls()
    except Exception as error:
        raise PluginError(
            f"{cls.__qualname__}() must work without arguments; found {type(error).__name__}: {error}"
        ) from error
