"""What ties the views of a window: exact and turned views of a painted room, and walks."""

import math
from dataclasses import replace

import numpy as np
import pytest
from boxroom import cameras

from ffsplat.chunks.place import FIRST
from ffsplat.stream.atlas import Atlas
from ffsplat.stream.mapper import Mapper
from ffsplat.stream.placing import DOUBT, REACH, UNLIKE, Tie, lay, surest, ties
from ffsplat.stream.settings import MapperSettings
from ffsplat.stream.submaps import FRAME
from ffsplat.stream.trajectory import matrices
from ffsplat.stream.window import Arrival, Window
from ffsplat.types import Views
from tests.stream.boxviews import box_views, posed, turned
from tests.stream.stub import Faults, StubPredictor
from tests.walks import preview_walk

POSES = cameras(3, seed=1)[0]
SMALL = MapperSettings(max_splats=60_000, max_keyframes=40, max_submaps=30, max_frames=1000)


def window(radians=0.0, seeds=0):
    """Three views of a room, the second of them turned away from where it is."""
    prediction, pixels, valid = box_views(POSES, seeds)
    prediction = turned(prediction, 1, radians)
    views = Views(pixels, valid, np.full((3, 3, 3), np.nan, np.float32), ())
    return Window(prediction, views, posed((prediction, pixels, valid)), (), valid, FIRST)


def test_views_of_one_place_tie_and_others_do_not():
    same = ties(window(), 2, [0, 1])
    assert [one.row for one in same] == [0, 1]
    assert min(one.likeness for one in same) > 0.8
    assert surest(same) < 0.1
    other = ties(window(seeds=(0, 0, 7)), 2, [0, 1])
    assert max(abs(one.likeness) for one in other) < 0.3
    assert surest(other) > DOUBT


def test_a_view_that_is_turned_away_ties_less():
    exact, off, far = (ties(window(angle), 2, [1])[0] for angle in (0.0, 0.02, 0.2))
    assert exact.error < off.error < far.error


def test_errors_are_those_that_were_measured():
    degrees = [math.degrees(Tie(0, alike, 0.3).error) for alike in (0.97, 0.85, 0.6, 0.45)]
    assert degrees == pytest.approx([1.8, 3.2, 5, 8.6], rel=0.4)
    assert Tie(0, 1.0, 1.0).error == pytest.approx(math.hypot(UNLIKE * math.exp(-4), REACH))
    assert surest([]) == 0


def test_without_ties_a_window_lies_where_it_is():
    assert lay(window(), [], {}) is FIRST


class Confused(StubPredictor):
    """Puts a picture anywhere if one of its window shows nothing of what it shows.

    So do networks: two views alone are told apart better than beside a third one from elsewhere.
    """

    jump = 12
    """Frames from which on nothing is shared."""

    def predict(self, views, placed=0):
        said = super().predict(views)
        places = self.look_up(views.pixels)
        if len(views) > 2 and (places[-1] >= self.jump) != (places[:-1] >= self.jump).all():
            pose = said.world_from_camera[0, -1]
            pose[:3, :3] = pose[:3, :3] @ pose.new_tensor([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
        return said


@pytest.fixture(scope="module")
def walk():
    return preview_walk()


def poses(mapper):
    """Where a map has its frames."""
    frames = mapper.trajectory()
    found = [
        mapper.atlas.submaps.poses[int(submap)].poses(pose[None])[0]
        for submap, pose in zip(frames.submaps, matrices(frames.poses), strict=True)
    ]
    return frames.numbers, np.stack(found)


def test_a_window_that_proves_nothing_is_cut_to_the_last_two_frames(walk, monkeypatch):
    predictor = Confused(walk.places, resolution=64)
    mapper = Mapper(predictor, SMALL)
    sizes = []
    predict = predictor.predict
    monkeypatch.setattr(
        predictor, "predict", lambda views, _: (sizes.append(len(views)), predict(views))[1]
    )
    for frame in walk.frames(0, 24, 2):
        assert mapper.add(frame.image, frame.time_ns, number=frame.number).used
    assert 2 in sizes[4:]  # later than the windows of the start
    numbers, found = poses(mapper)
    true = np.stack([walk.frame(int(number)).world_from_camera for number in numbers])
    true = np.linalg.inv(true[0]) @ true
    np.testing.assert_allclose(found[:, :3, :3], true[:, :3, :3], atol=2e-3)


class Spoilt(StubPredictor):
    """Knows nothing of how one frame lies to the frames before it."""

    lonely = 20

    def predict(self, views, placed=0):
        said = super().predict(views)
        places = self.look_up(views.pixels)
        if places[-1] == self.lonely or (places[-1] > self.lonely > places[0]):
            pose = said.world_from_camera[0, -1]
            pose[:3, :3] = pose[:3, :3] @ pose.new_tensor([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
        return said


def test_a_doubtful_frame_is_placed_once_the_next_one_confirms_it(walk):
    mapper = Mapper(Spoilt(walk.places, resolution=64), SMALL)
    reasons = {}
    for frame in walk.frames(0, 26, 2):
        reasons[frame.number] = mapper.add(frame.image, frame.time_ns, number=frame.number).reason
        if frame.number == 22:
            assert mapper.atlas is not None
            submaps = mapper.atlas.submaps
            errors = [edge.covariance[0, 0] for edge in submaps.graph.edges]
            # The next submap may be moved by a loop, or by what later frames prove, as far as that.
            assert max(submaps.drift, *errors) > 0.1
    assert [number for number, reason in reasons.items() if reason == "lost"] == [20]
    numbers, found = poses(mapper)
    assert numbers.tolist() == list(range(0, 26, 2))
    # What is said of both together holds, though where they lie is not known.
    true = [walk.frame(number).world_from_camera for number in (20, 22)]
    step = np.linalg.inv(found[10]) @ found[11]
    np.testing.assert_allclose(step[:3, :3], (np.linalg.inv(true[0]) @ true[1])[:3, :3], atol=2e-3)


def test_the_latest_frame_and_a_doubtful_one_are_saved(walk, tmp_path):
    predictor = Spoilt(walk.places, Faults(turn=0.3, depth=0.03), resolution=64)
    one = Mapper(predictor, SMALL)
    for frame in walk.frames(0, 22, 2):
        one.add(frame.image, frame.time_ns, number=frame.number)
    assert one.atlas.doubtful is not None
    other = Mapper.load(one.save(tmp_path / "state"), predictor, SMALL)
    for frame in walk.frames(22, 32, 2):
        said = [m.add(frame.image, frame.time_ns, number=frame.number) for m in (one, other)]
        assert said[0].reason == said[1].reason
        np.testing.assert_array_equal(said[0].pose, said[1].pose)


def test_a_keyframe_is_compared_with_what_is_in_the_map_alone(walk, monkeypatch):
    pasts, met, insert = [], [], Atlas.insert
    monkeypatch.setattr(
        Atlas, "insert",
        lambda atlas, window, row, arrival, others, *more: (
            pasts.append([one.number for one in window.past]),
            met.append(
                [(one.number in atlas.keyframes, one.submap < FRAME) for one in others.values()]
            ),
            insert(atlas, window, row, arrival, others, *more),
        )[-1],
    )  # fmt: skip
    mapper = Mapper(Spoilt(walk.places, resolution=64), SMALL)
    for frame in walk.frames(0, 40, 2):
        mapper.add(frame.image, frame.time_ns, number=frame.number)
    assert [20] in pasts  # a pair with a frame that nothing proved, which is a node and no keyframe
    assert met[pasts.index([20])] == []
    assert any(len(past) > len(others) for past, others in zip(pasts, met, strict=True))
    assert all(one == (True, True) for others in met for one in others)


def test_a_map_that_begins_places_a_frame_beside_the_latest_one_too(walk, monkeypatch):
    predictor = StubPredictor(walk.places, resolution=64)
    mapper = Mapper(predictor, replace(SMALL, overlap=0.6))
    sizes, predict = [], predictor.predict
    monkeypatch.setattr(
        predictor, "predict", lambda views, _: (sizes.append(len(views)), predict(views))[1]
    )
    reasons = [mapper.add(walk.frame(n).image, number=n).reason for n in (0, 1, 2, 20, 21, 22)]
    assert reasons == ["keyframe", "tracked", "tracked", "keyframe", "tracked", "tracked"]
    assert sizes == [1, 2, 3, 3, 3, 4]
    assert mapper.atlas is not None
    assert [one.number for one in mapper.atlas.keyframes] == [0, 20]
    assert mapper.atlas.latest is not None
    assert mapper.atlas.latest.number == 22
    numbers, found = poses(mapper)
    true = np.stack([walk.frame(int(number)).world_from_camera for number in numbers])
    true = np.linalg.inv(true[0]) @ true
    np.testing.assert_allclose(found[:, :3, :3], true[:, :3, :3], atol=2e-3)
    # Two more leave room for the keyframes alone, all of which a window must see.
    pictures = {n: mapper.canvas.fit(walk.frame(n).image, None, str(n), None) for n in (23, 40)}
    said = mapper.add_together([Arrival(n, n, picture) for n, picture in pictures.items()])
    assert [one.reason for one in said] == ["tracked", "keyframe"]
    assert {one.number for one in mapper.atlas.keyframes} == {0, 20, 40}
