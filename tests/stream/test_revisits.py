"""What moves a map into the world of those who send it poses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open
from scipy.spatial.transform import Rotation

from ffsplat.alignment import Similarity
from ffsplat.prediction import Prediction
from ffsplat.stream import revisits
from ffsplat.stream.atlas import Atlas
from ffsplat.stream.given import DRIFT, UNKNOWN, Told
from ffsplat.stream.keyframes import Keyframe
from ffsplat.stream.map import SplatMap
from ffsplat.stream.mapper import Mapper
from ffsplat.stream.revisits import Revisits, take_senders_world
from ffsplat.stream.settings import MapperSettings
from ffsplat.stream.state import KEY
from ffsplat.stream.window import world_poses
from ffsplat.types import Views, ViewSource
from tests.stream.stub import StubPredictor
from tests.walks import preview_walk

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


@pytest.fixture
def followed(monkeypatch):
    """A mapper that has its sender's world, how it grew, and a way to tell it a scale."""
    told = []

    def by_told(seen, given, scale):
        assert len(given) > 1  # the new keyframe and past ones
        off, error = told.pop() if told else (0.0, np.inf)
        return Told(np.log(scale) + off, error)

    monkeypatch.setattr(revisits, "by_parallax", by_told)
    walk = preview_walk()
    one = Mapper(StubPredictor(walk.places, resolution=64), MapperSettings(max_splats=20_000))
    frames = iter(list(walk.frames(0, 60, 2)))

    def follow(until=lambda: True) -> Atlas:
        """The map once a new keyframe is in it, and `until` is true."""
        used = ""
        while used != "keyframe" or not until():
            frame = next(frames)
            used = one.add(frame.image, 0, frame.world_from_camera, number=frame.number).reason
        assert one.atlas is not None
        return one.atlas

    return follow(lambda: len(one.atlas.keyframes) > 6 and one.anchored), follow, told


def scales(atlas: Atlas) -> np.ndarray:
    return np.array([atlas.submaps.poses[one.submap].scale for one in atlas.keyframes])


def middles(atlas: Atlas) -> np.ndarray:
    """Median depths of keyframes in their submaps, over the true ones."""
    known = preview_walk()
    ratios = [(one.depth / known.frame(one.number).depth)[one.valid] for one in atlas.keyframes]
    return np.array([np.median(one) for one in ratios])


def test_all_of_a_young_map_takes_over_what_a_keyframe_tells_of_scale(followed):
    atlas, follow, told = followed
    atlas.scale_error = UNKNOWN
    before, epoch = scales(atlas), atlas.submaps.epoch
    told.append((0.2, 1e-6))
    follow()
    assert atlas.scale_error == DRIFT
    assert atlas.submaps.epoch > epoch
    np.testing.assert_allclose(scales(atlas)[:-1], before * np.exp(0.2), rtol=1e-3)
    given, found = given_and_found(atlas)
    np.testing.assert_allclose(found, given, atol=1e-6)


def test_in_a_map_whose_scale_is_known_only_keyframes_beside_the_new_one_take_it_over(followed):
    atlas, follow, told = followed
    atlas.scale_error = DRIFT
    before = scales(atlas)
    told.append((0.09, 1e-6))
    follow()
    grown = np.log(scales(atlas)[:-1] / before)
    np.testing.assert_allclose(grown[grown != 0], 0.09, rtol=1e-3)
    assert 0 < np.count_nonzero(grown) < 4  # those of the window
    newest = list(atlas.keyframes)[-1]
    ratio = newest.depth / preview_walk().frame(newest.number).depth
    assert np.log(np.median(ratio[newest.valid])) == pytest.approx(0.09, abs=0.01)
    given, found = given_and_found(atlas)
    np.testing.assert_allclose(found, given, atol=1e-6)


def test_a_window_that_is_far_off_is_resisted(followed):
    atlas, follow, told = followed
    atlas.scale_error = DRIFT
    told.append((3.0, 0.1))
    follow()
    newest = list(atlas.keyframes)[-1]
    ratio = newest.depth / preview_walk().frame(newest.number).depth
    assert np.median(ratio[newest.valid]) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("jump", [1.0, 30.0])
def test_poses_that_jump_do_not_ruin_the_scale_of_a_map(jump):
    walk, rng = preview_walk(), np.random.default_rng(0)
    one = Mapper(StubPredictor(walk.places, resolution=64), MapperSettings(max_splats=20_000))
    for frame in walk.frames(0, 70, 2):
        pose = frame.world_from_camera.copy()
        if frame.number > 36:
            pose[:3, 3] += jump * rng.normal(size=3)
        one.add(frame.image, 0, pose, number=frame.number)
    assert one.anchored
    assert one.atlas is not None
    np.testing.assert_allclose(scales(one.atlas) * middles(one.atlas), 1, atol=0.3)


class Plain(StubPredictor):
    """A network without descriptors."""

    def predict(self, views: Views, placed: int = 0) -> Prediction:
        said = super().predict(views, placed)
        cells, tokens = said.descriptors[..., :0], said.token_descriptors[..., :0]
        return replace(said, descriptors=cells, token_descriptors=tokens)


def test_a_network_without_descriptors_tells_scale_by_baselines():
    walk = preview_walk()
    one = Mapper(Plain(walk.places, resolution=64), MapperSettings(max_splats=20_000))
    for frame in walk.frames(0, 40, 2):
        one.add(frame.image, 0, TRUE.poses(frame.world_from_camera[None])[0], number=frame.number)
    assert one.anchored
    assert one.atlas is not None
    assert one.atlas.scale_error < UNKNOWN
    np.testing.assert_allclose(scales(one.atlas) * middles(one.atlas), 3, rtol=0.02)


def test_a_state_holds_how_sure_the_scale_is(tmp_path):
    walk = preview_walk()
    one = Mapper(StubPredictor(walk.places, resolution=64), MapperSettings(max_splats=20_000))
    for frame in walk.frames(0, 8, 2):
        one.add(frame.image, 0, number=frame.number)
    assert one.atlas is not None
    one.atlas.scale_error = 0.17
    path = one.save(tmp_path / "state")
    again = Mapper.load(path, one.predictor, one.settings).atlas
    assert again is not None
    assert again.scale_error == 0.17
    with safe_open(path, "np") as file:
        values = json.loads(file.metadata()[KEY])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del values["scale_error"]  # as in those that were written before
    path.write_bytes(safetensors.numpy.save(arrays, {KEY: json.dumps(values)}))
    old = Mapper.load(path, one.predictor, one.settings).atlas
    assert old is not None
    assert old.scale_error == DRIFT


def test_a_proof_that_fails_is_told_once_and_holds_nothing_up(monkeypatch):
    made, visits, smoothed = atlas(8), Revisits(), []
    monkeypatch.setattr(made.submaps, "_correct", lambda *_: smoothed.append(1))
    visits.proof = made.submaps.await_loop(lambda: 1 / 0)
    made.submaps.smooth()  # waits for the loop
    assert not smoothed
    with pytest.raises(ZeroDivisionError):
        visits.settle(made)
    assert smoothed
    visits.settle(made)
    assert visits.closed == 0
