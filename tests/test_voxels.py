import numpy as np

from ffsplat.voxels import cell_keys, group


def test_group_by_hand():
    groups = group(np.array([5, 2, 5, 9, 2, 5]))
    assert groups.keys.tolist() == [2, 5, 9]
    assert groups.sizes.tolist() == [2, 3, 1]
    assert groups.index.tolist() == [1, 0, 1, 2, 0, 1]
    assert groups.order.tolist() == [1, 4, 0, 2, 5, 3]
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    assert groups.sum(values).tolist() == [[10, 12], [14, 17], [6, 7]]
    weights = np.array([1, 3, 1, 2, 1, 2], np.float32)
    assert groups.mean(values, weights).tolist() == [[3.5, 4.5], [6, 7], [6, 7]]


def test_no_items():
    groups = group(np.zeros(0, np.int64))
    assert len(groups) == 0
    assert groups.sum(np.zeros((0, 3), np.float32)).shape == (0, 3)
    assert cell_keys(np.zeros((0, 3), np.float32), 1.0).shape == (0,)


def test_points_share_a_key_exactly_when_they_share_a_cell():
    points = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    cells = np.floor(points / np.float32(0.25))
    keys = cell_keys(points, 0.25)
    same_cell = (cells[:, None] == cells[None]).all(-1)
    np.testing.assert_array_equal(same_cell, keys[:, None] == keys[None])


def test_a_step_along_an_axis_adds_a_power_of_two():
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32) + 0.5
    keys = cell_keys(points, 1.0)
    assert (keys - keys[0]).tolist() == [0, 1, 1 << 16, 1 << 32]
    assert keys.max() < 2**48
