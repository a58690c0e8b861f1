"""Writes TFRecord files of tf.train.Example messages, by a way of its own: bit by bit checksums, nested messages."""

import struct
from collections.abc import Iterable, Mapping, Sequence

Feature = Sequence[bytes] | Sequence[int] | Sequence[float]


def tfrecord(examples: Iterable[Mapping[str, Feature]]) -> bytes:
    """A whole file."""
    return b"".join(framed(example(features)) for features in examples)


def framed(data: bytes) -> bytes:
    """A record around data."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(length)) + data + struct.pack("<I", masked(data))


def example(features: Mapping[str, Feature]) -> bytes:
    """A serialised Example; lists of numbers are packed, as TensorFlow writes them."""
    return field(1, b"".join(field(1, field(1, name.encode()) + field(2, feature(v))) for name, v in features.items()))


def feature(values: Feature) -> bytes:
    """A serialised Feature."""
    if isinstance(values[0], bytes):
        return field(1, b"".join(field(1, value) for value in values))
    if isinstance(values[0], int):
        return field(3, field(1, b"".join(varint(value) for value in values)))
    return field(2, field(1, struct.pack(f"<{len(values)}f", *values)))


def field(number: int, content: bytes) -> bytes:
    """A field with a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; negative numbers as 64 bits."""
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def masked(data: bytes) -> int:
    """The masked CRC-32C of data."""
    crc = slow_crc32c(data)
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


def slow_crc32c(data: bytes) -> int:
    """Byte by byte, by the table of what a byte does to the checksum."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[crc & 0xFF ^ byte]
    return crc ^ 0xFFFFFFFF


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


TABLE = [_entry(byte) for byte in range(256)]
