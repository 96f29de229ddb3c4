"""What windows are compared by is what the offline passes are compared by, at fewer pixels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ffsplat.alignment import Similarity
from ffsplat.chunks.place import FIRST
from ffsplat.geometry import rotation_from_vector, transform_points, unproject
from ffsplat.pruning import keep_pixels
from ffsplat.stream.clock import Clock
from ffsplat.stream.map.kept import kept_pixels
from ffsplat.stream.mapper import Mapper
from ffsplat.stream.settings import MapperSettings
from ffsplat.stream.window import (
    STEP,
    Window,
    are_finite,
    as_arrival,
    by_one,
    found_views,
    known_views,
    see,
    world_poses,
)
from tests.stream.boxviews import posed
from tests.stream.stub import Faults, StubPredictor
from tests.stream.test_stub import frames, views_of, walk

FAULTS = Faults(depth=0.1, turn=1, move=0.02, bad=0.1)


def rotation(vector) -> np.ndarray:
    return rotation_from_vector(torch.tensor(vector, dtype=torch.float64)).numpy()


def said():
    views = views_of(frame.image for frame in frames(0, 4, 9, 14))
    return StubPredictor(walk().places, FAULTS).predict(views), views


def some_keyframes():
    """Those of a small map, and where its submaps lie."""
    predictor = StubPredictor(walk().places, Faults(scale=0.2), resolution=64)
    settings = MapperSettings(max_splats=20_000, keyframes_a_submap=2, overlap=0.99)
    mapper = Mapper(predictor, settings)
    for frame in frames(*range(0, 30, 3)):
        mapper.add(frame.image, frame.time_ns)
    assert mapper.atlas is not None
    assert len(mapper.atlas.submaps.poses) > 1
    return list(mapper.atlas.keyframes), mapper.atlas.submaps.poses


def test_poses_in_the_world_are_those_of_each_submap_applied():
    keyframes, submaps = some_keyframes()
    expected = [submaps[one.submap].poses(one.submap_from_camera[None])[0] for one in keyframes]
    np.testing.assert_allclose(world_poses(keyframes, submaps), np.stack(expected), atol=1e-12)
    assert world_poses([], submaps).shape == (0, 4, 4)


def test_what_a_window_says_is_what_a_pass_says_at_some_pixels():
    prediction, views = said()
    shown = posed((prediction, views.pixels, views.valid))
    found, some = found_views(shown, [2, 0]), slice(STEP // 2, None, STEP)
    depth, poses = prediction.depth[0, [2, 0]], prediction.world_from_camera[0, [2, 0]]
    local = unproject(depth, prediction.intrinsics[0, [2, 0]])
    expected = transform_points(poses, local.flatten(1, 2)).reshape(local.shape)[:, some, some]
    points, distances = found.points()
    np.testing.assert_allclose(points, expected.numpy(), rtol=1e-5, atol=1e-5)
    errors = local.norm(dim=-1) * prediction.depth_error[0, [2, 0]]
    np.testing.assert_allclose(distances, errors[:, some, some].numpy(), rtol=1e-5)
    np.testing.assert_array_equal(found.depth, depth[:, some, some])
    np.testing.assert_array_equal(found.poses, poses.double())


def test_what_the_map_knows_of_keyframes_lies_before_their_cameras():
    keyframes, submaps = some_keyframes()
    known = known_views(keyframes, submaps)
    every = zip(keyframes, known.poses, known.points()[0], known.depth, strict=True)
    for one, pose, points, depth in every:
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        np.testing.assert_allclose(local[..., 2], depth, rtol=1e-4)
        pixels = local / local[..., 2:] @ one.intrinsics.T
        columns = np.arange(depth.shape[1]) * STEP + STEP // 2 + 0.5
        rows = np.arange(depth.shape[0]) * STEP + STEP // 2 + 0.5
        np.testing.assert_allclose(pixels[..., 0], np.tile(columns, (len(rows), 1)), atol=1e-3)
        np.testing.assert_allclose(pixels[..., 1], np.tile(rows, (len(columns), 1)).T, atol=1e-3)


def test_one_keyframe_tells_how_a_window_lies_by_its_pose_and_its_depths():
    keyframes, submaps = some_keyframes()
    one = keyframes[-1]
    unit, own = Similarity(2.5, rotation((0.1, -0.3, 0.2)), np.array([1.0, 2.0, 3.0])), submaps
    prediction, views = said()
    depth = prediction.depth.clone()
    depth[0, 0] = torch.from_numpy(one.depth.astype(np.float32)) * own[one.submap].scale / 2.5
    depth[0, 0, :20, :20] *= 9  # what a median does not heed
    poses = prediction.world_from_camera.clone()
    poses[0, 0] = torch.from_numpy(unit.inverse().poses(world_poses([one], own))[0])
    prediction = replace(prediction, depth=depth, world_from_camera=poses)
    shown = posed((prediction, views.pixels, views.valid))
    window = Window(prediction, views, shown, (one,), np.ones(views.valid.shape, bool), FIRST)
    found = by_one(window, 0, own)
    assert found.scale == pytest.approx(unit.scale, rel=1e-5)
    np.testing.assert_allclose(found.rotation, unit.rotation, atol=1e-5)
    np.testing.assert_allclose(found.translation, unit.translation, atol=1e-4)


def spoilt(**more):
    """A prediction with skies, holes, flying, faint and unsure pixels."""
    random = torch.Generator().manual_seed(0)
    prediction, views = said()
    shape = prediction.depth.shape
    chance = torch.rand(shape, generator=random)
    depth = prediction.depth.clone()
    depth[chance < 0.02] *= 8
    depth[(chance > 0.02) & (chance < 0.04)] = torch.inf
    depth[(chance > 0.04) & (chance < 0.05)] = 0
    depth[(chance > 0.05) & (chance < 0.06)] = -1
    error = 0.3 * torch.rand(shape, generator=random) ** 3 + (depth > 6)
    opacities = torch.rand(shape, generator=random) ** 2
    values = {"depth": depth, "depth_error": error, "opacities": opacities}
    return replace(prediction, **values | more), views


@pytest.mark.parametrize(
    ("more", "min_confidence"),
    [
        ({}, 0.05),
        ({}, 0.9),
        ({"depth_error": torch.full((1, 4, 48, 64), 5.0)}, 0.05),
        ({"meaning_opacities": torch.linspace(0, 0.1, 4 * 48 * 64).view(1, 4, 48, 64)}, 0.05),
        ({"depth_offsets": torch.linspace(-3, 1, 4 * 48 * 64).view(1, 4, 48, 64)}, 0.05),
    ],
)
@pytest.mark.parametrize("padded", [False, True])
def test_the_pixels_that_are_kept_are_those_of_a_scene(more, min_confidence, padded):
    prediction, views = spoilt(**more)
    valid = views.valid.copy()
    valid[:, 40:, :] &= not padded
    inside = torch.from_numpy(valid)[None]
    expected = keep_pixels(prediction, inside, min_confidence, 0.01, True)[0].numpy()
    found = kept_pixels(prediction, valid, min_confidence, 0.01)
    np.testing.assert_array_equal(found, expected)
    assert 0.05 < found.mean() < 0.95


def test_without_any_pixel_nothing_is_kept():
    prediction, views = said()
    assert not kept_pixels(prediction, views.valid & False, 0.05, 0.01).any()


def test_the_network_sees_whole_photos_of_keyframes_and_the_map_what_it_may_hold():
    keyframes, _ = some_keyframes()
    predictor = StubPredictor(walk().places, Faults(scale=0.2), resolution=64)
    sent, predict = [], predictor.predict
    predictor.predict = lambda *given: (sent.append(given[0]), predict(*given))[1]
    one = replace(keyframes[-1], valid=keyframes[-1].valid & (np.indices((48, 64)).sum(0) % 3 > 0))
    window = see(predictor, [one], [as_arrival(keyframes[0])], 0.05, Clock())
    assert sent[0].valid.all()
    np.testing.assert_array_equal(window.views.valid, [one.valid, keyframes[0].inside])
    np.testing.assert_array_equal(window.kept[0], one.valid)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 6, 99])
def test_numbers_that_are_not_finite_are_found_wherever_they_are(value, place):
    numbers = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    numbers[[3, 50, 51]] = [np.finfo(np.float32).max, np.finfo(np.float32).tiny / 2, 0]
    assert are_finite(numbers.view(np.int32))
    numbers[place] = value
    assert not are_finite(numbers.view(np.int32))
