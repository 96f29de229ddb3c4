import threading

import numpy as np
import pytest
from ros_messages import camera_info, image, tf, transform

from ffsplat.errors import StreamError
from ffsplat.stream.ros.live import LiveMessages
from ffsplat.stream.ros.mailbox import MAX_OTHERS, MAX_PICTURES, Mailbox, Parcel
from ffsplat.stream.ros.store import CAMERA_INFO, IMAGE, TF, to_cdr

S = 10**9
K = [[50, 0, 1.5], [0, 50, 1.5], [0, 0, 1]]


def picture(time_ns=S, **options):
    return to_cdr(image(np.zeros((4, 4, 3), np.uint8), 4, 4, time_ns=time_ns, **options))


def parcel(name):
    return Parcel(name, "", 0, b"")


def test_the_newest_pictures_stay_and_transforms_come_before_them():
    box = Mailbox()
    for i in range(MAX_PICTURES + 3):
        box.put(parcel(f"picture {i}"), True)
    for i in range(MAX_OTHERS + 5):
        box.put(parcel(f"tf {i}"), False)
    assert box.missed == 3
    names = [box.get().topic for _ in range(MAX_OTHERS + MAX_PICTURES)]
    assert names[0] == "tf 5"
    assert names[-MAX_PICTURES:] == [f"picture {i + 3}" for i in range(MAX_PICTURES)]


def test_closing_wakes_who_waits():
    box = Mailbox()
    found = []
    waiting = threading.Thread(target=lambda: found.append(box.get()))
    waiting.start()
    box.close()
    waiting.join(10)
    assert found == [None]


def test_messages_become_frames_with_intrinsics_and_poses():
    source = LiveMessages("robot", None, True)
    source.receive("/tf", TF, to_cdr(tf(transform("odom", "camera", S, (1, 2, 3)))))
    source.receive("/camera_info", CAMERA_INFO, to_cdr(camera_info(K, 4, 4)))
    source.receive("/image", IMAGE, picture())
    frame = next(iter(source))
    assert frame.pose[:3, 3].tolist() == [1, 2, 3]
    assert frame.intrinsics[0].tolist() == [50, 0, 2]
    assert (frame.time_ns, frame.name) == (S, "robot:0")


def test_damage_is_skipped_and_bare_pictures_are_taken():
    source = LiveMessages("robot", None, False)
    source.receive("/image", IMAGE, b"\0\1\0\0garbage")
    source.receive("jpeg", "", b"\xff\xd8\xff", 77)
    frame = next(iter(source))
    assert (frame.image, frame.time_ns) == (b"\xff\xd8\xff", 77)
    assert source.skipped == {"damaged message": 1}


def test_a_kind_that_is_not_read_ends_the_iteration_by_name():
    source = LiveMessages("robot", None, False)
    source.receive("/depth", IMAGE, picture(encoding="32FC1"))
    with pytest.raises(StreamError, match="robot: pictures of encoding '32FC1'"):
        next(iter(source))
