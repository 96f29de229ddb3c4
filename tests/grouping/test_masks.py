import numpy as np
import pytest
from small_room import small_room

from ffsplat.errors import UsageError
from ffsplat.grouping.masks import front_gaussians, group_by_masks
from ffsplat.render import render
from ffsplat.types import Cameras


def camera(width=64, height=48, x=0.0):
    pose = np.eye(4, dtype=np.float32)
    pose[0, 3] = x
    focal = np.float32([[40, 0, width / 2], [0, 40, height / 2], [0, 0, 1]])
    return Cameras(pose[None], focal[None], np.int32([[width, height]]), ("photo",))


def slow_front(means, cameras, mask, number):
    """The rule, patch by patch, as the paper words it."""
    height, width = mask.shape
    tall, wide = -(-height // 32), -(-width // 32)
    local = means - cameras.world_from_camera[0, :3, 3]
    column = np.floor(local[:, 0] / local[:, 2] * 40 + width / 2).astype(int)
    row = np.floor(local[:, 1] / local[:, 2] * 40 + height / 2).astype(int)
    found = []
    for y in range(0, height, tall):
        for x in range(0, width, wide):
            inside = [
                i
                for i in range(len(means))
                if local[i, 2] > 0
                and x <= column[i] < min(x + wide, width)
                and y <= row[i] < min(y + tall, height)
                and mask[row[i], column[i]] == number
            ]
            inside.sort(key=lambda i: local[i, 2])
            found += inside[: max(int(0.2 * len(inside)), 1)]
    return sorted(found)


def test_a_mask_sees_the_nearest_fifth_of_each_patch():
    room = small_room(600)
    cameras = camera()
    mask = np.full((48, 64), -1, np.int32)
    mask[10:40, 5:40] = 4
    mask[20:30, 40:60] = 9
    seen = front_gaussians(room.gaussians.means, cameras, 0, mask)
    assert [len(part) > 20 for part in seen] == [True, True]
    for part, number in zip(seen, (4, 9), strict=True):
        assert part.tolist() == slow_front(room.gaussians.means, cameras, mask, number)


def test_what_lies_behind_the_camera_is_not_seen():
    room = small_room(100)
    behind = room.gaussians.means * np.float32([1, 1, -1])
    assert len(front_gaussians(behind, camera(), 0, np.zeros((48, 64), np.int32))[0]) == 0


def test_masks_that_are_numbered_anew_in_each_view_become_one_object_a_thing():
    room = small_room(3000)
    views = [camera(x=x) for x in (-0.2, 0.1, 0.4)]
    cameras = Cameras(
        *(np.concatenate([getattr(view, name) for view in views])
          for name in ("world_from_camera", "intrinsics", "sizes")),
        ("a", "b", "c"),
    )  # fmt: skip
    masks = render(room, cameras, "instance")
    for view, shift in enumerate((0, 5, 11)):
        masks[view][masks[view] >= 0] = (masks[view][masks[view] >= 0] + shift) % 13
    grouped = group_by_masks(room, cameras, list(masks), reach=0.3)
    owners = [np.bincount(grouped.instances[room.instances == thing] + 1)[1:] for thing in range(2)]
    assert all(counts.max() > 0.9 * counts.sum() for counts in owners)
    assert owners[0].argmax() != owners[1].argmax()
    assert (grouped.instances[room.instances < 2] >= 0).mean() > 0.99


def test_masks_of_another_size_or_number_are_refused():
    room = small_room(50)
    with pytest.raises(UsageError, match="2 masks for 1 cameras"):
        group_by_masks(room, camera(), [np.zeros((48, 64), np.int32)] * 2)
    with pytest.raises(UsageError, match="not 64x48"):
        group_by_masks(room, camera(), [np.zeros((10, 10), np.int32)])


def test_masks_that_see_nothing_leave_no_instances():
    room = small_room(50)
    nothing = np.full((48, 64), -1, np.int32)
    assert (group_by_masks(room, camera(), [nothing]).instances == -1).all()
