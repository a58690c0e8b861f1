import io

import numpy as np
import pytest
from PIL import Image

from mtbench import DataError
from mtbench.data.decoding import decoded


def png(pixels: np.ndarray, form: str = "PNG") -> io.BytesIO:
    content = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(content, form)
    content.seek(0)
    return content


GRADIENT = np.stack([np.tile(np.arange(0, 200, 2), (60, 1)), np.full((60, 100), 7), np.full((60, 100), 250)], 2)


def test_colours_come_first():
    image = decoded(png(GRADIENT), 16, "image")
    assert image.dtype == np.uint8
    assert image.shape == (3, 16, 16)
    assert (image[1] == 7).all()
    assert (image[2] == 250).all()
    assert (np.diff(image[0].astype(int), axis=1) > 0).all()


def test_without_a_box_the_middle_square_is_taken():
    """Columns 20 to 79 of 100, whose reds are 40 to 158."""
    red = decoded(png(GRADIENT), 60, "image")[0]
    assert np.array_equal(red, GRADIENT[:, 20:80, 0])


def test_a_box_is_cut_out_and_its_aspect_not_kept():
    red = decoded(png(GRADIENT), 10, "image", (30.0, 5.0, 10.0, 50.0))[0]
    assert np.array_equal(red[0], GRADIENT[0, 30:40, 0])


@pytest.mark.parametrize(
    ("box", "columns"),
    [((90.0, 0.0, 30.0, 60.0), (90, 100)), ((-5, -5, 15, 70), (0, 10)), ((99.9, 0, 0, 60), (99, 100))],
)
def test_a_box_beyond_the_image_is_cut_to_it(box, columns):
    red = decoded(png(GRADIENT), 10, "image", box)[0]
    inside = GRADIENT[0, slice(*columns), 0]
    assert red.min() >= inside.min()
    assert red.max() <= inside.max()


def test_grey_palette_and_transparent_images_become_colours():
    grey = Image.fromarray(np.full((8, 8), 90, np.uint8))
    for mode in ("L", "P", "RGBA", "1"):
        content = io.BytesIO()
        grey.convert(mode).save(content, "PNG")
        content.seek(0)
        assert decoded(content, 4, "image").shape == (3, 4, 4)


def test_a_large_jpeg_looks_like_itself_reduced():
    large = np.kron(GRADIENT[:, :60], np.ones((16, 16, 1)))
    ours = decoded(png(large, "JPEG"), 32, "image").astype(int)
    theirs = np.asarray(Image.fromarray(large.astype(np.uint8)).resize((32, 32), Image.Resampling.LANCZOS))
    assert np.abs(ours - theirs.transpose(2, 0, 1)).max() <= 4


@pytest.mark.parametrize("content", [b"", b"no image", png(GRADIENT).getvalue()[:120]])
def test_what_is_no_image_is_named(content):
    with pytest.raises(DataError, match=r"^birds/a.jpg must be an image file"):
        decoded(io.BytesIO(content), 8, "birds/a.jpg")
