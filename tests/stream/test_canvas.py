"""Pictures of any size on the canvas of the first one."""

import numpy as np
from PIL import Image

from ffsplat.images import load_views
from ffsplat.stream.canvas import Canvas, gather


def picture(height, width, seed=0):
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def test_a_picture_becomes_the_view_that_infer_makes_of_it():
    image = picture(120, 160)
    _, ours = gather([Canvas(64, 8).fit(image)])
    theirs = load_views([image], resolution=64, patch=8).views
    np.testing.assert_array_equal(ours.pixels, theirs.pixels)
    np.testing.assert_array_equal(ours.valid, theirs.valid)
    np.testing.assert_array_equal(
        ours.sources[0].original_from_view, theirs.sources[0].original_from_view
    )
    assert np.isnan(ours.intrinsics).all()


def test_intrinsics_follow_the_pixels():
    intrinsics = np.array([[100.0, 0, 80], [0, 110, 60], [0, 0, 1]])
    view = Canvas(64, 8).fit(picture(120, 160), intrinsics)
    # 160 x 120 becomes 64 x 48: 0.4 of each side.
    np.testing.assert_allclose(view.intrinsics, [[40, 0, 32], [0, 44, 24], [0, 0, 1]], rtol=1e-6)


def test_a_smaller_version_stands_for_the_original():
    intrinsics = np.array([[400.0, 0, 320], [0, 440, 240], [0, 0, 1]])
    whole = Canvas(64, 8).fit(picture(480, 640), intrinsics)
    small = Canvas(64, 8).fit(picture(120, 160), intrinsics, size=(640, 480))
    np.testing.assert_array_equal(small.intrinsics, whole.intrinsics)
    assert (small.source.width, small.source.height) == (640, 480)
    np.testing.assert_array_equal(small.source.original_from_view, whole.source.original_from_view)


def test_a_picture_of_another_shape_lies_whole_in_the_top_left_corner():
    canvas = Canvas(64, 8)
    canvas.fit(picture(120, 160))
    tall = canvas.fit(picture(160, 120))
    assert tall.pixels.shape == (48, 64, 3)
    # 120 x 160 fits 48 high at 0.3 of its size: 36 across, which is 40 in whole patches.
    assert tall.valid[:, :40].all()
    assert not tall.valid[:, 40:].any()
    assert not tall.pixels[:, 40:].any()
    np.testing.assert_allclose(np.diag(tall.source.original_from_view), [3, 160 / 48, 1])


def test_a_picture_of_the_right_size_is_not_touched():
    image = picture(48, 64)
    assert Canvas(64, 8).fit(image).pixels is not None
    np.testing.assert_array_equal(Canvas(64, 8).fit(image).pixels, image)
