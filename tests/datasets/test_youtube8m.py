import csv
import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from mtbench_datasets import youtube8m
from mtbench_datasets.youtube8m import YouTube8M, labels_of, official
from official_files_youtube8m import LABELS_OF, VERTICALS, plan, videos, vocabulary, write_youtube8m
from tfrecords import tfrecord

import mtbench.data.http_download
from mtbench import DataError, Problem
from mtbench.data.preparation import kept_offline, watched
from mtbench.testing import DatasetContract

VERTICAL = [v for v, n in LABELS_OF.items() for _ in range(n)]


@pytest.fixture(autouse=True)
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        mtbench.data.http_download.pooch, "HTTPDownloader", lambda **_: pytest.fail("the network was used")
    )


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_youtube8m(tmp_path / "root", monkeypatch)
    return tmp_path / "root"


@pytest.fixture
def root(raw: Path) -> Path:
    YouTube8M().prepare(raw)
    return raw


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What the network holds, by address; what was asked for is under "asked"."""
    content: dict = {"asked": []}

    def downloader(**_: object) -> Callable:
        def get(url: str, stream: io.IOBase, _: object) -> None:
            content["asked"].append(url)
            if url not in content:
                raise OSError(f"404 for {url}")
            stream.write(content[url])

        return get

    monkeypatch.setattr(mtbench.data.http_download.pooch, "HTTPDownloader", downloader)
    return content


def load(root: Path, split: int = 0, **options: int) -> Problem:
    return YouTube8M().load(root, split, YouTube8M.Options(**options))


class TestContract(DatasetContract):
    dataset = YouTube8M

    @pytest.fixture(autouse=True)
    def _prepared(self, root: Path) -> None:
        self.root = root


def test_shards_are_named_as_on_the_server():
    names = [official.shard_name("train", n) for n in (0, 1, 25, 26, 51, 52, 61, 62, official.N_SHARDS - 1)]
    assert [name[5:7] for name in names] == ["aa", "ab", "az", "aA", "aZ", "a0", "a9", "ba", "99"]
    assert official.N_SHARDS == 3844
    assert names[0] == "trainaa.tfrecord"


def test_the_sixteen_verticals_with_most_videos_are_tasks(root):
    problem = load(root)
    assert [task.name for task in problem.tasks] == sorted(VERTICALS)[3:]
    assert [task.n_outputs for task in problem.tasks] == [3] * 15 + [5]
    assert problem.input_shape == (1152,)


def test_of_a_vertical_the_labels_with_most_videos_are_taken():
    known = [(5, "B"), (9, "A"), (7, "B"), (7, "B"), (100, ""), (100, "(Unknown)"), (8, "A"), (6, "B")]
    verticals, task, column = labels_of(known, 2)
    assert verticals == ["A", "B"]
    assert task.tolist() == [-1, 0, 1, 1, -1, -1, 0, -1]
    assert column.tolist() == [-1, 0, 0, 1, -1, -1, 1, -1]


def slow_rows(partition: str, problem: Problem) -> dict[tuple, set]:
    """(features, task) -> its labels' names, straight from the records."""
    names = [task.name for task in problem.tasks]
    rows: dict[tuple, set] = {}
    for number in range(2):
        for video in videos(partition, number, VERTICAL):
            key = (*video["mean_rgb"], *video["mean_audio"])
            for label in video["labels"]:
                if VERTICAL[label] in names:
                    rows.setdefault((key, VERTICAL[label]), set()).add(label)
    return rows


def found_rows(problem: Problem, *parts: str) -> dict[tuple, set]:
    rows = {}
    for name in parts:
        part = problem.parts[name]
        for features, labels, t in zip(np.asarray(part.inputs), part.labels, part.task, strict=True):
            task = problem.tasks[t]
            first = VERTICAL.index(task.name)
            assert np.isnan(labels[task.n_outputs :]).all()
            key = (tuple(features.tolist()), task.name)
            assert key not in rows
            rows[key] = {first + int(c) for c in np.flatnonzero(labels[: task.n_outputs])}
    return rows


def test_a_video_is_a_row_of_every_task_that_it_has_labels_of(root):
    problem = load(root)
    expected = slow_rows("validate", problem)
    assert found_rows(problem, "validation", "test") == expected
    assert len(expected) > len({key for key, _ in expected})
    train = slow_rows("train", problem)
    found = found_rows(problem, "train")
    assert found.items() <= train.items()
    assert len({key for key, _ in train} - {key for key, _ in found}) <= 8


def test_nine_of_ten_train_videos_train_and_no_video_is_in_two_parts(root):
    parts = load(root).parts
    seen = {name: set(part.inputs.index.tolist()) for name, part in parts.items()}
    assert not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]
    assert max(seen["train"]) < 80 <= min(seen["validation"] | seen["test"])
    assert 60 <= len(seen["train"]) <= 72
    assert all(30 <= len(seen[name]) <= 40 for name in ("validation", "test"))


def test_all_splits_and_parts_share_one_array(root):
    rows = [part.inputs for split in range(3) for part in load(root, split).parts.values()]
    assert len({some.place for some in rows}) == 1


def test_fewer_labels_leave_the_videos_of_the_others_out(root):
    problem = load(root, labels=1)
    assert [task.n_outputs for task in problem.tasks] == [1] * 16
    assert all((part.labels == 1).all() for part in problem.parts.values())
    assert problem.parts["train"].n_rows < load(root).parts["train"].n_rows


def test_fewer_shards_are_the_first_ones(root):
    one = load(root, shards=1)
    bases = {name: part.inputs.base for name, part in one.parts.items()}
    assert len(bases["train"]) == 80
    first = videos("train", 0, VERTICAL)[0]
    assert np.array_equal(bases["train"][0], np.float32(first["mean_rgb"] + first["mean_audio"]))


def test_shards_are_converted_as_they_are(root):
    with h5py.File(root / "youtube8m" / "video" / "validate0001.h5") as file:
        written = videos("validate", 1, VERTICAL)
        assert file["images"].dtype == np.float32
        assert np.array_equal(file["images"][:], np.float32([v["mean_rgb"] + v["mean_audio"] for v in written]))
        assert [text.decode() for text in file["columns/id"]] == [v["id"][0].decode() for v in written]
        first, label = file["columns/first"][:], file["columns/label"][:]
    assert [label[a:b].tolist() for a, b in pairwise(first)] == [sorted(v["labels"]) for v in written]


def test_preparing_goes_on_with_the_shard_that_is_missing(raw, monkeypatch):
    converted = []
    monkeypatch.setattr(
        youtube8m, "convert", lambda shard, *rest: converted.append(shard.name) or official.convert(shard, *rest)
    )
    damaged = raw / "youtube8m" / "validate0000.tfrecord"
    good = damaged.read_bytes()
    damaged.write_bytes(good[:-1])
    with pytest.raises(DataError, match="validate0000.tfrecord must have"):
        YouTube8M().prepare(raw)
    damaged.write_bytes(good)
    YouTube8M().prepare(raw)
    assert converted == [f"{name}.tfrecord" for name in ("train0000", "train0001", "validate0000", *[
        "validate0000", "validate0001",
    ])]  # fmt: skip
    YouTube8M().prepare(raw)
    assert len(converted) == 5
    assert good == damaged.read_bytes()


def test_what_is_to_be_fetched_shrinks_with_what_is_there(raw, tmp_path):
    options = YouTube8M.Options()
    nothing = YouTube8M().download_bytes(tmp_path / "empty", options)
    assert nothing == 2 * (5_150_000 + 1_470_000)
    YouTube8M().prepare(raw)
    assert YouTube8M().download_bytes(raw, options) == 0
    (raw / "youtube8m" / "video" / "validate0001.h5").unlink()
    assert YouTube8M().download_bytes(raw, options) == 1_470_000


def test_shards_under_the_servers_names_serve_too(raw):
    for partition in youtube8m.PARTITIONS:
        (raw / "youtube8m" / f"{partition}0001.tfrecord").rename(raw / "youtube8m" / f"{partition}ab.tfrecord")
    YouTube8M().prepare(raw)
    load(raw)


def test_missing_shards_are_fetched_compared_with_the_plan_and_not_kept(raw, server):
    shards = {p: (raw / "youtube8m" / f"{p}0001.tfrecord").read_bytes() for p in youtube8m.PARTITIONS}
    for partition, content in shards.items():
        (raw / "youtube8m" / f"{partition}0001.tfrecord").unlink()
        server[f"http://data.yt8m.org/2/download_plans/video_{partition}.json"] = plan(partition, {1: content})
        server[f"http://us.data.yt8m.org/2/video/{partition}/{partition}ab.tfrecord"] = content
    told = []
    with watched(lambda *what: told.append(what)):
        YouTube8M().prepare(raw)
    assert len(server["asked"]) == 4
    assert not list((raw / "youtube8m").glob("*ab.tfrecord*"))
    assert (raw / "youtube8m" / "train0000.tfrecord").is_file()
    assert ("youtube8m validate", 2, 2, "shards") in told
    YouTube8M().prepare(raw)
    assert len(server["asked"]) == 4
    load(raw)


def test_offline_a_missing_shard_is_named_with_its_address(raw):
    (raw / "youtube8m" / "train0001.tfrecord").unlink()
    with (
        kept_offline(),
        pytest.raises(DataError, match="shard 1 of train is missing, and nothing is fetched") as caught,
    ):
        YouTube8M().prepare(raw)
    assert "http://us.data.yt8m.org/2/video/train/trainab.tfrecord" in str(caught.value)
    assert str(raw / "youtube8m" / "trainab.tfrecord") in str(caught.value)


def test_a_shard_that_is_not_what_the_plan_says_is_refused(raw, server):
    (raw / "youtube8m" / "train0001.tfrecord").unlink()
    server["http://data.yt8m.org/2/download_plans/video_train.json"] = plan("train", {1: b"something else"})
    server["http://us.data.yt8m.org/2/video/train/trainab.tfrecord"] = tfrecord(videos("train", 1, VERTICAL))
    with pytest.raises(DataError, match="trainab.tfrecord must give content with MD5 [0-9a-f]{32}, found [0-9a-f]{32}"):
        YouTube8M().prepare(raw)
    assert (raw / "youtube8m" / "video" / "train0000.h5").is_file()


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"files": {}}', b'{"files": {"trainaa.tfrecord": "12"}}'])
def test_a_plan_that_is_none_is_refused(raw, server, content):
    (raw / "youtube8m" / "train0001.tfrecord").unlink()
    server["http://data.yt8m.org/2/download_plans/video_train.json"] = content
    with pytest.raises(DataError, match=r"video_train.json must (be a JSON object|have the MD5 of 3844 shards)"):
        YouTube8M().prepare(raw)


def test_the_vocabulary_is_fetched_and_looked_at(raw, server):
    path, address = raw / "youtube8m" / "vocabulary.csv", "https://research.google.com/youtube8m/csv/2/vocabulary.csv"
    path.unlink()
    server[address] = b"<html>not found</html>"
    with pytest.raises(DataError, match=r"must have the columns .*'Vertical1'"):
        YouTube8M().prepare(raw)
    server[address] = vocabulary(VERTICAL)
    YouTube8M().prepare(raw)
    with path.open(newline="") as stream:
        assert list(csv.reader(stream))[1][5] == VERTICAL[0]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda text: text.replace("\n1,", "\n2,", 1), r"must number 61 labels from 0; found 61"),
        (lambda text: "\n".join(text.split("\r\n")[:30]), r"must number 61 labels from 0; found"),
        (lambda text: text.replace("\n3,", "\nthree,", 1), "whole numbers"),
        (lambda text: text.replace("TrainVideoCount", "Count"), r"must have the columns .*'TrainVideoCount'"),
    ],
)
def test_another_vocabulary_is_refused(root, change, match):
    path = root / "youtube8m" / "vocabulary.csv"
    path.write_bytes(change(path.read_bytes().decode()).encode())
    for use in (load, lambda root: YouTube8M().check(root, "youtube8m/vocabulary.csv")):
        with pytest.raises(DataError, match=match):
            use(root)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"labels": [999]}, "labels \\[999\\]"),
        ({"labels": [-1]}, "labels \\[-1\\]"),
        ({"mean_rgb": [0.0] * 1023}, "\\(1023,\\)"),
        ({"mean_audio": [float("nan")] * 128}, "not finite"),
        ({"mean_audio": [b"text"]}, "found otherwise"),
        ({"id": None}, "KeyError\\('id'\\)"),
    ],
)
def test_a_record_that_is_no_such_video_is_named(raw, tmp_path, changes, match):
    good, other = videos("train", 0, VERTICAL)[:2]
    broken = {name: value for name, value in {**other, **changes}.items() if value is not None}
    (tmp_path / "shard").write_bytes(tfrecord([good, broken]))
    with pytest.raises(DataError, match=f"record 1 of .*shard must have an id.*{match}"):
        official.convert(tmp_path / "shard", tmp_path / "out.h5", "youtube8m")
    assert not (tmp_path / "out.h5").exists()


def test_a_damaged_conversion_is_found_by_the_check(root):
    path = root / "youtube8m" / "video" / "train0000.h5"
    YouTube8M().check(root, "youtube8m/video/train0000.h5")
    first = np.float32(videos("train", 0, VERTICAL)[0]["mean_rgb"]).tobytes()
    content = path.read_bytes()
    assert first in content
    path.write_bytes(content.replace(first, first[::-1]))
    with pytest.raises(DataError, match="must hold content with SHA-256"):
        YouTube8M().check(root, "youtube8m/video/train0000.h5")


def test_other_shards_are_other_content_and_videos_that_were_joined_before_are_refused(root):
    options = YouTube8M.Options()
    before = YouTube8M().content_hash(root, options)
    assert YouTube8M().content_hash(root, YouTube8M.Options(shards=1)) != before
    load(root)
    (root / "youtube8m" / "video" / "train0000.h5").unlink()
    (root / "youtube8m" / "train0000.tfrecord").write_bytes(tfrecord(videos("train", 7, VERTICAL)))
    YouTube8M().prepare(root)
    assert YouTube8M().content_hash(root, options) != before
    with pytest.raises(DataError, match=r"videos_2.h5 must hold the videos of key [0-9a-f]{64}, found [0-9a-f]{64}"):
        load(root)
    (root / "youtube8m" / "videos_2.h5").unlink()
    load(root)
