"""The official files of YouTube-8M: where they come from, what they are called, what they must hold; conversion.

Shapes: n videos of a shard, rows [1152].
"""

from __future__ import annotations

import csv
import json
import string
from pathlib import Path

import numpy as np

from mtbench import DataError
from mtbench.data.image_cache import write_cache
from mtbench.data.tfrecord import examples

VOCABULARY_URL = "https://research.google.com/youtube8m/csv/2/vocabulary.csv"
PLAN_URL = "http://data.yt8m.org/2/download_plans/video_{}.json"
SHARD_URL = "http://us.data.yt8m.org/2/video/{}/{}"
LETTERS = string.ascii_lowercase + string.ascii_uppercase + string.digits
N_SHARDS = len(LETTERS) ** 2
N_LABELS = 3862
FEATURES = {"mean_rgb": 1024, "mean_audio": 128}
WIDTH = sum(FEATURES.values())
COLUMNS = ("Index", "TrainVideoCount", "Vertical1")


def shard_name(partition: str, number: int) -> str:
    """The name of a shard on the server: its number in two digits to the base of 62 letters."""
    return f"{partition}{LETTERS[number // len(LETTERS)]}{LETTERS[number % len(LETTERS)]}.tfrecord"


def convert(shard: Path, target: Path, dataset: str) -> None:
    """Writes a TFRecord shard of video-level features as HDF5, complete or not at all.

    Args:
        shard: The official file: Examples with "id", "labels", "mean_rgb" and "mean_audio".
        target: Where it goes: "images" float32 [n, 1152]; columns "id", "label" (of all videos, one after the other)
            and "first" [n + 1], where each video's labels begin.
        dataset: Name of the data set, for the messages.

    Raises:
        DataError: A record is damaged, or is no such Example.
    """
    rows, ids, labels = [], [], []
    for number, example in enumerate(examples(shard, dataset)):
        try:
            parts = [np.asarray(example[name], np.float32) for name in FEATURES]
            label = np.asarray(example["labels"], np.int64)
            ids.append(bytes(example["id"][0]).decode())
            shapes = [part.shape for part in parts]
            if shapes != [(n,) for n in FEATURES.values()] or not all(np.isfinite(part).all() for part in parts):
                raise ValueError(f"features of shape {shapes}, or values that are not finite")
            if not ((label >= 0) & (label < N_LABELS)).all():
                raise ValueError(f"labels {label.tolist()}")
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise DataError(
                f"{dataset}: record {number} of {shard} must have an id, labels from 0 to {N_LABELS - 1} and finite "
                f"features {FEATURES}; found otherwise ({error!r})."
            ) from error
        rows.append(np.concatenate(parts))
        labels.append(np.unique(label))
    first = np.cumsum([0, *map(len, labels)])
    columns = {"id": ids, "label": np.concatenate([np.zeros(0, np.int64), *labels]), "first": first}
    shape = (len(rows), WIDTH)
    write_cache(target, dataset, shape, enumerate(rows), columns, {"shard": shard.name}, np.float32)


def vocabulary(path: Path, dataset: str) -> list[tuple[int, str]]:
    """Training videos and vertical of each label, in order.

    Raises:
        DataError: The file is not the vocabulary.
    """
    fault = vocabulary_fault(dataset, path)
    if fault is not None:
        raise DataError(f"{dataset}: {path} {fault}. Delete it, and `mtbench data prepare {dataset}` fetches it again.")
    with path.open(encoding="utf-8", newline="") as stream:
        return [(int(row["TrainVideoCount"]), row["Vertical1"]) for row in csv.DictReader(stream)]


def vocabulary_fault(dataset: str, path: Path) -> str | None:
    """What is wrong with a vocabulary, of which no hash is published."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = csv.DictReader(stream)
            if not set(COLUMNS) <= set(rows.fieldnames or ()):
                return f"must have the columns {COLUMNS}; found {rows.fieldnames}"
            index = [int(row["Index"]) for row in rows if int(row["TrainVideoCount"]) >= 0]
    except (ValueError, TypeError, csv.Error) as error:
        return f"must be a CSV file with whole numbers in 'Index' and 'TrainVideoCount'; found otherwise ({error})"
    if index != list(range(N_LABELS)):
        return f"must number {N_LABELS} labels from 0; found {len(index)}, from {index[:1]} to {index[-1:]}"
    return None


def plan_fault(partition: str, path: Path) -> str | None:
    """What is wrong with a download plan, of which no hash is published."""
    try:
        files = json.loads(path.read_bytes())["files"]
        missing = [
            shard_name(partition, n) for n in range(N_SHARDS) if len(files.get(shard_name(partition, n), "")) != 32
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"must be a JSON object with 'files'; found otherwise ({error!r})"
    return f"must have the MD5 of {N_SHARDS} shards; found none of {missing[:3]}" if missing else None
