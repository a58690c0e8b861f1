"""Contract suites: subclass one in a plugin's tests, and pytest checks what the harness relies on."""

import pytest

# Before the imports: pytest then shows the values of a failed assertion, as it does in a test file.
pytest.register_assert_rewrite("mtbench.testing.datasets", "mtbench.testing.methods")

from mtbench.testing.datasets import DatasetContract  # noqa: E402
from mtbench.testing.methods import MethodContract  # noqa: E402

__all__ = ["DatasetContract", "MethodContract"]
