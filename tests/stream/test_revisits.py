"""What moves a map into the world of those who send it poses."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ffsplat.alignment import Similarity
from ffsplat.stream.atlas import Atlas
from ffsplat.stream.keyframes import Keyframe
from ffsplat.stream.map import SplatMap
from ffsplat.stream.revisits import Revisits, take_senders_world
from ffsplat.stream.settings import MapperSettings
from ffsplat.stream.window import world_poses
from ffsplat.types import ViewSource

TRUE = Similarity(3.0, Rotation.from_rotvec([0.2, -1, 0.4]).as_matrix(), np.array([4.0, 5, 6]))
"""From the map to the sender's world."""


def keyframe(number: int, submap: int, local: np.ndarray, given: np.ndarray | None) -> Keyframe:
    image = np.zeros((2, 2), np.float16)
    return Keyframe(
        number, number, submap, local, np.eye(3, dtype=np.float32), False,
        np.zeros((2, 2, 3), np.uint8), *2 * [np.ones((2, 2), bool)], image, image, 1.0,
        np.full((2, 2), -1, np.int32), 0, np.zeros(4, np.float32),
        ViewSource("", 2, 2, np.eye(3)), given,
    )  # fmt: skip


def atlas(count: int, off: int = 0) -> Atlas:
    """Two keyframes a submap along a way; of the first submaps, `off` are far from it."""
    settings = MapperSettings(max_splats=8, max_submaps=16)
    made = Atlas(settings, SplatMap(settings, 1.0))
    rng = np.random.default_rng(0)
    for number in range(count):
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_rotvec([0, 0.1 * number, 0]).as_matrix()
        pose[:3, 3] = 0.4 * number, 0.02 * number**2, 0
        given = TRUE.poses(pose[None])[0]
        submap = number // 2
        if number % 2 == 0:
            first, here = pose, pose.copy()
            here[:3, 3] += rng.normal(size=3) * (20 if submap < off else 0)
            made.submaps.open(here, 1.0, number, given=False)
        local = np.linalg.inv(first) @ pose
        made.keyframes.add(keyframe(number, submap, local, given))
    return made


def given_and_found(made: Atlas) -> tuple[np.ndarray, np.ndarray]:
    every = list(made.keyframes)
    return np.stack([one.given for one in every]), world_poses(every, made.submaps.poses)


@pytest.mark.parametrize("off", [0, 1, 2])
def test_every_submap_stands_where_its_cameras_are_said_to_be(off):
    made = atlas(12, off)
    assert take_senders_world(made)
    given, found = given_and_found(made)
    np.testing.assert_allclose(found, given, atol=1e-9)
    assert made.submaps.poses[5].scale == pytest.approx(3)


def test_few_keyframes_of_which_some_lie_far_off_tell_no_world():
    made = atlas(4, off=1)
    before = dict(made.submaps.poses)
    assert not take_senders_world(made)
    assert made.submaps.poses == before


def test_without_poses_there_is_no_other_world():
    made = atlas(0)
    made.submaps.open(np.eye(4), 1.0, 0, given=False)
    made.keyframes.add(keyframe(0, 0, np.eye(4), None))
    assert not take_senders_world(made)


def test_a_proof_that_fails_is_told_once_and_holds_nothing_up(monkeypatch):
    made, revisits, smoothed = atlas(8), Revisits(), []
    monkeypatch.setattr(made.submaps, "_correct", lambda *_: smoothed.append(1))
    revisits.proof = made.submaps.await_loop(lambda: 1 / 0)
    made.submaps.smooth()  # waits for the loop
    assert not smoothed
    with pytest.raises(ZeroDivisionError):
        revisits.settle(made)
    assert smoothed
    revisits.settle(made)
    assert revisits.closed == 0
