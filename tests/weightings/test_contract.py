"""Every built-in weighting fulfils the contract."""

from __future__ import annotations

from typing import Any

import pytest

from mtbench.plugins.host import load_plugins
from mtbench.testing import WeightingContract
from mtbench.testing.problems import Miniature, OwnRegression, SharedOneVsAll

BUILT_IN = sorted(load_plugins().weightings.items())


@pytest.mark.parametrize("weighting", [cls for _, cls in BUILT_IN], ids=[name for name, _ in BUILT_IN])
class TestBuiltIn(WeightingContract):
    @pytest.fixture
    def dataset(self, weighting: Any) -> Miniature:
        # One of the two layouts, to be quick: tests/training/test_weighting.py has both.
        return OwnRegression() if len(weighting.name) % 2 else SharedOneVsAll()

    @pytest.fixture(autouse=True)
    def _set(self, weighting: Any) -> None:
        type(self).weighting = weighting
