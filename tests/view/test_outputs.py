"""What a page takes along."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from small_room import small_room

from ffsplat.errors import FFSplatError
from ffsplat.view import outputs
from ffsplat.view.outputs import orbit_video, png, screenshot


def test_an_orbit_is_an_mp4_of_the_scene():
    av = pytest.importorskip("av")
    told = []
    name, content = orbit_video(small_room(200), 3, (64, 48), told.append)
    assert name == "orbit.mp4"
    assert told == [0, 1, 2]
    with av.open(io.BytesIO(content)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 3
    assert max(frame.max() for frame in frames) > 150


def test_without_pyav_it_is_a_webp(monkeypatch):
    monkeypatch.setattr(outputs, "has_mp4", lambda: False)
    name, content = orbit_video(small_room(200), 2, (32, 24))
    assert name == "orbit.webp"
    with Image.open(io.BytesIO(content)) as image:
        assert (image.size, image.n_frames) == ((32, 24), 2)


def test_png_is_lossless():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4)).astype(np.uint8)
    with Image.open(io.BytesIO(png(pixels))) as image:
        assert (np.asarray(image) == pixels).all()


@pytest.mark.parametrize("error", [RuntimeError("gone"), TimeoutError("late")])
def test_a_page_that_gives_no_picture_is_said(error):
    def fail(*_, **__):
        raise error

    client = SimpleNamespace(camera=SimpleNamespace(image_height=4, image_width=4), get_render=fail)
    with pytest.raises(FFSplatError, match="the page gives no picture"):
        screenshot(client)
