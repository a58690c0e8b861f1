"""The hooks a plugin may implement. Mark an implementation with `@hookimpl`; its name is the hook's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from mtbench.contracts.dataset import Dataset
    from mtbench.contracts.method import Method
    from mtbench.contracts.trials import Stack, Trial
    from mtbench.contracts.weighting import Weighting

hookspec = pluggy.HookspecMarker("mtbench")
hookimpl = pluggy.HookimplMarker("mtbench")


@hookspec
def mtbench_methods() -> list[type[Method]]:  # type: ignore[empty-body]
    """Method classes this plugin provides."""


@hookspec
def mtbench_weightings() -> list[type[Weighting]]:  # type: ignore[empty-body]
    """Weighting classes this plugin provides."""


@hookspec
def mtbench_datasets() -> list[type[Dataset]]:  # type: ignore[empty-body]
    """Data set classes this plugin provides."""


@hookspec
def mtbench_engines() -> list[type[Any]]:  # type: ignore[empty-body]
    """Engine classes this plugin provides: see `mtbench.contracts.engine.Engine`."""


@hookspec
def mtbench_run_start(store: str, n_trials: int) -> None:
    """A run begins. `n_trials` counts the trials it will train before any refit."""


@hookspec
def mtbench_stack_start(stack: Stack) -> None:
    """A stack was handed to a worker."""


@hookspec
def mtbench_epoch(stack_id: str, epoch: int, n_active: int) -> None:
    """A stack reached this epoch; `n_active` of its trials still train. Sampled, not every epoch is told."""


@hookspec
def mtbench_stack_end(stack: Stack, statuses: list[str]) -> None:
    """A stack's result is in the store; `statuses` holds how each of its trials ended."""


@hookspec
def mtbench_trial_failed(trial: Trial, status: str, reason: str) -> None:
    """A trial ended as anything but finished."""


@hookspec
def mtbench_run_end(store: str, n_finished: int, n_failed: int) -> None:
    """A run is over, or was interrupted."""
