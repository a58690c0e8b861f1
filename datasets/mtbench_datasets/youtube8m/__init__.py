"""YouTube-8M by verticals: 16 multilabel tasks on video-level features, video and sound.

Source: the video-level shards of YouTube-8M (version 2 of 2018): 3,844 TFRecord files each of the partitions train and
validate, with the MD5 of each in the partition's download plan, and vocabulary.csv. The labels of the partition test
are not public. `prepare` takes the first `shards` of each partition, from the network or from where they lie already
(youtube8m/train0000.tfrecord, the name that the official script gives, or youtube8m/trainaa.tfrecord, that of the
server), converts each to HDF5, and goes on where it stopped; every record's checksum is compared.
Licence: CC BY 4.0.
Preprocessing: none; the 1,024 visual and 128 audio features of a video as published.

Tasks: the labels of a top-level vertical (Vertical1 of the vocabulary) are one task, and there are 16, as in published
experiments. Which 16 of the 24, and how they meet their videos, is read here as:
- the 16 verticals whose labels have most training videos together; of each, the `labels` labels that have most;
- own layout: a video is a row of every task that it has labels of, with that task's labels alone; so a video with
  labels of three verticals is three rows, which share its features. Of other tasks it is no row: that it has none of
  their labels is not what they are asked.
Splits: 9 of 10 of the videos of train, drawn at random, train. Those of validate are dealt at random, one half to
validation and one to test, as in "SNR: Sub-Network Routing for Flexible Parameter Sharing" (Ma et al. 2019), because
the official test labels are hidden. All rows of a video are in one part.
Shapes: rows [1152], labels [n, widest task], NaN beyond a task's own.
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
    Part,
    Problem,
    Recipe,
    Reference,
    Rows,
    Source,
    Task,
    TaskKind,
    fetch,
    hookimpl,
    seed_from,
    tunable,
)
from mtbench.data.downloads import content_digest, fetch_unhashed
from mtbench.data.image_cache import ImageCache, cache_sha256, check_cache, open_cache, write_cache
from mtbench.data.preparation import made, offline, report
from mtbench_datasets.youtube8m.official import (
    N_LABELS,
    N_SHARDS,
    PLAN_URL,
    SHARD_URL,
    VOCABULARY_URL,
    WIDTH,
    convert,
    plan_fault,
    shard_name,
    vocabulary,
    vocabulary_fault,
)

VOCABULARY = "youtube8m/vocabulary.csv"
PARTITIONS = ("train", "validate")
SHARD_BYTES = (5_150_000, 1_470_000)
"""Of an average shard of each partition."""
N_TASKS = 16
Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class YouTube8MOptions:
    """How much of it."""

    shards: int = tunable(40, minimum=1, maximum=N_SHARDS, help="shards of each partition, about 1,300 videos a pair")
    labels: int = tunable(100, minimum=1, maximum=N_LABELS, help="labels of a vertical at most, the most frequent")


class YouTube8M(Dataset):
    """Name what a video shows, vertical by vertical."""

    name = "youtube8m"
    title = "YouTube-8M, labels of 16 verticals"
    licence = "CC BY 4.0"
    licence_text = """The YouTube-8M data set is made available by Google LLC under a Creative Commons Attribution 4.0
International licence, https://creativecommons.org/licenses/by/4.0/: you may share and adapt it for any purpose if you
give appropriate credit, link to the licence and say what you changed. It comes without warranties."""
    citation = Reference("YouTube-8M: A large-scale video classification benchmark", "2016", arxiv="1609.08675")
    Options = YouTube8MOptions
    recipe = Recipe(backbone="mlp", hidden=256, learning_rate=1e-3, batch_size=128, max_epochs=20, patience=4)
    selection_metric = "map_at_10"
    report_metric = "map_at_10"
    n_splits = 20
    default_splits = 5

    def files(self, root: Path, options: YouTube8MOptions) -> tuple[str, ...]:
        """The vocabulary and the converted shards."""
        return (VOCABULARY, *(converted(p, number) for p in PARTITIONS for number in range(options.shards)))

    def download_bytes(self, root: Path, options: YouTube8MOptions) -> int:
        """What the missing shards have on average: the publisher states 31 GB for all."""
        missing = [path for path in self.files(root, options)[1:] if not (root / path).is_file()]
        return sum(SHARD_BYTES[Path(path).name.startswith(PARTITIONS[1])] for path in missing)

    def check(self, root: Path, path: str) -> None:
        """Reads the vocabulary, or compares a converted shard with the SHA-256 that it was written with."""
        if path == VOCABULARY:
            vocabulary(_there(root, path, self.name), self.name)
        else:
            check_cache(root / path, self.name)

    def content_hash(self, root: Path, options: YouTube8MOptions) -> str:
        """Stands for the vocabulary and the shards that are taken."""
        shards = [cache_sha256(root / path) for path in self.files(root, options)[1:]]
        record = [self.name, self.version, content_digest(root / VOCABULARY), shards]
        return hashlib.sha256(json.dumps(record).encode()).hexdigest()

    def prepare(self, root: Path, options: Any = None) -> None:
        """Fetches and converts what is missing, one shard after the other."""
        n = (options or self.Options()).shards
        fetch_unhashed(VOCABULARY_URL, root, VOCABULARY, self.name, functools.partial(vocabulary_fault, self.name))
        for partition in PARTITIONS:
            for number in range(n):
                target = root / converted(partition, number)
                if not target.is_file():
                    shard, ours = self._shard(root, partition, number)
                    convert(shard, target, self.name)
                    if ours:
                        shard.unlink()
                report(f"{self.name} {partition}", number + 1, n, "shards")

    def load(self, root: Path, split: int, options: YouTube8MOptions) -> Problem:
        """Draws a split of the videos, and gives each task its rows."""
        self.check_split(split)
        known = vocabulary(_there(root, VOCABULARY, self.name), self.name)
        verticals, task, column = labels_of(known, options.labels)
        widths = np.bincount(task[task >= 0])
        videos = self._videos(root, options)
        rng = np.random.default_rng(seed_from(self.name, split, "split"))
        train, held_out = (rng.permutation(np.flatnonzero(videos.columns["partition"] == p)) for p in (0, 1))
        drawn = {
            "train": train[: len(train) - len(train) // 10],
            "validation": held_out[: len(held_out) // 2],
            "test": held_out[len(held_out) // 2 :],
        }
        parts = {name: _rows(videos, np.sort(chosen), task, column, widths) for name, chosen in drawn.items()}
        tasks = tuple(Task(v, TaskKind.MULTILABEL, int(n)) for v, n in zip(verticals, widths, strict=True))
        return Problem(self.name, split, tasks, parts)

    def _videos(self, root: Path, options: YouTube8MOptions) -> ImageCache:
        """Features [N, 1152] of all videos of both partitions in one file, and their labels."""
        paths = [_there(root, path, self.name) for path in self.files(root, options)[1:]]
        key = self.content_hash(root, options)
        place = f"youtube8m/videos_{options.shards}.h5"
        path = made(root, place, key, lambda target: _join(paths, target, key, self.name), self.name)
        videos = _opened(path, path.stat().st_mtime_ns, self.name)
        if videos.attributes.get("key") != key:
            raise DataError(
                f"{self.name}: {path} must hold the videos of key {key}, found {videos.attributes.get('key')}. Delete "
                "it: it is made again at first use."
            )
        return videos

    def _shard(self, root: Path, partition: str, number: int) -> tuple[Path, bool]:
        """A shard as published, and whether it was fetched just now."""
        for name in (f"{partition}{number:04}.tfrecord", shard_name(partition, number)):
            if (root / "youtube8m" / name).is_file():
                return root / "youtube8m" / name, False
        name = shard_name(partition, number)
        if offline():
            raise DataError(
                f"{self.name}: shard {number} of {partition} is missing, and nothing is fetched (--offline or "
                f"MTBENCH_OFFLINE). Get it from {SHARD_URL.format(partition, name)} and put it at "
                f"{root / 'youtube8m' / name}."
            )
        plan = f"youtube8m/video_{partition}.json"
        fault = functools.partial(plan_fault, partition)
        md5 = json.loads(fetch_unhashed(PLAN_URL.format(partition), root, plan, self.name, fault).read_bytes())["files"]
        source = Source(f"youtube8m/{name}", "", SHARD_URL.format(partition, name), 0, md5[name])
        return fetch(source, root, self.name), True


def converted(partition: str, number: int) -> str:
    """Where a shard lies once it is converted."""
    return f"youtube8m/video/{partition}{number:04}.h5"


def labels_of(known: list[tuple[int, str]], most: int) -> tuple[list[str], Numbers, Numbers]:
    """The labels of each task.

    Args:
        known: Training videos and vertical of each label.
        most: Labels of a task at most.

    Returns:
        The tasks' verticals, in order of their names; the task of each label, and its column there, -1 where it has
        none. Columns are in order of the labels.
    """
    by_vertical: dict[str, list[int]] = {}
    for label, (_, vertical) in enumerate(known):
        if vertical not in ("", "(Unknown)"):
            by_vertical.setdefault(vertical, []).append(label)
    n_videos = {vertical: sum(known[label][0] for label in labels) for vertical, labels in by_vertical.items()}
    chosen = sorted(sorted(n_videos, key=lambda vertical: (-n_videos[vertical], vertical))[:N_TASKS])
    task, column = np.full((2, len(known)), -1)
    for t, vertical in enumerate(chosen):
        taken = sorted(sorted(by_vertical[vertical], key=lambda label: (-known[label][0], label))[:most])
        task[taken], column[taken] = t, np.arange(len(taken))
    return chosen, task, column


def _rows(videos: ImageCache, chosen: Numbers, task: Numbers, column: Numbers, widths: Numbers) -> Part:
    """The rows of all tasks that chosen videos (in order) make; task and column of each label."""
    label, first = (np.asarray(videos.columns[name]) for name in ("label", "first"))
    counts = np.diff(first)[chosen]
    owner = np.repeat(chosen, counts)
    at = np.repeat(first[chosen], counts) + np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    owner, label = owner[task[label[at]] >= 0], label[at][task[label[at]] >= 0]
    keys, row = np.unique(owner * len(widths) + task[label], return_inverse=True)
    own = keys % len(widths)
    labels = np.where(np.arange(widths.max()) < widths[own, None], np.float32(0), np.float32(np.nan))
    labels[row, column[label]] = 1
    return Part(Rows(videos.images, keys // len(widths)), labels, own)


def _join(paths: list[Path], target: Path, key: str, dataset: str) -> None:
    """Writes converted shards, those of train first, as one file."""
    shards = [open_cache(path, dataset) for path in paths]
    counts = [len(shard.images) for shard in shards]
    labels = [np.asarray(shard.columns["label"]) for shard in shards]
    sizes = np.concatenate([np.diff(np.asarray(shard.columns["first"])) for shard in shards])
    partition = np.repeat([int(path.stem.startswith(PARTITIONS[1])) for path in paths], counts)
    columns = {"partition": partition, "label": np.concatenate(labels), "first": np.cumsum([0, *sizes])}

    def rows() -> Iterator[tuple[int, NDArray[np.float32]]]:
        for i, (shard, end) in enumerate(zip(shards, np.cumsum(counts), strict=True)):
            yield from zip(range(end - len(shard.images), end), shard.images, strict=True)
            report(dataset, i + 1, len(shards), "shards")

    write_cache(target, dataset, (sum(counts), WIDTH), rows(), columns, {"key": key}, np.float32)


@functools.lru_cache(maxsize=2)
def _opened(path: Path, changed_ns: int, dataset: str) -> ImageCache:
    """One object for all splits of a process, so that its stacks see that they share their rows."""
    return open_cache(path, dataset)


def _there(root: Path, path: str, dataset: str) -> Path:
    if not (root / path).is_file():
        raise DataError(
            f"{dataset}: no file '{path}', looked for at {root / path}. `mtbench data prepare {dataset}` makes it; or "
            "name the folder that holds it with --data DIR or MTBENCH_DATA."
        )
    return root / path


@hookimpl
def mtbench_datasets() -> list[type[Dataset]]:
    """The data set of this file."""
    return [YouTube8M]
