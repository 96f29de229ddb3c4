"""Which frame goes when too many wait."""

import numpy as np
import pytest

from ffsplat.stream.decoding import MAX_BYTES, MAX_MEGAPIXELS, RefusedImage
from ffsplat.stream.engine.waiting import THUMBNAIL, Ticket, WaitingFrames, difference, thumbnail
from tests.stream.mappers import frame, jpeg


def pattern(shift: int, light: int = 0) -> np.ndarray:
    """A picture of stripes 40 pixels wide, as a camera sees it that has moved by `shift` pixels."""
    columns = (np.arange(320) + shift) // 40 % 2 * 100 + 50 + light
    return np.broadcast_to(columns[None, :, None], (240, 320, 3)).astype(np.uint8)


def ticket(number: int, image: np.ndarray | None = None) -> Ticket:
    image = pattern(0) if image is None else image
    return Ticket(frame(number, image), None, 0.0, small(image))


def small(image):
    return thumbnail(image, MAX_BYTES, MAX_MEGAPIXELS)


def taken(waiting: WaitingFrames) -> list[int]:
    tickets = iter(waiting.take, None)
    return [one.frame.number for one in tickets]


def test_under_latest_the_oldest_goes():
    waiting = WaitingFrames(3, "latest")
    losers = [waiting.put(ticket(number)) for number in range(5)]
    assert [one and one.frame.number for one in losers] == [None, None, None, 0, 1]
    assert taken(waiting) == [2, 3, 4]


def test_under_block_the_newest_goes_if_nobody_waited():
    waiting = WaitingFrames(2, "block")
    losers = [waiting.put(ticket(number)) for number in range(3)]
    assert losers[2] is not None
    assert losers[2].frame.number == 2
    assert taken(waiting) == [0, 1]


def test_under_keyframe_the_one_most_like_its_predecessor_goes():
    waiting = WaitingFrames(3, "keyframe")
    shifts = [0, 20, 22, 40, 60]
    losers = [waiting.put(ticket(number, pattern(shift))) for number, shift in enumerate(shifts)]
    assert losers[3] is not None
    assert losers[3].frame.number == 2
    assert len(waiting) == 3


def test_under_keyframe_the_newest_goes_if_it_shows_nothing_new():
    waiting = WaitingFrames(2, "keyframe")
    losers = [
        waiting.put(ticket(number, pattern(shift))) for number, shift in enumerate([0, 20, 20])
    ]
    assert losers[2] is not None
    assert losers[2].frame.number == 2


def test_under_keyframe_the_first_is_compared_with_what_the_worker_took():
    waiting = WaitingFrames(2, "keyframe")
    waiting.put(ticket(0, pattern(0)))
    waiting.take()
    losers = [
        waiting.put(ticket(1 + step, pattern(shift))) for step, shift in enumerate([1, 20, 40])
    ]
    assert losers[2] is not None
    assert losers[2].frame.number == 1


def test_under_keyframe_a_camera_that_stands_loses_its_oldest_copies():
    waiting = WaitingFrames(2, "keyframe")
    waiting.put(ticket(0))
    waiting.take()
    losers = [waiting.put(ticket(number)) for number in range(1, 5)]
    assert [one.frame.number for one in losers if one] == [1, 2]


def test_difference_is_the_mean_of_grey_levels():
    flat = np.zeros(THUMBNAIL[::-1], np.float32)
    half = flat.copy()
    half[:, :8] = -6
    assert difference(flat, half) == 3
    assert difference(flat, None) == float("inf")


def test_exposure_makes_no_difference():
    assert difference(small(pattern(0)), small(pattern(0, light=40))) == pytest.approx(0, abs=0.5)


def test_thumbnails_of_a_jpeg_and_of_its_pixels_are_alike():
    rows, columns = np.mgrid[:240, :320]
    waves = 128 + 60 * np.sin(columns / 50) + 60 * np.cos(rows / 40)
    pixels = np.repeat(waves.astype(np.uint8)[..., None], 3, axis=2)
    assert difference(small(pixels), small(jpeg(pixels))) < 2


@pytest.mark.parametrize("shape", [(8, 8), (8, 5000), (5000, 8), (1080, 1920), (11, 17)])
def test_pictures_of_all_sizes_have_thumbnails(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert small(pixels).shape == THUMBNAIL[::-1]


def test_bytes_that_are_no_picture_have_no_thumbnail():
    with pytest.raises(RefusedImage):
        small(b"no picture")
