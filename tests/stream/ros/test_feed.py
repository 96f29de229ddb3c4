import logging

import numpy as np
import pytest
from ros_messages import camera_info, compressed, image, tf, transform

from ffsplat.stream.ros.feed import WAITING, CameraFeed
from ffsplat.stream.ros.images import UnsupportedImage

S = 10**9
K = [[50, 0, 1.5], [0, 50, 1.5], [0, 0, 1]]


def picture(time_ns=S, value=0, **options):
    return image(np.full((4, 4, 3), value, np.uint8), 4, 4, time_ns=time_ns, **options)


def test_a_picture_has_its_stamp_or_else_the_time_it_came():
    feed = CameraFeed(name="front")
    feed.add_image(picture(5), False, 99)
    feed.add_image(picture(0), False, 99)
    frames = list(feed.frames())
    assert [(f.time_ns, f.number, f.name) for f in frames] == [
        (5, 0, "front:0"),
        (99, 1, "front:1"),
    ]
    assert frames[0].pose is None
    assert frames[0].intrinsics is None


def test_times_are_kept_as_they_are_even_if_they_go_back_or_repeat():
    feed = CameraFeed(expects_poses=True)
    times = [3 * S, 3 * S, S, 900 * S, 2 * S]
    for time in times:
        feed.add_image(picture(time), False, 0)
    assert [f.time_ns for f in feed.frames(last=True)] == times


def test_intrinsics_are_those_that_came_before_the_picture():
    feed = CameraFeed()
    feed.add_image(picture(), False, 0)
    feed.add_camera_info(camera_info(K, 4, 4))
    feed.add_image(picture(), False, 0)
    first, second = feed.frames()
    assert first.intrinsics is None
    assert second.intrinsics[0].tolist() == [50, 0, 2]


def test_a_picture_waits_for_the_transform_after_it():
    feed = CameraFeed(expects_poses=True)
    feed.add_transforms(tf(transform("odom", "camera", S, (1, 0, 0))), False)
    feed.add_image(picture(3 * S // 2), False, 0)
    assert list(feed.frames()) == []
    feed.add_transforms(tf(transform("odom", "camera", 2 * S, (2, 0, 0))), False)
    (frame,) = feed.frames()
    np.testing.assert_allclose(frame.pose[:3, 3], [1.5, 0, 0])
    assert feed.fixed_frame == "odom"


@pytest.mark.parametrize("name", ["ffsplat_camera_optical_frame", "/ffsplat_camera_optical_frame"])
def test_a_picture_of_our_own_neither_waits_nor_has_a_pose(name):
    feed = CameraFeed(expects_poses=True)
    feed.add_transforms(tf(transform("map", "ffsplat_camera_optical_frame", S, (1, 0, 0))), False)
    feed.add_picture(b"", S, name)
    assert [frame.pose for frame in feed.frames()] == [None]


def test_a_robot_beside_our_own_camera_keeps_its_poses():
    feed = CameraFeed(expects_poses=True)
    feed.add_transforms(tf(transform("map", "ffsplat_camera_optical_frame", S, (1, 0, 0))), False)
    feed.add_transforms(tf(transform("map", "camera", S, (2, 0, 0))), False)
    feed.add_image(picture(S), False, 0)
    (frame,) = feed.frames()
    assert frame.pose[0, 3] == 2


def test_a_picture_waits_no_longer_than_it_may():
    feed = CameraFeed(expects_poses=True, patience_ns=S)
    feed.add_image(picture(S), False, 0)
    feed.add_image(picture(2 * S), False, 0)
    assert list(feed.frames()) == []
    feed.add_image(picture(2 * S + 1), False, 0)
    assert [f.time_ns for f in feed.frames()] == [S]
    for _ in range(WAITING + 5):
        feed.add_image(picture(2 * S + 1), False, 0)
    assert len(list(feed.frames())) == 7


def test_the_world_does_not_change_when_a_map_frame_comes_later():
    feed = CameraFeed(expects_poses=True)
    feed.add_transforms(tf(transform("odom", "camera", S, (1, 0, 0))), False)
    feed.add_image(picture(S), False, 0)
    (first,) = feed.frames()
    feed.add_transforms(tf(transform("map", "odom", 0, (100, 0, 0))), True)
    feed.add_image(picture(S), False, 0)
    (second,) = feed.frames()
    assert (first.pose[0, 3], second.pose[0, 3]) == (1, 1)


def test_damage_is_counted_and_told_once(caplog):
    feed = CameraFeed(name="/camera")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            feed.add_image(picture(step=2**32 - 1), False, 0)
        feed.add_image(compressed(b""), True, 0)
    assert feed.skipped == {"damaged picture": 4}
    assert [r.getMessage() for r in caplog.records] == [
        "/camera: skipped a damaged picture (picture of 4x4 in rgb8 with rows of 4294967295 bytes "
        "does not fit its 48 bytes)"
    ]
    assert list(feed.frames()) == []


def test_pictures_of_a_kind_that_is_not_read_end_the_stream_by_name():
    with pytest.raises(UnsupportedImage, match="32FC1"):
        CameraFeed().add_image(picture(encoding="32FC1"), False, 0)


def test_a_garbled_encoding_does_not_end_a_stream_that_worked():
    feed = CameraFeed()
    feed.add_image(picture(), False, 0)
    feed.add_image(picture(encoding="rgc8"), False, 0)
    assert len(list(feed.frames())) == 1
    assert feed.skipped == {"damaged picture": 1}


def test_a_distorted_camera_is_told_once_and_a_rectified_one_is_not(caplog):
    bent = camera_info(K, 4, 4, d=[0.1, 0, 0, 0, 0])
    with caplog.at_level(logging.WARNING):
        CameraFeed(rectified=True).add_camera_info(bent)
        assert not caplog.records
        feed = CameraFeed(name="/cam/image_raw")
        feed.add_camera_info(bent)
        feed.add_camera_info(bent)
    assert [r.getMessage() for r in caplog.records] == [
        "/cam/image_raw has a lens distortion, which is ignored: use the rectified topic"
    ]


def test_a_camera_info_of_another_shape_leaves_the_intrinsics_out():
    feed = CameraFeed()
    feed.add_camera_info(camera_info(K, 8, 4))
    feed.add_image(picture(), False, 0)
    (frame,) = feed.frames()
    assert frame.intrinsics is None
    assert feed.skipped == {"camera info": 1}
