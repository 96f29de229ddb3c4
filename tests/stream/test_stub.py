"""The stub knows the truth, whatever happened to the pictures on their way."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from ffsplat.geometry import invert_rigid, transform_points, unproject
from ffsplat.images import load_views
from tests.stream.stub import Faults, StubPredictor
from tests.walks import preview_walk as walk


def views_of(images):
    return load_views(list(images), resolution=64, patch=8).views


def frames(*numbers):
    return [walk().frame(number) for number in numbers]


@pytest.mark.parametrize("quality", [None, 80])
def test_every_place_is_told_by_its_picture(quality):
    numbers = np.arange(len(walk())) + 3 * len(walk())  # the fourth time round
    images = [walk().frame(int(number)).image for number in numbers]
    if quality is not None:
        images = [through_jpeg(image, quality) for image in images]
    pixels = np.stack(images).astype(np.float32) / 255
    np.testing.assert_array_equal(
        StubPredictor(walk().places).look_up(pixels), numbers % len(walk())
    )


def through_jpeg(image, quality):
    large = Image.fromarray(image).resize((640, 480), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    large.save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).resize((64, 48), Image.Resampling.BOX))


def test_depth_and_cameras_put_the_same_point_in_the_same_place():
    seen = frames(0, 7, 30)
    said = StubPredictor(walk().places).predict(views_of(frame.image for frame in seen))
    true = np.stack([frame.world_from_camera for frame in seen])
    np.testing.assert_allclose(said.world_from_camera[0], np.linalg.inv(true[0]) @ true, atol=1e-5)
    np.testing.assert_array_equal(said.depth[0], np.stack([frame.depth for frame in seen]))
    np.testing.assert_allclose(said.intrinsics[0, 1], seen[1].intrinsics, rtol=1e-6)


def test_codes_are_the_labels():
    (frame,) = frames(12)
    said = StubPredictor(walk().places).predict(views_of([frame.image]))
    np.testing.assert_array_equal(said.whole_logits[0, 0].argmax(-1), frame.whole)
    np.testing.assert_array_equal(said.part_logits[0, 0].argmax(-1), frame.part)


def test_descriptors_are_alike_where_views_overlap():
    said = StubPredictor(walk().places).predict(
        views_of(frame.image for frame in frames(0, 5, len(walk()) // 2))
    )
    pooled = torch.nn.functional.normalize(said.token_descriptors[0].mean((1, 2)), dim=-1)
    near, far = (pooled[0] @ pooled[1]).item(), (pooled[0] @ pooled[2]).item()
    assert near > 0.8
    assert far < near - 0.2


def test_a_window_has_its_own_unit_and_keeps_it():
    views = views_of(frame.image for frame in frames(0, 7))
    exact = StubPredictor(walk().places).predict(views)
    scaled = StubPredictor(walk().places, Faults(scale=0.2)).predict(views)
    unit = (scaled.depth / exact.depth).unique()
    torch.testing.assert_close(unit, unit.mean().expand_as(unit), rtol=1e-5, atol=0)
    torch.testing.assert_close(
        scaled.world_from_camera[..., :3, 3], unit.mean() * exact.world_from_camera[..., :3, 3]
    )
    again = StubPredictor(walk().places, Faults(scale=0.2)).predict(views)
    torch.testing.assert_close(again.depth, scaled.depth, rtol=0, atol=0)


def test_faults_are_as_large_as_stated():
    seen = frames(*range(0, 160, 8))
    views = views_of(frame.image for frame in seen)
    exact = StubPredictor(walk().places).predict(views)
    wrong = StubPredictor(walk().places, Faults(depth=0.05, turn=2.0, move=0.02)).predict(views)
    error = (wrong.depth / exact.depth).log()
    assert 0.02 < error.std() < 0.06
    between = invert_rigid(exact.world_from_camera) @ wrong.world_from_camera
    angle = torch.rad2deg(((between[0, 1:, :3, :3].diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).acos())
    assert 2.0 < angle.mean() < 4.5  # a Maxwell distribution: 1.6 times that of an axis
    assert torch.equal(wrong.world_from_camera[0, 0], torch.eye(4))


def test_a_picture_of_something_else_is_no_place():
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    said = StubPredictor(walk().places).predict(views_of([frames(0)[0].image, noise]))
    assert (said.depth_error[0, 1] == 1).all()
    assert (said.depth_error[0, 0] < 0.01).all()
    assert said.whole_logits[0, 1].std() == 0


def test_points_of_two_views_have_like_descriptors_where_they_meet():
    said = StubPredictor(walk().places).predict(views_of(frame.image for frame in frames(0, 4)))
    points = transform_points(
        said.world_from_camera[0], unproject(said.depth[0], said.intrinsics[0]).flatten(1, 2)
    ).unflatten(1, said.depth.shape[2:])[:, 2::4, 2::4]
    flat, described = points.flatten(1, 2), said.descriptors[0].flatten(1, 2)
    distance = torch.cdist(flat[0], flat[1])
    likeness = described[0] @ described[1].T
    assert likeness[distance < 0.03].mean() > 0.9
    assert likeness[distance > 0.6].abs().mean() < 0.2
