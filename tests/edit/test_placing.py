"""Placing a scene by shared photos: known similarities come back, also among wrong names."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from small_room import small_room

from ffsplat.alignment import Similarity
from ffsplat.edit import place_by_views
from ffsplat.edit.placing import shared_views
from ffsplat.errors import FFSplatError, UsageError
from ffsplat.types import Cameras, Scene
from tests.edit.walks import TRUTH, moved, walk


def room(cameras: Cameras) -> Scene:
    return replace(small_room(), cameras=cameras)


def renamed(cameras: Cameras, names: dict[int, str]) -> Cameras:
    return replace(cameras, names=tuple(names.get(i, n) for i, n in enumerate(cameras.names)))


def assert_truth(found: Similarity, tolerance: float = 1e-5):
    assert found.scale == pytest.approx(TRUTH.scale, rel=tolerance)
    np.testing.assert_allclose(found.rotation, TRUTH.rotation, atol=tolerance)
    np.testing.assert_allclose(found.translation, TRUTH.translation, atol=10 * tolerance)


def test_a_known_similarity_comes_back():
    scene = room(walk())
    placed = place_by_views(moved(scene), scene)
    assert_truth(placed.similarity)
    assert placed.names == walk().names
    assert (placed.left_out, placed.scale_from) == ((), "centers")
    assert placed.turns.max() < 1e-4
    assert placed.shifts.max() < 1e-4
    assert 2 < placed.depth < 4  # things stand 2 and 4 before the cameras


def test_two_shared_photos_are_enough():
    scene = room(walk())
    other = moved(scene)
    assert other.cameras is not None
    few = replace(other, cameras=renamed(other.cameras[[2, 3, 5]], {2: "other.jpg"}))
    placed = place_by_views(few, scene)
    assert_truth(placed.similarity, 1e-4)
    assert placed.names == ("photo_2.jpg", "photo_3.jpg")


def test_names_of_other_photos_are_left_out():
    scene = room(walk(7))
    other = moved(scene)
    assert other.cameras is not None
    swapped = renamed(other.cameras, {0: "photo_6.jpg", 6: "photo_0.jpg"})
    placed = place_by_views(replace(other, cameras=swapped), scene)
    assert_truth(placed.similarity)
    assert sorted(placed.left_out) == ["photo_0.jpg", "photo_6.jpg"]


def test_photos_that_contradict_each_other_are_refused():
    scene = room(walk(6))
    strangers = walk(6)
    turns = Rotation.random(6, rng=np.random.default_rng(0)).as_matrix()
    strangers.world_from_camera[:, :3, :3] = turns
    with pytest.raises(FFSplatError, match="do not fit together"):
        place_by_views(room(strangers), scene)


def test_noise_in_the_cameras_is_reported_as_it_is():
    noisy, scene = moved(room(walk(12, noise=0.01, seed=3))), room(walk(12))
    placed = place_by_views(noisy, scene)
    assert placed.similarity.scale == pytest.approx(TRUTH.scale, rel=0.05)
    assert noisy.cameras is not None
    assert scene.cameras is not None
    rows = [scene.cameras.names.index(name) for name in placed.names]
    there = placed.similarity.poses(noisy.cameras.world_from_camera)[rows]
    truth = scene.cameras.world_from_camera[rows]
    shifts = np.linalg.norm(there[:, :3, 3] - truth[:, :3, 3], axis=1)
    np.testing.assert_allclose(placed.shifts, shifts, atol=1e-6)
    turns = [Rotation.from_matrix(a.T @ b).magnitude() for a, b in
             zip(there[:, :3, :3], truth[:, :3, :3], strict=True)]  # fmt: skip
    np.testing.assert_allclose(placed.turns, turns, atol=1e-5)


def test_where_the_cameras_hardly_move_depths_tell_the_scale():
    scene = room(walk(4, step=0.0))
    placed = place_by_views(moved(scene), scene)
    assert placed.scale_from == "depths"
    assert_truth(placed.similarity, 1e-3)
    shaky = room(walk(4, step=0.0, noise=0.004, seed=5))
    placed = place_by_views(moved(shaky), scene)
    assert placed.scale_from == "depths"
    assert placed.similarity.scale == pytest.approx(TRUTH.scale, rel=0.02)


def test_without_depths_and_without_a_walk_nothing_tells_the_scale():
    scene = room(walk(3, step=0.0))
    gaussians = scene.gaussians
    unseen = replace(scene, gaussians=replace(gaussians, opacities=0 * gaussians.opacities))
    with pytest.raises(FFSplatError, match="tell the scale"):
        place_by_views(moved(unseen), unseen)


def test_photos_are_shared_by_names_that_are_unique():
    first = renamed(walk(5), {0: "a/1.jpg", 1: "b/1.jpg", 2: "c/2.jpg"})
    second = renamed(walk(4), {0: "1.jpg", 1: "d/2.jpg", 2: "photo_4.jpg"})
    assert shared_views(first, second).tolist() == [[2, 1], [3, 3], [4, 2]]
    assert shared_views(first, None).shape == shared_views(None, second).shape == (0, 2)


@pytest.mark.parametrize(
    ("names", "told"),
    [({0: "x", 1: "y", 2: "z"}, "share no photos"), ({1: "y", 2: "z"}, "share one photo")],
)
def test_too_few_shared_photos_are_refused(names, told):
    scene = room(walk(3))
    with pytest.raises(UsageError, match=told) as caught:
        place_by_views(moved(room(renamed(walk(3), names))), scene)
    assert "--transform" in str(caught.value.hint)


def test_many_shared_photos_cost_no_more_guesses():
    scene = room(walk(400, step=0.01))
    placed = place_by_views(moved(scene), scene)
    assert_truth(placed.similarity, 1e-4)
    assert len(placed.names) == 400


def with_thumbnails(cameras: Cameras, seeds: list[int]) -> Cameras:
    """Each seed is a photo of its own, with some noise of the camera's."""
    small = [np.random.default_rng(seed).integers(0, 250, (16, 16)) for seed in seeds]
    noise = np.random.default_rng(len(cameras.names[0])).integers(0, 5, (16, 16))
    return replace(cameras, thumbnails=(np.stack(small) + noise).astype(np.uint8))


def test_the_same_photos_are_found_under_other_names():
    scene = room(with_thumbnails(walk(6), [0, 1, 2, 3, 4, 5]))
    other = moved(scene)
    assert other.cameras is not None
    swapped = renamed(other.cameras, {i: f"photo_{5 - i}.jpg" for i in range(6)})
    placed = place_by_views(replace(other, cameras=swapped), scene)
    assert_truth(placed.similarity)
    assert placed.names == walk(6).names
    one_name = replace(other.cameras, names=("photo.jpg",) * 6)
    assert_truth(place_by_views(replace(other, cameras=one_name), scene).similarity)


def test_photos_of_one_name_that_look_different_are_not_shared():
    first, second = (with_thumbnails(walk(3), seeds) for seeds in ([0, 1, 2], [7, 1, 8]))
    assert shared_views(first, second).tolist() == [[1, 1]]
    assert shared_views(replace(first, thumbnails=None), second).tolist() == [
        [0, 0],
        [1, 1],
        [2, 2],
    ]
    with pytest.raises(UsageError, match="the scenes share one photo; placing one takes 2"):
        place_by_views(moved(room(first)), room(second))
    with pytest.raises(UsageError, match="one has no cameras"):
        place_by_views(replace(room(first), cameras=None), room(second))
