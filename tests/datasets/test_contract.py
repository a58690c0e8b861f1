"""Every data set in the built-in package, found as the harness finds it, keeps the published contract."""

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

import mtbench_datasets
import pytest

from mtbench import DataError, Dataset
from mtbench.testing import DatasetContract

BUILT_IN: list[type[Dataset]] = [
    dataset
    for module in pkgutil.iter_modules(mtbench_datasets.__path__, "mtbench_datasets.")
    for dataset in importlib.import_module(module.name).mtbench_datasets()
]
FROM_FILES = [dataset for dataset in BUILT_IN if dataset().files(Path(), dataset.Options())]
MARKED = [
    pytest.param(dataset, id=dataset.name, marks=[pytest.mark.real_data] if dataset in FROM_FILES else [])
    for dataset in BUILT_IN
]


class TestBuiltIn(DatasetContract):
    @pytest.fixture(autouse=True, params=MARKED)
    def _choose(self, request: pytest.FixtureRequest, root_of: Callable[[type[Dataset]], Path]) -> None:
        self.dataset = request.param
        self.root = root_of(request.param)


def test_names_are_unique():
    assert len({dataset.name for dataset in BUILT_IN}) == len(BUILT_IN)


def test_the_data_sets_of_the_first_release_are_there():
    names = {dataset.name for dataset in BUILT_IN}
    assert names >= {"amtfl_synthetic", "digits", "school", "mnist", "usps", "amtl_synthetic", "amtl_imbalanced"}


@pytest.mark.parametrize("dataset", FROM_FILES, ids=lambda d: d.name)
def test_missing_data_says_how_to_get_it(dataset, tmp_path):
    with pytest.raises(DataError) as caught:
        dataset().load(tmp_path, 0, dataset.Options())
    message = str(caught.value)
    assert f"mtbench data prepare {dataset.name}" in message
    assert "MTBENCH_DATA" in message
    assert str(tmp_path) in message


@pytest.mark.parametrize("dataset", [d for d in BUILT_IN if d not in FROM_FILES], ids=lambda d: d.name)
def test_generated_and_bundled_data_need_no_preparation(dataset, tmp_path):
    dataset().prepare(tmp_path)
    assert list(tmp_path.iterdir()) == []
