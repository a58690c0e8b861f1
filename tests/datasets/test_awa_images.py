import io
from pathlib import Path

import numpy as np
import pytest
from mtbench_datasets import awa_images
from mtbench_datasets.awa_images import ARCHIVE, CACHE, AWACImages
from official_files import PICTURED, image, write_awa_c_images

from mtbench import DataError, NoOptions, Problem
from mtbench.data.decoding import decoded
from mtbench.data.image_cache import open_cache


@pytest.fixture(autouse=True)
def _caches_are_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_awa_c_images(tmp_path / "data", monkeypatch)
    return tmp_path / "data"


def load(root: Path, split: int = 0) -> Problem:
    return AWACImages().load(root, split, NoOptions())


def test_images_lie_in_the_order_of_classes_and_names(root):
    AWACImages().prepare(root)
    cache = open_cache(root / CACHE, "awa_c_images")
    assert cache.columns["classes"] == sorted(PICTURED)
    assert np.bincount(cache.columns["class_index"]).tolist() == [PICTURED[name] for name in sorted(PICTURED)]
    kinds = list(reversed(PICTURED))
    for row, animal, number in ((0, "antelope", 0), (10 + 3, "bat", 3)):
        assert cache.columns["file"][row].endswith(f"JPEGImages/{animal}/{animal}_{10001 + number}.jpg")
        expected = decoded(io.BytesIO(image(kinds.index(animal), number)), 64, "image")
        assert np.array_equal(cache.images[row], expected)


def test_each_class_tests_and_validates_with_its_share(root):
    parts = load(root).parts
    assert parts["test"].labels.sum(0).tolist() == [2] * 4
    others = np.array([PICTURED[name] for name in sorted(PICTURED)]) - 2
    assert np.array_equal(parts["validation"].labels.sum(0), np.rint(0.2 * others))
    rows = np.concatenate([part.inputs.index for part in parts.values()])
    assert np.array_equal(np.sort(rows), np.arange(40))
    assert parts["train"].inputs.shape[1:] == (3, 64, 64)


def test_the_archive_is_not_needed_once_it_was_decoded(root):
    AWACImages().prepare(root)
    (root / ARCHIVE.path).unlink()
    AWACImages().prepare(root)
    AWACImages().check(root, CACHE)
    assert load(root).n_tasks == 4


def test_an_archive_of_other_numbers_is_refused(root, monkeypatch):
    monkeypatch.setattr(awa_images, "N_IMAGES", 37322)
    with pytest.raises(DataError, match="must hold 37,322 images of 4 classes; found 40 of 4"):
        load(root)


def test_an_archive_that_changed_is_refused_with_both_hashes(root):
    path = root / ARCHIVE.path
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(
        DataError, match=r"must have MD5 [0-9a-f]{32}, found [0-9a-f]{32}.*`mtbench data prepare awa_c_i"
    ):
        load(root)
