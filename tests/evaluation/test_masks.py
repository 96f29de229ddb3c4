"""IoU, shares above a bar and localisation, by hand."""

import math

import numpy as np
import pytest

from ffsplat.evaluation.masks import is_localized, mask_iou, summarize


def block(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((4, 4), bool)
    mask[rows, columns] = True
    return mask


def test_two_blocks_that_share_a_third_of_their_union():
    one, other = block(slice(0, 2), slice(0, 4)), block(slice(1, 3), slice(0, 4))
    assert mask_iou(one, other) == pytest.approx(4 / 12)


def test_nothing_against_nothing_is_worth_nothing():
    assert mask_iou(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 0


def test_an_iou_on_the_bar_is_not_above_it():
    assert summarize([0.25, 0.5, 1.0]) == {
        "miou": pytest.approx(1.75 / 3),
        "macc@0.25": pytest.approx(2 / 3),
        "macc@0.5": pytest.approx(1 / 3),
    }
    assert all(math.isnan(value) for value in summarize([]).values())


def pixels(*places: tuple[int, int]) -> np.ndarray:
    pointed = np.zeros((4, 4), bool)
    pointed[tuple(zip(*places, strict=True))] = True
    return pointed


@pytest.mark.parametrize(
    ("box", "hit"),
    [((1, 2, 3, 3), True), ((3, 3, 1, 2), True), ((0, 0, 1, 1), False), ((1, 2, 1, 2), True)],
)
def test_a_pixel_is_in_the_box_or_not(box, hit):
    assert is_localized(pixels((2, 1)), np.array([box], float)) is hit


def test_one_of_several_boxes_and_of_several_pixels_is_enough():
    boxes = np.array([[1, 1, 2, 2], [3, 3, 3, 3]], float)
    assert is_localized(pixels((0, 0), (3, 3)), boxes)


def test_a_map_that_is_the_same_everywhere_points_nowhere():
    assert not is_localized(np.ones((4, 4), bool), np.array([[0, 0, 3, 3]], float))
