import h5py
import numpy as np
import pytest

from mtbench import DataError, UnknownName
from mtbench.data.feature_file import is_sealed, kinds_in, read_features, write_features

RNG = np.random.default_rng(0)
LARGE, SMALL = 100 * RNG.standard_normal((12, 5)), RNG.random((12, 3)) / 100
INDEX = np.repeat([0, 2, 1], 4)


@pytest.fixture
def path(tmp_path):
    kinds = {"large": (5, [LARGE[:7], LARGE[7:]]), "small": (3, [SMALL])}
    write_features(tmp_path / "features.h5", ["ant", "bee", "cat"], INDEX, kinds)
    return tmp_path / "features.h5"


def test_kinds_stand_side_by_side_in_the_order_asked_for(path):
    assert kinds_in(path, "set") == ("large", "small")
    both, turned = (read_features(path, "set", kinds) for kinds in (("large", "small"), ("small", "large")))
    assert both.rows.shape == (12, 8)
    assert both.rows.dtype == np.float32
    assert np.array_equal(both.rows[:, :5], turned.rows[:, 3:])
    assert np.array_equal(both.class_index, INDEX)
    assert both.classes == ("ant", "bee", "cat")


def test_every_row_of_a_kind_is_scaled_alone(path):
    rows = read_features(path, "set", ("large", "small")).rows
    assert np.allclose((rows[:, :5] ** 2).mean(1), 1)
    assert np.allclose((rows[:, 5:] ** 2).mean(1), 1)
    assert np.allclose(rows[3, :5] / rows[3, 0], LARGE[3] / LARGE[3, 0])


def test_a_row_of_zeros_stays(tmp_path):
    write_features(tmp_path / "f.h5", ["a"], np.zeros(2), {"kind": (2, [np.array([[0, 0], [3, 4]])])})
    rows = read_features(tmp_path / "f.h5", "set", ["kind"]).rows
    assert np.array_equal(rows[0], [0, 0])
    assert np.allclose(rows[1], np.array([3, 4]) / np.sqrt(12.5))


def test_the_hash_is_that_of_what_was_read(path, tmp_path):
    both, one = read_features(path, "set", ("large", "small")), read_features(path, "set", ("large",))
    assert both.sha256 != one.sha256
    write_features(tmp_path / "more.h5", ["ant", "bee", "cat"], INDEX, {"large": (5, [LARGE]), "more": (3, [SMALL])})
    assert read_features(tmp_path / "more.h5", "set", ("large",)).sha256 == one.sha256
    write_features(tmp_path / "other.h5", ["ant", "bee", "cat"], INDEX[::-1], {"large": (5, [LARGE])})
    assert read_features(tmp_path / "other.h5", "set", ("large",)).sha256 != one.sha256


def test_a_file_of_somebody_else_needs_no_hashes(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["class_index"] = np.array([0, 1, 1], np.uint8)
        file["class_index"].attrs["classes"] = ["one", "two"]
        file.create_dataset("kind", data=np.eye(3, dtype=np.float16), chunks=(1, 3), compression="gzip")
    assert not is_sealed(tmp_path / "f.h5", "set")
    found = read_features(tmp_path / "f.h5", "set", kinds_in(tmp_path / "f.h5", "set"))
    assert np.allclose(found.rows, np.sqrt(3) * np.eye(3))
    assert found.classes == ("one", "two")


def test_a_kind_that_is_not_there_is_named(path):
    with pytest.raises(UnknownName, match=r"'larg'. Did you mean 'large'\? .* holds large, small"):
        read_features(path, "set", ["larg"])


def test_changed_content_is_refused(path):
    assert is_sealed(path, "set")
    with h5py.File(path, "r+") as file:
        file["small"][3, 1] = 7
    assert read_features(path, "set", ["large"]).rows.shape == (12, 5)
    with pytest.raises(DataError, match=r"must hold 'small' with SHA-256 [0-9a-f]{64}; found [0-9a-f]{64}"):
        read_features(path, "set", ["small"])


@pytest.mark.parametrize("n_bytes", [0, 500, 2000])
def test_a_truncated_file_is_refused(path, n_bytes):
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(DataError, match=rf"must hold a complete HDF5 file .* found {n_bytes:,} bytes") as caught:
        read_features(path, "set", ["large"])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("index", "kind", "match"),
    [
        (np.array([0, 1, 3]), np.eye(3), r"whole numbers \[n\] from 0 to 2"),
        (np.array([0.0, 1, 1]), np.eye(3), "whole numbers"),
        (np.array([0, 1, 1]), np.eye(2), r"'kind' as floats \[3, d\]; found float64 \(2, 2\)"),
        (np.array([0, 1, 1]), np.eye(3, dtype=int), r"'kind' as floats \[3, d\]; found int64"),
    ],
)
def test_a_file_of_another_layout_is_refused(tmp_path, index, kind, match):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["class_index"], file["kind"] = index, kind
        file["class_index"].attrs["classes"] = ["one", "two", "three"]
    with pytest.raises(DataError, match=match):
        read_features(tmp_path / "f.h5", "set", ["kind"])


def test_a_file_without_classes_is_refused(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["kind"] = np.eye(3)
    with pytest.raises(DataError, match="must hold a complete HDF5 file with 'class_index'"):
        kinds_in(tmp_path / "f.h5", "set")


def test_a_missing_file_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"`mtbench data prepare set` .* MTBENCH_DATA") as caught:
        read_features(tmp_path / "f.h5", "set", ["kind"])
    assert str(tmp_path / "f.h5") in str(caught.value)


@pytest.mark.parametrize("blocks", [[LARGE[:11]], [LARGE, LARGE[:1]], [LARGE[:, :4]]])
def test_rows_that_do_not_fit_are_not_written(tmp_path, blocks):
    with pytest.raises(DataError, match="'large' must have 12 rows of 5 columns"):
        write_features(tmp_path / "f.h5", ["a"], np.zeros(12), {"large": (5, blocks)})
