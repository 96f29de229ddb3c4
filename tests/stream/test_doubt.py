"""Frames that their window does not prove: a camera that is somewhere else all of a sudden."""

import numpy as np
import pytest

from ffsplat.stream.clock import Clock
from ffsplat.stream.doubt import look_again, most_alike
from ffsplat.stream.mapper import Mapper
from ffsplat.stream.placing import DOUBT, surest, ties
from ffsplat.stream.settings import MapperSettings
from ffsplat.stream.window import Arrival, see, world_poses
from tests.stream.stub import StubPredictor
from tests.walks import preview_walk

SMALL = MapperSettings(max_splats=60_000, max_keyframes=40, max_submaps=30, max_frames=1000)
STOP = 60
BACK = 5
"""A frame of the way that is no keyframe, and of which nothing is to be seen from where it ends."""


@pytest.fixture(scope="module")
def walk():
    return preview_walk()


@pytest.fixture
def mapper(walk):
    """A map of the first frames of a walk."""
    mapper = Mapper(StubPredictor(walk.places, resolution=64), SMALL)
    for frame in walk.frames(0, STOP, 2):
        assert mapper.add(frame.image, frame.time_ns, number=frame.number).used
    mapper.finish()
    return mapper


def arrival(mapper, image):
    """The next frame."""
    return Arrival(STOP, 10**12, mapper.canvas.fit(image))


def beside(mapper, image):
    """What shows a picture beside one keyframe, and the numbers of those that were asked for."""
    new = arrival(mapper, image)
    asked = []

    def look(one):
        asked.append(one.number)
        return see(mapper.predictor, [one], [new], SMALL.min_confidence, Clock())

    return look, asked


def test_a_camera_that_was_carried_back_is_placed_at_once(walk, mapper):
    frame = walk.frame(BACK)
    (verdict,) = mapper.add_together([arrival(mapper, frame.image)])
    assert verdict.used
    keyframes, submaps = mapper.atlas.keyframes, mapper.atlas.submaps.poses
    (first,) = world_poses([keyframes[0]], submaps)
    true = np.linalg.inv(walk.frame(0).world_from_camera) @ frame.world_from_camera
    found = np.linalg.inv(first) @ verdict.pose
    np.testing.assert_allclose(found[:3, :3], true[:3, :3], atol=5e-3)


def test_a_picture_of_elsewhere_stays_in_doubt(mapper):
    noise = np.random.default_rng(3).integers(0, 256, (12, 16, 3), np.uint8)
    look, asked = beside(mapper, noise.repeat(4, 0).repeat(4, 1))
    last = mapper.atlas.last_placed()
    window = look(last)
    found, tied = look_again(mapper.atlas, window, ties(window, 1, [0]), look)
    assert found.past == (last,)
    assert surest(tied) > DOUBT
    assert len(asked) == 3
    assert asked[1] == last.number != asked[2]


def test_what_the_last_frame_proves_needs_no_other(walk, mapper):
    look, asked = beside(mapper, walk.frame(STOP).image)
    last = mapper.atlas.last_placed()
    far = look(mapper.atlas.keyframes[0])
    found, tied = look_again(mapper.atlas, far, ties(far, 1, [0]), look)
    assert asked == [0, last.number]
    assert found.past == (last,)
    assert surest(tied) < DOUBT


def test_the_most_alike_keyframe_is_the_one_of_the_highest_cosine(walk, mapper):
    look, _ = beside(mapper, walk.frame(BACK).image)
    window = look(mapper.atlas.last_placed())
    tokens = window.prediction.token_descriptors[0, 1].flatten(0, 1).double().numpy().mean(0)
    every = {one.number: one.descriptor.astype(float) for one in mapper.atlas.keyframes}
    mean = np.mean(list(every.values()), axis=0)
    own = tokens / np.linalg.norm(tokens) - mean
    cosines = {
        number: own @ (one - mean) / np.linalg.norm(one - mean) for number, one in every.items()
    }
    order = sorted(cosines, key=lambda number: -cosines[number])
    assert most_alike(mapper.atlas, window, ()).number == order[0]
    assert most_alike(mapper.atlas, window, order[:2]).number == order[2]
    assert most_alike(mapper.atlas, window, order) is None
