"""Caltech-UCSD Birds: bird species, one against all, on images cropped to the bird.

Source, by the option `classes`:
- 200: the official archive CUB_200_2011.tgz (Wah, Branson, Welinder, Perona and Belongie 2011), 11,788 images of 200
  species, held against its SHA-256. It is decoded once, by `prepare` or at first use, into cub/cub200_images_64.h5;
  after that the archive is not needed.
- 50, the default, for machines without a GPU: the first 50 species, 2,889 images, from cub/cub50_images.h5 where that
  file is there (it has the same crops, made of the same images), else from the above.
Licence: not stated with the data; its pages ask for citation, and the images belong to their photographers.
Preprocessing: every image is cropped to its bounding box and resized to 64 x 64 pixels with the Lanczos filter, its
aspect not kept; nothing is fitted. A trial's identity holds the hash of the pixels.
Shapes: rows uint8 [3, 64, 64], labels [n, C].
Splits: the official test images test (5,794; 1,389 of 50 species). A fifth of each species' official training images,
drawn per split, validate; the others train (about 24 a species).
Recipe: as in section 4.2 of "Deep Asymmetric Multi-task Feature Learning" (ICML 2018) ResNet-18 is trained from
scratch, and alpha and gamma grow from 0. Most else of the paper's recipe is not stated; this one takes a CNN on 50
species to 70 % error in a third of its epochs.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    tunable,
    verified,
)
from mtbench.data.archives import members
from mtbench.data.decoding import decoded
from mtbench.data.image_cache import Column, cache_sha256, check_cache, open_cache, write_cache
from mtbench.data.preparation import found, made
from mtbench.data.splits import one_vs_all

ARCHIVE = Source(
    "cub/CUB_200_2011.tgz",
    "0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
    "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
    1_150_585_339,
)
FIRST_50 = Source(
    "cub/cub50_images.h5", "3f18c966e129936cfd44a3f0ea83e31c85954ec3484102bbb1d26fa1404b24e6", n_bytes=39_369_714
)
FOLDER = "CUB_200_2011/"
TABLES = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "classes.txt")
N_IMAGES, N_CLASSES = 11_788, 200
SIZE = 64
CACHE = f"cub/cub200_images_{SIZE}.h5"
VALIDATION_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class CUBOptions:
    """How many species."""

    classes: int = tunable(50, choices=(50, 200), help="species: the first 50, or all 200 as published")


@dataclass(frozen=True, eq=False)
class Birds:
    """Images [N, 3, 64, 64], the species of each, 0 to C - 1, whether it is an official training image, and C names."""

    images: NDArray[np.uint8]
    classes: NDArray[np.int64]
    trains: NDArray[np.bool_]
    names: list[str]


class CUB(Dataset):
    """Bird species, told apart one against all."""

    name = "cub"
    title = "Caltech-UCSD Birds 200-2011, one-vs-all, 64 x 64 images"
    licence = "not stated; for research and teaching, with citation"
    licence_text = (
        "Caltech-UCSD Birds-200-2011 (https://www.vision.caltech.edu/datasets/cub_200_2011/). No licence is stated "
        "with the data. The images were collected from Flickr and belong to their photographers; the data are commonly "
        "taken to be for non-commercial research and teaching. The authors ask for citation of technical report "
        "CNS-TR-2011-001."
    )
    citation = Reference(
        "The Caltech-UCSD Birds-200-2011 Dataset", "Technical report CNS-TR-2011-001, Caltech, 2011",
        url="https://data.caltech.edu/records/65de6-vp158",
    )  # fmt: skip
    sources = (ARCHIVE,)
    Options = CUBOptions
    recipe = Recipe(
        backbone="resnet18", channels_last=True, augment="crop_flip", batch_size=32, learning_rate=1e-3, max_epochs=40,
        decay_every=30, ramp_epochs=10, eval_every=5,
    )  # fmt: skip
    selection_metric = report_metric = "one_vs_all_error"
    n_splits = 20
    default_splits = 5

    def prepare(self, root: Path, options: Any = None) -> None:
        """Fetches the archive and decodes it, unless what is asked for is there."""
        options = options or CUBOptions()
        if FIRST_50.path not in self.files(root, options):
            if found(root, CACHE, self._key()) is None:
                fetch(ARCHIVE, root, self.name)
            self._place(root)

    def files(self, root: Path, options: CUBOptions) -> tuple[str, ...]:
        """The images of the first species, those of all, or the archive."""
        known = (FIRST_50.path, CACHE) if options.classes == 50 else (CACHE,)
        return (next((path for path in known if (root / path).is_file()), ARCHIVE.path),)

    def check(self, root: Path, path: str) -> None:
        """Compares a file with its published hash, or the decoded images with the one that they were written with."""
        if path == CACHE:
            check_cache(root / path, self.name)
        else:
            verified(FIRST_50 if path == FIRST_50.path else ARCHIVE, root, self.name)

    def content_hash(self, root: Path, options: CUBOptions) -> str:
        """Takes in the pixels, whose last bits depend on what decoded them."""
        first = FIRST_50.path in self.files(root, options)
        record = [super().content_hash(root, options), FIRST_50.sha256 if first else cache_sha256(self._place(root))]
        return hashlib.sha256(json.dumps(record).encode()).hexdigest()

    def load(self, root: Path, split: int, options: CUBOptions) -> Problem:
        """Draws the validation images of a split; the test images are the official ones."""
        self.check_split(split)
        birds = self._birds(root, options)
        pool, test = (np.flatnonzero((birds.trains == trains) & (birds.classes < options.classes)) for trains in (1, 0))
        rng = np.random.default_rng(seed_from(self.name, split, "validation"))
        n_validation = np.maximum(np.rint(VALIDATION_SHARE * np.bincount(birds.classes[pool])), 1)
        validation, train = (pool[rows] for rows in draw_by_group(birds.classes[pool], (n_validation,), rng))
        drawn = {"train": train, "validation": validation, "test": test}
        return one_vs_all(self.name, split, birds.images, birds.classes, birds.names[: options.classes], drawn)

    def _birds(self, root: Path, options: CUBOptions) -> Birds:
        if FIRST_50.path in self.files(root, options):
            place = verified(FIRST_50, root, self.name)
            return _first_50(place, place.stat().st_mtime_ns)
        place = self._place(root)
        return _all(place, place.stat().st_mtime_ns, self.name)

    def _key(self) -> str:
        return hashlib.sha256(f"images 1 {ARCHIVE.digest}".encode()).hexdigest()

    def _place(self, root: Path) -> Path:
        """Where the decoded images lie; they are decoded now unless they are there."""
        there = found(root, CACHE, self._key())
        if there is not None:
            return there
        if not (root / ARCHIVE.path).is_file():
            raise DataError(
                f"{self.name}: no file '{ARCHIVE.path}', looked for at {root / ARCHIVE.path}. `mtbench data prepare "
                f"{self.name} --option {self.name}.classes=200` fetches it; or name the folder that holds it with "
                "--data DIR or MTBENCH_DATA."
            )
        archive = verified(ARCHIVE, root, self.name)
        return made(root, CACHE, self._key(), lambda target: _decode(archive, target, self.name), self.name)


# All splits share one array, so that it is read, or its pages mapped, once.
@functools.lru_cache(maxsize=1)
def _first_50(path: Path, changed_ns: int) -> Birds:
    import h5py  # not before `mtbench.data.image_cache`, which keeps the library from loading plugins of its own

    with h5py.File(path, "r", locking=False) as file:
        images = np.ascontiguousarray(file["image_bbox64"][:].transpose(0, 3, 1, 2))
        folders = [text.split("/")[0] for text in file["path"].asstr()[:]]
        classes = file["class_id"][:].astype(np.int64) - 1
        return Birds(images, classes, file["is_train"][:].astype(bool), sorted(set(folders)))


@functools.lru_cache(maxsize=1)
def _all(path: Path, changed_ns: int, dataset: str) -> Birds:
    cache = open_cache(path, dataset)
    classes, trains = (np.asarray(cache.columns[name]) for name in ("class_index", "is_train"))
    return Birds(cache.images, classes, trains.astype(bool), list(cache.columns["classes"]))


def _decode(archive: Path, target: Path, dataset: str) -> None:
    """Writes all images, in the order of their official numbers."""
    tables = _tables(archive, dataset)
    try:
        files, boxes = tables["images.txt"], [tuple(map(float, row.split())) for row in tables["bounding_boxes.txt"]]
        classes = np.array(tables["image_class_labels.txt"], dtype=np.int64) - 1
        trains = np.array(tables["train_test_split.txt"], dtype=np.uint8)
        names = tables["classes.txt"]
        order = {f"{FOLDER}images/{file}": i for i, file in enumerate(files)}
        counts = (len(order), len(boxes), len(classes), len(trains), len(names))
    except (KeyError, ValueError) as error:
        raise DataError(f"{dataset}: the tables of {archive} cannot be read ({error!r}).") from error
    if counts != (N_IMAGES,) * 4 + (N_CLASSES,):
        raise DataError(
            f"{dataset}: {archive} must list {N_IMAGES:,} images, with their boxes, species and parts, and {N_CLASSES} "
            f"species; found {', '.join(map(str, counts))}. Fetch it again."
        )

    def images() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for name, stream in members(archive, dataset, lambda name: _plain(name) in order):
            i = order[_plain(name)]
            yield i, decoded(stream, SIZE, f"{dataset}: {name} of {archive}", boxes[i])  # type: ignore[arg-type]

    columns: dict[str, Column] = {"class_index": classes, "is_train": trains, "classes": names, "file": files}
    write_cache(target, dataset, (N_IMAGES, 3, SIZE, SIZE), images(), columns, {"made_of": ARCHIVE.digest})


def _tables(archive: Path, dataset: str) -> dict[str, list[str]]:
    """The tables of the archive by name: of each line what follows its number, which counts from 1."""
    wanted = {FOLDER + name: name for name in TABLES}
    tables: dict[str, list[str]] = {}
    for name, stream in members(archive, dataset, lambda name: _plain(name) in wanted):
        lines = [line.split(maxsplit=1) for line in stream.read().decode().splitlines()]
        if [line[0] for line in lines] != [str(i + 1) for i in range(len(lines))]:
            raise DataError(f"{dataset}: the lines of {name} in {archive} must be numbered from 1.")
        tables[wanted[_plain(name)]] = [line[1].strip() for line in lines]
    return tables


def _plain(name: str) -> str:
    return name.removeprefix("./")


@hookimpl
def mtbench_datasets() -> list[type[Dataset]]:
    """The data set of this file."""
    return [CUB]
