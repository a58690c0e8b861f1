"""Contract suites: subclass one in a plugin's tests, and pytest checks what the harness relies on.

The suites are loaded on first use: generated problems (`mtbench.testing.problems`) do without pytest.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtbench.testing.datasets import DatasetContract
    from mtbench.testing.methods import MethodContract
    from mtbench.testing.metrics import MetricContract
    from mtbench.testing.weightings import WeightingContract

_HOMES = {
    "DatasetContract": "mtbench.testing.datasets",
    "MethodContract": "mtbench.testing.methods",
    "MetricContract": "mtbench.testing.metrics",
    "WeightingContract": "mtbench.testing.weightings",
}

__all__ = ["DatasetContract", "MethodContract", "MetricContract", "WeightingContract"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mtbench.testing' has no attribute '{name}'")
    if _HOMES[name] not in sys.modules:
        import pytest

        # Before the import: pytest then shows the values of a failed assertion, as it does in a test file.
        pytest.register_assert_rewrite(_HOMES[name])
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
