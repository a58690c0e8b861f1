from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mtbench_datasets import awa
from mtbench_datasets.awa import AWAA, AWAC, AwAOptions
from official_files import ANIMALS, HAS, write_awa_a, write_awa_c

from mtbench import DataError, Problem, UnknownName
from mtbench.data.feature_file import kinds_in, read_features, write_features


def load(root: Path, split: int = 0, dataset: type = AWAC, **options: str) -> Problem:
    return dataset().load(root, split, AwAOptions(**options))


def test_the_file_of_features_is_made_of_the_official_archive(tmp_path, monkeypatch):
    write_awa_c(tmp_path, monkeypatch)
    AWAC().prepare(tmp_path)
    path = tmp_path / "awa" / "awa_features.h5"
    assert kinds_in(path, "awa_c") == ("resnet101",)
    found = read_features(path, "awa_c", ["resnet101"])
    assert found.classes == tuple(ANIMALS)
    assert np.bincount(found.class_index).tolist() == list(ANIMALS.values())
    assert (found.rows[:, :4].argmax(1) == found.class_index).all()
    AWAC().check(tmp_path, "awa/awa_features.h5")


def test_the_archive_is_not_needed_once_the_file_is_made(tmp_path, monkeypatch):
    write_awa_c(tmp_path, monkeypatch)
    first = load(tmp_path)
    (tmp_path / awa.FEATURES.path).unlink()
    AWAC().prepare(tmp_path)
    assert np.array_equal(load(tmp_path).parts["test"].inputs, first.parts["test"].inputs)


def test_features_that_do_not_fit_their_labels_are_refused(tmp_path, monkeypatch):
    write_awa_c(tmp_path, monkeypatch)
    for name, wrong, match in (
        ("N_IMAGES", 161, "must hold 161 images; found 160"),
        ("N_CLASSES", 5, "must hold 5 classes; found 4"),
        ("N_COLUMNS", 13, "must hold 13 columns of features; found 12"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(awa, name, wrong)
            with pytest.raises(DataError, match=match):
                AWAC().prepare(tmp_path)
        assert not (tmp_path / "awa" / "awa_features.h5").exists()


def test_each_class_tests_and_validates_with_its_share(tmp_path, monkeypatch):
    write_awa_c(tmp_path, monkeypatch)
    parts = load(tmp_path).parts
    assert parts["test"].labels.sum(0).tolist() == [5] * 4
    assert parts["validation"].labels.sum(0).tolist() == [7, 6, 8, 7]
    assert parts["train"].labels.sum(0).tolist() == [28, 25, 31, 28]
    rows = np.concatenate([part.inputs.index for part in parts.values()])
    assert np.array_equal(np.sort(rows), np.arange(160))


def test_parts_and_splits_share_one_array(tmp_path, monkeypatch):
    write_awa_c(tmp_path, monkeypatch)
    rows = [part.inputs for split in (0, 1) for part in load(tmp_path, split).parts.values()]
    assert len({some.place for some in rows}) == 1


def test_identities_tell_the_features_in_use(tmp_path, monkeypatch):
    write_awa_c(tmp_path, monkeypatch)
    official = AWAC().content_hash(tmp_path, AwAOptions())
    assert AWAC().content_hash(tmp_path, AwAOptions(features="resnet101")) == official
    path = tmp_path / "awa" / "awa_features.h5"
    classes, index = np.repeat(np.arange(2), 30), {"pca100_a": 3, "pca100_b": 2, "phog": 4}
    rng = np.random.default_rng(0)
    write_features(path, ["x", "y"], classes, {k: (d, [rng.standard_normal((60, d))]) for k, d in index.items()})
    hashes = {kinds: AWAC().content_hash(tmp_path, AwAOptions(features=kinds)) for kinds in ("auto", "phog")}
    assert len({official, *hashes.values()}) == 3
    assert hashes["auto"] == AWAC().content_hash(tmp_path, AwAOptions(features="pca100_a+pca100_b"))


def test_auto_takes_components_where_there_are_any(tmp_path, monkeypatch):
    write_awa_c(tmp_path, monkeypatch)
    assert load(tmp_path).input_shape == (12,)
    kinds = {"pca100_a": (3, [np.ones((60, 3))]), "phog": (4, [np.ones((60, 4))])}
    write_features(tmp_path / "awa" / "awa_features.h5", ["x", "y"], np.repeat(np.arange(2), 30), kinds)
    assert load(tmp_path).input_shape == (3,)
    assert load(tmp_path, features="phog+pca100_a").input_shape == (7,)
    with pytest.raises(UnknownName, match="Unknown kind of features 'decaf'.* holds pca100_a, phog"):
        load(tmp_path, features="decaf")


@pytest.mark.parametrize("n_bytes", [0, 1000, -1])
def test_a_file_that_is_not_the_known_one_is_refused_with_both_hashes(tmp_path, monkeypatch, n_bytes):
    write_awa_c(tmp_path, monkeypatch)
    AWAC().prepare(tmp_path)
    path = tmp_path / "awa" / "awa_features.h5"
    path.write_bytes(path.read_bytes()[:n_bytes])
    for use in (lambda: load(tmp_path), lambda: AWAC().check(tmp_path, "awa/awa_features.h5")):
        with pytest.raises(
            DataError, match=r"corrupt.*SHA-256 d8294fd7551c.*`mtbench data prepare awa_c`; found"
        ) as caught:
            use()
        assert str(path) in str(caught.value)


def test_each_attribute_has_its_number_of_labels_half_of_them_1(tmp_path, monkeypatch):
    write_awa_a(tmp_path, monkeypatch)
    problem = load(tmp_path, dataset=AWAA)
    assert [task.name for task in problem.tasks] == list(HAS)
    for part, n in (("train", 40), ("validation", 4), ("test", 4)):
        labels = problem.parts[part].labels
        assert problem.task_sizes(part).tolist() == [n] * 3
        assert np.isin(labels[~np.isnan(labels)], (0, 1)).all()
    assert np.nansum(problem.parts["train"].labels, 0).tolist() == [20, 20, 20]


def test_where_too_few_images_have_an_attribute_all_of_them_are_drawn():
    truth = np.zeros((50, 2), np.float32)
    truth[:3, 0] = 1
    truth[:48, 1] = 1
    labels = awa._drawn(truth, 20, np.random.default_rng(0))
    assert (~np.isnan(labels)).sum(0).tolist() == [20, 20]
    assert np.nansum(labels, 0).tolist() == [3, 18]


def test_an_attribute_is_that_of_the_animal(tmp_path, monkeypatch):
    write_awa_a(tmp_path, monkeypatch)
    path = tmp_path / "awa" / "awa_features.h5"
    AWAA().prepare(tmp_path)
    animals = read_features(path, "awa_a", ["resnet101"]).class_index
    table = np.array([row.split() for row in HAS.values()], dtype=float)
    for part in load(tmp_path, dataset=AWAA).parts.values():
        known = ~np.isnan(part.labels)
        assert np.array_equal(part.labels[known], table.T[animals[part.inputs.index]][known])


def test_no_image_is_in_two_parts_of_the_attributes(tmp_path, monkeypatch):
    write_awa_a(tmp_path, monkeypatch)
    rows = np.concatenate([part.inputs.index for part in load(tmp_path, dataset=AWAA).parts.values()])
    assert np.array_equal(np.sort(rows), np.arange(160))


def test_components_of_the_attributes_are_fitted_on_training_rows(tmp_path, monkeypatch):
    write_awa_a(tmp_path, monkeypatch)
    parts = load(tmp_path, dataset=AWAA).parts
    assert parts["train"].inputs.shape[1:] == (8,)
    train = np.asarray(parts["train"].inputs, dtype=float)
    assert np.abs(train.mean(0)).max() < 1e-5
    covariance = np.cov(train.T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-5
    assert np.abs(np.asarray(parts["test"].inputs).mean(0)).max() > 1e-2


def test_a_table_of_another_shape_is_refused(tmp_path, monkeypatch):
    write_awa_a(tmp_path, monkeypatch)
    monkeypatch.setattr(awa, "N_ATTRIBUTES", 85)
    with pytest.raises(DataError, match=r"4 classes and 85 attributes; found \(4, 3\)"):
        load(tmp_path, dataset=AWAA)


@pytest.fixture(scope="module")
def real(root_of: Callable) -> dict[type, Problem]:
    root = root_of(AWAA)
    return {dataset: load(root, dataset=dataset) for dataset in (AWAC, AWAA)}


@pytest.mark.real_data
def test_the_classic_file_gives_the_numbers_of_the_paper(real):
    parts = real[AWAC].parts
    assert parts["test"].labels.sum(0).tolist() == [50] * 50
    others = parts["train"].labels.sum(0) + parts["validation"].labels.sum(0)
    assert (others.min(), others.max()) == (42, 1118)
    assert sum(part.n_rows for part in parts.values()) == 30475
    assert real[AWAC].input_shape == (500,)


@pytest.mark.real_data
def test_least_squares_tells_animals_apart_better_than_chance(real):
    parts = real[AWAC].parts
    X, Y = np.asarray(parts["train"].inputs, dtype=float)[::4], parts["train"].labels[::4]
    W = np.linalg.solve(X.T @ X + 1000 * np.eye(500), X.T @ Y)
    predicted = (np.asarray(parts["test"].inputs) @ W).argmax(1)
    assert 0.2 < (predicted == parts["test"].labels.argmax(1)).mean() < 0.5


@pytest.mark.real_data
def test_attributes_have_the_numbers_of_the_paper(real):
    problem = real[AWAA]
    assert problem.n_tasks == 85
    assert {part: set(problem.task_sizes(part)) for part in ("train", "validation", "test")} == {
        "train": {1080}, "validation": {60}, "test": {60},
    }  # fmt: skip
    assert [task.name for task in problem.tasks][:3] == ["black", "white", "blue"]
    ones = np.nansum(problem.parts["train"].labels, 0)
    assert (ones == 540).sum() >= 75
    assert ones.min() > 300


@pytest.mark.real_data
def test_the_classic_file_and_its_table_are_verified(root_of):
    root = root_of(AWAA)
    for path in AWAA().files(root, AwAOptions()):
        AWAA().check(root, path)
