"""Image files as arrays of bytes, all of one size."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mtbench.errors import DataError

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""


def decoded(image: IO[bytes] | Path, size: int, name: str, box: Box | None = None) -> NDArray[np.uint8]:
    """Decodes an image, crops it and brings it to a size.

    With a box the crop is the box, and its aspect is not kept; without, it is the largest square in the middle. It is
    resized with the Lanczos filter. The bytes depend on the version of the JPEG library in their last bits.

    Args:
        image: A JPEG, PNG or other file that Pillow reads.
        size: Pixels a side.
        name: Of the image, for the message.
        box: What to cut out; parts of it that lie outside the image are left out.

    Returns:
        Red, green and blue, uint8 [3, size, size].

    Raises:
        DataError: It is no image, or cut off.
    """
    try:
        with Image.open(image) as picture:
            if box is None:
                # JPEG files decode at a fraction of their size, several times faster; never below four times ours.
                picture.draft("RGB", (4 * size, 4 * size))
            colours = picture.convert("RGB")
            cut = colours.crop(_square(colours.size) if box is None else _inside(box, colours.size))
            resized = cut.resize((size, size), Image.Resampling.LANCZOS)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, UnidentifiedImageError) as error:
        raise DataError(f"{name} must be an image file; it cannot be decoded ({error}).") from error
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def _square(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest square in the middle: left, top, right, bottom."""
    width, height = size
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def _inside(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box in whole pixels, cut to the image and not empty: left, top, right, bottom."""
    left, top = (min(max(round(start), 0), end - 1) for start, end in zip(box[:2], size, strict=True))
    right, bottom = (
        min(max(round(start + length), least + 1), end)
        for start, length, least, end in zip(box[:2], box[2:], (left, top), size, strict=True)
    )
    return left, top, right, bottom
