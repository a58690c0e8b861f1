"""Omniglot: 50 alphabets, one multiclass task each; name the character that an image shows.

Source: Lake, Salakhutdinov and Tenenbaum, the two archives of github brendenlake/omniglot. A download is held against
the MD5 published for it; files that are there are held against the SHA-256 of what they show (the names and decoded
pixels of their images in order of names), so that archives packed anew serve as well.
Licence: MIT.
Preprocessing: ink is 255 on 0, the inverse of the files. `size` below 105 averages over areas: a pixel is the mean of
the ink in the square it covers, in whole numbers, so that every machine finds the same bytes. Nothing is fitted.
Shapes: 32,460 images of 1,623 characters by 20 drawers, bytes [size, size], own layout, labels the character's number
within its alphabet (14 to 55 of them).
Splits: of the 20 drawers of each character, `test_share` per cent, chosen at random, test (2 or 4); of the others 2 (a
tenth of all) validate and the rest (16 or 14) train. The 4 of 20 % hold the 2 of 10 %. The test shares are those of
"Beyond Shared Hierarchies" (Meyerson and Miikkulainen 2018), the drawing per character is read into it.

Decoding takes some seconds and is done once for each size, by `prepare` or at first use: into
omniglot/images_<size>.h5 below the data root, or in the user's cache folder where that is read-only.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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
)
from mtbench.data.image_cache import ImageCache, open_cache, write_cache
from mtbench.data.preparation import found, made
from mtbench_datasets.omniglot.archives import DRAWERS, SIDE, Archive, shown, shrunk, unpacked

ADDRESS = "https://github.com/brendenlake/omniglot/raw/master/python/"
VALIDATION_SHARE = 10


def _source(file: str, n_bytes: int, md5: str) -> Source:
    return Source(f"omniglot/{file}", "", ADDRESS + file, n_bytes, md5)


ARCHIVES = (
    Archive(
        _source("images_background.zip", 9464212, "68d2efa1b9178cc56df9314c21c6e718"), 30, 964,
        "b72f6a719641e711a7986d42ac2e21f47930da9e21e726f3a3ae15160850af41",
    ),
    Archive(
        _source("images_evaluation.zip", 6462886, "6b91aef0f799c5bb55b94e3f2daec811"), 20, 659,
        "8392b9799c1ea5c39d64cba199c9d213020c20132b195440a1203c1d110a4405",
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OmniglotOptions:
    """How large the images are, and how many test."""

    size: int = tunable(28, minimum=16, maximum=SIDE, help="pixels a side; 105 as published")
    test_share: int = tunable(10, choices=(10, 20), help="per cent of each character's images that test")
    alphabets: int = tunable(50, minimum=1, maximum=50, help="the first so many of the alphabets, by name")


class Omniglot(Dataset):
    """Characters of 50 alphabets, drawn by 20 people each."""

    name = "omniglot"
    title = "Omniglot, characters of 50 alphabets"
    licence = "MIT"
    licence_text = """The MIT License (MIT). Copyright (c) 2015 Brenden Lake.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

The Software is provided "as is", without warranty of any kind, express or implied, including but not limited to the
warranties of merchantability, fitness for a particular purpose and noninfringement. In no event shall the authors or
copyright holders be liable for any claim, damages or other liability, whether in an action of contract, tort or
otherwise, arising from, out of or in connection with the Software or the use or other dealings in the Software."""
    citation = Reference(
        "Human-level concept learning through probabilistic program induction", "Science 2015",
        url="https://doi.org/10.1126/science.aab3050",
    )  # fmt: skip
    sources = tuple(archive.source for archive in ARCHIVES)
    Options = OmniglotOptions
    # Eight images of each of 50 alphabets are 400 a step, and 65 steps an epoch.
    recipe = Recipe(backbone="conv4", rows_per_task=8, learning_rate=1e-3, max_epochs=30, eval_every=2, patience=8)
    selection_metric = "error"
    report_metric = "error"
    n_splits = 20
    default_splits = 5

    def prepare(self, root: Path, options: Any = None) -> None:
        """Fetches the archives, unless they are there in whatever packing, and decodes them."""
        size = (options or OmniglotOptions()).size
        # What was decoded was right; looking again takes as long as decoding.
        decoded = found(root, _place(size), self._key(size)) is not None
        for archive in ARCHIVES:
            path = root / archive.source.path
            if not (path.is_file() and (decoded or archive.fault(path, self.name) is None)):
                archive.check(fetch(archive.source, root, self.name), self.name)
        self._cache(root, size)

    def check(self, root: Path, path: str) -> None:
        """Compares what an archive shows with what it must show."""
        for archive in ARCHIVES:
            if archive.source.path == path:
                archive.check(archive.there(root, self.name), self.name)

    def content_hash(self, root: Path, options: Any) -> str:
        """Stands for the images of any packing."""
        record = [self.name, self.version, [archive.sha256 for archive in ARCHIVES]]
        return hashlib.sha256(json.dumps(record).encode()).hexdigest()

    def load(self, root: Path, split: int, options: OmniglotOptions) -> Problem:
        """Draws a split from the images of all characters."""
        self.check_split(split)
        cache = self._cache(root, options.size)
        task, label, character = (np.asarray(cache.columns[name]) for name in ("task", "label", "character"))
        rng = np.random.default_rng(seed_from(self.name, split, "split"))
        sizes = [DRAWERS * share // 100 for share in (options.test_share, VALIDATION_SHARE)]
        test, validation, train = draw_by_group(character, sizes, rng)
        drawn = {"train": train, "validation": validation, "test": test}
        # Drawn from all first: an alphabet has the same split, however many there are beside it.
        parts = {name: rows[task[rows] < options.alphabets] for name, rows in drawn.items()}
        widths = np.bincount(task)[: options.alphabets] // DRAWERS
        tasks = tuple(
            Task(name, TaskKind.MULTICLASS, int(n)) for name, n in zip(cache.columns["alphabet"], widths, strict=False)
        )
        return Problem(
            self.name, split, tasks,
            {
                name: Part(Rows(cache.images, rows), label[rows, None].astype(np.float32), task[rows])
                for name, rows in parts.items()
            },
        )  # fmt: skip

    def _cache(self, root: Path, size: int) -> ImageCache:
        """The images of a size, decoded now unless they are there."""
        place, key = _place(size), self._key(size)
        if not (root / place).is_file():
            for archive in ARCHIVES:
                archive.there(root, self.name)
        path = made(root, place, key, lambda target: self._decode(root, size, key, target), self.name)
        cache = _opened(path, path.stat().st_mtime_ns, self.name)
        if cache.attributes.get("key") != key:
            raise DataError(
                f"{self.name}: {path} must hold the images of key {key}, found {cache.attributes.get('key')}. Delete "
                "it: it is made again at first use."
            )
        return cache

    def _key(self, size: int) -> str:
        """Stands for the images of a size and the columns beside them."""
        record = ["omniglot images 1", size, [archive.sha256 for archive in ARCHIVES]]
        return hashlib.sha256(json.dumps(record).encode()).hexdigest()

    def _decode(self, root: Path, size: int, key: str, target: Path) -> None:
        """Writes the images of both archives in order of their names, and beside them what each is."""
        images = {}
        for archive in ARCHIVES:
            path = archive.there(root, self.name)
            archive.check(path, self.name)
            images |= dict(zip(*shown(path, self.name), strict=True))
        names = [name.split("/") for name in sorted(images)]
        alphabets, task = np.unique([alphabet for alphabet, *_ in names], return_inverse=True)
        _, character = np.unique(["/".join(name[:2]) for name in names], return_inverse=True)
        first = np.searchsorted(task, np.arange(len(alphabets)))
        columns = {
            "task": task.astype(np.int64), "label": (character - character[first][task]).astype(np.int64),
            "character": character.astype(np.int64), "drawer": np.array([int(drawer) for *_, drawer in names]),
            "alphabet": [str(alphabet) for alphabet in alphabets],
        }  # fmt: skip
        pixels = (shrunk(unpacked(images[name]), size) for name in sorted(images))
        about = {"key": key, "source": ADDRESS}
        write_cache(target, self.name, (len(names), size, size), enumerate(pixels), columns, about)


def _place(size: int) -> str:
    return f"omniglot/images_{size}.h5"


@functools.lru_cache(maxsize=2)
def _opened(path: Path, changed_ns: int, dataset: str) -> ImageCache:
    """One object for all splits of a process, so that its stacks see that they share their images."""
    return open_cache(path, dataset)


@hookimpl
def mtbench_datasets() -> list[type[Dataset]]:
    """The data set of this file."""
    return [Omniglot]
