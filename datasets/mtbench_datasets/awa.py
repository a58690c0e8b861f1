"""Animals with Attributes: 50 animals, told apart one against all (awa_c), or by 85 attributes of theirs (awa_a).

Features are read from awa/awa_features.h5, whose layout `mtbench.data.feature_file` states. Two such files are known:
- six classic kinds for the 30,475 images of the first version (Lampert et al. 2009): phog, and pca100_lss, _phog,
  _rgsift, _sift and _surf, the first 100 principal components of Hellinger-mapped histograms. Those components were
  fitted, without labels, on all images, test images included. The paper's DeCAF features are not public.
- one kind, resnet101, for the 37,322 images of AwA2, which replace those of the first version: `prepare` makes it of
  the official archive. No SHA-256 of that archive is published; it is held against its MD5, and its content against
  the numbers of images, columns and classes.
A trial's identity holds the content of the features that it was trained on, so that no store mixes these.
The option `features` names kinds, joined by "+". "auto" takes the pca100_ kinds side by side (500 columns, as in the
paper) where the file has them, else all that it has. phog beside them gains nothing on validation images: 60.6 % error
against 60.2 % (a network of 200 units; phog alone 84 %).
Preprocessing: of each kind, every image's features are scaled to a mean square of 1; nothing is fitted. `awa_a`
projects more than 500 columns on their first 500 principal components, fitted on training rows.

`awa_c`, section 4.2 of "Deep Asymmetric Multi-task Feature Learning" (ICML 2018): 50 images of each class test. The
paper trains on all others, 42 to 1,118 a class; here a fifth of each class's others validate and the rest train. Every
split is a draw.
`awa_a`, section 4.1: 1,080 / 60 / 60 images of each attribute. The paper does not say how they are drawn. Here, in each
split, nine tenths of all images are for training, a twentieth for validation and a twentieth for testing, so that no
image has labels in two parts; from these each attribute draws its images, half of them with it and half without it
where there are enough. (Had the paper not drawn evenly, its 37.6 % error of linear models would be worse than the
25.6 % of the more frequent answer.) All tasks share the images of a part; a label that was not drawn is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mtbench import (
    DataError,
    Dataset,
    Part,
    Problem,
    Recipe,
    Reference,
    Rows,
    Source,
    Task,
    TaskKind,
    draw_by_group,
    fetch,
    hookimpl,
    seed_from,
    tunable,
    verified,
)
from mtbench.data.archives import members
from mtbench.data.downloads import content_digest
from mtbench.data.feature_file import Features, is_sealed, kinds_in, read_features, write_features
from mtbench.data.preparation import found, made
from mtbench.data.projection import principal_components
from mtbench.data.splits import one_vs_all

ADDRESS = "https://cvml.ista.ac.at/AwA2/"
# Sizes are about right, and not too small: the publisher states them in round numbers.
BASE = Source("awa/AwA2-base.zip", "", ADDRESS + "AwA2-base.zip", 33_000, "27998437f72823d8ac314257682b57ca")
FEATURES = Source(
    "awa/AwA2-features.zip", "", ADDRESS + "AwA2-features.zip", 320_000_000, "b1735c7b8a9044b1d51903b4c9e9fcd5"
)
FEATURE_FILE = "awa/awa_features.h5"
CLASSIC_SHA256 = "d8294fd7551cb6f804bb2fee30ad37602125ff65b94e220b2fb4ebf140103256"
CLASSES = Source("awa/classes.txt", "691c8c92db822894436225c814252dd2eddf086c75392db4b950d3081de87dfc")
ATTRIBUTES = Source("awa/predicates.txt", "cf0a47c75895f1b4bdabb08273fb142e78f2b5373c246f1a83b37fe970c3c79f")
MATRIX = Source("awa/predicate-matrix-binary.txt", "7bb736f49b12777325c2920df9b196a8809904728f43ee5197d2359c699b6123")

N_CLASSES, N_ATTRIBUTES = 50, 85
N_IMAGES, N_COLUMNS = 37_322, 2048  # of the features of AwA2
TEST_IMAGES, VALIDATION_SHARE = 50, 0.2  # of each class, of awa_c
DRAWN = {"train": 1080, "validation": 60, "test": 60}  # of each attribute, of awa_a
N_COMPONENTS = 500
"""Numbers that the official files and the paper give."""

CITATION = Reference("Learning to detect unseen object classes by between-class attribute transfer", "CVPR 2009")
CITATION_2 = Reference(
    "Zero-shot learning - a comprehensive evaluation of the good, the bad and the ugly", "TPAMI 2018",
    url="https://cvml.ista.ac.at/AwA2/",
)  # fmt: skip
LICENCE_TEXT = f"""Animals with Attributes 2 ({ADDRESS}). Its page says that all images carry licences that permit free
use and redistribution; the licence of each image is in the folder "licenses" of AwA2-data.zip, and users are bound by
it. No licence is stated for the features and the table of attributes; their authors ask for citation of
"{CITATION_2.title}" ({CITATION_2.venue}), and for the table of Lampert et al. ({CITATION.venue})."""


@dataclass(frozen=True, kw_only=True)
class AwAOptions:
    """Which features."""

    features: str = tunable("auto", help="kinds joined by '+', or auto: those of pca100 where there are any, else all")


class FromFeatures(Dataset):
    """What data sets on AwA's features have in common."""

    licence = "not stated; the authors ask for citation"
    licence_text = LICENCE_TEXT
    citation = CITATION
    sources: ClassVar[tuple[Source, ...]] = (FEATURES,)
    Options = AwAOptions

    def prepare(self, root: Path, options: Any = None) -> None:
        """Fetches the official features of AwA2, unless there is a file of features."""
        if found(root, FEATURE_FILE, _key()) is None:
            fetch(FEATURES, root, self.name)
        self.features(root, options or AwAOptions())

    def files(self, root: Path, options: Any) -> tuple[str, ...]:
        """The file of features, or what it is made of."""
        return (FEATURE_FILE,) if (root / FEATURE_FILE).is_file() else (FEATURES.path,)

    def check(self, root: Path, path: str) -> None:
        """A file of features is the known one, or holds the hashes that its content is held against."""
        if path != FEATURE_FILE:
            super().check(root, path)
            return
        self._check_features(root / path)
        read_features(root / path, self.name, kinds_in(root / path, self.name))

    def _check_features(self, path: Path) -> None:
        """A file is the known one, or holds a hash for each of its kinds, which is compared when they are read."""
        digest = content_digest(path)
        if digest == CLASSIC_SHA256 or _is_sealed(path, self.name):
            return
        raise DataError(
            f"{self.name}: {path} is corrupt, truncated or another file: it must have SHA-256 {CLASSIC_SHA256}, or be "
            f"made by `mtbench data prepare {self.name}`; found {digest}. Delete it and run that, or put the right "
            "file there."
        )

    def content_hash(self, root: Path, options: AwAOptions) -> str:
        """Takes in the content of the features in use."""
        return _hash(self.name, self.version, self.features(root, options).sha256)

    def features(self, root: Path, options: AwAOptions) -> Features:
        """The features that the options ask for."""
        path = found(root, FEATURE_FILE, _key())
        if path is None:
            archive = verified(FEATURES, root, self.name)
            path = made(
                root, FEATURE_FILE, _key(), lambda target: _write_features(archive, self.name, target), self.name
            )
        self._check_features(path)
        there = kinds_in(path, self.name)
        components = [kind for kind in there if kind.startswith("pca100_")]
        auto = components or there
        return read_features(path, self.name, auto if options.features == "auto" else options.features.split("+"))


class AWAC(FromFeatures):
    """50 animals, one against all, on features."""

    name = "awa_c"
    title = "Animals with Attributes, 50 classes one-vs-all, features"
    # One network is trained from scratch for each split; all methods start from it, as in the paper.
    recipe = Recipe(
        backbone="mlp", hidden=400, batch_size=200, learning_rate=5e-4, max_epochs=12, patience=4, base="cnn",
        base_epochs=12, base_learning_rate=1e-3,
    )  # fmt: skip
    selection_metric = report_metric = "one_vs_all_error"
    n_splits = 20
    default_splits = 5

    def load(self, root: Path, split: int, options: AwAOptions) -> Problem:
        """Draws a split of the images that the features describe."""
        self.check_split(split)
        chosen = self.features(root, options)
        rng = np.random.default_rng(seed_from(self.name, split, "split"))
        others = np.bincount(chosen.class_index) - TEST_IMAGES
        n_validation = np.maximum(np.rint(VALIDATION_SHARE * others), 1)
        test, validation, train = draw_by_group(chosen.class_index, (TEST_IMAGES, n_validation), rng)
        drawn = {"train": train, "validation": validation, "test": test}
        return one_vs_all(self.name, split, chosen.rows, chosen.class_index, chosen.classes, drawn)


class AWAA(FromFeatures):
    """85 attributes of the animals, of which every image has the labels that were drawn for it."""

    name = "awa_a"
    title = "Animals with Attributes, 85 binary attributes, features"
    sources = (BASE, FEATURES)
    recipe = Recipe(backbone="mlp", hidden=1000, batch_size=500, max_epochs=15, patience=4)
    selection_metric = report_metric = "error"
    n_splits = 20
    default_splits = 5

    def prepare(self, root: Path, options: Any = None) -> None:
        """Fetches the features, and the table of attributes unless its files are there."""
        super().prepare(root, options)
        if not _table_files(root):
            fetch(BASE, root, self.name)

    def files(self, root: Path, options: Any) -> tuple[str, ...]:
        """The features, and the table of attributes as files or as the archive that holds them."""
        return (*super().files(root, options), *(_table_files(root) or (BASE.path,)))

    def check(self, root: Path, path: str) -> None:
        """Also of the table's files."""
        for source in (CLASSES, ATTRIBUTES, MATRIX):
            if source.path == path:
                verified(source, root, self.name)
                return
        super().check(root, path)

    def content_hash(self, root: Path, options: AwAOptions) -> str:
        """Takes in the table too."""
        names, attributes, table = _table(root, self.name)
        return _hash(super().content_hash(root, options), names, attributes, table.tolist())

    def load(self, root: Path, split: int, options: AwAOptions) -> Problem:
        """Draws a split: images for each part, and of them those that each attribute has labels for."""
        self.check_split(split)
        chosen = self.features(root, options)
        names, attributes, table = _table(root, self.name)
        if tuple(names) != chosen.classes:
            raise DataError(f"{self.name}: the table of attributes and {FEATURE_FILE} must name the same classes.")
        truth = table[chosen.class_index]
        rng = np.random.default_rng(seed_from(self.name, split, "split"))
        order, n_held = rng.permutation(len(truth)), len(truth) // 20
        pools = {"validation": order[:n_held], "test": order[n_held : 2 * n_held], "train": order[2 * n_held :]}
        pools = {part: np.sort(pools[part]) for part in DRAWN}
        labels = {part: _drawn(truth[rows], DRAWN[part], rng) for part, rows in pools.items()}
        inputs = _projected(chosen.rows, pools["train"])
        parts = {part: Part(Rows(inputs, rows), labels[part]) for part, rows in pools.items()}
        return Problem(self.name, split, tuple(Task(name, TaskKind.BINARY) for name in attributes), parts)


def _key() -> str:
    return _hash("features 1", FEATURES.digest)


def _is_sealed(path: Path, dataset: str) -> bool:
    try:
        return is_sealed(path, dataset)
    except DataError:
        return False


def _drawn(truth: NDArray[np.float32], n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Labels of the rows that each attribute draws, NaN elsewhere: half of them 1 where there are enough; [rows, T]."""
    labels = np.full_like(truth, np.nan)
    for t, values in enumerate(truth.T):
        with_it, without = (rng.permutation(np.flatnonzero(values == value)) for value in (1, 0))
        n_with = min(len(with_it), max(n // 2, n - len(without)))
        rows = np.concatenate([with_it[:n_with], without[: n - n_with]])
        labels[rows, t] = values[rows]
    return labels


def _projected(rows: NDArray[np.float32], fitted_on: NDArray[np.int64]) -> NDArray[np.float32]:
    """At most N_COMPONENTS columns."""
    if rows.shape[1] <= N_COMPONENTS:
        return rows
    centre, components = principal_components(rows[fitted_on].astype(np.float64), N_COMPONENTS)
    return ((rows - centre) @ components).astype(np.float32)


def _table_files(root: Path) -> tuple[str, ...]:
    """The files of the table of attributes, where all of them are there."""
    paths = tuple(source.path for source in (CLASSES, ATTRIBUTES, MATRIX))
    return paths if all((root / path).is_file() for path in paths) else ()


def _table(root: Path, dataset: str) -> tuple[list[str], list[str], NDArray[np.float32]]:
    """Names of classes and attributes, and which class has which, of 0 and 1 [C, T]; from files or the archive."""
    sources = (CLASSES, ATTRIBUTES, MATRIX)
    if _table_files(root):
        texts = {Path(source.path).name: verified(source, root, dataset).read_text() for source in sources}
    else:
        wanted = {Path(source.path).name for source in sources}
        found = members(verified(BASE, root, dataset), dataset, lambda name: Path(name).name in wanted)
        texts = {Path(name).name: stream.read().decode() for name, stream in found}
    try:
        classes, attributes = (
            [line.split("\t")[1] for line in texts[Path(source.path).name].splitlines()] for source in sources[:2]
        )
        table = np.array([line.split() for line in texts[Path(MATRIX.path).name].splitlines()], dtype=np.float32)
    except (KeyError, IndexError, ValueError) as error:
        raise DataError(f"{dataset}: the table of attributes cannot be read ({error!r}).") from error
    if table.shape != (N_CLASSES, N_ATTRIBUTES) or not np.isin(table, (0, 1)).all():
        raise DataError(
            f"{dataset}: the table of attributes must hold 0 and 1 for {N_CLASSES} classes and {N_ATTRIBUTES} "
            f"attributes; found {table.shape}."
        )
    return classes, attributes, table


def _write_features(archive: Path, dataset: str, target: Path) -> None:
    """Makes the file of features of the official archive."""
    lists = {}
    for name, stream in members(archive, dataset, lambda name: name.endswith(("-labels.txt", "-filenames.txt"))):
        lists[name.rsplit("-", 1)[1]] = stream.read().decode().split()
    labels, names = np.array(lists.get("labels.txt", []), dtype=np.int64), lists.get("filenames.txt", [])
    # A file is named by its class, so that the two lists hold each other to account.
    named = {(label, file.rsplit("_", 1)[0]) for label, file in zip(labels.tolist(), names, strict=False)}
    classes = [name for _, name in sorted(named)]
    if len(labels) != len(names) or [label for label, _ in sorted(named)] != list(range(1, len(set(classes)) + 1)):
        raise DataError(f"{dataset}: labels and names of files in {archive} must agree; {len(named)} pairs of them.")
    _expect(dataset, archive, "images", N_IMAGES, len(names))
    _expect(dataset, archive, "classes", N_CLASSES, len(classes))
    write_features(target, classes, labels - 1, {"resnet101": (N_COLUMNS, _feature_rows(archive, dataset))})


def _feature_rows(archive: Path, dataset: str, n_together: int = 256) -> Iterator[NDArray[np.float32]]:
    """The rows of numbers in the archive's text file, some at a time."""
    for _, stream in members(archive, dataset, lambda name: name.endswith("-features.txt")):
        block: list[NDArray[np.float32]] = []
        for line in stream:
            block.append(np.array(line.split(), dtype=np.float32))
            _expect(dataset, archive, "columns of features", N_COLUMNS, len(block[-1]))
            if len(block) == n_together:
                yield np.stack(block)
                block = []
        if block:
            yield np.stack(block)


def _expect(dataset: str, archive: Path, what: str, expected: int, found: int) -> None:
    if found != expected:
        raise DataError(f"{dataset}: {archive} must hold {expected:,} {what}; found {found:,}.")


def _hash(*record: object) -> str:
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


@hookimpl
def mtbench_datasets() -> list[type[Dataset]]:
    """The data sets of this file."""
    return [AWAC, AWAA]
