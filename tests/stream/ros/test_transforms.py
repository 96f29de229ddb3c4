import numpy as np
import pytest
from ros_messages import tf, transform
from scipy.spatial.transform import Rotation

from ffsplat.stream.ros.transforms import HISTORY_NS, MAX_FRAMES, MAX_SAMPLES, TransformBuffer

S = 10**9
HALF = np.sqrt(0.5)


def filled(*messages, static=()):
    buffer = TransformBuffer()
    buffer.add(tf(*static).transforms, True)
    buffer.add(tf(*messages).transforms, False)
    return buffer


def test_a_chain_is_the_product_of_its_transforms_by_hand():
    buffer = filled(
        transform("odom", "base_link", S, (1, 2, 0), (0, 0, HALF, HALF)),  # a quarter turn left
        static=[transform("base_link", "optical", 0, (0.5, 0, 0.25), (0.5, -0.5, 0.5, -0.5))],
    )
    pose = buffer.lookup("odom", "optical", S)
    np.testing.assert_allclose(pose[:3, 3], [1, 2.5, 0.25], atol=1e-12)
    np.testing.assert_allclose(pose[:3, 2], [0, 1, 0], atol=1e-12)  # it looks to the left of odom
    np.testing.assert_allclose(pose[:3, 1], [0, 0, -1], atol=1e-12)  # and its y still points down


def test_between_two_samples_position_is_linear_and_rotation_is_even():
    buffer = filled(
        transform("odom", "camera", 0, (0, 0, 0)),
        transform("odom", "camera", S, (4, 0, 0), (0, 0, HALF, HALF)),
    )
    pose = buffer.lookup("odom", "camera", S // 4)
    np.testing.assert_allclose(pose[:3, 3], [1, 0, 0], atol=1e-12)
    turn = Rotation.from_matrix(pose[:3, :3]).as_euler("xyz", degrees=True)
    np.testing.assert_allclose(turn, [0, 0, 22.5], atol=1e-9)


def test_nothing_is_extrapolated_but_what_may_still_come_is_told_from_what_is_lost():
    buffer = filled(
        transform("odom", "camera", S, (0, 0, 0)), transform("odom", "camera", 2 * S, (1, 0, 0))
    )
    assert buffer.lookup("odom", "camera", S - 1) is None
    assert not buffer.may_come("odom", "camera", S - 1)
    assert buffer.lookup("odom", "camera", 2 * S + 1) is None
    assert buffer.may_come("odom", "camera", 2 * S + 1)
    assert buffer.lookup("odom", "elsewhere", S) is None


def test_samples_out_of_order_are_put_in_order():
    late_first = filled(
        transform("odom", "camera", 2 * S, (2, 0, 0)),
        transform("odom", "camera", S, (1, 0, 0)),
        transform("odom", "camera", S, (1.5, 0, 0)),
    )
    np.testing.assert_allclose(late_first.lookup("odom", "camera", S)[0, 3], 1.5)
    np.testing.assert_allclose(late_first.lookup("odom", "camera", 3 * S // 2)[0, 3], 1.75)


def test_a_side_branch_is_reached_through_the_common_ancestor():
    buffer = filled(
        transform("base", "left", S, (0, 1, 0)),
        transform("base", "right", S, (0, -1, 0)),
    )
    np.testing.assert_allclose(buffer.lookup("left", "right", S)[:3, 3], [0, -2, 0])


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ([("map", "odom"), ("odom", "base_link"), ("base_link", "camera")], "map"),
        ([("odom", "base_link"), ("base_link", "camera")], "odom"),
        ([("earth", "base_link"), ("base_link", "camera")], "earth"),
        ([("world", "map"), ("map", "camera")], "map"),
    ],
)
def test_the_fixed_frame_is_map_else_odom_else_the_root(tree, expected):
    buffer = filled(*(transform(parent, child, S) for parent, child in tree))
    assert buffer.fixed_frame("camera") == expected
    assert buffer.fixed_frame("/camera") == expected


def test_a_tree_in_which_nothing_moves_fixes_no_camera():
    assert filled(static=[transform("base_link", "camera", 0)]).fixed_frame("camera") is None
    assert filled().fixed_frame("camera") is None


def test_samples_and_frames_are_bounded():
    buffer = TransformBuffer()
    buffer.add([transform("odom", "camera", S + i) for i in range(MAX_SAMPLES + 10)], False)
    assert buffer.lookup("odom", "camera", S + 9) is None
    assert buffer.lookup("odom", "camera", S + 10) is not None
    buffer.add([transform("odom", "camera", 2 * S + HISTORY_NS)], False)
    assert buffer.lookup("odom", "camera", S + 11) is None
    buffer.add([transform("odom", f"frame{i}", S) for i in range(MAX_FRAMES + 5)], False)
    assert buffer.refused == 6


def test_a_clock_that_was_set_back_starts_a_new_history():
    buffer = filled(
        transform("odom", "camera", 100 * S, (9, 0, 0)), transform("odom", "camera", S, (1, 0, 0))
    )
    np.testing.assert_allclose(buffer.lookup("odom", "camera", S)[0, 3], 1)
    assert buffer.lookup("odom", "camera", 50 * S) is None


def test_circles_and_broken_transforms_do_no_harm():
    buffer = filled(
        transform("a", "b", S),
        transform("b", "a", S),
        transform("odom", "camera", S, (np.nan, 0, 0)),
        transform("odom", "camera", S, (0, 0, 0), (0, 0, 0, 0)),
        transform("odom", "camera", S, (0, 0, 0), (1e300, 1e300, 0, 0)),
        transform("camera", "camera", S),
        transform("", "camera", S),
    )
    assert buffer.refused == 5
    assert buffer.ancestors("a") == ["a", "b"]
    assert buffer.lookup("odom", "camera", S) is None
