"""Every data set that is made from files keeps the published contract on small files in the official layout."""

from pathlib import Path

import pytest
from official_files import WRITERS
from test_contract import BUILT_IN, FROM_FILES

from mtbench import Dataset
from mtbench.testing import DatasetContract

BY_NAME: dict[str, type[Dataset]] = {dataset.name: dataset for dataset in BUILT_IN}


@pytest.fixture(autouse=True)
def _caches_are_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class TestMiniature(DatasetContract):
    @pytest.fixture(autouse=True, params=sorted(WRITERS))
    def _write(self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dataset, self.root = BY_NAME[request.param], tmp_path / "data"
        WRITERS[request.param](self.root, monkeypatch)
        self.dataset().prepare(self.root)


def test_every_data_set_made_from_files_has_its_miniature():
    assert {dataset.name for dataset in FROM_FILES} == set(WRITERS)


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_files_are_listed_as_missing_until_they_are_there(name, tmp_path, monkeypatch):
    dataset = BY_NAME[name]()
    assert not any((tmp_path / path).exists() for path in dataset.files(tmp_path, dataset.Options()))
    WRITERS[name](tmp_path, monkeypatch)
    dataset.prepare(tmp_path)
    for path in dataset.files(tmp_path, dataset.Options()):
        assert (tmp_path / path).is_file()
        dataset.check(tmp_path, path)


# YouTube-8M is too large to be converted at first use: `prepare` does it, where it can write.
@pytest.mark.parametrize("name", sorted(WRITERS.keys() - {"youtube8m"}))
def test_a_root_that_cannot_be_written_to_will_do(name, tmp_path, monkeypatch):
    root = tmp_path / "data"
    WRITERS[name](root, monkeypatch)
    before = sorted(root.rglob("*"))
    folders = [path for path in (root, *before) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        BY_NAME[name]().load(root, 0, BY_NAME[name].Options())
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert sorted(root.rglob("*")) == before
