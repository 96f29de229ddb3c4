"""The mapper on walks of which the truth is known, by an exact network and one with faults."""

from dataclasses import replace
from threading import Event

import numpy as np
import pytest

from ffsplat.alignment import fit_similarity
from ffsplat.errors import CheckpointError, StreamError
from ffsplat.stream.given import ENOUGH
from ffsplat.stream.mapper import PATIENCE, Mapper
from ffsplat.stream.protocol import encode_delta
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.settings import MapperSettings
from ffsplat.stream.state import load_state
from ffsplat.stream.trajectory import matrices
from ffsplat.types import Cameras
from tests.stream.stub import Faults, StubPredictor
from tests.walks import preview_walk as walk

SMALL = MapperSettings(max_splats=60_000, max_keyframes=40, max_submaps=30, max_frames=1000)


def mapper(faults=None, settings=SMALL, **options):
    return Mapper(
        StubPredictor(walk().places, faults or Faults(), resolution=64, **options), settings
    )


def follow(one, start=0, stop=60, step=2, **given):
    """Verdicts of some frames of the walk, with what is given of each."""
    verdicts = []
    for frame in walk().frames(start, stop, step):
        options = {name: make(frame) for name, make in given.items()}
        verdicts.append(one.add(frame.image, frame.time_ns, number=frame.number, **options))
    return verdicts


def world_poses(one):
    """Where the map has the frames, and where they are."""
    frames = one.trajectory()
    poses = [
        one.atlas.submaps.poses[int(submap)].poses(pose[None])[0]
        for submap, pose in zip(frames.submaps, matrices(frames.poses), strict=True)
    ]
    true = [walk().frame(int(number)).world_from_camera for number in frames.numbers]
    return np.stack(poses), np.stack(true)


def way_error(one):
    """RMS distance from the truth after the best similarity, in metres, and that similarity."""
    poses, true = world_poses(one)
    fitted = fit_similarity(poses[:, :3, 3], true[:, :3, 3])
    apart = fitted.points(poses[:, :3, 3]) - true[:, :3, 3]
    return float(np.sqrt(np.square(apart).sum(1).mean())), fitted


def test_an_exact_network_gives_the_exact_way():
    one = mapper()
    verdicts = follow(one)
    assert {verdict.reason for verdict in verdicts} == {"keyframe", "tracked"}
    assert way_error(one)[0] < 1e-4
    _, true = world_poses(one)
    last = np.linalg.inv(true[0]) @ true[-1]
    np.testing.assert_allclose(verdicts[-1].pose, last, atol=1e-3)


def test_the_scene_looks_like_the_room():
    one = mapper()
    follow(one)
    scene = one.scene()
    frame = walk().frame(21)  # none that went in
    first = walk().frame(0).world_from_camera
    pose = (np.linalg.inv(first) @ frame.world_from_camera).astype(np.float32)
    camera = Cameras(
        pose[None],
        frame.intrinsics[None].astype(np.float32),
        np.array([[64, 48]], np.int32),
        ("a",),
    )
    image = scene.render(camera)[0]
    error = np.square(image - frame.image / np.float32(255)).mean()
    assert -10 * np.log10(error) > 22
    codes = scene.render(camera, "codes")
    assert codes.shape[1:3] == (48, 64)
    assert scene.cameras is not None
    assert len(scene.cameras) == one.statistics()["keyframes"]


def test_a_network_with_faults_is_followed_within_its_error():
    one = mapper(Faults(depth=0.05, turn=0.5, move=0.01, scale=0.3, bad=0.05))
    follow(one)
    error, _ = way_error(one)
    length = np.linalg.norm(np.diff(world_poses(one)[1][:, :3, 3], axis=0), axis=1).sum()
    assert error < 0.1 * length


def test_given_poses_become_the_world():
    one = mapper(Faults(scale=0.2, move=0.005))
    verdicts = follow(one, pose=lambda frame: frame.world_from_camera)
    assert one.anchored
    poses, true = world_poses(one)
    # The first stands there before the unit of the world is known.
    np.testing.assert_allclose(verdicts[0].pose, true[0], atol=1e-6)
    # All of them, those too that came before the world was known.
    np.testing.assert_allclose(poses[:, :3, 3], true[:, :3, 3], atol=1e-6)
    assert one.scene().metric
    # Depth in metres too: what the newest keyframe shows lies where it does.
    keyframe = list(one.atlas.keyframes)[-1]
    scale = one.atlas.submaps.poses[keyframe.submap].scale
    ratio = scale * keyframe.depth / walk().frame(keyframe.number).depth
    assert np.median(ratio[keyframe.valid]) == pytest.approx(1, abs=0.05)


def test_the_world_of_poses_that_come_late_is_taken_over():
    one = mapper(Faults(scale=0.1))
    follow(one, 0, 20)
    assert not one.anchored
    before = one.epoch
    follow(one, 20, 60, pose=lambda frame: frame.world_from_camera)
    assert one.anchored
    assert one.epoch > before
    poses, true = world_poses(one)
    assert np.linalg.norm(poses[:5, :3, 3] - true[:5, :3, 3], axis=1).max() < 0.05
    np.testing.assert_allclose(poses[10:, :3, 3], true[10:, :3, 3], atol=1e-6)


@pytest.mark.parametrize("proved", [True, False])
def test_poses_that_tell_of_another_way_are_believed_where_nothing_proves_it(proved, monkeypatch):
    if not proved:
        monkeypatch.setattr("ffsplat.stream.mapper.surest", lambda tied: 1.0 if tied else 0.0)
    one, said = mapper(), 3 * np.random.default_rng(0).standard_normal((60, 3))

    def elsewhere(frame):
        pose = frame.world_from_camera.copy()
        pose[:3, 3] = said[frame.number]
        return pose

    assert all(verdict.used for verdict in follow(one, 0, 30, pose=elsewhere))
    assert one.anchored != proved
    close = np.allclose(world_poses(one)[0][:, :3, 3], said[:30:2], atol=1e-6)
    assert close != proved


def test_frames_whose_poses_alone_place_them_say_nothing_of_one_without(monkeypatch):
    monkeypatch.setattr("ffsplat.stream.mapper.surest", lambda tied: 1.0 if tied else 0.0)
    one = mapper()
    told = follow(one, 0, 30, pose=lambda frame: frame.world_from_camera)
    assert len(told) > PATIENCE
    assert all(verdict.used for verdict in told)
    assert [verdict.reason for verdict in follow(one, 30, 34)] == ["lost", "lost"]


def test_frames_that_are_no_keyframes_tell_the_world_too():
    one = mapper(settings=replace(SMALL, overlap=0.05))
    follow(one, 0, 16, 1, pose=lambda frame: frame.world_from_camera)
    assert len(one.atlas.keyframes) < ENOUGH
    assert one.anchored
    np.testing.assert_allclose(*world_poses(one), atol=1e-6)


def test_a_world_that_frames_between_keyframes_tell_is_gone_on_in():
    one, way = mapper(Faults(scale=0.1), replace(SMALL, overlap=0.05)), iter(range(80, 120))
    follow(one, 0, 80)
    while not one.anchored:
        start = next(way)
        follow(one, start, start + 1, 1, pose=lambda frame: frame.world_from_camera)
    assert all(key.given is None for key in one.atlas.keyframes)
    told = follow(one, start + 1, 120, 1, pose=lambda frame: frame.world_from_camera)
    assert {verdict.reason for verdict in told} == {"keyframe", "tracked"}
    poses, true = world_poses(one)
    np.testing.assert_allclose(poses[40:], true[40:], atol=1e-6)


def test_given_intrinsics_hold():
    one = mapper()
    wide = np.array([[40.0, 0, 32], [0, 40, 24], [0, 0, 1]])
    follow(one, stop=10, intrinsics=lambda _: wide)
    np.testing.assert_allclose(one.scene().cameras.intrinsics[0], wide, rtol=1e-6)


@pytest.mark.parametrize(
    ("bad", "value"),
    [
        ("pose", np.full((4, 4), np.nan)),
        ("pose", np.diag([2.0, 1, 1, 1])),
        ("intrinsics", np.zeros((3, 3))),
    ],
)
def test_what_cannot_be_is_refused_by_name(bad, value):
    one = mapper()
    (verdict,) = follow(one, stop=1, **{bad: lambda _: value})
    assert verdict.reason == "invalid"
    assert one.take_delta() is None


def test_frames_that_show_nothing_are_left_out_by_name():
    one = mapper()
    follow(one, stop=20)
    one.take_delta()  # waits until the last keyframe is in the map
    before = one.statistics()
    assert one.add(np.zeros((48, 64, 3), np.uint8)).reason == "covered"
    assert one.statistics() == before


def test_another_place_is_lost_until_the_old_one_comes_back():
    one = mapper()
    follow(one, stop=20)
    reasons = []
    for seed in range(9):
        noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
        reasons.append(one.add(noise.repeat(4, 0).repeat(4, 1)).reason)
    # By chance some noise is a little like the room.
    assert reasons.count("lost") >= 7
    assert follow(one, 20, 22)[0].used


class Broken(StubPredictor):
    """Says that a depth is no number."""

    def predict(self, views, placed=0):
        said = super().predict(views)
        said.depth[0, -1, 3, 3] = np.nan
        return said


def test_what_is_no_number_does_not_reach_the_map():
    one = Mapper(Broken(walk().places, resolution=64), SMALL)
    (verdict,) = follow(one, stop=1)
    assert verdict.reason == "not_finite"
    with pytest.raises(StreamError, match="nothing has been mapped"):
        one.scene()


def test_a_frame_that_took_too_long_leaves_no_trace():
    one = mapper()
    follow(one, stop=20)
    one.take_delta()
    frame = walk().frame(40)
    assert one.add(frame.image, cancelled=lambda: True).reason == "timeout"
    assert one.take_delta() is None


def test_a_verdict_is_told_before_the_map_takes_the_frame_in():
    one, told = mapper(), []

    def tell(verdict):
        told.append((verdict, len(one.atlas.keyframes), one.atlas.trajectory.added))

    follow(one, stop=20)
    for number in range(20, 60, 4):
        frame = walk().frame(number)
        last = one.add(frame.image, frame.time_ns, number=number, tell=tell)
        verdict, keyframes, added = told.pop()
        assert not told
        assert (verdict.number, verdict.reason) == (number, last.reason)
        assert np.array_equal(verdict.pose, last.pose)
        assert len(one.atlas.keyframes) == keyframes + (last.reason == "keyframe")
        assert one.atlas.trajectory.added == added + 1
        assert "fuse" in last.seconds
        assert "fuse" not in verdict.seconds


def test_the_epoch_is_told_while_the_map_takes_a_frame_in(monkeypatch):
    """A server tells it with each verdict, in a thread of its own."""
    one, go = mapper(), Event()
    follow(one, stop=20)
    record, added = one.atlas.record, one.atlas.trajectory.added
    monkeypatch.setattr(one.atlas, "record", lambda *given: (go.wait(), record(*given)))
    try:
        assert one.add(walk().frame(20).image, 20).used
        told, waits = one.epoch, not one.settled
    finally:
        go.set()
    assert waits
    assert told == one.atlas.submaps.epoch
    assert one.atlas.trajectory.added == added + 1


def test_what_a_frame_fails_to_leave_is_told_once_and_the_map_goes_on(monkeypatch):
    one = mapper()
    follow(one, stop=20)
    keyframes = len(one.atlas.keyframes)
    with monkeypatch.context() as broken:
        broken.setattr(type(one.atlas), "insert", lambda *_: 1 / 0)
        broken.setattr(type(one.atlas), "track", lambda *_: 1 / 0)
        frame = walk().frame(20)
        assert one.add(frame.image, frame.time_ns, number=20).used  # its pose was known by then
        with pytest.raises(ZeroDivisionError):
            one.take_delta()
    assert len(one.atlas.keyframes) == keyframes
    assert all(verdict.used for verdict in follow(one, 22, 40))
    assert len(one.atlas.keyframes) > keyframes


def test_who_counts_from_the_start_again_adds_to_the_map(tmp_path):
    """A client or a program that begins anew has numbers that the map has had already."""
    one = mapper()
    first = follow(one, 0, 20)
    again = mapper()
    load_state(again, one.save(tmp_path / "state.safetensors"))
    more = []
    for number, frame in enumerate(walk().frames(20, 60, 2)):
        more.append(again.add(frame.image, frame.time_ns, number=number))
    assert [verdict.number for verdict in more] == list(range(19, 39))
    later = again.add(walk().frame(60).image, 60, number=60)
    assert later.number == 60
    numbers = again.trajectory().numbers.tolist()
    used = [verdict.number for verdict in (*first, *more, later) if verdict.used]
    assert sorted(numbers) == used == sorted(set(used))
    assert len(used) > 30


def test_all_deltas_are_the_snapshot_and_the_scene():
    one, copy = mapper(Faults(turn=0.3, move=0.01, depth=0.03)), Replica(SMALL.max_splats)
    for start in range(0, 80, 4):
        follow(one, start, start + 4)
        delta = one.take_delta()
        if delta is not None:
            copy.apply(delta)
    late = Replica(SMALL.max_splats)
    late.restore(copy.snapshot())
    assert encode_delta(late.snapshot()) == encode_delta(copy.snapshot())
    scene, seen = one.scene(), copy.scene()
    assert len(scene) == len(seen)
    np.testing.assert_allclose(scene.gaussians.means, seen.gaussians.means, atol=1e-4)
    np.testing.assert_array_equal(scene.instances, seen.instances)


def test_a_stream_goes_on_from_its_state(tmp_path):
    one = mapper(Faults(turn=0.3, depth=0.03))
    follow(one, stop=40)
    path = one.save(tmp_path / "state.safetensors")
    other = Mapper.load(path, one.predictor, SMALL)
    one.take_delta()
    copy = Replica(SMALL.max_splats)
    first = other.take_delta()
    assert first.number == 1
    copy.apply(first)
    assert len(copy.scene()) == len(one.scene())
    assert [v.reason for v in follow(one, 40, 60)] == [v.reason for v in follow(other, 40, 60)]
    a, b = one.scene(), other.scene()
    np.testing.assert_array_equal(a.gaussians.means, b.gaussians.means)
    np.testing.assert_array_equal(a.codes.ids, b.codes.ids)
    np.testing.assert_array_equal(a.cameras.world_from_camera, b.cameras.world_from_camera)


def test_a_stream_goes_on_from_the_midst_of_a_correction(tmp_path):
    one, number = mapper(Faults(turn=0.3, move=0.01, scale=0.02, depth=0.03)), 0
    while one.atlas is None or one.atlas.submaps.correction is None:
        follow(one, number, number + 1)
        number += 1
    other = Mapper.load(one.save(tmp_path / "state.safetensors"), one.predictor, SMALL)
    for each in (one, other):
        follow(each, number, number + 20)
        assert each.epoch > 0
    a, b = one.scene(), other.scene()
    np.testing.assert_array_equal(a.gaussians.means, b.gaussians.means)
    np.testing.assert_array_equal(a.cameras.world_from_camera, b.cameras.world_from_camera)


def test_a_state_of_something_else_is_refused(tmp_path):
    one = mapper()
    follow(one, stop=8)
    path = one.save(tmp_path / "state.safetensors")
    with pytest.raises(CheckpointError, match="other settings"):
        Mapper.load(path, one.predictor, MapperSettings())
    other = StubPredictor(walk().places, resolution=64, provenance={"model": "other"})
    with pytest.raises(CheckpointError, match="another model"):
        Mapper.load(path, other, SMALL)
    content = path.read_bytes()
    for cut in (0, 7, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(CheckpointError):
            Mapper.load(path, one.predictor, SMALL)


def test_every_bound_holds():
    tight = MapperSettings(
        max_splats=4_000, max_keyframes=10, max_submaps=3, max_frames=50, keyframes_a_submap=2
    )
    one = mapper(settings=tight)
    follow(one, 0, len(walk()), 2)
    counts = one.statistics()
    assert counts["splats"] <= 4_000
    assert counts["keyframes"] <= 10
    assert counts["submaps"] <= 3
    assert len(one.trajectory()) == 50
    assert way_error(one)[0] < 0.01


def test_warming_up_leaves_nothing_behind():
    one = mapper()
    one.warm()
    assert one.take_delta() is None
    assert one.statistics()["splats"] == 0
