"""Frames decoded at the size of a clip: intrinsics, lenses, crops, maps of another size."""

import os
from dataclasses import replace

import cv2
import numpy as np
import pytest
import toyworld as toy
from PIL import Image

from data.sources.frame import DepthMap, Frame, LabelMap, SourceScene
from data.sources.lens import distort, ideal_intrinsics
from data.sources.view import Target, load_view
from ffsplat.errors import FFSplatError, ImageError

LENS = (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)


@pytest.fixture
def frame(tmp_path) -> Frame:
    view = toy.views(1)[0]
    toy.save_image(tmp_path / "a.png", view.image)
    toy.save_depth(tmp_path / "d.png", view.depth, 1e-4)
    toy.save_map(tmp_path / "l.png", 7000 + view.labels)
    return Frame(
        "a",
        tmp_path / "a.png",
        toy.SIZE,
        toy.INTRINSICS,
        view.pose,
        depth=DepthMap(tmp_path / "d.png", 1e-4),
        labels=LabelMap(tmp_path / "l.png", 1000),
    )


def scene(frame: Frame) -> SourceScene:
    return SourceScene("toy", "toy", (frame,), True)


@pytest.mark.parametrize(
    "target", [Target(80, 1), Target(40, 1), Target(50, 1), Target(48, 8), Target(30, 1, True)]
)
def test_intrinsics_follow_every_resize_and_crop(frame, target):
    whole = scene(frame)
    error = toy.image_error(whole, target)
    assert error < 4
    assert toy.depth_error(whole, target) < 0.02, "half a stored pixel off, on slanted walls"
    for mistake in toy.MISTAKES:
        assert toy.image_error(scene(mistake(frame)), target) > 2 * error


def test_crop_is_the_square_in_the_middle_computed_by_hand(frame):
    view = load_view(frame, Target(30, 1, square=True))
    assert view.image.shape == (30, 30, 3)
    expected = [[30.5, 0, (38.2 - 10) / 2], [0, 29.0, 31.7 / 2], [0, 0, 1]]
    np.testing.assert_allclose(view.intrinsics, expected)


def test_stored_photo_of_another_size_shows_the_same(frame):
    larger = replace(frame, size=(160, 120), intrinsics=np.diag([2.0, 2, 1]) @ frame.intrinsics)
    assert toy.image_error(scene(larger)) < 2
    assert toy.depth_error(scene(larger)) < 2e-3
    assert toy.depth_error(scene(toy.half_pixel(larger))) > 4e-3
    with pytest.raises(ImageError, match="80 x 60, not 60 x 80"):
        load_view(replace(frame, size=(60, 80)), Target(40))


def test_depth_with_a_lens_of_its_own(frame, tmp_path):
    lens = np.array([[60.0, 0, 30.5], [0, 61.0, 26.0], [0, 0, 1]])
    truth = toy.trace(frame.world_from_camera, lens, (64, 48))
    toy.save_depth(tmp_path / "own.png", truth.depth, 1e-4)
    own = replace(frame, depth=DepthMap(tmp_path / "own.png", 1e-4, intrinsics=lens))
    view = load_view(own, toy.FULL)
    assert view.depth is not None
    expected = toy.trace(frame.world_from_camera, frame.intrinsics, toy.SIZE).depth
    seen = view.depth > 0
    assert 0.5 < seen.mean() < 1, "the narrower map leaves a border without depth"
    error = np.abs(view.depth / expected - 1)[seen].mean()
    assert error < 0.005
    shared = load_view(replace(frame, depth=DepthMap(tmp_path / "own.png", 1e-4)), toy.FULL).depth
    assert shared is not None
    assert np.abs(shared / expected - 1)[seen].mean() > 4 * error


def test_invalid_depth_is_unknown(frame, tmp_path):
    values = np.full((60, 80), 2000, np.uint16)
    values[:30] = 65535
    values[30:40] = 0
    Image.fromarray(values).save(tmp_path / "bad.png")
    view = load_view(replace(frame, depth=DepthMap(tmp_path / "bad.png", 0.001, 65535)), toy.FULL)
    assert view.depth is not None
    np.testing.assert_array_equal(view.depth[:40], 0)
    np.testing.assert_array_equal(view.depth[40:], 2)


def test_labels_and_objects_of_one_number(frame):
    view = load_view(frame, toy.FULL)
    truth = toy.trace(frame.world_from_camera, frame.intrinsics, toy.SIZE)
    assert view.labels is not None
    assert (view.labels == 7).all()
    np.testing.assert_array_equal(view.instances, truth.labels)


def test_distortion_is_that_of_opencv():
    points = np.random.default_rng(0).uniform(-0.6, 0.6, (50, 2))
    lifted = np.concatenate([points, np.ones((50, 1))], 1)
    expected, _ = cv2.projectPoints(lifted, np.zeros(3), np.zeros(3), np.eye(3), np.array(LENS))
    np.testing.assert_allclose(distort(points, LENS), expected[:, 0], atol=1e-12)
    np.testing.assert_array_equal(distort(points, ()), points)


@pytest.mark.parametrize("lens", [LENS, (-0.2, 0.05), (0.1,)])
def test_distorted_photo_becomes_that_of_a_pinhole(frame, tmp_path, lens):
    """The photo is traced along the rays that the lens bends; undistorted it is exact again."""
    x, y = np.meshgrid(np.arange(80) + 0.5, np.arange(60) + 0.5)
    pixels = np.stack([x, y], -1)
    bent = cv2.undistortPoints(
        pixels.reshape(-1, 1, 2), toy.INTRINSICS, np.array([*lens, 0, 0, 0, 0][:5]),
        criteria=(3, 100, 1e-12),
    ).reshape(60, 80, 2)  # fmt: skip
    truth = toy.trace_rays(
        frame.world_from_camera, np.concatenate([bent, np.ones((60, 80, 1))], -1)
    )
    toy.save_image(tmp_path / "bent.png", truth.image)
    toy.save_depth(tmp_path / "bent_depth.png", truth.depth, 1e-4)
    depth = DepthMap(tmp_path / "bent_depth.png", 1e-4)
    taken = replace(frame, image=tmp_path / "bent.png", depth=depth, distortion=lens)
    error = toy.image_error(scene(taken))
    assert error < 4
    assert toy.depth_error(scene(taken)) < 0.02
    assert toy.image_error(scene(replace(taken, distortion=()))) > 3 * error
    assert toy.image_error(scene(toy.half_pixel(taken))) > 2 * error
    ideal = ideal_intrinsics(toy.INTRINSICS, lens, toy.SIZE)
    assert not np.allclose(ideal, toy.INTRINSICS)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_damaged_pictures_are_refused(frame, tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError):
        load_view(frame, toy.FULL)


def test_absurd_size_in_a_header_is_refused_before_it_is_decoded(frame, tmp_path):
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = (2**20).to_bytes(4, "big") * 2
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError):
        load_view(frame, toy.FULL)


def test_what_is_no_file_or_no_photo_is_refused(frame, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    with pytest.raises(FFSplatError, match="regular"):
        load_view(replace(frame, image=tmp_path / "pipe.png"), toy.FULL)
    with pytest.raises(ImageError, match="not that of a photo"):
        load_view(replace(frame, image=tmp_path / "d.png"), toy.FULL)
    with pytest.raises(FFSplatError, match="cannot read"):
        load_view(replace(frame, image=tmp_path / "absent.png"), toy.FULL)


def test_colour_picture_is_no_map(frame):
    with pytest.raises(ImageError, match="one channel"):
        load_view(replace(frame, depth=DepthMap(frame.image, 0.001)), toy.FULL)
