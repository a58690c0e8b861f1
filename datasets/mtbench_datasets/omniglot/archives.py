"""The two archives of Omniglot: what they must show, whatever their packing, and their images, full-sized or shrunk.

Shapes: images [105, 105]; n images of an archive, each packed into 1,379 bytes.
"""

from __future__ import annotations

import functools
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mtbench import DataError, Source
from mtbench.data.archives import members

SIDE, DRAWERS = 105, 20
MEMBER = re.compile(r"images_(?:background|evaluation)/([^/]+)/(character\d\d)/\d{4}_(\d\d)\.png")
N_BYTES = -(-SIDE * SIDE // 8)
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Archive:
    """One of the two archives.

    Attributes:
        source: Where it comes from, with the hash of the published packing.
        alphabets: It must show so many.
        characters: And so many of them together, by 20 drawers each.
        sha256: Of the names and the ink of its images, in order of the names.
    """

    source: Source
    alphabets: int
    characters: int
    sha256: str

    def there(self, root: Path, dataset: str) -> Path:
        """Where it lies.

        Raises:
            DataError: It does not.
        """
        path = root / self.source.path
        if not path.is_file():
            raise DataError(
                f"{dataset}: no file '{self.source.path}', looked for at {path}. `mtbench data prepare {dataset}` "
                "fetches it; or name the folder that holds it with --data DIR or MTBENCH_DATA."
            )
        return path

    def check(self, path: Path, dataset: str) -> None:
        """Compares what a file shows with what it must show.

        Raises:
            DataError: It shows something else.
        """
        fault = self.fault(path, dataset)
        if fault is not None:
            raise DataError(
                f"{dataset}: {path} {fault}. Delete it, and `mtbench data prepare {dataset}` fetches it again."
            )

    def fault(self, path: Path, dataset: str) -> str | None:
        """What a file must show and shows, where that is not the same."""
        try:
            names, ink = shown(path, dataset)
        except DataError as error:
            return f"cannot be read ({error})"
        counts = (len({name.split("/")[0] for name in names}), len({name[:-3] for name in names}), len(names))
        expected = (self.alphabets, self.characters, DRAWERS * self.characters)
        if counts != expected:
            return f"must show {_counted(*expected)}; found {_counted(*counts)}"
        sha256 = shown_sha256(names, ink)
        if sha256 != self.sha256:
            return f"must show images with SHA-256 {self.sha256}; found {sha256}"
        return None


def _counted(alphabets: int, characters: int, images: int) -> str:
    return f"{alphabets:,} alphabets, {characters:,} characters and {images:,} images"


def shown(path: Path, dataset: str) -> tuple[list[str], Bytes]:
    """What an archive shows; decoded once per process and state of the file.

    Args:
        path: The archive.
        dataset: Name of the data set, for the messages.

    Returns:
        Names "alphabet/character/drawer", in order, and the ink of each image, packed [n, 1379].

    Raises:
        DataError: The archive is broken, or an image is none of Omniglot.
    """
    state = path.stat()
    return _decoded(path, state.st_size, state.st_mtime_ns, dataset)


@functools.lru_cache(maxsize=2)
def _decoded(path: Path, size: int, changed_ns: int, dataset: str) -> tuple[list[str], Bytes]:
    found = dict(_images(path, dataset))
    names = sorted(found)
    return names, np.array([found[name] for name in names], np.uint8).reshape(len(names), N_BYTES)


def _images(path: Path, dataset: str) -> Iterator[tuple[str, Bytes]]:
    for name, stream in members(path, dataset):
        member = MEMBER.fullmatch(name)
        if member is None:
            continue
        try:
            with Image.open(io.BytesIO(stream.read())) as image:
                pixels = np.asarray(image.convert("1"))
        except (UnidentifiedImageError, OSError, ValueError) as error:
            raise DataError(f"{dataset}: {name} of {path} must be a PNG image; found {error}.") from error
        if pixels.shape != (SIDE, SIDE):
            raise DataError(f"{dataset}: {name} of {path} must have {SIDE} x {SIDE} pixels; found {pixels.shape}.")
        yield "/".join(member.groups()), np.packbits(~pixels)


def shown_sha256(names: list[str], ink: Bytes) -> str:
    """SHA-256 over names and ink, one image after the other."""
    digest = hashlib.sha256()
    for name, packed in zip(names, ink, strict=True):
        digest.update(name.encode() + b"\0" + packed.tobytes())
    return digest.hexdigest()


def unpacked(ink: Bytes) -> Bytes:
    """The ink of an image, 0 or 1: [1379] -> [105, 105]."""
    return np.unpackbits(ink, count=SIDE * SIDE).reshape(SIDE, SIDE)


def shrunk(ink: Bytes, size: int) -> Bytes:
    """Ink [105, 105] of 0 and 1 as bytes [size, size]: the mean over each pixel's square times 255, rounded.

    Overlaps are counted in units of 1 / size, which makes them whole numbers; float64 adds those exactly, in any order.
    """
    overlap = _overlap(size)
    total = (overlap @ ink @ overlap.T).astype(np.int64)
    return ((510 * total + SIDE**2) // (2 * SIDE**2)).astype(np.uint8)


@functools.cache
def _overlap(size: int) -> NDArray[np.float64]:
    """How much of pixel j of 105 lies in pixel i of `size`, times `size`: [size, 105], rows sum to 105."""
    old, new = np.arange(SIDE + 1) * size, np.arange(size + 1)[:, None] * SIDE
    return np.maximum(np.minimum(old[1:], new[1:]) - np.maximum(old[:-1], new[:-1]), 0).astype(np.float64)
