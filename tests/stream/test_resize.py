import numpy as np
import pytest
from PIL import Image

from ffsplat.stream.resize import is_pillows, lanczos, resized

SIZES = [
    ((320, 240), (128, 96)),
    ((240, 320), (96, 128)),
    ((40, 30), (16, 12)),
    ((40, 30), (40, 12)),
    ((7, 5), (16, 11)),
    ((400, 300), (64, 48)),
    ((60, 200), (56, 16)),
]


def pillows(image, size):
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, None, 2.0))


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_pictures_are_those_of_pillow(before, after):
    random = np.random.default_rng(1)
    image = random.integers(0, 256, (before[1], before[0], 3), np.uint8)
    for one in (image, 255 * (image > 127).astype(np.uint8), np.full_like(image, 255)):
        np.testing.assert_array_equal(resized(one, after), pillows(one, after))


@pytest.mark.parametrize(("before", "after"), [SIZES[0], ((480, 270), (128, 72))])
def test_usual_shapes_need_no_help(before, after):
    assert is_pillows(before, after)


def test_a_picture_that_pillow_reduces_first_is_left_to_it():
    assert not is_pillows((640, 480), (128, 96))


def test_what_is_not_in_order_in_memory_is_the_same():
    image = np.random.default_rng(2).integers(0, 256, (60, 80, 3), np.uint8)[::-1, :, ::-1]
    whole = np.ascontiguousarray(image)
    np.testing.assert_array_equal(lanczos(image, (32, 24)), lanczos(whole, (32, 24)))
