"""A small, very unequal ImageNet: many classes with 2 to 1,044 training images each, one against all.

Source: a tree of images that the user has, imagenet_small/images/<class>/<image> below the data root (or a link there),
such as classes of ImageNet, which may not be passed on. The paper, "Deep Asymmetric Multi-task Feature Learning" (ICML
2018, section 4.2), took 352 classes of ImageNet-22K with 2 to 1,044 images each; it does not say which classes.
Here: 352 classes are drawn, or all where there are fewer. From the class with the most images to the one with the
fewest, training images fall geometrically from 1,044 to 2; a class that has fewer keeps its place and gives what it
has beside validation and test. A tenth of a class's images test and a tenth validate, at least one and at most 50 each.
What is drawn of the tree depends on its names alone. Every split draws the images of each part anew.
Licence: the user's images'; ImageNet's terms allow research and education only.
Preprocessing: the middle square, resized to 64 x 64 pixels with the Lanczos filter; nothing is fitted. That is done
once, by `prepare` or at first use, into imagenet_small/images_64.h5. A later change of the tree is not noticed: delete
that file to have it made again. A trial's identity holds the hash of the pixels.
Shapes: rows uint8 [3, 64, 64], labels [n, C].
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtbench import DataError, Dataset, Problem, Recipe, Reference, draw_by_group, hookimpl, seed_from
from mtbench.data.decoding import decoded
from mtbench.data.image_cache import Column, ImageCache, cache_sha256, check_cache, open_cache, write_cache
from mtbench.data.preparation import found, made
from mtbench.data.splits import one_vs_all

TREE = "imagenet_small/images"
SIZE = 64
CACHE = f"imagenet_small/images_{SIZE}.h5"
SUFFIXES = {".jpeg", ".jpg", ".png", ".webp", ".bmp"}
N_CLASSES = 352
MOST, FEWEST = 1044, 2  # training images of a class
HELD_SHARE, MOST_HELD = 0.1, 50  # of each class, for validation, and for testing


@dataclass(frozen=True)
class Plan:
    """How many images of each class serve each part, [C]."""

    train: NDArray[np.int64]
    held: NDArray[np.int64]


class ImageNetSmall(Dataset):
    """Classes of very unequal size, told apart one against all."""

    name = "imagenet_small"
    title = "ImageNet-Small: 352 classes of 2 to 1,044 training images, one-vs-all, 64 x 64 images"
    licence = "the user's images'; ImageNet: research and education only"
    licence_text = (
        "ImageNet (https://www.image-net.org/download.php) is given, on request, to researchers who agree to use it "
        "for non-commercial research and education only, and may not be passed on. mtbench fetches nothing: the images "
        "are the user's own, and so is the care for their licence."
    )
    citation = Reference("ImageNet: a large-scale hierarchical image database", "CVPR 2009")
    # One network is trained from scratch for each split; all methods start from it, as in the paper.
    recipe = Recipe(
        backbone="resnet50", channels_last=True, augment="crop_flip", batch_size=128, learning_rate=3e-4, max_epochs=20,
        decay_every=12, base="cnn", base_epochs=60, base_learning_rate=1e-3,
    )  # fmt: skip
    selection_metric = report_metric = "one_vs_all_error"
    n_splits = 20
    default_splits = 5

    def prepare(self, root: Path, options: Any = None) -> None:
        """Decodes the images that are drawn of the tree, unless that was done."""
        self._place(root)

    def files(self, root: Path, options: Any) -> tuple[str, ...]:
        """The decoded images."""
        return (CACHE,)

    def check(self, root: Path, path: str) -> None:
        """Compares the decoded images with the hash that they were written with."""
        check_cache(root / path, self.name)

    def content_hash(self, root: Path, options: Any) -> str:
        """Takes in the pixels."""
        record = [self.name, self.version, cache_sha256(self._place(root))]
        return hashlib.sha256(json.dumps(record).encode()).hexdigest()

    def load(self, root: Path, split: int, options: Any) -> Problem:
        """Draws a split of the images that were drawn of the tree."""
        self.check_split(split)
        place = self._place(root)
        cache = _opened(place, place.stat().st_mtime_ns, self.name)
        classes, train, held = (np.asarray(cache.columns[name]) for name in ("class_index", "n_train", "n_held"))
        rng = np.random.default_rng(seed_from(self.name, split, "split"))
        test, validation, training, _ = draw_by_group(classes, (held, held, train), rng)
        drawn = {"train": training, "validation": validation, "test": test}
        return one_vs_all(self.name, split, cache.images, classes, list(cache.columns["classes"]), drawn)

    def _place(self, root: Path) -> Path:
        """Where the decoded images lie; they are decoded now unless they are there."""
        key = hashlib.sha256(f"{self.name} 1 {(root / TREE).resolve()}".encode()).hexdigest()
        there = found(root, CACHE, key)
        if there is not None:
            return there
        tree = _tree(root / TREE, self.name)
        return made(root, CACHE, key, lambda target: _decode(root / TREE, tree, target, self.name), self.name)


# All splits share one array, so that its pages are mapped once.
@functools.lru_cache(maxsize=1)
def _opened(path: Path, changed_ns: int, dataset: str) -> ImageCache:
    return open_cache(path, dataset)


def _tree(folder: Path, dataset: str) -> dict[str, list[str]]:
    """Names of the images of each class of a tree, in an order drawn for the class; classes by falling size."""
    if not folder.is_dir():
        raise DataError(
            f"{dataset}: no folder of images, looked for at {folder}. Put (or link) a tree <class>/<image> there, then "
            f"run `mtbench data prepare {dataset}`; or name the folder that holds it with --data DIR or MTBENCH_DATA."
        )
    least = FEWEST + 2
    tree = {}
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        names = sorted(path.name for path in place.iterdir() if path.suffix.lower() in SUFFIXES)
        if len(names) >= least:
            rng = np.random.default_rng(seed_from(dataset, place.name, "order"))
            tree[place.name] = [names[i] for i in rng.permutation(len(names))]
    if len(tree) < 2:
        raise DataError(f"{dataset}: {folder} must hold at least 2 folders of {least} images; found {len(tree)}.")
    rng = np.random.default_rng(seed_from(dataset, "classes"))
    chosen = sorted(rng.permutation(sorted(tree))[:N_CLASSES].tolist())
    return {name: tree[name] for name in sorted(chosen, key=lambda name: (-len(tree[name]), name))}


def planned(n_images: NDArray[np.int64]) -> Plan:
    """How many images of each class serve each part.

    Args:
        n_images: Images of each class, falling, at least FEWEST + 2 each; [C].
    """
    held = np.clip(np.rint(HELD_SHARE * n_images), 1, MOST_HELD).astype(np.int64)
    wanted = np.rint(np.geomspace(MOST, FEWEST, len(n_images))).astype(np.int64)
    return Plan(np.minimum(wanted, n_images - 2 * held), held)


def _decode(folder: Path, tree: dict[str, list[str]], target: Path, dataset: str) -> None:
    """Writes the images that the plan needs, class by class."""
    plan = planned(np.array([len(names) for names in tree.values()]))
    n_kept = plan.train + 2 * plan.held
    files = [f"{name}/{file}" for (name, names), n in zip(tree.items(), n_kept, strict=True) for file in names[:n]]
    images = ((i, decoded(folder / file, SIZE, f"{dataset}: {folder / file}")) for i, file in enumerate(files))
    columns: dict[str, Column] = {
        "class_index": np.repeat(np.arange(len(tree)), n_kept), "classes": list(tree), "file": files,
        "n_train": plan.train, "n_held": plan.held,
    }  # fmt: skip
    write_cache(target, dataset, (len(files), 3, SIZE, SIZE), images, columns, {"made_of": str(folder)})


@hookimpl
def mtbench_datasets() -> list[type[Dataset]]:
    """The data set of this file."""
    return [ImageNetSmall]
