"""Where stacks run. Engines are interchangeable launchers behind one small contract."""

from mtbench.contracts.engine import Engine, Job, JobFailed
from mtbench.engines.local import LocalEngine

__all__ = ["Engine", "Job", "JobFailed", "LocalEngine"]
