"""Which trainer trains which kind of method: the one place where kinds are told apart."""

from __future__ import annotations

from collections.abc import Mapping

from mtbench.contracts.method import Method
from mtbench.errors import PluginError
from mtbench.training.fit import FitTrainer
from mtbench.training.gradient_trainer import GradientTrainer
from mtbench.training.solver import SolverTrainer
from mtbench.training.trainer import Trainer

TRAINERS: Mapping[str, Trainer] = {"gradient": GradientTrainer(), "solver": SolverTrainer(), "fit": FitTrainer()}
"""By the `kind` that a method's base class names."""


def trainer_of(method: Method) -> Trainer:
    """The trainer of a method's kind.

    Raises:
        PluginError: It derives from no base class that names one.
    """
    kind = getattr(method, "kind", "")
    if kind not in TRAINERS:
        raise PluginError(f"{type(method).__qualname__} must derive from a kind of method: {', '.join(TRAINERS)}.")
    return TRAINERS[kind]
