"""Masks of polygons beside OpenCV's."""

import cv2
import numpy as np
import pytest

from ffsplat.evaluation.polygons import polygon_mask


def filled(outline, size):
    mask = np.zeros(size[::-1], np.uint8)
    cv2.fillPoly(mask, [np.asarray(outline, dtype=np.int32)], 1)
    return mask > 0


@pytest.mark.parametrize("seed", range(20))
def test_outlines_of_any_shape_are_filled_as_opencv_does(seed):
    """Stars that cross themselves."""
    generator = np.random.default_rng(seed)
    size = tuple(int(side) for side in generator.integers(20, 160, 2))
    outline = generator.uniform(0, 1, (generator.integers(3, 20), 2)) * size
    np.testing.assert_array_equal(polygon_mask(outline, size), filled(outline, size))


@pytest.mark.parametrize("corners", [[(3, 4)], [(3, 4), (9, 4)], [(3, 4), (9, 11), (3, 4)]])
def test_outlines_without_an_inside_are_lines(corners):
    outline = np.array(corners, float)
    np.testing.assert_array_equal(polygon_mask(outline, (20, 16)), filled(outline, (20, 16)))


def test_what_leaves_the_image_is_cut_at_its_border():
    outline = np.array([[-5, 3], [30, 3], [30, 8], [-5, 8]], float)
    expected = np.zeros((12, 20), bool)
    expected[3:9] = True
    np.testing.assert_array_equal(polygon_mask(outline, (20, 12)), expected)
