"""Colours by hand, and the same formula along every direction."""

from dataclasses import replace

import numpy as np
import pytest
from small_room import small_room

from ffsplat.color_names import BASIC_COLORS, nearest_basic_color
from ffsplat.edit import Recolor, ShiftHue, color_of
from ffsplat.errors import UsageError
from ffsplat.render.spherical import sh_colors
from ffsplat.types import SH_C0, Gaussians, Scene

SIENNA = (0xA0 / 255, 0x52 / 255, 0x2D / 255)
LUMA = np.array([0.299, 0.587, 0.114])


def painted(*colors: list[float], degree: int = 0) -> Scene:
    """Gaussians of these colours; from degree 1 on they depend a little on the direction."""
    count, random = len(colors), np.random.default_rng(0)
    sh = np.zeros((count, (degree + 1) ** 2, 3), np.float32)
    sh[:, 1:] = random.normal(size=sh[:, 1:].shape) * 0.05
    sh[:, 0] = (np.array(colors) - 0.5) / SH_C0
    ones = np.ones(count, np.float32)
    turns = np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1))
    places, sizes = np.zeros((count, 3), np.float32), np.ones((count, 3), np.float32)
    return Scene(Gaussians(places, sizes, turns, ones, sh))


def everything(scene: Scene) -> np.ndarray:
    return np.ones(len(scene), bool)


def test_shading_stays_by_hand():
    scene = painted([0.2, 0.2, 0.2], [0.4, 0.4, 0.4], [0.1, 0.1, 0.1])
    colors = Recolor((0.6, 0.3, 0.0)).apply(scene, everything(scene)).gaussians.colors
    # The median grey is 0.2: it becomes the colour, what is half as bright half of it, and what is
    # twice as bright the brightest that the colour can be, 1/0.6 of it.
    np.testing.assert_allclose(colors, [[0.6, 0.3, 0], [1, 0.5, 0], [0.3, 0.15, 0]], atol=1e-6)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_from_every_direction_a_gaussian_is_the_colour_times_its_brightness(degree):
    scene = painted(*np.random.default_rng(1).uniform(0.2, 0.4, (50, 3)).tolist(), degree=degree)
    after = Recolor(SIENNA).apply(scene, everything(scene))
    directions = np.random.default_rng(2).normal(size=(50, 3)).astype(np.float32)
    grey_before = sh_colors(scene.gaussians.sh, directions) @ LUMA
    middle = np.sort(scene.gaussians.colors @ LUMA)[24]
    seen = sh_colors(after.gaussians.sh, directions)
    np.testing.assert_allclose(seen, (grey_before / middle)[:, None] * SIENNA, atol=1e-5)


def test_a_flat_colour_is_the_colour_from_everywhere():
    scene = painted([0.2, 0.9, 0.1], [0.4, 0.4, 0.4], degree=3)
    after = Recolor(SIENNA, flat=True).apply(scene, np.array([True, False]))
    for direction in np.eye(3, dtype=np.float32):
        seen = sh_colors(after.gaussians.sh, np.tile(direction, (2, 1)))
        np.testing.assert_allclose(seen[0], SIENNA, atol=1e-6)
    np.testing.assert_array_equal(after.gaussians.sh[1], scene.gaussians.sh[1])


def test_black_things_take_a_colour_without_bursting():
    scene = painted([0, 0, 0], [0.001, 0.001, 0.001], [0.5, 0.5, 0.5])
    colors = Recolor((1, 1, 1)).apply(scene, everything(scene)).gaussians.sh * SH_C0 + 0.5
    assert colors.max() <= 1 + 1e-6
    np.testing.assert_allclose(colors[0, 0], 0, atol=1e-6)


def test_hues_turn_by_hand():
    scene = painted([1, 0, 0], [0, 1, 0], [0.3, 0.3, 0.3], [0.8, 0.4, 0.2])
    colors = ShiftHue(120.0).apply(scene, everything(scene)).gaussians.colors
    expected = [[0, 1, 0], [0, 0, 1], [0.3, 0.3, 0.3], [0.2, 0.8, 0.4]]
    np.testing.assert_allclose(colors, expected, atol=1e-6)


@pytest.mark.parametrize("degrees", [33.0, -140.0, 360.0])
def test_a_hue_turned_back_is_what_it_was_and_brightness_never_changes(degrees):
    scene = painted([0.8, 0.4, 0.2], [0.1, 0.5, 0.9], degree=3)
    there = ShiftHue(degrees).apply(scene, everything(scene))
    back = ShiftHue(-degrees).apply(there, everything(scene))
    np.testing.assert_allclose(back.gaussians.sh, scene.gaussians.sh, atol=1e-5)
    np.testing.assert_allclose(there.gaussians.sh.mean(-1), scene.gaussians.sh.mean(-1), atol=1e-5)


@pytest.mark.parametrize("operation", [Recolor(SIENNA), Recolor(SIENNA, flat=True), ShiftHue(90.0)])
def test_only_colours_of_chosen_gaussians_change(operation):
    room = small_room()
    chosen = np.arange(1000) < 300
    after = operation.apply(room, chosen)
    np.testing.assert_array_equal(after.gaussians.sh[300:], room.gaussians.sh[300:])
    assert (after.gaussians.sh[:300] != room.gaussians.sh[:300]).any(axis=(1, 2)).all()
    assert replace(after.gaussians, sh=room.gaussians.sh).means is room.gaussians.means
    assert after.codes is room.codes
    assert operation.apply(room, np.zeros(1000, bool)) is room


def test_colours_have_names_and_codes():
    assert color_of("#a0522d") == color_of("A0522D") == SIENNA
    assert color_of("Red") == (0xE5 / 255, 0, 0)
    assert color_of("rebeccapurple") == color_of("#639") == color_of("639") == (0.4, 0.2, 0.6)
    assert color_of(" Navy ") == color_of("rgb(0, 0, 128)") == (0, 0, 128 / 255)
    for term in BASIC_COLORS:
        assert BASIC_COLORS[nearest_basic_color(np.array([color_of(term)], np.float32))[0]] == term


@pytest.mark.parametrize(
    "text",
    ["", "#", "#a0522", "#a0522dd", "reddish", "#gg0000", "#a0522d80", "#abcd", "rgba(1,2,3,4)",
     "rgb(300,0,0)", "hsl(0,200%,50%)", "light blue", "\u0661", "red\n#", "a" * 10_000],
)  # fmt: skip
def test_what_is_no_colour_is_refused(text):
    with pytest.raises(UsageError, match="unknown colour") as caught:
        color_of(text)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("degrees", [np.nan, np.inf])
def test_a_hue_turns_by_a_number(degrees):
    with pytest.raises(UsageError, match="no turn of a hue"):
        ShiftHue(degrees)


@pytest.mark.parametrize("color", [(1.1, 0, 0), (0, 0), (float("nan"), 0, 0)])
def test_numbers_that_are_no_colour_are_refused(color):
    with pytest.raises(UsageError, match="no colour"):
        Recolor(color)
