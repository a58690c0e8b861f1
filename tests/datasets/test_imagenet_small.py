import shutil
from pathlib import Path

import numpy as np
import pytest
from mtbench_datasets import imagenet_small
from mtbench_datasets.imagenet_small import CACHE, TREE, ImageNetSmall, planned
from official_files import write_imagenet_small

from mtbench import DataError, NoOptions, Problem
from mtbench.data.decoding import decoded
from mtbench.data.image_cache import open_cache


@pytest.fixture(autouse=True)
def _caches_are_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_imagenet_small(tmp_path / "data", monkeypatch)
    return tmp_path / "data"


def load(root: Path, split: int = 0) -> Problem:
    return ImageNetSmall().load(root, split, NoOptions())


def test_with_enough_images_352_classes_have_1044_to_2():
    plan = planned(np.full(352, 1300))
    assert (plan.train[0], plan.train[-1]) == (1044, 2)
    assert (np.diff(plan.train) <= 0).all()
    assert np.allclose(plan.train, np.geomspace(1044, 2, 352), atol=0.5)
    assert (plan.held == 50).all()


def test_a_class_gives_what_it_has():
    plan = planned(np.array([1300, 100, 100, 4]))
    assert plan.train.tolist() == [1044, 80, 16, 2]
    assert plan.held.tolist() == [50, 10, 10, 1]


def test_classes_are_drawn_and_ordered_by_falling_size(root):
    problem = load(root)
    sizes = {f"n{kind:08}": n for kind, n in enumerate((20, 14, 14, 10, 6, 4))}
    found = [sizes[task.name] for task in problem.tasks]  # not the class of 3 images, which are too few
    assert len(found) == 5
    assert found == sorted(found, reverse=True)
    train, held = (problem.parts[part].labels.sum(0) for part in ("train", "validation"))
    assert np.array_equal(held, problem.parts["test"].labels.sum(0))
    assert np.array_equal(held, np.clip(np.rint(0.1 * np.array(found)), 1, 2))
    assert np.array_equal(train, np.minimum(np.rint(np.geomspace(12, 2, 5)), np.array(found) - 2 * held))


def test_images_are_those_of_the_tree(root):
    load(root)
    cache = open_cache(root / CACHE, "imagenet_small")
    for i in (0, 7, len(cache.images) - 1):
        file = cache.columns["file"][i]
        assert np.array_equal(cache.images[i], decoded(root / TREE / file, 64, file))
        assert cache.columns["classes"][cache.columns["class_index"][i]] == file.split("/")[0]
    assert not any(file.endswith(".txt") for file in cache.columns["file"])


def test_parts_are_disjoint_and_share_the_mapped_images(root):
    parts = load(root).parts.values()
    rows = np.concatenate([part.inputs.index for part in parts])
    assert len(set(rows.tolist())) == len(rows)
    assert len({part.inputs.place for part in parts}) == 1
    assert all(isinstance(part.inputs.base.base, np.memmap) for part in parts)


def test_the_draw_depends_on_names_alone(root, tmp_path):
    shutil.copytree(root / TREE, tmp_path / "other" / TREE)
    files = []
    for place in (root, tmp_path / "other"):
        load(place)
        files.append(open_cache(place / CACHE, "imagenet_small").columns["file"])
    assert files[0] == files[1]


def test_all_classes_serve_where_there_are_fewer(root, monkeypatch):
    monkeypatch.setattr(imagenet_small, "N_CLASSES", 352)
    assert load(root).n_tasks == 6


def test_a_missing_tree_says_where_to_put_it(tmp_path):
    for use in (lambda: load(tmp_path), lambda: ImageNetSmall().prepare(tmp_path)):
        with pytest.raises(DataError, match="Put .or link. a tree <class>/<image> there") as caught:
            use()
        assert str(tmp_path / TREE) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_tree_of_too_few_images_is_refused(tmp_path):
    (tmp_path / TREE / "one").mkdir(parents=True)
    with pytest.raises(DataError, match="at least 2 folders of 4 images; found 0"):
        load(tmp_path)


def test_a_broken_image_is_named_and_nothing_is_left(root):
    broken = root / TREE / "n00000000" / "n00000000_0.JPEG"
    for path in broken.parent.iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"n00000000_\d+\.(JPEG|png) must be an image file"):
        load(root)
    assert not (root / CACHE).exists()
