"""Pixels that become no Gaussians: between surfaces, and of the sky."""

import pytest
import torch

from ffsplat.pruning import flying_pixels, sky_pixels


@pytest.mark.parametrize("turned", [False, True])
def test_flying_pixels(turned):
    rows = torch.tensor(
        [
            [2.0, 2.0, 2.0, 4.0, 4.0, 4.0],  # a clean edge stays
            [2.0, 2.0, 3.0, 4.0, 4.0, 4.0],  # one pixel between
            [4.0, 4.0, 3.3, 2.6, 2.0, 2.0],  # two, falling
            [2.0, 2.1, 2.2, 2.3, 2.4, 2.5],  # a slope
            [2.0, 2.0, 3.0, 2.0, 2.0, 2.0],  # a thin thing
        ]
    )
    expected = torch.zeros(5, 6, dtype=torch.bool)
    expected[1, 2] = expected[2, 2] = expected[2, 3] = True
    depth = rows[:, None, None]  # five views of one row
    # 80 pixels of focal length along the row: steps of log depth over 0.1 count.
    intrinsics = torch.diag(torch.tensor([1.0, 80, 1] if turned else [80.0, 1, 1])).expand(
        5, 1, 3, 3
    )
    depth = depth.mT if turned else depth
    flying = flying_pixels(depth, intrinsics, torch.ones_like(depth, dtype=torch.bool))
    torch.testing.assert_close(flying.flatten(1), expected)


def test_padding_makes_no_flying_pixel():
    depth, intrinsics = torch.tensor([[[2.0, 3.0, 4.5]]]), 80 * torch.eye(3)[None]
    assert flying_pixels(depth, intrinsics, torch.tensor([[[True, True, True]]]))[0, 0, 1]
    assert not flying_pixels(depth, intrinsics, torch.tensor([[[True, True, False]]])).any()


def test_the_sky_is_infinitely_far_or_far_and_unsure():
    depth = torch.full((1, 2, 2, 4), 2.0)
    confidence = torch.full_like(depth, 0.8)
    valid = torch.ones_like(depth, dtype=torch.bool)
    depth[0, 0, 0] = torch.tensor([torch.inf, 9.0, 9.0, 7.0])
    confidence[0, 0, 0] = torch.tensor([0.8, 0.1, 0.8, 0.1])
    depth[0, 1, 1, :2], valid[0, 1, 1, 0] = torch.tensor([torch.inf, torch.nan]), False
    sky = sky_pixels(depth, confidence, valid)
    assert sky.nonzero().tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]]


def test_each_set_has_its_own_sky():
    depth = torch.full((2, 1, 3, 3), 2.0)
    confidence = torch.full_like(depth, 0.5)
    depth[1] *= 10
    depth[:, 0, 0, 0], confidence[:, 0, 0, 0] = torch.tensor([30.0, 30.0]), 0.01
    sky = sky_pixels(depth, confidence, torch.ones_like(depth, dtype=torch.bool))
    assert sky.nonzero().tolist() == [[0, 0, 0, 0]]


def test_a_set_without_a_valid_pixel_has_no_sky():
    depth = torch.full((1, 1, 2, 2), torch.inf)
    assert not sky_pixels(depth, torch.ones_like(depth), torch.zeros(1, 1, 2, 2).bool()).any()
