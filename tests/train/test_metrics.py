"""Metrics against hand values."""

import math

import numpy as np
import pytest
import torch

from ffsplat.geometry import intrinsics_from_focal, rigid, rotation_from_vector
from train import metrics


def maps(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


ALL = torch.ones(1, 1, 1, 3, dtype=torch.bool)


def turn(degrees: float, axis: tuple[float, float, float] = (0, 1, 0)) -> torch.Tensor:
    vector = math.radians(degrees) * torch.tensor(axis, dtype=torch.float64)
    return rigid(rotation_from_vector(vector), torch.zeros(3, dtype=torch.float64))


def move(*translation: float) -> torch.Tensor:
    return rigid(torch.eye(3), torch.tensor(translation, dtype=torch.float32))


def test_median_scale_maps_median_to_median_where_masked():
    depth, truth = maps(1, 2, 30), maps(3, 6, 8)
    assert metrics.median_scale(depth, truth, ALL).item() == 3
    masked = torch.tensor([[[[False, True, False]]]])
    assert metrics.median_scale(maps(5, 2, 9), truth, masked).item() == 3


def test_a_set_shares_one_scale():
    depth = torch.stack([maps(1, 1, 1)[0, 0], maps(2, 2, 2)[0, 0]])[None]
    mask = torch.ones_like(depth, dtype=torch.bool)
    factor = metrics.median_scale(depth, 4 * depth, mask)
    assert factor.tolist() == [4]


def test_absolute_relative_and_delta1():
    depth, truth = maps(1.1, 3, 8), maps(1, 2, 4)
    assert metrics.absolute_relative(depth, truth, ALL).item() == pytest.approx(1.6 / 3)
    assert metrics.delta1(depth, truth, ALL).item() == pytest.approx(1 / 3)
    masked = torch.tensor([[[[True, True, False]]]])
    assert metrics.absolute_relative(depth, truth, masked).item() == pytest.approx(0.6 / 2)
    assert metrics.delta1(maps(1, 1, 1), maps(1.24, 1.26, 0.81), ALL).item() == pytest.approx(2 / 3)


def test_masked_zeros_in_the_truth_do_no_harm():
    depth, truth, mask = maps(1, 1, 1), maps(0, 2, 1), torch.tensor([[[[False, True, True]]]])
    assert metrics.absolute_relative(depth, truth, mask).item() == 0.25
    assert metrics.delta1(depth, truth, mask).item() == 0.5


def test_log_depth_error_is_free_of_the_unit():
    truth = maps(1, 2, 3)
    depth = maps(10, 20, 30 * math.e)
    error = metrics.log_depth_error(depth, torch.tensor([20.0]), truth, ALL)
    torch.testing.assert_close(error, maps(0, 0, 1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("degrees", [0, 0.001, 5, 179])
def test_rotation_error_is_the_angle_between(degrees):
    base = turn(40, (0, 0, 1))
    found = metrics.rotation_error(base @ turn(degrees), base)
    assert found.item() == pytest.approx(degrees, abs=1e-9)


def test_direction_error_by_hand():
    forward = move(0, 0, 2)
    cases = [((0, 0, 5), 0), ((0, 0, -1), 180), ((3, 0, 0), 90), ((1, 0, 1), 45), ((0, 0, 0), 90)]
    for translation, expected in cases:
        found = metrics.direction_error(move(*translation), forward)
        assert found.item() == pytest.approx(expected, abs=1e-4)


def test_field_of_view_of_a_right_angle():
    intrinsics = intrinsics_from_focal(torch.tensor([32.0]), 48, 64)
    assert metrics.field_of_view(intrinsics, 64.0).item() == pytest.approx(90)
    widths = torch.tensor([64 / math.sqrt(3)])
    assert metrics.field_of_view(intrinsics, widths).item() == pytest.approx(60)


def test_confusion_accuracy_and_iou_by_hand():
    truth = torch.tensor([0, 0, 0, 1, 1, 2])
    guess = torch.tensor([0, 0, 1, 1, 3, 2])
    counts = metrics.confusion(guess, truth, 5)
    assert counts.sum() == 6
    assert counts[0].tolist() == [2, 1, 0, 0, 0]
    assert counts[1].tolist() == [0, 1, 0, 1, 0]
    assert metrics.accuracy(counts) == pytest.approx(4 / 6)
    # Class 3 was only guessed and class 4 is nowhere: neither is in the mean.
    assert metrics.mean_iou(counts) == pytest.approx((2 / 3 + 1 / 3 + 1) / 3)


def test_psnr_by_hand():
    truth = torch.full((2, 3, 4, 4), 0.5)
    image = truth + torch.tensor([0.1, 0.7])[:, None, None, None]
    expected = [20, -20 * math.log10(0.5)]  # the second is clipped to 1
    assert metrics.psnr(image, truth).tolist() == pytest.approx(expected, abs=1e-4)


def test_unknown_truth_does_not_count():
    truth = torch.tensor([[0, -1, 1]])
    assert metrics.confusion(torch.tensor([[0, 1, 0]]), truth, 2).tolist() == [[1, 0], [1, 0]]
    empty = metrics.confusion(truth, torch.full_like(truth, -1), 2)
    assert math.isnan(metrics.accuracy(empty))
    assert math.isnan(metrics.mean_iou(empty))


def integrated_recall(errors: np.ndarray, threshold: float) -> float:
    """The area under the recall curve from its definition: points joined by lines, then level."""
    ordered = np.sort(errors)
    x = np.concatenate([[0.0], ordered[ordered < threshold]])
    recall = np.arange(len(x)) / len(errors)
    areas = [
        (b - a) * (p + q) / 2 for a, b, p, q in zip(x, x[1:], recall, recall[1:], strict=False)
    ]
    return (sum(areas) + (threshold - x[-1]) * recall[-1]) / threshold


@pytest.mark.parametrize("threshold", [5, 10, 20, 30])
def test_pose_auc_is_the_area_under_the_recall_curve(threshold):
    random = np.random.default_rng(threshold)
    for count in (1, 2, 50):
        errors = random.exponential(12, count)
        found = metrics.pose_auc(torch.from_numpy(errors), threshold)
        assert found == pytest.approx(integrated_recall(errors, threshold), abs=1e-12)
    # A fine grid over the same polygon, interpolated by another library.
    errors = np.sort(random.uniform(0, 40, 200))
    grid = np.linspace(0, threshold, 200_001)
    below = errors[errors < threshold]
    recall = np.interp(grid, np.append(0, below), np.arange(len(below) + 1) / 200)
    found = metrics.pose_auc(torch.from_numpy(errors), threshold)
    assert found == pytest.approx(recall.mean(), abs=1e-5)


def test_pose_auc_by_hand():
    assert metrics.pose_auc(torch.zeros(3), 5) == pytest.approx(1)
    assert metrics.pose_auc(torch.tensor([180.0, 5.0]), 5) == 0
    # Up to half of the threshold recall rises to 1/2, where it stays: 1/8 + 1/4.
    assert metrics.pose_auc(torch.tensor([90.0, 5.0]), 10) == pytest.approx(0.375)
    assert math.isnan(metrics.pose_auc(torch.zeros(0), 5))
