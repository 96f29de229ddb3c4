"""Colours of depth, labels and scores, and their legend."""

import numpy as np
import pytest

from ffsplat.render.colors import (
    depth_colors,
    depth_ends,
    heat,
    label_colors,
    legend,
    luma,
    oklch,
    paint_labels,
    ramp,
    to_bytes,
)


def luminance(rgb: np.ndarray) -> np.ndarray:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize(
    ("lightness", "chroma", "hue", "rgb"),
    [
        (1, 0, 0, (1, 1, 1)),
        (0, 0, 0, (0, 0, 0)),
        (0.627955, 0.257683, 29.2339, (1, 0, 0)),
        (0.866440, 0.294827, 142.4953, (0, 1, 0)),
        (0.452014, 0.313214, 264.0520, (0, 0, 1)),
    ],
)
def test_oklch_of_known_colours(lightness, chroma, hue, rgb):
    np.testing.assert_allclose(oklch(lightness, chroma, hue), rgb, atol=2e-3)


def test_ramp_grows_lighter_all_the_way():
    colors = ramp(np.linspace(0, 1, 64))
    assert (np.diff(luminance(colors)) > 0).all()
    np.testing.assert_array_equal(ramp(np.array([-1.0, 2.0])), ramp(np.array([0.0, 1.0])))


def test_near_is_brighter_than_far_and_nothing_is_black():
    depth = np.array([[1.0, 2.0, 4.0], [8.0, 0.0, 3.0]])
    bright = luminance(depth_colors(depth))
    order = np.argsort(depth[depth > 0])
    assert (np.diff(bright[depth > 0][order]) < 0).all()
    assert (depth_colors(depth)[1, 1] == 0).all()
    hidden = depth_colors(depth, visible=depth < 3)
    assert (hidden[depth >= 3] == 0).all()
    np.testing.assert_array_equal(depth_colors(np.zeros((2, 3))), 0)
    assert np.isfinite(depth_colors(np.full((2, 3), 5.0))).all()


def test_a_range_of_depths_may_be_given():
    depth = np.array([[1.0, 2.0, 3.0, 6.0, 60.0, 0.5]])
    shares = (1 / depth - 1 / 6) / (1 / 2 - 1 / 6)
    np.testing.assert_allclose(depth_colors(depth, ends=(2.0, 6.0)), ramp(shares), atol=1e-6)
    near, far = depth_ends(np.linspace(0.01, 1, 100) ** -1)  # even in 1 / depth
    assert (1 / near, 1 / far) == pytest.approx((0.9802, 0.0298))
    np.testing.assert_array_equal(
        depth_colors(depth), depth_colors(depth, ends=depth_ends(depth[0]))
    )


def test_labels_are_distinct_and_stay():
    colors = label_colors(40)
    distance = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
    assert distance[~np.eye(40, dtype=bool)].min() > 0.08
    np.testing.assert_array_equal(label_colors(7), colors[:7])
    assert label_colors(0).shape == (0, 3)


def test_painting_labels():
    colors = label_colors(3)
    painted = paint_labels(np.array([[0, 2, -1, 4]]), colors)
    np.testing.assert_allclose(painted[0], [colors[0], colors[2], [0.25] * 3, colors[1]])
    np.testing.assert_allclose(paint_labels(np.array([[0]]), label_colors(0)), 0.25)


def test_grey_weighs_the_channels_and_keeps_what_is_grey():
    colors = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.3, 0.3, 0.3]])
    expected = np.array([0.299, 0.587, 0.114, 0.3])[:, None].repeat(3, axis=1)
    np.testing.assert_allclose(luma(colors), expected, rtol=1e-6)


def test_heat_is_grey_where_cold_and_coloured_where_hot():
    rgb = np.tile(np.array([0.8, 0.2, 0.1], np.float32), (1, 3, 1))
    image = heat(rgb, np.array([[-1.0, 0.5, 1.0]]), low=0.0, high=1.0)
    grey = 0.299 * 0.8 + 0.587 * 0.2 + 0.114 * 0.1
    np.testing.assert_allclose(image[0, 0], grey, atol=1e-6)
    hottest = ramp(np.array(1.0))
    np.testing.assert_allclose(image[0, 2], 0.15 * grey + 0.85 * hottest, atol=1e-6)
    assert np.isfinite(heat(rgb, np.full((1, 3), np.nan), 1.0, 1.0)).all()


def test_bytes_are_rounded_and_clipped():
    np.testing.assert_array_equal(
        to_bytes(np.array([-1.0, 0.0, 0.5, 0.9999, 7.0, np.nan])), [0, 0, 128, 255, 255, 0]
    )


def test_legend_stands_beside_the_image():
    image = np.random.default_rng(0).random((60, 40, 3)).astype(np.float32)
    red, blue = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
    drawn = legend(image, [("chair", red), ("table", blue)])
    np.testing.assert_array_equal(drawn[:, :40], to_bytes(image))
    panel = drawn[:, 40:]
    for row, color in enumerate([red, blue]):
        line = panel[24 * row : 24 * row + 24]
        assert (line == to_bytes(np.array(color))).all(-1).sum() > 100  # the swatch
        assert (line.min(-1) > 150).sum() > 20  # the name
    np.testing.assert_array_equal(legend(image, []), to_bytes(image))
    crowded = legend(image, [(f"name {i}", red) for i in range(500)])
    assert crowded.shape[0] == 60


def test_names_without_end_and_of_several_lines_fit_in_a_legend():
    image, red = np.zeros((24, 40, 3), np.float32), (1.0, 0.0, 0.0)
    endless = legend(image, [("m" * 1_000_000, red)])
    np.testing.assert_array_equal(endless, legend(image, [("m" * 39 + "\u2026", red)]))
    assert legend(image, [("m" * 40, red)]).shape[1] > 40 + 40 * 12
    np.testing.assert_array_equal(
        legend(image, [("a\nb\x1b", red)]), legend(image, [("a b ", red)])
    )
