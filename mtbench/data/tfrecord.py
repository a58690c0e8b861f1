"""TFRecord files and the tf.train.Example messages in them, read without TensorFlow.

A file is records one after the other: length (uint64), masked CRC-32C of the length, data, masked CRC-32C of the data,
all little-endian. An Example is a protocol buffer: Example.features = 1, Features.feature = 1 (a map: key = 1,
value = 2), Feature.bytes_list = 1, float_list = 2, int64_list = 3, and of each list value = 1, packed or not.
https://www.tensorflow.org/tutorials/load_data/tfrecord states both.

Guarantees: nothing is returned whose checksum is wrong; a file that ends within a record is an error; every error
names the file and the record.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtbench.errors import DataError

Feature = list[bytes] | NDArray[np.float32] | NDArray[np.int64]
"""What a feature holds: texts, numbers or whole numbers."""

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_BLOCK = 8192
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def examples(path: Path, dataset: str) -> Iterator[dict[str, Feature]]:
    """The Examples of a TFRecord file, in its order.

    Args:
        path: The file.
        dataset: Name of the data set, for the messages.

    Yields:
        The features of each by name.

    Raises:
        DataError: The file is missing, cut off or damaged, or holds other messages.
    """
    for number, record in enumerate(records(path, dataset)):
        try:
            yield parse_example(record)
        except (ValueError, IndexError, struct.error) as error:
            raise DataError(
                f"{dataset}: record {number} of {path} must be a tf.train.Example; found otherwise ({error})."
            ) from error


def records(path: Path, dataset: str) -> Iterator[bytes]:
    """The records of a TFRecord file, once their checksums are known to be right.

    Args:
        path: The file.
        dataset: Name of the data set, for the messages.

    Raises:
        DataError: The file is missing, cut off or damaged.
    """
    remedy = f"Delete it and run `mtbench data prepare {dataset}` again."
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            number = 0
            while head := stream.read(12):
                where = f"{dataset}: record {number} of {path}"
                if len(head) < 12:
                    raise DataError(f"{where} must begin with 12 bytes; found {len(head)} at the end. {remedy}")
                _compare(head[:8], head[8:], f"{where}, length", remedy)
                n_bytes = int.from_bytes(head[:8], "little")
                left = size - stream.tell()
                if n_bytes + 4 > left:
                    raise DataError(f"{where} must have {n_bytes + 4:,} more bytes; found {left:,}. {remedy}")
                record = stream.read(n_bytes)
                _compare(record, stream.read(4), where, remedy)
                yield record
                number += 1
    except OSError as error:
        raise DataError(f"{dataset}: cannot read {path}: {error}. {remedy}") from error


def masked_crc(data: bytes) -> int:
    """CRC-32C of bytes, rotated and shifted as TFRecord files keep it."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of bytes.

    A checksum is linear: what a byte adds to it depends on the byte and on how many follow. So all bytes of a block are
    looked up at once, instead of one after the other, and their shares are joined.
    """
    shares, state = _shares(), 0xFFFFFFFF
    for start in range(0, len(data), _BLOCK):
        block = np.frombuffer(data, np.uint8, min(_BLOCK, len(data) - start), start)
        # The state so far acts as if it were added to the next four bytes; of a shorter rest it leaves its upper part.
        first = block[:4] ^ np.frombuffer(state.to_bytes(4, "little"), np.uint8)[: len(block)]
        left = np.arange(len(block) - 1, -1, -1)
        joined = np.bitwise_xor.reduce(shares[left[:4], first])
        joined ^= np.bitwise_xor.reduce(shares[left[4:], block[4:]], initial=np.uint32(0))
        state = int(joined) ^ (state >> 8 * len(block) if len(block) < 4 else 0)
    return state ^ 0xFFFFFFFF


@functools.cache
def _shares() -> NDArray[np.uint32]:
    """What a byte followed by k others adds to a checksum: [8192, 256]."""
    one = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        one = np.where(one & 1, one >> 1 ^ np.uint32(_POLYNOMIAL), one >> 1).astype(np.uint32)
    table = np.empty((_BLOCK, 256), np.uint32)
    table[0] = one
    for k in range(1, _BLOCK):
        table[k] = table[k - 1] >> 8 ^ one[table[k - 1] & 0xFF]
    return table


def parse_example(record: bytes) -> dict[str, Feature]:
    """The features of a serialised tf.train.Example.

    Args:
        record: The message.

    Returns:
        By name: texts, float32 [n] or int64 [n]. A feature without a list is left out.

    Raises:
        ValueError: It is no such message.
    """
    found: dict[str, Feature] = {}
    for features in _messages(record, 1):
        for entry in _messages(features, 1):
            name = b"".join(_messages(entry, 1)[-1:]).decode()
            for value in _messages(entry, 2):
                for kind, read in _READERS.items():
                    for listed in _messages(value, kind):
                        found[name] = read(listed)
    return found


def _texts(listed: bytes) -> Feature:
    return _messages(listed, 1)


def _floats(listed: bytes) -> Feature:
    return np.frombuffer(b"".join(_fields(listed, 1, _BYTES, _FIXED32)), "<f4").astype(np.float32)


def _integers(listed: bytes) -> Feature:
    values: list[int] = []
    for raw in _fields(listed, 1, _BYTES, _VARINT):
        at = 0
        while at < len(raw):
            value, at = _varint(raw, at)
            values.append(value - (value >> 63 << 64))  # negative numbers come as two's complement of 64 bits
    return np.array(values, dtype=np.int64)


_READERS: dict[int, Callable[[bytes], Feature]] = {1: _texts, 2: _floats, 3: _integers}


def _messages(message: bytes, number: int) -> list[bytes]:
    return _fields(message, number, _BYTES)


def _fields(message: bytes, number: int, *wires: int) -> list[bytes]:
    """The bytes of the fields of a number, which must have one of these wire types."""
    found, at = [], 0
    while at < len(message):
        key, at = _varint(message, at)
        wire, start = key & 7, at
        if wire == _VARINT:
            _, at = _varint(message, at)
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        elif wire == _BYTES:
            n_bytes, start = _varint(message, at)
            at = start + n_bytes
        else:
            raise ValueError(f"a field of wire type {wire}")
        if at > len(message):
            raise ValueError("a field that ends beyond its message")
        if key >> 3 == number:
            if wire not in wires:
                raise ValueError(f"field {number} of wire type {wire}")
            found.append(message[start:at])
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError("a number of more than 64 bits")


def _compare(data: bytes, stored: bytes, where: str, remedy: str) -> None:
    expected, found = int.from_bytes(stored, "little"), masked_crc(data)
    if found != expected or len(stored) < 4:
        raise DataError(f"{where}: must have the masked CRC-32C {expected:08x}; found {found:08x}. {remedy}")
