import numpy as np
from ros_messages import hit

from ffsplat.stream.frame import Frame, Verdict
from ffsplat.stream.ros.frames import MAP_FROM_WORLD, FrameNames
from ffsplat.stream.ros.output import CLOUD, COMPRESSED, INFO, PICTURE, TF_TOPIC, MapMessages
from ffsplat.stream.ros.transforms import TransformBuffer

S = 10**9
PIXELS = np.zeros((4, 6, 3), np.uint8)
K = np.array([[50, 0, 3.0], [0, 50, 2.0], [0, 0, 1.0]])


def at(x, y, z):
    pose = np.eye(4)
    pose[:3, 3] = x, y, z
    return pose


def tree(*outputs):
    buffer = TransformBuffer()
    for output in outputs:
        buffer.add(output.message.transforms, output.topic is not TF_TOPIC)
    return buffer


def test_a_placed_camera_stands_in_the_map_with_the_axes_of_ros():
    maker = MapMessages(FrameNames(map="world", optical="eye"))
    (output,) = maker.placed(Frame(PIXELS, S, 0), Verdict(0, "tracked", at(1, 2, 3)))
    assert output.topic is TF_TOPIC
    pose = tree(output).lookup("world", "eye", S)
    np.testing.assert_allclose(pose[:3, 3], [3, -1, -2])  # three ahead, one right, two down
    np.testing.assert_allclose(pose[:3, 2], [1, 0, 0], atol=1e-12)


def test_a_camera_that_was_not_placed_is_not_told_of():
    maker = MapMessages()
    assert list(maker.placed(Frame(PIXELS, S, 0), Verdict(0, "blurred"))) == []


def test_the_world_of_a_sender_who_gives_poses_is_the_map():
    maker = MapMessages()
    np.testing.assert_array_equal(maker.map_from_world, MAP_FROM_WORLD)
    pose = MAP_FROM_WORLD @ at(1, 2, 3)
    (output,) = maker.placed(Frame(PIXELS, S, 0, pose), Verdict(0, "tracked", pose))
    found = tree(output).lookup("map", "ffsplat_camera_optical_frame", S)
    np.testing.assert_allclose(found, pose, atol=1e-12)
    np.testing.assert_array_equal(maker.map_from_world, np.eye(4))


def test_where_the_world_lies_may_be_said():
    level = at(0, 0, 1.5) @ MAP_FROM_WORLD
    maker = MapMessages(map_from_world=level)
    (output,) = maker.placed(Frame(PIXELS, S, 0, np.eye(4)), Verdict(0, "tracked", np.eye(4)))
    found = tree(output).lookup("map", "ffsplat_camera_optical_frame", S)
    np.testing.assert_allclose(found, level, atol=1e-12)


def test_odometry_is_corrected_so_that_the_camera_stands_where_the_map_has_it():
    maker = MapMessages(map_from_world=np.eye(4), correct_odometry=True)
    drifted, true = at(5, 0, 0) @ MAP_FROM_WORLD, at(4.5, 0.25, 0) @ MAP_FROM_WORLD
    (output,) = maker.placed(Frame(PIXELS, S, 0, drifted), Verdict(0, "tracked", true))
    buffer = tree(output)
    map_from_odom = buffer.lookup("map", "odom", S)
    np.testing.assert_allclose(map_from_odom @ drifted, true, atol=1e-12)
    np.testing.assert_allclose(map_from_odom[:3, 3], [-0.5, 0.25, 0], atol=1e-12)


def test_pictures_go_out_as_they_came_and_intrinsics_with_them():
    maker = MapMessages()
    topics = [output.topic for output in maker.picture(Frame(PIXELS, S, 0, None, K))]
    assert topics == [INFO, PICTURE]  # so that the first picture has them when this is played
    topics = [output.topic for output in maker.picture(Frame(b"\xff\xd8damaged", S, 0, None, K))]
    assert topics == [COMPRESSED]


def test_points_are_due_at_once_and_then_every_so_often():
    times = iter([10.0, 11.0, 12.0, 12.5])
    maker = MapMessages(period_s=2, clock=lambda: next(times))
    assert [maker.due() for _ in range(4)] == [True, False, True, False]


def test_hits_are_markers_at_a_time_and_late_comers_get_the_last():
    output = MapMessages().hits([hit()], 3 * S)
    assert output.message.markers[1].header.stamp.sec == 3
    assert output.topic.latched
    assert CLOUD.latched
    assert not TF_TOPIC.latched
