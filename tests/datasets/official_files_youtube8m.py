"""The vocabulary and the first shards of YouTube-8M in their official layout, with few labels and videos."""

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mtbench_datasets import youtube8m
from mtbench_datasets.youtube8m import official
from tfrecords import tfrecord

from mtbench import tunable

VERTICALS = [f"Vertical {c}" for c in "SRQPONMLKJIHGFEDCBA"]
"""Nineteen, the last three of them smaller than the others; (Unknown) is not among them."""
LABELS_OF = dict.fromkeys(VERTICALS, 3) | {"(Unknown)": 2, "Vertical S": 5}
N_VIDEOS = 40
COLUMNS = (
    "Index", "TrainVideoCount", "KnowledgeGraphId", "Name", "WikiUrl", "Vertical1", "Vertical2", "Vertical3",
    "WikiDescription",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FewShards(youtube8m.YouTube8MOptions):
    """Two shards of each partition."""

    shards: int = tunable(2, minimum=1, maximum=official.N_SHARDS)


def write_youtube8m(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Writes the files that the official script would fetch, and lets the loader expect so few labels and shards."""
    folder = root / "youtube8m"
    folder.mkdir(parents=True, exist_ok=True)
    vertical = [v for v, n in LABELS_OF.items() for _ in range(n)]
    (folder / "vocabulary.csv").write_bytes(vocabulary(vertical))
    for partition in youtube8m.PARTITIONS:
        for number in range(2):
            (folder / f"{partition}{number:04}.tfrecord").write_bytes(tfrecord(videos(partition, number, vertical)))
    patch.setattr(official, "N_LABELS", len(vertical))
    patch.setattr(youtube8m.YouTube8M, "Options", FewShards)


def vocabulary(vertical: Sequence[str]) -> bytes:
    """The vocabulary: most videos first, as the official one; the description has commas and a line break."""
    lines = [[*COLUMNS]]
    for label, name in enumerate(vertical):
        count = (1000 if name in VERTICALS[-3:] else 2000) - label
        lines.append(
            [str(label), str(count), f"/m/0{label}", f"Label {label}", "", name, "", "", f'A "thing",\n{label}.']
        )
    rows = _Lines()
    csv.writer(rows).writerows(lines)
    return "".join(rows).encode()


class _Lines(list[str]):
    write = list.append


def videos(partition: str, number: int, vertical: Sequence[str]) -> list[dict]:
    """Videos with labels of one to three verticals, whose features point to their labels."""
    rng = np.random.default_rng([number, *partition.encode()])
    directions = np.random.default_rng(0).normal(size=(len(vertical), 1152))
    found = []
    for i in range(N_VIDEOS):
        labels = {i % len(vertical), *rng.integers(0, len(vertical), rng.integers(0, 4)).tolist()}
        features = directions[sorted(labels)].sum(0) + 0.3 * rng.normal(size=1152)
        found.append(
            {
                "id": [f"{partition[0]}{number}{i:02}".encode()],
                "labels": [int(label) for label in rng.permutation(sorted(labels))],
                "mean_audio": features[1024:].astype(np.float32).tolist(),
                "mean_rgb": features[:1024].astype(np.float32).tolist(),
            }
        )
    return found


def plan(partition: str, known: dict[int, bytes]) -> bytes:
    """A download plan: the MD5 of every shard."""
    files = {official.shard_name(partition, number): "0" * 32 for number in range(official.N_SHARDS)}
    files |= {official.shard_name(partition, n): hashlib.md5(content).hexdigest() for n, content in known.items()}
    return json.dumps({"files": files}).encode()
