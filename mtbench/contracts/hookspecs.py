"""The hooks a plugin may implement. Mark an implementation with `@hookimpl`; its name is the hook's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from mtbench.contracts.dataset import Dataset
    from mtbench.contracts.method import Method
    from mtbench.contracts.trials import Stack, Trial
    from mtbench.contracts.weighting import Weighting
    from mtbench.metrics import Metric

hookspec = pluggy.HookspecMarker("mtbench")
hookimpl = pluggy.HookimplMarker("mtbench")
"""Marks a function of a plugin as the implementation of the hook whose name it has."""


@hookspec
def mtbench_methods() -> list[type[Method]]:  # type: ignore[empty-body]
    """The method classes that a plugin offers; called when plugins are loaded."""


@hookspec
def mtbench_weightings() -> list[type[Weighting]]:  # type: ignore[empty-body]
    """The weighting classes that a plugin offers; called when plugins are loaded."""


@hookspec
def mtbench_metrics() -> list[Metric]:  # type: ignore[empty-body]
    """The metrics that a plugin offers, instances of `mtbench.Metric`; called when plugins are loaded."""


@hookspec
def mtbench_datasets() -> list[type[Dataset]]:  # type: ignore[empty-body]
    """The data set classes that a plugin offers; called when plugins are loaded."""


@hookspec
def mtbench_engines() -> list[type[Any]]:  # type: ignore[empty-body]
    """The engine classes that a plugin offers, each a `mtbench.Engine`; called when plugins are loaded."""


@hookspec
def mtbench_run_start(store: str, n_trials: int) -> None:
    """A run begins.

    Args:
        store: Path of its store.
        n_trials: Trials that it will train before any refit.
    """


@hookspec
def mtbench_stack_start(stack: Stack) -> None:
    """A stack was handed to a worker.

    Args:
        stack: Its trials.
    """


@hookspec
def mtbench_epoch(stack_id: str, epoch: int, n_active: int) -> None:
    """A stack reached an epoch. Called for a sample of the epochs only.

    Args:
        stack_id: `Stack.id` of the stack.
        epoch: The epoch it reached.
        n_active: Trials of it that still train.
    """


@hookspec
def mtbench_stack_end(stack: Stack, statuses: list[str]) -> None:
    """A stack's result is in the store.

    Args:
        stack: Its trials.
        statuses: How each of them ended: values of `mtbench.Status`.
    """


@hookspec
def mtbench_trial_failed(trial: Trial, status: str, reason: str) -> None:
    """A trial ended as anything but finished.

    Args:
        trial: The trial.
        status: How it ended: a value of `mtbench.Status`.
        reason: Why, in one line.
    """


@hookspec
def mtbench_run_end(store: str, n_finished: int, n_failed: int) -> None:
    """A run is over, or was interrupted.

    Args:
        store: Path of its store.
        n_finished: Trials of this run that finished.
        n_failed: Trials of this run that reached no final result; a later run tries them again.
    """
