"""The way of a camera in bounded memory."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ffsplat.alignment import Similarity
from ffsplat.stream.trajectory import Trajectory, matrices


def pose(seed):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    matrix[:3, 3] = np.random.default_rng(seed).standard_normal(3)
    return matrix


def fill(way, numbers, submap=0):
    for number in numbers:
        lens = np.arange(6, dtype=np.float32)
        way.add(number, 10 * number, submap, pose(number), lens, number % 2 == 0)


def test_frames_come_back_as_they_were():
    way = Trajectory(10)
    fill(way, range(3))
    frames = way.frames()
    np.testing.assert_allclose(matrices(frames.poses), [pose(i) for i in range(3)], atol=1e-12)
    assert frames.numbers.tolist() == [0, 1, 2]
    assert frames.times_ns.tolist() == [0, 10, 20]
    assert frames.keyframes.tolist() == [1, 0, 1]


@pytest.mark.parametrize("most", [5, 1500])
def test_the_oldest_are_forgotten(most):
    way = Trajectory(most)
    fill(way, range(most + 7))
    assert len(way) == most
    assert way.frames().numbers.tolist() == list(range(7, most + 7))
    assert way.last().numbers.tolist() == [most + 6]


def test_each_frame_is_taken_once():
    way = Trajectory(4)
    fill(way, range(2))
    assert way.take().numbers.tolist() == [0, 1]
    assert len(way.take()) == 0
    fill(way, range(2, 9))  # three of them are forgotten before anybody takes them
    assert way.take().numbers.tolist() == [5, 6, 7, 8]


def test_frames_stay_where_they_are_when_their_submap_goes():
    way = Trajectory(10)
    fill(way, range(2), submap=1)
    fill(way, range(2, 4), submap=2)
    one = Similarity(2.0, Rotation.random(random_state=5).as_matrix(), np.array([1.0, 2, 3]))
    two = Similarity(0.5, Rotation.random(random_state=6).as_matrix(), np.array([0, -1.0, 3]))
    before = one.poses(matrices(way.frames().poses)[:2])
    way.move(1, 2, two.inverse() @ one)
    assert way.frames().submaps.tolist() == [2] * 4
    np.testing.assert_allclose(two.poses(matrices(way.frames().poses)[:2]), before, atol=1e-12)


def test_frames_that_moved_are_told_again():
    way = Trajectory(10)
    fill(way, range(2), submap=1)
    fill(way, range(2, 4), submap=2)
    way.take()
    way.move(1, 2, Similarity.identity())
    assert way.take().numbers.tolist() == [0, 1]
    way.tell_again()
    assert way.take().numbers.tolist() == [0, 1, 2, 3]


def test_a_way_goes_on_from_its_state():
    way = Trajectory(5)
    fill(way, range(7))
    way.take()
    fill(way, range(7, 9))
    other = Trajectory.from_state(5, way.state())
    assert other.take().numbers.tolist() == [7, 8]
    fill(other, [9])
    assert other.frames().numbers.tolist() == [5, 6, 7, 8, 9]


def test_an_empty_way_has_no_last_frame():
    assert len(Trajectory(3).last()) == 0


def test_frames_with_a_pose_stand_there_once_the_world_is_the_senders():
    way, lens = Trajectory(10), np.zeros(6, np.float32)
    for number, submap, given in ((0, 3, pose(10)), (1, 3, None), (2, 7, pose(12))):
        way.add(number, number, submap, pose(number), lens, True, given)
    way.take()
    lies = {7: Similarity(2.0, pose(20)[:3, :3], pose(20)[:3, 3])}
    way.stand_as_given(lies, 7, lies)  # submap 3 is gone
    frames = way.frames()
    assert frames.submaps.tolist() == [7, 3, 7]
    found = lies[7].poses(matrices(frames.poses))
    np.testing.assert_allclose(found[[0, 2]], [pose(10), pose(12)], atol=1e-9)
    np.testing.assert_allclose(matrices(frames.poses)[1], pose(1), atol=1e-12)
    assert way.take().numbers.tolist() == [0, 2]
    way.stand_as_given(lies, 7, [3])  # not the one that they are in now
    assert not len(way.take().numbers)
    way.stand_as_given(lies, 7, lies)
    again = Trajectory.from_state(10, way.state()).frames()
    np.testing.assert_array_equal(again.poses, way.frames().poses)


def test_frames_stand_elsewhere_by_their_places_on_the_way():
    way = Trajectory(4)
    fill(way, range(10, 16), submap=1)
    way.take()
    one = Similarity(2.0, Rotation.random(random_state=5).as_matrix(), np.array([1.0, 2, 3]))
    there = Similarity(0.7, Rotation.random(random_state=6).as_matrix(), np.ones(3))
    assert way.added == 6
    way.stand({1: one, 4: there}, {1: one}, 1)  # the first is forgotten already
    told = way.take()
    assert told.numbers.tolist() == [14]
    (pose,) = one.poses(matrices(told.poses))
    np.testing.assert_allclose(pose[:3, :3], there.rotation, atol=1e-12)
    np.testing.assert_allclose(pose[:3, 3], there.translation, atol=1e-12)
    way.stand({5: there}, {2: one}, 2)  # its submap is gone
    assert way.take().submaps.tolist() == [2]


def test_frames_with_a_pose_are_told_in_the_world():
    way = Trajectory(4)
    lens = np.zeros(6, np.float32)
    for number in range(7):  # the first three are forgotten, the fourth is not asked for
        given = None if number == 4 else pose(10 + number)
        way.add(number, 0, number % 2, pose(number), lens, False, given)
    lies = {
        0: Similarity(2.0, Rotation.random(random_state=5).as_matrix(), np.array([1.0, 2, 3])),
        1: Similarity(0.5, Rotation.random(random_state=6).as_matrix(), np.array([0, -1.0, 3])),
    }
    poses, given = way.posed(lies, 3)
    expected = [lies[number % 2].poses(pose(number)[None])[0] for number in (5, 6)]
    np.testing.assert_allclose(poses, expected, atol=1e-12)
    np.testing.assert_allclose(given, [pose(15), pose(16)], atol=1e-12)
    poses, given = way.posed({0: lies[0]}, 3)  # that of 5 is gone
    np.testing.assert_allclose(given, [pose(16)], atol=1e-12)
