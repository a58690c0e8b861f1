import struct
from pathlib import Path

import numpy as np
import pytest
from tfrecords import example, field, framed, slow_crc32c, tfrecord, varint

from mtbench import DataError
from mtbench.data.tfrecord import crc32c, examples, parse_example, records

VIDEOS = [
    {"id": [b"ab12"], "labels": [0, 300, 3861], "mean_rgb": [0.5, -1.25, 3e-9], "mean_audio": [1.0]},
    {"id": [b""], "labels": [-7], "mean_rgb": [float(i) for i in range(5000)], "mean_audio": [2.0]},
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "train0000.tfrecord"
    path.write_bytes(tfrecord(VIDEOS))
    return path


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"", 0),
    ],
)
def test_checksums_are_those_of_rfc_3720(data, crc):
    assert crc32c(data) == crc == slow_crc32c(data)


@pytest.mark.parametrize("n_bytes", [1, 2, 3, 4, 5, 8191, 8192, 8193, 8195, 8196, 20000])
def test_checksums_of_any_length_equal_a_loop_over_bytes(n_bytes):
    data = np.random.default_rng(n_bytes).bytes(n_bytes)
    assert crc32c(data) == slow_crc32c(data)


def test_what_was_written_is_read(path):
    found = list(examples(path, "videos"))
    assert len(found) == 2
    for read, written in zip(found, VIDEOS, strict=True):
        assert read["id"] == written["id"]
        assert read["labels"].dtype == np.int64
        assert read["labels"].tolist() == written["labels"]
        for name in ("mean_rgb", "mean_audio"):
            assert read[name].dtype == np.float32
            assert np.array_equal(read[name], np.float32(written[name]))


def test_numbers_that_are_not_packed_are_read_too():
    floats = field(2, b"".join(varint(1 << 3 | 5) + struct.pack("<f", v) for v in (1.5, -2.0)))
    integers = field(3, b"".join(varint(1 << 3) + varint(v) for v in (7, -1)))
    message = field(1, field(1, field(1, b"x") + field(2, floats)) + field(1, field(1, b"y") + field(2, integers)))
    found = parse_example(message)
    assert found["x"].tolist() == [1.5, -2.0]
    assert found["y"].tolist() == [7, -1]


def test_unknown_fields_are_passed_over():
    unknown = varint(9 << 3) + varint(5) + varint(10 << 3 | 1) + bytes(8) + varint(11 << 3 | 5) + bytes(4)
    assert parse_example(unknown + example({"a": [1]}) + field(12, b"more"))["a"].tolist() == [1]


def test_an_empty_file_has_no_records(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    assert list(records(tmp_path / "a", "videos")) == []


def test_every_flipped_bit_is_found(tmp_path):
    content = framed(example({"labels": [1, 2, 3]}))
    for at in range(len(content)):
        path = tmp_path / "flipped"
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        with pytest.raises(DataError, match=r"record 0 of .*masked CRC-32C [0-9a-f]{8}; found [0-9a-f]{8}"):
            list(records(path, "videos"))


def test_every_truncation_is_found_at_its_record(path):
    content = path.read_bytes()
    first = len(framed(example(VIDEOS[0])))
    for n_bytes in (1, 11, 12, 40, first - 1, first + 1, first + 12, len(content) - 5, len(content) - 1):
        path.write_bytes(content[:n_bytes])
        with pytest.raises(DataError) as caught:
            list(records(path, "videos"))
        assert f"videos: record {int(n_bytes > first)} of {path}" in str(caught.value)
        assert "`mtbench data prepare videos` again" in str(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a\xff",  # a length that does not end
        b"\x0a\x05abc",  # a field beyond the end
        b"\x0b",  # a wire type that is no longer in use
        varint(1 << 3) + varint(1),  # a number where features must be
        field(1, field(1, field(1, b"x") + field(2, field(2, field(1, b"123"))))),  # three bytes of a float
        b"\xff" * 11,  # a key of more than 64 bits
        field(1, field(1, field(1, b"\xff") + field(2, field(3, field(1, b"\x01"))))),  # a name that is no text
    ],
)
def test_another_message_is_an_error_that_names_the_record(tmp_path, message):
    path = tmp_path / "other"
    path.write_bytes(tfrecord(VIDEOS) + framed(message))
    with pytest.raises(DataError, match=r"videos: record 2 of .*other must be a tf.train.Example; found otherwise"):
        list(examples(path, "videos"))


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"videos: cannot read .*nothing"):
        list(records(tmp_path / "nothing", "videos"))
