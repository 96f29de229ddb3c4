"""The scale that parallax tells, against matches made from points."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ffsplat.refine.equations import Sightings
from ffsplat.stream.given import UNKNOWN, weigh
from ffsplat.stream.parallax import SURE, by_parallax

SCALE = 2.5
"""From the window's unit to that of the poses."""

CELL = 0.04


def way(step: float, count: int = 3) -> dict[int, np.ndarray]:
    """Poses, far from where their sender counts from, that turn while they move."""
    poses = {}
    for row in range(count):
        poses[row] = np.eye(4)
        poses[row][:3, :3] = Rotation.from_rotvec([0.03 * row, 0.1 * row, 0]).as_matrix()
        poses[row][:3, 3] = 1e5 + step * row, 2e5, 0.5 * step * row
    return poses


def sightings(poses, rng, noise=0.0, depth_noise=0.0, count=200) -> Sightings:
    """What each view sees of points of another, off by some cells; depths are off too."""
    ends, matches = [], []
    for source in poses:
        for target in poses:
            if source == target:
                continue
            depth = rng.uniform(2, 6, count)
            points = np.stack([*rng.uniform(-0.6, 0.6, (2, count)) * depth, depth])
            relative = np.linalg.inv(poses[target]) @ poses[source]
            there = relative[:3, :3] @ points + relative[:3, 3:]
            places = there[:2] / there[2:] + noise * CELL * rng.standard_normal((2, count))
            wrong = np.exp(depth_noise * rng.standard_normal(count)) / SCALE
            rest = np.stack([np.zeros(count), np.full(count, 0.05), np.full(count, 0.5)])
            ends.append((source, target))
            matches.append(np.concatenate([points * wrong, places, rest]))
    source, target = np.array(ends).T
    return Sightings(source, target, np.stack(matches), CELL)


def test_exact_matches_tell_the_exact_scale():
    poses = way(0.3)
    told = by_parallax(sightings(poses, np.random.default_rng(0)), poses, 1.0)
    assert told is not None
    assert told.log == pytest.approx(math.log(SCALE), abs=1e-6)
    assert SURE < told.error < 1.5 * SURE


def test_only_views_with_a_pose_tell():
    poses, rng = way(0.3, 4), np.random.default_rng(0)
    seen = sightings(poses, rng)
    astray = (seen.source == 3) | (seen.target == 3)
    seen.matches[astray, 3:5] = rng.uniform(-1, 1, seen.matches[astray, 3:5].shape)
    told = by_parallax(seen, {row: poses[row] for row in range(3)}, 1.0)
    assert told is not None
    assert told.log == pytest.approx(math.log(SCALE), abs=1e-6)
    assert by_parallax(seen, {0: poses[0]}, 1.0) is None


def test_the_error_is_what_noise_makes():
    poses = way(0.15)
    errors = []
    for noise in (0.1, 0.4):
        rng = np.random.default_rng(1)
        told = [by_parallax(sightings(poses, rng, noise, 0.1), poses, SCALE) for _ in range(20)]
        off = [one.log - math.log(SCALE) for one in told if one is not None]
        errors.append(np.mean([one.error for one in told if one is not None]))
        assert len(off) == 20
        assert np.sqrt(np.mean(np.square(off))) < errors[-1]
    assert errors[0] < 0.1 < 1.5 * errors[1]


def test_matches_that_are_wrong_do_not_count():
    poses, rng = way(0.3), np.random.default_rng(2)
    seen = sightings(poses, rng, 0.1)
    seen.matches[:, 3:5, :60] = rng.uniform(-0.6, 0.6, (6, 2, 60))  # three in ten
    told = by_parallax(seen, poses, SCALE)
    assert told is not None
    assert told.log == pytest.approx(math.log(SCALE), abs=0.1)


@pytest.mark.parametrize("step", [0.0, 1e-4])
def test_a_turn_on_the_spot_tells_nothing(step):
    poses = way(step)
    told = by_parallax(sightings(poses, np.random.default_rng(3), 0.3), poses, SCALE)
    if told is not None:  # where the spot trembles
        scale, error = weigh(SCALE, UNKNOWN, told)
        assert scale == pytest.approx(SCALE, rel=0.01)
        assert error == pytest.approx(UNKNOWN, rel=0.01)


def test_too_few_matches_and_impossible_scales_tell_nothing():
    poses, rng = way(0.3, 2), np.random.default_rng(4)
    seen = sightings(poses, rng)
    assert by_parallax(seen, poses, SCALE) is not None
    assert by_parallax(sightings(poses, rng, count=7), poses, SCALE) is None
    seen.matches[:, :3] *= 1e6
    assert by_parallax(seen, poses, SCALE) is None


def test_poses_of_another_way_move_the_scale_by_little():
    rng = np.random.default_rng(5)
    seen = sightings(way(0.3), rng, 0.3)
    for _ in range(20):
        lost = {row: way(0.3)[row] for row in range(3)}
        lost[2][:3, 3] += rng.normal(size=3) * 50
        told = by_parallax(seen, lost, SCALE)
        if told is not None:
            assert weigh(SCALE, 0.1, told)[0] == pytest.approx(SCALE, rel=0.15)
