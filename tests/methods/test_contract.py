"""Every built-in method keeps the published contract."""

import importlib
import pkgutil

import mtbench_methods
import pytest

from mtbench import Method
from mtbench.testing import MethodContract

BUILT_IN: list[type[Method]] = [
    method
    for module in pkgutil.iter_modules(mtbench_methods.__path__, "mtbench_methods.")
    if hasattr(plugin := importlib.import_module(module.name), "mtbench_methods")
    for method in plugin.mtbench_methods()
]


class TestBuiltIn(MethodContract):
    @pytest.fixture(autouse=True, params=BUILT_IN, ids=lambda method: method.name)
    def _choose(self, request: pytest.FixtureRequest) -> None:
        self.method = request.param
