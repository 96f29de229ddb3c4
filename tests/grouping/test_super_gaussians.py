import numpy as np
import pytest
from small_room import small_room

from ffsplat.errors import UsageError
from ffsplat.grouping.super_gaussians import (
    farthest_points,
    mean_spacing,
    soft_assignment,
    super_gaussians,
    weighted_means,
)


def test_farthest_points_are_those_of_all_pairs():
    points = np.random.default_rng(1).random((200, 3)).astype(np.float32)
    distances = np.linalg.norm(points[:, None].astype(float) - points[None], axis=-1)
    chosen = [0]
    while len(chosen) < 12:
        chosen.append(int(distances[chosen].min(axis=0).argmax()))
    assert farthest_points(points, 12).tolist() == chosen


def test_farthest_points_end_where_points_repeat():
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0]], np.float32)
    assert farthest_points(points, 9).tolist() == [0, 1]
    assert farthest_points(points[:0], 9).tolist() == []


def test_shares_are_the_softmax_of_negative_costs():
    shares = soft_assignment(np.array([[0.0, np.log(3.0)], [800.0, 800.0]]))
    assert shares == pytest.approx(np.array([[0.75, 0.25], [0.5, 0.5]]))


def test_weighted_means_by_hand():
    values = np.array([[0, 2], [4, 0]], np.float32)
    candidates = np.array([[0, 1], [1, 0]], np.int32)
    weights = np.array([[0.5, 0.5], [1.0, 0.0]])
    means = weighted_means(values, candidates, weights, np.full((3, 2), 7, np.float32))
    assert means == pytest.approx(np.array([[0, 2], [8 / 3, 2 / 3], [7, 7]]))


def test_a_hard_assignment_makes_centroids_of_the_pieces():
    generator = np.random.default_rng(2)
    values = generator.random((40, 3)).astype(np.float32)
    owner = generator.integers(0, 4, 40).astype(np.int32)
    hard = np.ones((40, 1), np.float32)
    centers = weighted_means(values, owner[:, None], hard, np.zeros((4, 3), np.float32))
    for piece in range(4):
        assert centers[piece] == pytest.approx(values[owner == piece].mean(0), abs=1e-6)


def test_pieces_do_not_cross_from_thing_to_thing():
    room = small_room(3000)
    pieces = super_gaussians(room, 24)
    assert pieces.weights.sum(axis=1) == pytest.approx(np.ones(len(pieces.weights)), abs=1e-6)
    assert len(pieces) == 24
    for piece in np.unique(pieces.index):
        assert len(np.unique(room.instances[pieces.index == piece])) == 1


def test_the_same_scene_gives_the_same_pieces():
    room = small_room(500)
    first, second = super_gaussians(room, 8), super_gaussians(room, 8)
    assert np.array_equal(first.index, second.index)


def test_more_pieces_than_anchors_are_as_many_as_anchors():
    assert len(super_gaussians(small_room(10), 100)) <= 10
    assert len(super_gaussians(small_room(10)[:0], 100)) == 0


def test_a_count_of_none_is_refused():
    with pytest.raises(UsageError):
        super_gaussians(small_room(10), 0)


def test_spacing_is_the_mean_distance_to_the_nearest_other():
    points = np.array([[0, 0, 0], [1, 0, 0], [4, 0, 0]], np.float32)
    assert mean_spacing(points) == pytest.approx((1 + 1 + 3) / 3)
    assert mean_spacing(points[:1]) == 1
