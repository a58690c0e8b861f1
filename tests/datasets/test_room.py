from pathlib import Path

import h5py
import numpy as np
import pytest
from mtbench_datasets import room
from mtbench_datasets.room import Room, RoomOptions
from official_files import write_room

from mtbench import DataError, Problem, UnknownName
from mtbench.data.feature_file import read_features, write_features


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_room(tmp_path, monkeypatch)
    return tmp_path


def load(root: Path, split: int = 0, features: str = "all") -> Problem:
    return Room().load(root, split, RoomOptions(features=features))


def test_each_class_tests_with_20_images_and_validates_with_a_fifth_of_the_others(root):
    problem = load(root)
    assert [task.name for task in problem.tasks] == ["bakery", "bar", "church"]
    counts = {name: part.labels.sum(0).tolist() for name, part in problem.parts.items()}
    assert counts == {"train": [8, 4, 32], "validation": [2, 1, 8], "test": [20, 20, 20]}
    rows = np.concatenate([part.inputs.index for part in problem.parts.values()])
    assert np.array_equal(np.sort(rows), np.arange(115))


def test_many_columns_are_projected_on_components_of_the_training_rows(root):
    parts = load(root).parts
    assert parts["train"].inputs.shape == (44, 8)
    train = np.asarray(parts["train"].inputs, dtype=float)
    assert np.abs(train.mean(0)).max() < 1e-5
    assert np.abs(np.asarray(parts["test"].inputs).mean(0)).max() > 1e-2
    assert np.abs(np.cov(train.T) - np.diag(train.var(0, ddof=1))).max() < 1e-5


def test_few_columns_stay_as_they_are(root):
    rows = read_features(root / room.FEATURE_FILE, "room", ["gist"]).rows
    part = load(root, features="gist").parts["test"]
    assert np.array_equal(part.inputs, rows[part.inputs.index])


def test_identities_tell_the_features_in_use(root):
    hashes = {Room().content_hash(root, RoomOptions(features=kinds)) for kinds in ("all", "gist", "decaf")}
    assert len(hashes) == 3
    assert Room().content_hash(root, RoomOptions(features="decaf+gist")) in hashes


def test_a_kind_that_is_not_there_is_named(root):
    with pytest.raises(UnknownName, match="Unknown kind of features 'phog'.* holds decaf, gist"):
        load(root, features="phog")


def test_a_class_of_too_few_images_is_named(root):
    index = np.repeat([0, 1], [40, 21])
    write_features(root / room.FEATURE_FILE, ["bar", "attic"], index, {"kind": (2, [np.ones((61, 2))])})
    with pytest.raises(DataError, match="must have at least 22 images; found 21 of 'attic'. Leave that class out"):
        load(root)


def test_prepare_says_what_to_put_where(tmp_path):
    with pytest.raises(DataError, match=r"not public.*'class_index'.*write_features writes it") as caught:
        Room().prepare(tmp_path)
    assert str(tmp_path / "room" / "room_features.h5") in str(caught.value)


def test_damage_is_found_where_the_file_holds_hashes(root):
    path = root / room.FEATURE_FILE
    write_features(path, ["bar"], np.zeros(30), {"kind": (2, [np.ones((30, 2))])})
    Room().check(root, room.FEATURE_FILE)
    with h5py.File(path, "r+") as file:
        file["kind"][3] = 2
    with pytest.raises(DataError, match="must hold 'kind' with SHA-256"):
        Room().check(root, room.FEATURE_FILE)
