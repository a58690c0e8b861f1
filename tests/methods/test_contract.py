"""Every built-in method keeps the published contract."""

import importlib
import pkgutil
from collections.abc import Mapping

import mtbench_methods
import pytest

from mtbench import FitMethod, Method
from mtbench.contracts.hyperparameters import describe
from mtbench.contracts.values import Value
from mtbench.testing import MethodContract

BUILT_IN: list[type[Method]] = [
    method
    for module in pkgutil.iter_modules(mtbench_methods.__path__, "mtbench_methods.")
    if hasattr(plugin := importlib.import_module(module.name), "mtbench_methods")
    for method in plugin.mtbench_methods()
]


EXTRAS = {"lightgbm": "lightgbm", "xgboost": "xgboost", "joint_xgboost": "xgboost"}
FEW: Mapping[str, Value] = {"n_estimators": 5, "max_iter": 20, "n_chains": 2, "n_folds": 3}


class TestBuiltIn(MethodContract):
    @pytest.fixture(autouse=True, params=BUILT_IN, ids=lambda method: method.name)
    def _choose(self, request: pytest.FixtureRequest) -> None:
        self.method = request.param
        if self.method.name in EXTRAS:
            pytest.importorskip(EXTRAS[self.method.name])
        # With few trees, on few rows; test_estimators.py holds what they predict against scikit-learn's own.
        self.learns = not issubclass(self.method, FitMethod)
        if issubclass(self.method, FitMethod):
            known = describe(self.method.Params)
            self.setting = {name: value for name, value in FEW.items() if name in known}
