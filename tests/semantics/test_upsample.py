"""From cells to pixels: where cells lie, and how edges cut."""

import numpy as np

from ffsplat.semantics.upsample import at_centres, centres, spacing, upsample


def flat(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([x, y, np.zeros_like(x)], -1)[None]


def test_centres_lie_in_the_middle_of_cells():
    np.testing.assert_array_equal(centres(12, 3), [2, 6, 10])
    np.testing.assert_array_equal(centres(5, 5), np.arange(5))
    image = np.arange(24).reshape(1, 4, 6)
    np.testing.assert_array_equal(at_centres(image, (2, 2)), [[[7, 10], [19, 22]]])


def test_spacing_is_the_median_distance_of_neighbours():
    points = 0.5 * flat(4, 6)
    assert spacing(points, np.ones((1, 4, 6), bool)) == 0.5
    assert spacing(points, np.zeros((1, 4, 6), bool)) == 1.0


def test_on_a_flat_surface_a_pixel_takes_the_nearer_cell():
    ids = np.array([[[3, 8]]], np.int16)
    found, share = upsample(ids, flat(4, 8), gap=100.0)
    np.testing.assert_array_equal(found[0], np.tile([3, 3, 3, 3, 8, 8, 8, 8], (4, 1)))
    np.testing.assert_allclose(share[0, 0, :2], 1)
    assert 0.5 < share[0, 0, 3] < 0.7


def test_an_edge_of_depth_cuts_where_it_is():
    points = flat(4, 8)
    points[:, :, 3:, 2] = 50.0
    found, _ = upsample(np.array([[[3, 8]]], np.int16), points, gap=4.0)
    np.testing.assert_array_equal(found[0, 0], [3, 3, 3, 8, 8, 8, 8, 8])


def test_an_edge_of_colour_cuts_where_it_is():
    colors = np.zeros((1, 4, 8, 3), np.float32)
    colors[:, :, 3:] = 1
    found, _ = upsample(np.array([[[3, 8]]], np.int16), flat(4, 8), 100.0, colors)
    np.testing.assert_array_equal(found[0, 0], [3, 3, 3, 8, 8, 8, 8, 8])


def test_cells_without_evidence_abstain():
    found, share = upsample(np.array([[[-1, 8]]], np.int16), flat(4, 8), gap=100.0)
    np.testing.assert_array_equal(found[0, 0], [-1, -1, 8, 8, 8, 8, 8, 8])
    np.testing.assert_allclose(share[0, 0], [0, 0, 1, 1, 1, 1, 1, 1])
    nothing, none = upsample(np.full((1, 2, 2), -1, np.int16), flat(4, 8), gap=1.0)
    assert (nothing == -1).all()
    assert (none == 0).all()


def test_cells_of_one_row_add_up():
    ids = np.array([[[5, 1], [1, 1]]], np.int16)
    found, share = upsample(ids, flat(6, 6), gap=100.0)
    assert found[0, 2, 2] == 1
    assert 0.5 < share[0, 2, 2] < 0.6
