import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from mtbench_datasets import cub
from mtbench_datasets.cub import CUB, CUBOptions
from official_files import BIRDS, expect, image, write_cub, write_first_birds, write_tar

from mtbench import DataError, Problem
from mtbench.data.decoding import decoded
from mtbench.data.image_cache import open_cache


@pytest.fixture(autouse=True)
def _caches_are_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_cub(tmp_path / "data", monkeypatch)
    return tmp_path / "data"


def load(root: Path, split: int = 0, classes: int = 200) -> Problem:
    return CUB().load(root, split, CUBOptions(classes=classes))


def test_images_are_cropped_to_the_bird_and_keep_their_official_order(root):
    CUB().prepare(root, CUBOptions(classes=200))
    cache = open_cache(root / cub.CACHE, "cub")
    assert cache.images.shape == (40, 3, 64, 64)
    for i in (0, 13, 39):
        box = (float(i % 5), 2.0, 12.0, 10.0 + i % 7)
        assert np.array_equal(cache.images[i], decoded(io.BytesIO(image(i // 10, i)), 64, "image", box))
    assert cache.columns["file"][13] == "002.Laysan_Albatross/Laysan_Albatross_0003_21.jpg"


def test_the_official_split_tests_and_a_fifth_of_each_species_validates(root):
    problem = load(root)
    assert [task.name for task in problem.tasks] == list(BIRDS)
    parts = problem.parts
    assert {name: part.labels.sum(0).tolist() for name, part in parts.items()} == {
        "train": [5] * 4, "validation": [1] * 4, "test": [4] * 4,
    }  # fmt: skip
    assert parts["test"].inputs.index.tolist() == [i for i in range(40) if i % 10 >= 6]
    rows = np.concatenate([part.inputs.index for part in parts.values()])
    assert np.array_equal(np.sort(rows), np.arange(40))
    assert np.array_equal(load(root, 1).parts["test"].inputs.index, parts["test"].inputs.index)


def test_pixels_are_mapped_and_shared(root):
    rows = [part.inputs for split in (0, 1) for part in load(root, split).parts.values()]
    assert isinstance(rows[0].base.base, np.memmap)
    assert len({some.place for some in rows}) == 1


def test_the_archive_is_not_needed_once_it_was_decoded(root):
    first = np.asarray(load(root).parts["test"].inputs)
    (root / cub.ARCHIVE.path).unlink()
    CUB().prepare(root, CUBOptions(classes=200))
    assert np.array_equal(load(root).parts["test"].inputs, first)
    assert CUB().files(root, CUBOptions(classes=200)) == (cub.CACHE,)


def test_the_first_species_come_from_their_own_file_where_it_is_there(root, monkeypatch):
    first, every = CUBOptions(), CUBOptions(classes=200)
    from_archive = CUB().content_hash(root, first)
    write_first_birds(root, monkeypatch)
    assert CUB().files(root, first) == (cub.FIRST_50.path,)
    assert CUB().files(root, every) == (cub.CACHE,)
    assert CUB().content_hash(root, first) != from_archive == CUB().content_hash(root, every)
    with h5py.File(root / cub.FIRST_50.path) as file:
        pixels = file["image_bbox64"][:].transpose(0, 3, 1, 2)
    problem = load(root, classes=50)
    assert problem.input_shape == (3, 64, 64)
    assert np.array_equal(problem.parts["test"].inputs, pixels[problem.parts["test"].inputs.index])
    CUB().prepare(root, first)
    CUB().check(root, cub.FIRST_50.path)


def test_the_first_species_are_those_of_all(root, monkeypatch):
    monkeypatch.setattr(cub, "CUBOptions", CUBOptions)
    few = CUB().load(root, 0, CUBOptions(classes=50))
    assert np.array_equal(few.parts["test"].labels, load(root).parts["test"].labels)
    object.__setattr__(options := CUBOptions(), "classes", 2)
    two = CUB().load(root, 0, options)
    assert [task.name for task in two.tasks] == list(BIRDS[:2])
    assert two.parts["test"].inputs.index.tolist() == [6, 7, 8, 9, 16, 17, 18, 19]


def test_what_fetches_all_species_is_said_where_only_the_first_are_there(tmp_path, monkeypatch):
    write_first_birds(tmp_path, monkeypatch)
    assert load(tmp_path, classes=50).n_tasks == 4
    with pytest.raises(DataError, match="`mtbench data prepare cub --option cub.classes=200` fetches it"):
        load(tmp_path, classes=200)


def test_an_archive_of_other_numbers_is_refused(root, monkeypatch):
    monkeypatch.setattr(cub, "N_CLASSES", 200)
    with pytest.raises(DataError, match="must list 40 images.*and 200 species; found 40, 40, 40, 40, 4"):
        load(root)
    assert not (root / cub.CACHE).exists()


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({"CUB_200_2011/images.txt": b"1 a.jpg\n3 b.jpg\n"}, "must be numbered from 1"),
        ({"CUB_200_2011/images.txt": b"1 a.jpg\n"}, "tables of .* cannot be read"),
        ({"../images.txt": b"1 a.jpg\n"}, "would land outside"),
    ],
)
def test_archives_of_another_layout_are_refused(tmp_path, monkeypatch, members, match):
    write_tar(tmp_path / cub.ARCHIVE.path, members)
    expect(monkeypatch, cub, "ARCHIVE", tmp_path, CUB)
    with pytest.raises(DataError, match=match):
        load(tmp_path)


def test_a_truncated_archive_is_refused_with_both_hashes(root):
    path = root / cub.ARCHIVE.path
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=rf"must have SHA-256 {cub.ARCHIVE.sha256}, found [0-9a-f]{{64}}"):
        load(root)


def test_damaged_pixels_are_found(root):
    CUB().prepare(root)
    content = bytearray((root / cub.CACHE).read_bytes())
    content[len(content) // 2] ^= 255
    (root / cub.CACHE).write_bytes(content)
    with pytest.raises(DataError, match="`mtbench data prepare cub`"):
        CUB().check(root, cub.CACHE)


@pytest.mark.real_data
def test_the_first_50_species_have_their_official_numbers(root_of: Callable):
    problem = load(root_of(CUB), classes=50)
    sizes = {name: part.n_rows for name, part in problem.parts.items()}
    assert sizes == {"train": 1200, "validation": 300, "test": 1389}
    assert problem.parts["train"].labels.sum(0).tolist() == [24] * 50
    assert problem.tasks[0].name == "001.Black_footed_Albatross"
    assert problem.tasks[49].name.startswith("050.")
    assert problem.input_shape == (3, 64, 64)


@pytest.mark.real_data
def test_birds_of_a_species_look_more_alike_than_others(root_of: Callable):
    parts = load(root_of(CUB), classes=50).parts
    means = np.asarray(parts["train"].inputs).astype(float).mean((2, 3))
    classes = parts["train"].labels.argmax(1)
    within = np.mean([means[classes == c].var(0).sum() for c in range(50)])
    assert within < 0.9 * means.var(0).sum()
