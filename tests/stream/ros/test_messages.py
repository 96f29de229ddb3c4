import numpy as np
import pytest
from ros_messages import hit
from toydeltas import (
    empty_delta,
    random_codebook,
    random_frames,
    random_quaternions,
    random_splats,
)

from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.ros import messages
from ffsplat.stream.ros.frames import MAP_FROM_WORLD
from ffsplat.stream.ros.images import intrinsics_of, pixels_of
from ffsplat.stream.ros.points import point_cloud, points
from ffsplat.stream.ros.store import from_cdr, to_cdr
from ffsplat.stream.ros.transforms import TransformBuffer

S = 10**9


def again(message):
    """The message after it went over a wire."""
    return from_cdr(to_cdr(message), message.__msgtype__)


@pytest.fixture(scope="module")
def replica():
    rng, replica, submaps = np.random.default_rng(0), Replica(), [2, 5, 9]
    turns = random_quaternions(rng, 3)
    replica.apply(
        empty_delta(
            1,
            time_ns=S,
            submaps=np.array(submaps, np.uint16),
            submap_poses=np.hstack([[[1], [2], [0.5]], turns, rng.normal(size=(3, 3))]),
            splats=random_splats(rng, np.arange(40), submaps, 8),
            frames=random_frames(rng, np.arange(20), submaps),
            codebook=random_codebook(rng, 8),
        )
    )
    return replica


def test_points_are_the_gaussians_of_the_scene_turned_into_the_map_frame(replica):
    snapshot, scene = replica.snapshot(), replica.scene()
    assert len(snapshot.splats) == 40
    rows = points(snapshot, MAP_FROM_WORLD)
    x, y, z = scene.gaussians.means.T
    found = np.stack([rows["x"], rows["y"], rows["z"]], axis=1)
    np.testing.assert_allclose(found, np.stack([z, -x, -y], axis=1), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(rows["opacity"], scene.gaussians.opacities, atol=1e-6)
    np.testing.assert_array_equal(rows["instance"], scene.instances)
    colors = rows["rgb"].copy().view(np.uint32)
    expected = snapshot.splats.colors.astype(int)
    np.testing.assert_array_equal(colors >> 16, expected[:, 0])
    np.testing.assert_array_equal(colors >> 8 & 255, expected[:, 1])
    np.testing.assert_array_equal(colors & 255, expected[:, 2])
    for row, ids, weights in zip(rows, snapshot.splats.ids, snapshot.splats.weights, strict=True):
        assert row["cb_id"] in ids[weights == weights.max()]


def test_a_cloud_says_where_its_fields_are(replica):
    rows = points(replica.snapshot(), np.eye(4))
    cloud = again(point_cloud(rows, "map", 5 * S + 7))
    assert (cloud.header.frame_id, cloud.header.stamp.sec, cloud.header.stamp.nanosec) == (
        "map",
        5,
        7,
    )
    assert (cloud.point_step, cloud.height, cloud.width) == (28, 1, len(rows))
    assert cloud.row_step == 28 * len(rows) == len(cloud.data)
    assert not cloud.is_bigendian
    names = [(f.name, f.offset, f.datatype, f.count) for f in cloud.fields]
    assert names == [
        ("x", 0, 7, 1),
        ("y", 4, 7, 1),
        ("z", 8, 7, 1),
        ("rgb", 12, 7, 1),
        ("opacity", 16, 7, 1),
        ("cb_id", 20, 5, 1),
        ("instance", 24, 5, 1),
    ]
    for name, offset, kind, _ in names:
        column = np.ndarray(
            len(rows), {7: "<f4", 5: "<i4"}[kind], cloud.data.tobytes(), offset, cloud.point_step
        )
        assert column.tobytes() == rows[name].tobytes()


def test_an_empty_map_is_an_empty_cloud():
    rows = points(Replica().snapshot(), MAP_FROM_WORLD)
    assert again(point_cloud(rows, "map", 0)).width == 0


def test_a_map_of_too_many_points_is_thinned_evenly(replica, monkeypatch):
    from ffsplat.stream.ros import points as module

    whole = points(replica.snapshot(), np.eye(4))
    monkeypatch.setattr(module, "MAX_POINTS", 7)
    few = points(replica.snapshot(), np.eye(4))
    assert len(few) == 7
    assert few[0] == whole[0]
    assert few[-1] == whole[-1]


def test_a_path_has_the_cameras_of_the_scene(replica):
    snapshot, cameras = replica.snapshot(), replica.scene().cameras
    assert len(cameras) > 3
    times, poses = messages.camera_poses(snapshot, np.eye(4))
    np.testing.assert_array_equal(times, snapshot.frames.times_ns)
    np.testing.assert_allclose(poses, cameras.world_from_camera, atol=1e-5)
    path = again(messages.path(snapshot, MAP_FROM_WORLD, "map"))
    where = [[p.pose.position.x, p.pose.position.y, p.pose.position.z] for p in path.poses]
    x, y, z = cameras.world_from_camera[:, :3, 3].T
    np.testing.assert_allclose(where, np.stack([z, -x, -y], axis=1), rtol=1e-5, atol=1e-5)


def test_a_long_path_keeps_its_ends(replica, monkeypatch):
    monkeypatch.setattr(messages, "MAX_POSES", 3)
    snapshot = replica.snapshot()
    path = messages.path(snapshot, np.eye(4), "map")
    stamps = [p.header.stamp.sec * S + p.header.stamp.nanosec for p in path.poses]
    times = snapshot.frames.times_ns.tolist()
    assert len(stamps) == 3
    assert (stamps[0], stamps[-1]) == (times[0], times[-1])


def test_a_transform_is_read_back_as_the_same_pose():
    pose = np.eye(4)
    pose[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    pose[:3, 3] = [1, 2, 3]
    message = again(messages.transforms([messages.transform("map", "camera", pose, 7 * S)]))
    buffer = TransformBuffer()
    buffer.add(message.transforms, False)
    np.testing.assert_allclose(buffer.lookup("map", "camera", 7 * S), pose, atol=1e-12)
    turn = message.transforms[0].transform.rotation
    assert (turn.x, turn.y, turn.z, turn.w) == pytest.approx((-0.5, 0.5, -0.5, 0.5))


def test_intrinsics_come_back_after_the_way_through_a_camera_info():
    ours = np.array([[500, 0, 320.25], [0, 510, 240.75], [0, 0, 1.0]])
    info = again(messages.camera_info(ours, 640, 480, "camera", 0))
    assert (info.k[2], info.k[5]) == (319.75, 240.25)
    np.testing.assert_array_equal(intrinsics_of(info, 640, 480), ours)
    np.testing.assert_array_equal(intrinsics_of(info, 640, 480, rectified=True), ours)


def test_pixels_come_back_after_the_way_through_an_image():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(pixels_of(again(messages.image(pixels, "c", 0))), pixels)


def test_a_hit_is_a_box_and_a_text_above_it():
    array = again(messages.markers([hit()], MAP_FROM_WORLD, "map", 0))
    clear, box, text = array.markers
    assert (clear.action, box.action, box.type, text.type) == (3, 0, 1, 9)
    assert (text.text, text.ns) == ("red chair 0.75", "ffsplat")
    assert box.id != text.id
    assert (box.scale.x, box.scale.y, box.scale.z) == (1, 2, 2)  # in the axes of the world
    where = box.pose.position
    assert (where.x, where.y, where.z) == (3, -0.5, -1)
    top = -0.0  # the smallest y of the world is the highest z of the map
    assert text.pose.position.z > top
    turn = box.pose.orientation
    assert (turn.x, turn.y, turn.z, turn.w) == pytest.approx((-0.5, 0.5, -0.5, 0.5))
    assert 0 < box.color.a < 1


def test_boxes_without_thickness_have_a_little_and_numbers_differ():
    hits = [hit(low=(1, 1, 1), high=(1, 1, 1)), hit()]
    array = messages.markers(hits, np.eye(4), "map", 0)
    assert array.markers[1].scale.x == pytest.approx(1e-3)
    assert len({m.id for m in array.markers[1:]}) == 4


@pytest.mark.parametrize("time_ns", [-5, 1, 2**62, -(2**62)])
def test_times_that_ros_cannot_hold_do_not_break_a_message(time_ns):
    stamp = again(messages.header("map", time_ns)).stamp
    assert 0 <= stamp.nanosec < S
    if time_ns in (-5, 1):
        assert stamp.sec * S + stamp.nanosec == time_ns


def test_the_beginning_of_a_clock_is_not_taken_for_a_stamp_that_is_missing():
    stamp = again(messages.header("map", 0)).stamp
    assert (stamp.sec, stamp.nanosec) == (0, 1)
