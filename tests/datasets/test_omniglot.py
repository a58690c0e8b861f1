import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mtbench_datasets import omniglot
from mtbench_datasets.omniglot import ARCHIVES, Omniglot, OmniglotOptions
from mtbench_datasets.omniglot.archives import shrunk
from official_files_omniglot import drawn, png, write_omniglot, write_zip
from PIL import Image

from mtbench import DataError, Problem
from mtbench.testing import DatasetContract


@pytest.fixture(autouse=True)
def _caches_are_our_own(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_data" not in request.keywords:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_omniglot(tmp_path / "root", monkeypatch)
    return tmp_path / "root"


@pytest.fixture
def real(root_of: Callable) -> Path:
    return root_of(Omniglot)


def load(root: Path, split: int = 0, **options: int) -> Problem:
    return Omniglot().load(root, split, OmniglotOptions(**options))


class TestContract(DatasetContract):
    dataset = Omniglot

    @pytest.fixture(autouse=True)
    def _written(self, root: Path) -> None:
        self.root = root


def test_alphabets_of_both_archives_are_tasks_in_the_order_of_their_names(root):
    problem = load(root)
    assert [(task.name, task.n_outputs) for task in problem.tasks] == [("Alpha", 3), ("Mu", 2), ("Zeta_(Late)", 2)]
    assert problem.input_shape == (28, 28)


def test_images_carry_their_character_and_alphabet(root):
    """Every image of the archives, found by its pixels."""
    numbers = {("Zeta_(Late)", 0): 1, ("Zeta_(Late)", 1): 2, ("Alpha", 0): 3, ("Alpha", 1): 4, ("Alpha", 2): 5}
    numbers |= {("Mu", 0): 6, ("Mu", 1): 7}
    problem, met = load(root, size=105), 0
    for part in problem.parts.values():
        for image, label, t in zip(np.asarray(part.inputs), part.labels[:, 0], part.task, strict=True):
            number = numbers[problem.tasks[t].name, int(label)]
            assert any(np.array_equal(image, 255 * drawn(number, drawer)) for drawer in range(1, 21))
            met += 1
    assert met == 140


@pytest.mark.parametrize(("share", "sizes"), [(10, (16, 2, 2)), (20, (14, 2, 4))])
def test_every_character_has_its_share_in_every_part_and_no_image_is_twice(root, share, sizes):
    problem = load(root, test_share=share)
    for name, n in zip(("train", "validation", "test"), sizes, strict=True):
        part = problem.parts[name]
        _, counts = np.unique(np.stack([part.task, part.labels[:, 0]]), axis=1, return_counts=True)
        assert counts.tolist() == [n] * 7
    rows = np.concatenate([part.inputs.index for part in problem.parts.values()])
    assert sorted(rows) == list(range(140))


def test_twenty_per_cent_hold_the_ten_of_the_same_split(root):
    few, many = (set(load(root, 3, test_share=share).parts["test"].inputs.index) for share in (10, 20))
    assert few < many


def test_all_splits_and_parts_share_one_array(root):
    rows = [part.inputs for split in range(3) for part in load(root, split).parts.values()]
    assert len({some.place for some in rows}) == 1


@pytest.mark.parametrize("size", [16, 28, 40])
def test_shrinking_averages_over_areas(size):
    ink = drawn(5, 7)
    fine = np.kron(ink, np.ones((size, size), int))  # every pixel as size x size of them: 105 * size a side
    means = fine.reshape(size, 105, size, 105).mean((1, 3))
    assert np.array_equal(shrunk(ink, size), np.floor(255 * means + 0.5))


def test_full_size_is_the_ink_itself():
    assert np.array_equal(shrunk(drawn(1, 1), 105), 255 * drawn(1, 1))


def test_images_are_decoded_once_and_prepare_does_it_too(root, monkeypatch):
    Omniglot().prepare(root)
    assert (root / "omniglot" / "images_28.h5").is_file()
    monkeypatch.setattr(omniglot, "shown", lambda *args: pytest.fail("decoded again"))
    load(root)


def test_prepare_fetches_an_archive_that_shows_something_else(root, monkeypatch):
    good = (root / ARCHIVES[0].source.path).read_bytes()
    path = replaced(root, lambda files: files.popitem())

    def fetch(source, root, dataset):
        assert source == ARCHIVES[0].source
        path.write_bytes(good)
        return path

    monkeypatch.setattr(omniglot, "fetch", fetch)
    Omniglot().prepare(root)
    assert path.read_bytes() == good


def test_what_was_fetched_must_show_the_right_images_too(root, monkeypatch):
    path = replaced(root, lambda files: files.popitem())
    monkeypatch.setattr(omniglot, "fetch", lambda *args: path)
    with pytest.raises(DataError, match="and 100 images; found"):
        Omniglot().prepare(root)


def test_a_read_only_root_stays_as_it_is(root, tmp_path):
    folder = root / "omniglot"
    folder.chmod(0o555)
    before = sorted(path.name for path in folder.iterdir())
    load(root)
    assert sorted(path.name for path in folder.iterdir()) == before
    assert len(list((tmp_path / "cache").rglob("images_28-*.h5"))) == 1


def test_a_repacked_archive_is_as_good(root):
    expected = np.asarray(load(root).parts["train"].inputs)
    (root / "omniglot" / "images_28.h5").unlink()
    path = root / ARCHIVES[0].source.path
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in reversed(archive.namelist()) if name.endswith(".png")}
    path.unlink()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    Omniglot().check(root, ARCHIVES[0].source.path)
    assert np.array_equal(np.asarray(load(root).parts["train"].inputs), expected)


def replaced(root: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """The first archive with other files."""
    path = root / ARCHIVES[0].source.path
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if name.endswith(".png")}
    change(files)
    path.unlink()
    write_zip(path, "images_background", files)
    return path


def test_an_archive_with_too_few_images_says_how_many_it_must_show(root):
    path = replaced(root, lambda files: files.popitem())
    with pytest.raises(DataError, match="2 alphabets, 5 characters and 100 images; found 2 .* 5 .* and 99") as caught:
        load(root)
    assert str(path) in str(caught.value)
    assert "`mtbench data prepare omniglot`" in str(caught.value)


def test_an_archive_that_shows_something_else_is_named_with_both_hashes(root):
    def change(files: dict[str, bytes]) -> None:
        files[next(iter(files))] = png(drawn(7, 20))

    replaced(root, change)
    with pytest.raises(DataError, match="must show images with SHA-256 [0-9a-f]{64}; found [0-9a-f]{64}"):
        load(root)
    with pytest.raises(DataError, match="must show images"):
        Omniglot().check(root, ARCHIVES[0].source.path)


@pytest.mark.parametrize("content", [b"no image", png(np.zeros((20, 20), np.uint8))], ids=["no image", "small"])
def test_a_member_that_is_no_such_image_is_named(root, content):
    replaced(root, lambda files: files.update({next(iter(files)): content}))
    with pytest.raises(DataError, match=r"0001_01.png of .* must (be a PNG image|have 105 x 105 pixels)"):
        load(root)


def test_a_truncated_archive_is_named(root):
    path = root / ARCHIVES[1].source.path
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"images_evaluation.zip .* complete zip"):
        load(root)


def test_a_missing_archive_is_named_even_where_the_users_cache_has_the_images(root):
    (root / "omniglot").chmod(0o555)
    load(root)
    (root / "omniglot").chmod(0o755)
    (root / ARCHIVES[1].source.path).unlink()
    with pytest.raises(DataError, match=r"no file 'omniglot/images_evaluation.zip'.*`mtbench data prepare omniglot`"):
        load(root)


def test_images_of_another_make_are_refused(root, monkeypatch):
    load(root)
    monkeypatch.setattr(Omniglot, "_key", lambda self, size: "other")
    with pytest.raises(DataError, match="must hold the images of key other, found [0-9a-f]{64}"):
        load(root)


@pytest.mark.real_data
def test_the_real_archives_hold_50_alphabets_of_1623_characters(real):
    problem = load(real)
    assert problem.n_tasks == 50
    assert sum(task.n_outputs for task in problem.tasks) == 1623
    assert {name: part.n_rows for name, part in problem.parts.items()} == {
        "train": 16 * 1623, "validation": 2 * 1623, "test": 2 * 1623,
    }  # fmt: skip
    ink = np.asarray(problem.parts["train"].inputs[:2000])
    assert 5 < ink.mean() < 30


@pytest.mark.real_data
def test_a_real_image_is_the_one_of_its_character(real):
    """Drawer 3 of the first character of the last alphabet, by way of the archive."""
    problem = load(real, size=28)
    assert problem.tasks[-1].name == "ULOG"
    with zipfile.ZipFile(real / ARCHIVES[1].source.path) as archive:
        (name,) = [n for n in archive.namelist() if "/ULOG/character01/" in n and n.endswith("_03.png")]
        with Image.open(io.BytesIO(archive.read(name))) as image:
            expected = shrunk((~np.asarray(image)).astype(np.uint8), 28)
    images = np.concatenate(
        [np.asarray(p.inputs)[(p.task == 49) & (p.labels[:, 0] == 0)] for p in problem.parts.values()]
    )
    assert sum(np.array_equal(image, expected) for image in images) == 1


def test_fewer_alphabets_keep_the_splits_of_those_that_stay(root):
    every, first = (load(root, 1, alphabets=n) for n in (50, 2))
    assert [task.name for task in first.tasks] == [task.name for task in every.tasks][:2]
    for name, part in first.parts.items():
        whole = every.parts[name]
        assert np.array_equal(part.inputs.index, whole.inputs.index[whole.task < 2])
        assert np.array_equal(part.labels, whole.labels[whole.task < 2])
