"""What a map remembers, asked for what a new frame needs."""

import numpy as np
import pytest

from ffsplat.stream.atlas import BESIDE
from ffsplat.stream.mapper import Mapper
from ffsplat.stream.settings import MapperSettings
from ffsplat.stream.submaps import FRAME
from ffsplat.stream.trajectory import matrices
from tests.stream.stub import Faults, StubPredictor
from tests.stream.test_revisits import atlas, keyframe
from tests.walks import preview_walk


def test_keyframes_from_which_other_things_are_seen_are_left_out_but_two():
    made = atlas(6)
    pose = made.submaps.poses[0].poses(made.keyframes[0].submap_from_camera[None])[0]
    # The next one is 0.4 to the side and turned by 6 degrees, at a depth of 1.
    assert [one.number for one in made.near(pose, 3)] == [0, 1]
    assert [one.number for one in made.near(pose, 3, but=0)] == [1, 2]
    beside = np.eye(4)
    beside[0, 3] = 0.15
    made.keyframes.add(keyframe(9, 0, beside.copy(), None))
    assert [one.number for one in made.near(pose, 3)] == [0, 9]
    assert BESIDE == 2
    for number in (10, 11):
        beside[1, 3] += 0.12
        made.keyframes.add(keyframe(number, 0, beside.copy(), None))
    assert len(made.near(pose, 4)) == 3


@pytest.fixture(scope="module")
def mapped() -> Mapper:
    walk = preview_walk()
    settings = MapperSettings(max_splats=20_000, overlap=0.6)
    mapper = Mapper(
        StubPredictor(walk.places, Faults(turn=0.5, move=0.02), resolution=64), settings
    )
    for frame in walk.frames(0, 32, 2):
        mapper.add(frame.image, frame.time_ns, number=frame.number)
    return mapper


def test_frames_that_are_no_keyframes_stand_where_the_graph_has_them(mapped):
    assert mapped.atlas is not None
    submaps, way = mapped.atlas.submaps, mapped.trajectory()
    assert len(submaps.frames) > 2
    for node, pose in submaps.frames.items():
        row = node - FRAME
        assert not way.keyframes[row]
        submap = submaps.poses[int(way.submaps[row])]
        (found,) = submap.poses(matrices(way.poses[row][None]))
        np.testing.assert_allclose(found[:3, :3], pose.rotation, atol=1e-9)
        np.testing.assert_allclose(found[:3, 3], pose.translation, atol=1e-9)


def test_a_state_holds_frames_that_are_nodes(mapped, tmp_path):
    copy = Mapper.load(mapped.save(tmp_path / "state"), mapped.predictor, mapped.settings)
    assert mapped.atlas is not None
    assert copy.atlas is not None
    submaps, others = mapped.atlas.submaps, copy.atlas.submaps
    assert list(others.frames) == list(submaps.frames)
    assert list(others.poses) == list(submaps.poses)
    ends = [(edge.i, edge.j) for edge in submaps.graph.edges]
    assert [(edge.i, edge.j) for edge in others.graph.edges] == ends
    assert sum(max(pair) >= FRAME for pair in ends) >= len(submaps.frames)
