import resource

import h5py
import numpy as np
import pytest

from mtbench import DataError
from mtbench.data.image_cache import cache_sha256, check_cache, open_cache, write_cache

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
COLUMNS = {"label": np.arange(20), "name": [f"bird ä {i}" for i in range(20)], "box": np.eye(4)}


@pytest.fixture
def path(tmp_path):
    write_cache(tmp_path / "set" / "images_8.h5", "set", IMAGES.shape, enumerate(IMAGES), COLUMNS, {"from": "a.zip"})
    return tmp_path / "set" / "images_8.h5"


def change(path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def test_what_was_written_is_read(path):
    cache = open_cache(path, "set")
    assert cache.images.dtype == np.uint8
    assert np.array_equal(cache.images, IMAGES)
    assert cache.columns["name"] == COLUMNS["name"]
    assert all(np.array_equal(cache.columns[name], COLUMNS[name]) for name in ("label", "box"))
    assert cache.attributes == {"from": "a.zip"}
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    check_cache(path, "set")


def test_rows_of_numbers_are_kept_in_the_same_way(tmp_path):
    path, rows = tmp_path / "rows.h5", np.random.default_rng(2).normal(size=(5, 3)).astype(np.float32)
    write_cache(path, "set", rows.shape, enumerate(rows), {}, dtype=np.float32)
    found = open_cache(path, "set").images
    assert isinstance(found, np.memmap)
    assert found.dtype == np.float32
    assert np.array_equal(found, rows)
    check_cache(path, "set")
    with pytest.raises(DataError, match=r"must be float32 of shape \(3,\); found float64"):
        write_cache(path, "set", rows.shape, enumerate(rows.astype(float)), {}, dtype=np.float32)


def test_images_are_mapped_and_cannot_be_written_to(path):
    images = open_cache(path, "set").images
    assert isinstance(images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_opening_reads_no_images(tmp_path):
    """A sparse file opens without its pages."""
    path = tmp_path / "large.h5"
    columns = {"label": np.arange(4)}
    write_cache(path, "set", (4, 1), enumerate(np.zeros((4, 1), np.uint8)), columns)
    with h5py.File(path, "r+") as file:
        del file["images"]
        file.create_dataset("images", (1 << 12, 1 << 16), np.uint8)[-1] = 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert open_cache(path, "set").images[-1, -1] == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 17  # kilobytes
    with pytest.raises(DataError, match="content with SHA-256"):
        check_cache(path, "set")


def test_images_may_come_in_any_order(path, tmp_path):
    order = np.random.default_rng(1).permutation(20)
    write_cache(tmp_path / "b.h5", "set", IMAGES.shape, ((i, IMAGES[i]) for i in order), COLUMNS)
    assert np.array_equal(open_cache(tmp_path / "b.h5", "set").images, IMAGES)
    assert cache_sha256(tmp_path / "b.h5") == cache_sha256(path)


def test_the_hash_tells_other_content_apart(path, tmp_path):
    others = [(IMAGES[::-1], COLUMNS), (IMAGES, COLUMNS | {"label": np.arange(20)[::-1]})]
    for images, columns in others:
        write_cache(tmp_path / "b.h5", "set", images.shape, enumerate(images), columns)
        assert cache_sha256(tmp_path / "b.h5") != cache_sha256(path)


@pytest.mark.parametrize("n_bytes", [0, 100, 3000, -1])
def test_a_truncated_cache_is_refused(path, n_bytes):
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(DataError, match=r"must hold a complete HDF5 file, found [\d,]+ bytes") as caught:
        open_cache(path, "set")
    assert str(path) in str(caught.value)
    assert "`mtbench data prepare set`" in str(caught.value)


def test_changed_labels_are_refused(path):
    change(path, np.arange(20).tobytes(), np.arange(20)[::-1].tobytes())
    with pytest.raises(DataError, match=r"must hold columns with SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}"):
        open_cache(path, "set")


def test_changed_images_are_found_by_the_check(path):
    change(path, IMAGES[3].tobytes(), IMAGES[4].tobytes())
    open_cache(path, "set")
    with pytest.raises(DataError, match=r"must hold content with SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}"):
        check_cache(path, "set")


def test_another_format_is_refused(path):
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = np.bytes_(b"mtbench images 0")
    with pytest.raises(DataError, match="must hold format 'mtbench images 1', found 'mtbench images 0'"):
        open_cache(path, "set")


def test_a_missing_cache_says_how_to_make_it(tmp_path):
    with pytest.raises(DataError, match=r"`mtbench data prepare set` makes it.*MTBENCH_DATA") as caught:
        open_cache(tmp_path / "images.h5", "set")
    assert str(tmp_path / "images.h5") in str(caught.value)


def test_a_broken_off_cache_is_not_there_and_is_made_again(tmp_path):
    path = tmp_path / "images.h5"

    def broken():
        yield 0, IMAGES[0]
        raise DataError("the archive ends here")

    with pytest.raises(DataError, match="the archive ends here"):
        write_cache(path, "set", IMAGES.shape, broken(), COLUMNS)
    assert not path.exists()
    write_cache(path, "set", IMAGES.shape, enumerate(IMAGES), COLUMNS)
    check_cache(path, "set")


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (enumerate(IMAGES[:19]), r"there must be 20 images; found 19, none for 19"),
        ([(0, IMAGES[0]), (0, IMAGES[1])], r"each once; found another one for place 0"),
        ([(20, IMAGES[0])], r"each once; found another one for place 20"),
        ([(0, IMAGES[0, 0])], r"image 0 must be uint8 of shape \(3, 8, 8\); found uint8 of shape \(8, 8\)"),
        ([(0, IMAGES[0] / 255)], r"found float64"),
    ],
)
def test_images_must_be_complete_and_alike(images, match, tmp_path):
    with pytest.raises(DataError, match=match):
        write_cache(tmp_path / "images.h5", "set", IMAGES.shape, images, COLUMNS)
    assert not (tmp_path / "images.h5").exists()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "set").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="set: cannot write"):
        write_cache(tmp_path / "set" / "images.h5", "set", IMAGES.shape, enumerate(IMAGES), COLUMNS)
