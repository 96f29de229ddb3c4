import numpy as np
import pytest
import torch

from ffsplat.alignment import Similarity
from ffsplat.geometry import matrix_from_quaternion
from ffsplat.stream.map.submaps import SubmapPoses
from tests.stream.map.made import random_pose


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_lowest_free_number_is_given():
    submaps = SubmapPoses(3)
    numbers = [submaps.add(Similarity.identity()) for _ in range(3)]
    submaps.remove(1)
    assert numbers == [0, 1, 2]
    assert submaps.numbers() == [0, 2]
    assert submaps.add(Similarity.identity()) == 1


def test_there_are_no_more_than_there_may_be():
    submaps = SubmapPoses(1)
    submaps.add(Similarity.identity())
    with pytest.raises(ValueError, match="1 submaps already"):
        submaps.add(Similarity.identity())


@pytest.mark.parametrize("number", [-1, 0, 5])
def test_a_submap_that_is_not_there_has_no_pose(number):
    with pytest.raises(ValueError, match=f"no submap {number}"):
        SubmapPoses(2).pose(number)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan])
def test_a_pose_must_be_a_similarity(scale):
    with pytest.raises(ValueError, match="no similarity"):
        SubmapPoses(2).add(Similarity(scale, np.eye(3), np.zeros(3)))


def test_a_pose_comes_back_and_so_do_its_matrices(rng):
    submaps = SubmapPoses(2)
    pose = random_pose(rng)
    number = submaps.add(pose)
    point = rng.standard_normal(3)
    got = submaps.pose(number)
    np.testing.assert_allclose(got.points(point), pose.points(point), atol=1e-12)
    np.testing.assert_allclose(submaps.into_world[number] @ [*point, 1], pose.points(point))
    np.testing.assert_allclose(
        submaps.into_local[number] @ [*pose.points(point), 1], point, atol=1e-12
    )


def test_changes_name_what_appeared_moved_and_went(rng):
    submaps = SubmapPoses(4)
    first, second = random_pose(rng), random_pose(rng)
    submaps.add(first)
    submaps.add(second)
    changes = submaps.take_changes()
    assert changes.numbers.tolist() == [0, 1]
    scale, *rest = changes.poses[1]
    rotation = matrix_from_quaternion(torch.tensor(rest[:4])).numpy()
    np.testing.assert_allclose(rotation, second.rotation, atol=1e-12)
    assert (scale, *rest[4:]) == (second.scale, *second.translation)
    submaps.move([1], [second])  # where it is
    assert submaps.take_changes().numbers.tolist() == []
    submaps.move([1], [first])
    submaps.remove(0)
    submaps.remove(submaps.add(first))  # came and went: 0 again
    changes = submaps.take_changes()
    assert (changes.numbers.tolist(), changes.removed.tolist()) == ([1], [0])


def test_a_number_given_again_is_both_removed_and_new(rng):
    submaps = SubmapPoses(2)
    submaps.add(random_pose(rng))
    submaps.take_changes()
    submaps.remove(0)
    submaps.add(random_pose(rng))
    changes = submaps.take_changes()
    assert (changes.numbers.tolist(), changes.removed.tolist()) == ([0], [0])
    submaps.remove(0)
    changes = submaps.take_changes()
    assert (changes.numbers.tolist(), changes.removed.tolist()) == ([], [0])
