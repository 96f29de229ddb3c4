"""Similarities against known ones, other implementations and identities."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from small_room import small_room

from ffsplat.alignment import (
    DegenerateAlignment,
    Similarity,
    camera_similarity,
    fit_similarity,
    robust_similarity,
    rotate_harmonics,
)
from ffsplat.render.spherical import sh_basis
from ffsplat.types import Cameras, Gaussians


def drawn(seed: int) -> Similarity:
    random = np.random.default_rng(seed)
    rotation = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    return Similarity(float(random.uniform(0.3, 3)), rotation, random.normal(size=3))


def cloud(seed: int, count: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3)) * [3, 2, 1] + [5, -2, 9]


def assert_same(one: Similarity, other: Similarity, tolerance: float = 1e-6):
    assert one.scale == pytest.approx(other.scale, rel=tolerance)
    np.testing.assert_allclose(one.rotation, other.rotation, atol=tolerance)
    np.testing.assert_allclose(one.translation, other.translation, atol=10 * tolerance)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fit", [fit_similarity, lambda *a: robust_similarity(*a).similarity])
def test_a_known_similarity_comes_back(seed, fit):
    truth = drawn(seed)
    assert_same(fit(cloud(seed), truth.points(cloud(seed))), truth, 1e-9)
    # Points in float32, as networks give them.
    source = cloud(seed).astype(np.float32)
    assert_same(fit(source, truth.points(source)), truth, 3e-6)


def test_three_points_and_points_in_a_plane_are_enough():
    truth = drawn(7)
    for source in (cloud(1, 3), cloud(2) * [1, 1, 0]):
        assert_same(fit_similarity(source, truth.points(source)), truth)


def test_the_rotation_is_that_of_scipy():
    random = np.random.default_rng(0)
    source, weights = cloud(3), random.uniform(0.1, 2, 200)
    target = drawn(3).points(source) + random.normal(0, 0.5, source.shape)
    found = fit_similarity(source, target, weights)
    middles = [weights @ points / weights.sum() for points in (source, target)]
    expected = Rotation.align_vectors(target - middles[1], source - middles[0], weights=weights)[0]
    np.testing.assert_allclose(found.rotation, expected.as_matrix(), atol=1e-9)


def test_no_near_similarity_is_better():
    random = np.random.default_rng(1)
    source = cloud(4)
    target = drawn(4).points(source) + random.normal(0, 0.5, source.shape)

    def cost(similarity):
        return np.square(similarity.points(source) - target).sum()

    found = fit_similarity(source, target)
    for step in range(30):
        turn = Rotation.from_rotvec(random.normal(0, 1e-3, 3)).as_matrix()
        near = Similarity(
            found.scale * float(np.exp(random.normal(0, 1e-3))),
            turn @ found.rotation,
            found.translation + random.normal(0, 1e-3, 3),
        )
        assert cost(found) < cost(near), step


def test_weights_count_points_as_often():
    random = np.random.default_rng(2)
    source = cloud(5, 20)
    target = drawn(5).points(source) + random.normal(0, 0.5, source.shape)
    counts = random.integers(0, 4, 20)
    repeated = fit_similarity(np.repeat(source, counts, 0), np.repeat(target, counts, 0))
    assert_same(fit_similarity(source, target, counts.astype(float)), repeated, 1e-9)


def test_a_mirrored_cloud_gets_a_rotation_and_no_mirror():
    source = cloud(6)
    found = fit_similarity(source, source * [1, 1, -1])
    assert np.linalg.det(found.rotation) == pytest.approx(1)
    # The least-spread axis pays for it: a half turn about it would be worse than none.
    centred = source - source.mean(0)
    expected = Rotation.align_vectors(centred * [1, 1, -1], centred)[0]
    np.testing.assert_allclose(found.rotation, expected.as_matrix(), atol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_locked_scale_stays(scale):
    truth = drawn(8)
    source = cloud(8)
    target = truth.points(source)
    for found in (
        fit_similarity(source, target, scale=scale),
        robust_similarity(source, target, scale=scale).similarity,
        camera_similarity(poses(8), truth.poses(poses(8)), scale),
    ):
        assert found.scale == scale
        np.testing.assert_allclose(found.rotation, truth.rotation, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.45])
@pytest.mark.parametrize("seed", range(3))
def test_outliers_do_not_count(share, seed):
    random = np.random.default_rng(seed)
    truth, source = drawn(seed), cloud(seed, 500)
    target = truth.points(source)
    wrong = random.permutation(500) < share * 500
    target[wrong] += random.normal(2, 4, (wrong.sum(), 3))  # to one side, which pulls a mean away
    found = robust_similarity(source, target)
    assert_same(found.similarity, truth)
    assert found.trust[~wrong].min(initial=1) > 0.9
    assert found.trust[wrong].max(initial=0) < 1e-3
    np.testing.assert_allclose(found.residuals[~wrong], 0, atol=1e-6)


def test_far_outliers_do_not_shrink_the_rest_to_a_point():
    """What a source puts far off has such a leverage that no scale at all fits best."""
    random = np.random.default_rng(6)
    truth, source = drawn(6), cloud(6, 500)
    target = truth.points(source)
    wrong = random.random(500) < 0.3
    source[wrong] *= random.uniform(20, 100, (wrong.sum(), 1))
    assert fit_similarity(source, target).scale < 0.1 * truth.scale
    assert_same(robust_similarity(source, target).similarity, truth)


def test_outliers_hardly_move_what_noise_allows():
    random = np.random.default_rng(40)
    truth, source = drawn(4), cloud(4, 2000)
    target = truth.points(source) + random.normal(0, 0.05, source.shape)
    clean = fit_similarity(source, target)
    target[:600] += random.normal(2, 4, (600, 3))
    found = robust_similarity(source, target).similarity
    plain = fit_similarity(source, target)
    moved, plainly = (
        np.abs(found.points(source) - one.points(source)).max() for one in (clean, plain)
    )
    assert moved < 0.02
    assert plainly > 20 * moved


def test_points_with_larger_errors_count_less():
    random = np.random.default_rng(50)
    truth, source = drawn(5), cloud(5, 2000)
    errors = np.where(np.arange(2000) < 1000, 0.01, 1.0)
    target = truth.points(source) + errors[:, None] * random.normal(size=source.shape)
    found = robust_similarity(source, target, errors)
    assert_same(found.similarity, truth, 1e-3)
    # Both halves are trusted alike: each is as far off as was to be expected.
    assert found.trust[:1000].mean() == pytest.approx(found.trust[1000:].mean(), abs=0.02)
    # Only ratios of errors matter.
    assert_same(robust_similarity(source, target, 7 * errors).similarity, found.similarity, 1e-8)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (cloud(0, 2), "three points"),
        (cloud(0, 0), "three points"),
        (np.ones((9, 3)), "one line or in one place"),
        (np.arange(9)[:, None] * np.ones(3) + [1, 2, 3], "one line or in one place"),
        (np.full((9, 3), np.nan), "not finite"),
    ],
    ids=["two", "none", "coincident", "collinear", "nan"],
)
def test_what_fixes_no_transform_is_refused(source, message):
    for fit in (fit_similarity, robust_similarity):
        with pytest.raises(DegenerateAlignment, match=message):
            fit(source, source)
    with pytest.raises(DegenerateAlignment):
        fit_similarity(cloud(0, 9), np.ones((9, 3)))
    with pytest.raises(DegenerateAlignment, match="three points"):
        fit_similarity(cloud(0, 9), cloud(0, 9), np.array([1.0, 1, 0, 0, 0, 0, 0, 0, 0]))


def poses(seed: int, count: int = 6) -> np.ndarray:
    random = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.random(count, rng=np.random.default_rng(seed)).as_matrix()
    poses[:, :3, 3] = random.normal(size=(count, 3))
    return poses


def test_poses_tell_the_similarity_too():
    truth = drawn(9)
    assert_same(camera_similarity(poses(9), truth.poses(poses(9))), truth, 1e-9)
    one = camera_similarity(poses(9)[:1], truth.poses(poses(9)[:1]), truth.scale)
    assert_same(one, truth, 1e-9)
    # A camera that counts three times is as three of it.
    weights = np.array([3.0, 1, 2])
    moved = truth.poses(poses(9)[:3])
    moved[0, :3, 3] += 0.1
    moved[1, :3, :3] = moved[1, :3, :3] @ drawn(4).rotation
    often = np.repeat([0, 1, 2], [3, 1, 2])
    weighted = camera_similarity(poses(9)[:3], moved, weights=weights)
    assert_same(weighted, camera_similarity(poses(9)[often], moved[often]), 1e-9)
    with pytest.raises(DegenerateAlignment, match="one place"):
        camera_similarity(poses(9)[:1], poses(9)[:1])
    with pytest.raises(DegenerateAlignment, match="no camera"):
        camera_similarity(poses(9)[:0], poses(9)[:0], 1.0)


def test_similarities_are_a_group():
    one, other, points = drawn(1), drawn(2), cloud(0)
    np.testing.assert_allclose((one @ other).points(points), one.points(other.points(points)))
    assert_same(one @ one.inverse(), Similarity.identity(), 1e-12)
    assert_same(one.inverse() @ one, Similarity.identity(), 1e-12)
    np.testing.assert_array_equal(Similarity.identity().points(points), points)
    assert one.points(points.astype(np.float32)).dtype == np.float32


def test_what_a_camera_sees_stays_where_it_sees_it():
    truth, points = drawn(3), cloud(3)
    cameras = Cameras(
        poses(3).astype(np.float32), np.tile(np.eye(3, dtype=np.float32), (6, 1, 1)),
        np.ones((6, 2), np.int32), tuple("abcdef"),
    )  # fmt: skip
    moved = truth.cameras(cameras)
    for before, after in zip(cameras.world_from_camera, moved.world_from_camera, strict=True):
        np.testing.assert_allclose(after[:3, :3] @ after[:3, :3].T, np.eye(3), atol=1e-6)
        local = (points - before[:3, 3]) @ before[:3, :3]
        again = (truth.points(points) - after[:3, 3]) @ after[:3, :3]
        np.testing.assert_allclose(again, truth.scale * local, atol=1e-4)
    assert moved.names == cameras.names


def covariances(gaussians: Gaussians) -> np.ndarray:
    axes = Rotation.from_quat(gaussians.quaternions_wxyz[:, [1, 2, 3, 0]]).as_matrix()
    axes = axes * gaussians.scales[:, None]
    return axes @ axes.transpose(0, 2, 1)


def test_gaussians_move_turn_and_grow():
    truth, scene = drawn(4), small_room(50)
    random = np.random.default_rng(0)
    quaternions = Rotation.random(50, rng=np.random.default_rng(0)).as_quat()[:, [3, 0, 1, 2]]
    gaussians = replace(
        scene.gaussians,
        scales=random.uniform(0.01, 0.1, (50, 3)).astype(np.float32),
        quaternions_wxyz=quaternions.astype(np.float32),
    )
    moved = truth.scene(replace(scene, gaussians=gaussians))
    np.testing.assert_allclose(moved.gaussians.means, truth.points(gaussians.means), rtol=1e-5)
    turn = truth.scale * truth.rotation
    np.testing.assert_allclose(
        covariances(moved.gaussians), turn @ covariances(gaussians) @ turn.T, atol=1e-6
    )
    np.testing.assert_array_equal(moved.gaussians.sh, gaussians.sh)
    assert moved.codes is scene.codes


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_colours_turn_with_the_scene(degree):
    random = np.random.default_rng(degree)
    sh = random.normal(size=(5, (degree + 1) ** 2, 3))
    directions = random.normal(size=(40, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for turn in (drawn(degree).rotation, np.eye(3), np.diag([1.0, -1, -1])):
        turned = rotate_harmonics(sh, turn)
        before = np.einsum("dk,nkc->ndc", sh_basis(directions, degree), sh)
        after = np.einsum("dk,nkc->ndc", sh_basis(directions @ turn.T, degree), turned)
        np.testing.assert_allclose(after, before, atol=1e-9)
