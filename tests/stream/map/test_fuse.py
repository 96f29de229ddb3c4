import numpy as np
import pytest
import torch

from ffsplat.alignment import Similarity
from ffsplat.geometry import matrix_from_quaternion
from ffsplat.stream.map import SplatMap
from ffsplat.stream.map.pairs import CAP
from tests.stream.map.made import CELL, observed, one_submap, random_observed, settings, turn

HERE = [0.05, 0.05, 0.05]
"""The middle of the first cell."""


def only(splats: SplatMap):
    (place,) = splats.alive()
    places = splats._places
    return {name: getattr(places, name)[place] for name in ("means", "scales", "weights", "keys")}


def quaternion(angle: float, axis: int) -> list[float]:
    q = [np.cos(angle / 2), 0.0, 0.0, 0.0]
    q[1 + axis] = np.sin(angle / 2)
    return q


def test_observations_of_one_cell_share_a_place_in_their_order():
    splats = one_submap()
    places = splats.fuse(observed([HERE, [0.5, 0.5, 0.5], [0.06, 0.05, 0.05]]), 0, [], 0)
    assert places.tolist() == [0, 1, 0]


def test_running_means_are_weighted_means():
    rng = np.random.default_rng(0)
    splats, n = one_submap(), 12
    means = np.float32(HERE) + 0.04 * (rng.random((n, 3)).astype(np.float32) - 0.5)
    colors, opacities = rng.random((n, 3)), rng.random(n)
    confidence = 0.05 + 0.95 * rng.random(n)
    values = {"colors": colors, "opacities": opacities, "confidence": confidence}
    every = observed(means, **values)
    for now in range(n):
        splats.fuse(every[now : now + 1], 0, [], now)
    scene = splats.gaussians().gaussians
    for got, values in ((scene.means, means), (scene.colors, colors), (scene.opacities, opacities)):
        np.testing.assert_allclose(got[0], confidence @ values / confidence.sum(), rtol=1e-4)
    assert only(splats)["weights"] == pytest.approx(confidence.sum(), rel=1e-5)


def test_confidence_is_capped_so_that_a_place_follows_what_changes():
    splats = one_submap()
    dark, bright = (observed([HERE], colors=[[c] * 3], confidence=[1]) for c in (0, 1))
    for now in range(300):
        splats.fuse(dark, 0, [], now)
    assert only(splats)["weights"] == CAP
    for now in range(100):
        splats.fuse(bright, 0, [], 300 + now)
    expected = 1 - (1 - 1 / (CAP + 1)) ** 100
    np.testing.assert_allclose(splats.gaussians().gaussians.colors[0], expected, rtol=1e-4)


def test_shapes_meet_by_rank_and_the_surest_gives_the_rotation():
    """One disc whose axes the second view calls by other names: it stays the same disc."""
    splats = one_submap()
    first = observed([HERE], scales=[[0.04, 0.02, 0.001]], confidence=[0.4])
    # A quarter turn about y: their x axis is our -z, their z axis our x.
    second = observed(
        [HERE],
        scales=[[0.001, 0.02, 0.04]],
        quaternions_wxyz=[quaternion(np.pi / 2, 1)],
        confidence=[0.6],
    )
    for now, one in enumerate((first, second)):
        splats.fuse(one, 0, [], now)
    scene = splats.gaussians().gaussians
    np.testing.assert_allclose(scene.scales[0], [0.001, 0.02, 0.04], rtol=1e-5)
    np.testing.assert_allclose(scene.quaternions_wxyz[0], quaternion(np.pi / 2, 1), rtol=1e-5)


def test_a_less_sure_one_changes_sizes_only_as_a_mean_of_variances():
    splats = one_submap()
    tilted = quaternion(0.3, 0)
    splats.fuse(observed([HERE], scales=[[0.04, 0.02, 0.001]], confidence=[0.6]), 0, [], 0)
    less = observed(
        [HERE], scales=[[0.002, 0.06, 0.02]], quaternions_wxyz=[tilted], confidence=[0.2]
    )
    splats.fuse(less, 0, [], 1)
    scene = splats.gaussians().gaussians
    expected = np.sqrt(
        0.75 * np.square([0.04, 0.02, 0.001]) + 0.25 * np.square([0.06, 0.02, 0.002])
    )
    np.testing.assert_allclose(scene.scales[0], expected, rtol=1e-5)
    assert scene.quaternions_wxyz[0].tolist() == [1, 0, 0, 0]


def test_who_sees_from_near_knows_position_and_shape_better():
    """Twice as far, four times the area: a quarter of the say, in either order."""
    disc = np.float32([[0.2, 0.2, 0.001]])
    close = {"means": [HERE], "scales": disc}
    far = {"means": [[0.09, 0.05, 0.05]], "scales": 2 * disc}
    for views in ((close, far), (far, close)):
        splats = one_submap()
        for now, view in enumerate(views):
            splats.fuse(observed(**view, colors=[[float(view is far)] * 3]), 0, [], now)
        scene = splats.gaussians().gaussians
        mean = 0.8 * 0.05 + 0.2 * 0.09
        np.testing.assert_allclose(scene.means[0], [mean, 0.05, 0.05], rtol=1e-5)
        np.testing.assert_allclose(
            scene.scales[0], np.sqrt(0.8 + 0.2 * 4) * disc[0], rtol=1e-5
        )  # the harmonic mean of both areas
        np.testing.assert_allclose(scene.colors[0], 0.5, rtol=1e-5)


def test_what_joins_at_one_moment_spreads_and_at_another_does_not():
    """Pixels side by side become one Gaussian with the covariance of their mixture."""
    rng = np.random.default_rng(3)
    n = 20
    means = np.float32(HERE) + np.float32([0.08, 0.04, 0]) * (rng.random((n, 3)) - 0.5)
    confidence, q = 0.1 + 0.9 * rng.random(n), quaternion(0.4, 2)
    alike = {"scales": np.tile([0.01, 0.005, 0.0005], (n, 1)), "confidence": confidence}
    pixels = observed(means, quaternions_wxyz=np.tile(q, (n, 1)), **alike)
    together, apart = one_submap(), one_submap()
    together.fuse(pixels, 0, [], 0)
    for now in range(n):
        apart.fuse(pixels[now : now + 1], 0, [], now)
    axes = matrix_from_quaternion(torch.tensor(q)).numpy()
    offsets = (means - np.average(means, axis=0, weights=confidence)) @ axes
    spread = np.average(offsets**2, axis=0, weights=confidence)
    scales = together.gaussians().gaussians.scales[0]
    np.testing.assert_allclose(scales**2, spread + np.square([0.01, 0.005, 0.0005]), rtol=1e-3)
    np.testing.assert_allclose(
        apart.gaussians().gaussians.scales[0], [0.01, 0.005, 0.0005], rtol=1e-4
    )


def test_a_target_is_joined_wherever_it_is():
    splats = one_submap()
    splats.fuse(observed([HERE]), 0, [], 0)
    beside = observed([[0.12, 0.05, 0.05]], target=[0])
    assert splats.fuse(beside, 0, [], 1).tolist() == [0]
    np.testing.assert_allclose(only(splats)["means"], [0.085, 0.05, 0.05], rtol=1e-5)


def test_a_target_far_away_is_joined_in_color_and_confidence_alone():
    splats = one_submap()
    splats.fuse(observed([HERE]), 0, [], 0)
    before = only(splats)
    far = observed([[1.0, 0.05, 0.05]], target=[0], colors=[[1, 1, 1]], ids=[[1]])
    assert splats.fuse(far, 0, [], 1).tolist() == [0]
    after = only(splats)
    assert after["means"].tolist() == before["means"].tolist()
    assert after["scales"].tolist() == before["scales"].tolist()
    assert after["weights"] == 1
    scene = splats.gaussians()
    np.testing.assert_allclose(scene.gaussians.colors[0], 0.75)
    assert scene.codes is not None
    assert scene.codes.ids[0, :2].tolist() == [0, 1]


@pytest.mark.parametrize("target", [-1, 1, 199, 200, 2**31 - 1, -(2**31)])
def test_a_target_that_is_none_is_looked_up_by_its_cell(target):
    splats = one_submap()
    splats.fuse(observed([HERE]), 0, [], 0)
    assert splats.fuse(observed([HERE], target=[target]), 0, [], 1).tolist() == [0]


def test_a_mean_that_leaves_its_cell_is_found_in_the_new_one():
    splats = one_submap()
    splats.fuse(observed([[0.09, 0.05, 0.05]]), 0, [], 0)
    splats.fuse(observed([[0.15, 0.05, 0.05]], target=[0]), 0, [], 1)  # the mean is now at 0.12
    assert splats.fuse(observed([[0.11, 0.05, 0.05]]), 0, [], 2).tolist() == [0]
    assert splats.fuse(observed([[0.05, 0.05, 0.05]]), 0, [], 3).tolist() == [1]


def test_a_mean_that_enters_the_cell_of_another_keeps_its_own():
    splats = one_submap()
    splats.fuse(observed([[0.09, 0.05, 0.05], [0.15, 0.05, 0.05]]), 0, [], 0)
    splats.fuse(observed([[0.15, 0.05, 0.05]], target=[0]), 0, [], 1)
    assert splats.fuse(observed([[0.11, 0.05, 0.05]]), 0, [], 2).tolist() == [1]
    assert splats.fuse(observed([[0.05, 0.05, 0.05]]), 0, [], 3).tolist() == [0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("means", [[np.nan, 0, 0]]),
        ("scales", [[np.inf, 1, 1]]),
        ("quaternions_wxyz", [[np.nan, 0, 0, 0]]),
        ("opacities", [np.nan]),
        ("colors", [[np.nan, 0, 0]]),
        ("confidence", [np.nan]),
        ("confidence", [0]),
        ("confidence", [-1]),
        ("means", [[1e9, 0, 0]]),  # beyond the cells of its submap
    ],
)
def test_what_is_not_usable_has_no_place(name, value):
    splats = one_submap()
    assert splats.fuse(observed(**{"means": [HERE], name: value}), 0, [], 0).tolist() == [-1]
    assert len(splats) == 0


def test_whatever_is_finite_leaves_all_finite():
    rng = np.random.default_rng(6)
    splats = one_submap()
    for now in range(200):
        seen = random_observed(rng, 40)
        for name in ("scales", "quaternions_wxyz", "opacities", "colors", "weights"):
            array = getattr(seen, name)
            array *= rng.choice(np.float32([0, 1, -1, 1e-38, 1e38]), array.shape)
        splats.fuse(seen, 0, [], now)
    scene = splats.gaussians()
    for values in (*vars(scene.gaussians).values(), *splats.state().values()):
        assert values is None or np.isfinite(values).all()
    assert scene.gaussians.scales.min() > 0
    assert scene.gaussians.opacities.min() >= 0
    assert scene.gaussians.opacities.max() <= 1
    np.testing.assert_allclose(
        np.linalg.norm(scene.gaussians.quaternions_wxyz, axis=1), 1, rtol=1e-5
    )


def test_a_submap_of_another_scale_keeps_shapes_in_its_own_frame():
    pose = Similarity(2.0, turn(np.pi / 2), np.array([1.0, 2, 3]))
    splats = SplatMap(settings(), CELL)
    splats.add_submap(pose)
    splats.fuse(observed([[1.0, 2, 3.1]]), 0, [], 0)
    row = splats.rows(splats.alive())
    np.testing.assert_allclose(row.means[0], [0, 0, 0.05], atol=1e-6)
    np.testing.assert_allclose(row.scales[0], [0.015, 0.01, 0.0005], rtol=1e-3)
    np.testing.assert_allclose(row.quaternions_wxyz[0], [90, 0, 0, -90])
    back = splats.gaussians().gaussians
    np.testing.assert_allclose(back.means[0], [1, 2, 3.1], rtol=1e-6)
    np.testing.assert_allclose(back.scales[0], [0.03, 0.02, 0.001], rtol=1e-5)
    np.testing.assert_allclose(back.quaternions_wxyz[0], [1, 0, 0, 0], atol=1e-6)


def test_the_same_calls_give_the_same_map():
    maps = [one_submap(), one_submap()]
    for splats in maps:
        rng = np.random.default_rng(5)
        for now in range(20):
            splats.fuse(random_observed(rng), 0, [], now)
    first, second = (splats.state() for splats in maps)
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes(), name


def test_nothing_seen_changes_nothing():
    splats = one_submap()
    assert splats.fuse(observed(np.zeros((0, 3))), 0, [], 0).shape == (0,)
    assert not splats.gaussians().gaussians.means.size


def test_a_submap_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no submap 1"):
        one_submap().fuse(observed([HERE]), 0, [1], 0)
