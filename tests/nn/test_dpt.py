"""Pyramids: places are what the formula says, and shortcuts change nothing."""

import math

import torch
import torch.nn.functional as F

from ffsplat.nn.dpt import Fusion, FusionStep, Pyramid, add_place, stretch


def test_places_are_sines_of_the_position_on_a_diagonal_of_length_two():
    rows, columns, channels = 3, 5, 8
    aspect = 4 / 3
    place = add_place(torch.zeros(1, channels, rows, columns), aspect)[0]
    width, height = aspect / math.hypot(aspect, 1), 1 / math.hypot(aspect, 1)
    for row in range(rows):
        for column in range(columns):
            x = width * (2 * column + 1 - columns) / columns
            y = height * (2 * row + 1 - rows) / rows
            expected = [
                0.1 * wave(where / 100**exponent)
                for where in (x, y)
                for wave in (math.sin, math.cos)
                for exponent in (0, 0.5)
            ]
            torch.testing.assert_close(place[:, row, column], torch.tensor(expected))


def test_stretching_after_the_convolution_is_stretching_before_it():
    torch.manual_seed(0)
    step = FusionStep(16, lateral=True)
    fused, level = torch.randn(2, 2, 16, 5, 7)
    size = torch.Size((9, 13))
    late = step.out(stretch(step.mix(fused + step.lateral(level)), size))
    torch.testing.assert_close(step(fused, level, size), late, atol=1e-5, rtol=1e-5)


def test_a_pyramid_has_four_sizes_and_its_fusion_twice_the_finest():
    torch.manual_seed(0)
    pyramid, fusion = Pyramid(12, (4, 8, 12, 16), 16, norm=True), Fusion(16)
    maps = pyramid(list(torch.randn(4, 2, 3, 5, 12)), 5 / 3)
    sizes = [tuple(level.shape[-2:]) for level in maps]
    assert sizes == [(12, 20), (6, 10), (3, 5), (2, 3)]
    assert fusion(maps).shape == (2, 16, 24, 40)


def test_a_linear_map_of_tokens_is_a_convolution_of_single_pixels():
    torch.manual_seed(0)
    pyramid = Pyramid(6, (4, 4, 4, 4), 16, norm=False)
    tokens = torch.randn(2, 3, 5, 6)
    linear = pyramid.project[2]
    image = F.conv2d(tokens.permute(0, 3, 1, 2), linear.weight[..., None, None], linear.bias)
    expected = pyramid.adapt[2](add_place(image, 5 / 3))
    torch.testing.assert_close(pyramid([tokens] * 4, 5 / 3)[2], expected)
