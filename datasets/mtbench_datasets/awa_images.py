"""Animals with Attributes 2 as images: 50 animals, one against all.

Source: the official archive (Xian, Lampert, Schiele and Akata), 13 GB, 37,322 images. No SHA-256 of it is published;
it is held against its MD5, and its content against the numbers of images and classes.
Licence: its page says that all images carry licences that permit free use and redistribution; the archive's folder
"licenses" holds that of each image.
Preprocessing: the middle square, resized to 64 x 64 pixels with the Lanczos filter; nothing is fitted. It takes some
twenty minutes and is done once, by `prepare` or at first use, into awa/awa2_images_64.h5; after that the archive is not
needed. A trial's identity holds the hash of the pixels.
Shapes: rows uint8 [3, 64, 64], labels [n, 50].
Splits: as `awa_c` on features: 50 images of each class test, a fifth of each class's others validate, the rest train.
It is a data set of its own because a recipe belongs to a data set, and images want another one than features.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from mtbench import (
    DataError,
    Dataset,
    Problem,
    Recipe,
    Reference,
    Source,
    draw_by_group,
    fetch,
    hookimpl,
    seed_from,
    verified,
)
from mtbench.data.archives import member_names, members
from mtbench.data.decoding import decoded
from mtbench.data.image_cache import Column, ImageCache, cache_sha256, check_cache, open_cache, write_cache
from mtbench.data.preparation import found, made
from mtbench.data.splits import one_vs_all

ADDRESS = "https://cvml.ista.ac.at/AwA2/"
# The size is about right, and not too small: the publisher states it in GB.
ARCHIVE = Source("awa/AwA2-data.zip", "", ADDRESS + "AwA2-data.zip", 14_000_000_000, "eaa27cf799d5cf55af372356d7281b5e")
N_IMAGES, N_CLASSES = 37_322, 50
MEMBER = re.compile(r"(?:.*/)?JPEGImages/([^/]+)/[^/]+\.jpg")
SIZE = 64
CACHE = f"awa/awa2_images_{SIZE}.h5"
TEST_IMAGES, VALIDATION_SHARE = 50, 0.2  # of each class


class AWACImages(Dataset):
    """50 animals, one against all, on images of 64 x 64 pixels."""

    name = "awa_c_images"
    title = "Animals with Attributes 2, 50 classes one-vs-all, 64 x 64 images"
    licence = "free use and redistribution; each image has its own licence"
    licence_text = (
        f"Animals with Attributes 2 ({ADDRESS}): its page says that all images carry licences that permit free use and "
        'redistribution. The licence of each image is in the folder "licenses" of the archive; who uses the image is '
        "bound by it."
    )
    citation = Reference(
        "Zero-shot learning - a comprehensive evaluation of the good, the bad and the ugly", "TPAMI 2018", url=ADDRESS
    )
    sources = (ARCHIVE,)
    # One network is trained from scratch for each split; all methods start from it, as in the paper.
    recipe = Recipe(
        backbone="resnet18", channels_last=True, augment="crop_flip", batch_size=128, learning_rate=3e-4, max_epochs=20,
        decay_every=12, base="cnn", base_epochs=60, base_learning_rate=1e-3,
    )  # fmt: skip
    selection_metric = report_metric = "one_vs_all_error"
    n_splits = 20
    default_splits = 5

    def prepare(self, root: Path, options: Any = None) -> None:
        """Fetches the archive and decodes it, unless that was done."""
        if found(root, CACHE, self._key()) is None:
            fetch(ARCHIVE, root, self.name)
        self._place(root)

    def files(self, root: Path, options: Any) -> tuple[str, ...]:
        """The decoded images, or the archive."""
        return (CACHE,) if (root / CACHE).is_file() else (ARCHIVE.path,)

    def check(self, root: Path, path: str) -> None:
        """Compares the decoded images with the hash that they were written with."""
        if path == CACHE:
            check_cache(root / path, self.name)
        else:
            super().check(root, path)

    def content_hash(self, root: Path, options: Any) -> str:
        """Takes in the pixels, whose last bits depend on what decoded them."""
        record = [super().content_hash(root, options), cache_sha256(self._place(root))]
        return hashlib.sha256(json.dumps(record).encode()).hexdigest()

    def load(self, root: Path, split: int, options: Any) -> Problem:
        """Draws a split of the images."""
        self.check_split(split)
        place = self._place(root)
        cache = _opened(place, place.stat().st_mtime_ns, self.name)
        classes = np.asarray(cache.columns["class_index"])
        rng = np.random.default_rng(seed_from(self.name, split, "split"))
        others = np.bincount(classes) - TEST_IMAGES
        n_validation = np.maximum(np.rint(VALIDATION_SHARE * others), 1)
        test, validation, train = draw_by_group(classes, (TEST_IMAGES, n_validation), rng)
        drawn = {"train": train, "validation": validation, "test": test}
        return one_vs_all(self.name, split, cache.images, classes, list(cache.columns["classes"]), drawn)

    def _key(self) -> str:
        return hashlib.sha256(f"images 1 {ARCHIVE.digest}".encode()).hexdigest()

    def _place(self, root: Path) -> Path:
        """Where the decoded images lie; they are decoded now unless they are there."""
        there = found(root, CACHE, self._key())
        if there is not None:
            return there
        archive = verified(ARCHIVE, root, self.name)
        return made(root, CACHE, self._key(), lambda target: _decode(archive, target, self.name), self.name)


# All splits share one array, so that its pages are mapped once.
@functools.lru_cache(maxsize=1)
def _opened(path: Path, changed_ns: int, dataset: str) -> ImageCache:
    return open_cache(path, dataset)


def _decode(archive: Path, target: Path, dataset: str) -> None:
    """Writes all images, in the order of classes and names."""
    names = {name: match[1] for name in member_names(archive, dataset) if (match := MEMBER.fullmatch(name))}
    order = {name: i for i, name in enumerate(sorted(names, key=lambda name: (names[name], name)))}
    classes = sorted(set(names.values()))
    if (len(names), len(classes)) != (N_IMAGES, N_CLASSES):
        raise DataError(
            f"{dataset}: {archive} must hold {N_IMAGES:,} images of {N_CLASSES} classes; found {len(names):,} of "
            f"{len(classes)}. Fetch it again from {ADDRESS}."
        )
    images = (
        (order[name], decoded(stream, SIZE, f"{dataset}: {name} of {archive}"))
        for name, stream in members(archive, dataset, order.__contains__)
    )
    columns: dict[str, Column] = {
        "class_index": np.array([classes.index(names[name]) for name in order]), "classes": classes, "file": list(order)
    }  # fmt: skip
    write_cache(target, dataset, (N_IMAGES, 3, SIZE, SIZE), images, columns, {"made_of": ARCHIVE.digest})


@hookimpl
def mtbench_datasets() -> list[type[Dataset]]:
    """The data set of this file."""
    return [AWACImages]
