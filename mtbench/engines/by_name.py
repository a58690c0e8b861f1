"""The engine that a study names: the local one, or a plugin's, which is held to the contract and blamed by name."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from mtbench.contracts.engine import Engine, Job, JobFailed
from mtbench.contracts.trials import Status
from mtbench.engines.local import LocalEngine
from mtbench.errors import MtbenchError, PluginError
from mtbench.plugins.host import Plugins
from mtbench.plugins.sources import Owner, describe_fault

_ENDS = (Status.FAILED, Status.TIMEOUT, Status.KILLED)


def engine_class(name: str, plugins: Plugins) -> type[Engine]:
    """The engine of that name.

    Raises:
        UnknownName: There is none.
        PluginError: Several plugins offer it.
    """
    if name == LocalEngine.name:
        return LocalEngine
    return plugins.engine(name)


def make_engine(name: str, devices: str, plugins: Plugins) -> Engine:
    """Makes the engine of that name.

    Args:
        name: Its name.
        devices: The study's devices.
        plugins: Who offers engines.

    Raises:
        UnknownName: There is none.
        PluginError: It breaks the contract of engines.
        StudyError: It cannot make sense of the devices.
    """
    cls = engine_class(name, plugins)
    if cls is LocalEngine:
        return LocalEngine(devices)
    owner = plugins.owner(name)
    try:
        made: Any = cls(devices)  # type: ignore[call-arg]  # the contract: see Engine
        slots = made.slots
    except MtbenchError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"The {owner} could not make its engine '{name}': {describe_fault(error)}") from error
    if not isinstance(slots, int) or slots < 1:
        raise PluginError(f"The {owner} made an engine that must have at least 1 slot; found {slots!r}.")
    return PluginEngine(made, owner, plugins)


class PluginEngine(Engine):
    """An engine of a plugin. What it does wrong costs the stack at hand, not the run, and is told with its name.

    Args:
        engine: The engine.
        owner: Who offers it.
        plugins: Take note of faults that cost no stack.
    """

    def __init__(self, engine: Engine, owner: Owner, plugins: Plugins) -> None:
        self._engine, self._owner, self._plugins = engine, owner, plugins
        self.name, self.slots, self.blamed = engine.name, engine.slots, f"The {owner}"

    def submit(self, job: Job) -> Future[bytes]:
        """Starts a job; whatever comes of it that is no answer is the plugin's fault."""
        checked: Future[bytes] = Future()
        checked.set_running_or_notify_cancel()
        try:
            self._engine.submit(job).add_done_callback(lambda future: self._pass_on(future, checked))
        except (Exception, SystemExit) as error:
            checked.set_exception(self._fault(f"failed in submit: {describe_fault(error)}"))
        return checked

    def close(self) -> None:
        """Ends all workers."""
        try:
            self._engine.close()
        except (Exception, SystemExit) as error:
            self._plugins.warn(f"The {self._owner} failed to close its engine: {describe_fault(error)}")

    def _pass_on(self, future: Future[bytes], checked: Future[bytes]) -> None:
        try:
            checked.set_result(future.result())
        except JobFailed as error:
            known = error.status in _ENDS
            checked.set_exception(error if known else self._fault(f"says that a job failed as '{error.status}'."))
        except BaseException as error:  # whatever it is, the run waits for an answer
            checked.set_exception(self._fault(f"gave no result: {describe_fault(error)}"))

    def _fault(self, what: str) -> JobFailed:
        return JobFailed(Status.FAILED, " ".join(f"{self.blamed} {what}".split()))
