import numpy as np
import pytest

from ffsplat.codebook import lexicon_rows
from ffsplat.color_names import BASIC_COLORS, EXAMPLES, nearest_basic_color, oklab


def from_hex(*shades: str) -> np.ndarray:
    return np.array([list(bytes.fromhex(s)) for s in shades], np.float32) / 255


def test_oklab_of_the_primaries():
    """Reference values of the sRGB primaries, from the definition of the space."""
    expected = [
        [1.0, 0.0, 0.0],
        [0.62796, 0.22486, 0.12585],
        [0.86644, -0.23389, 0.17950],
        [0.45201, -0.03246, -0.31153],
        [0.0, 0.0, 0.0],
    ]
    colors = from_hex("ffffff", "ff0000", "00ff00", "0000ff", "000000")
    np.testing.assert_allclose(oklab(colors), expected, atol=2e-5)


def test_the_terms_are_those_of_the_lexicon():
    assert [r.name for r in lexicon_rows() if r.level == "appearance"] == list(BASIC_COLORS)


@pytest.mark.parametrize("name", BASIC_COLORS)
def test_every_example_is_its_own_nearest(name):
    found = nearest_basic_color(from_hex(*EXAMPLES[name]))
    assert {BASIC_COLORS[i] for i in found} == {name}


def test_the_table_agrees_with_a_search_over_the_examples():
    levels = np.random.default_rng(0).integers(0, 32, (500, 3))
    colors = (levels / 31).astype(np.float32)
    weights = np.array([0.5, 1, 1])
    distance = [
        np.min([((oklab(colors) - shade) * weights) ** 2 @ np.ones(3) for shade in shades], axis=0)
        for shades in (oklab(from_hex(*hexes)) for hexes in EXAMPLES.values())
    ]
    agree = np.argmin(distance, axis=0) == nearest_basic_color(colors)
    assert agree.mean() > 0.995


@pytest.mark.parametrize(
    ("shade", "name"),
    [
        ("202020", "black"),
        ("505050", "gray"),
        ("909090", "gray"),
        ("e8e8e8", "white"),
        ("e0d8c8", "white"),
        ("8b0000", "red"),
        ("a52a2a", "red"),
        ("5070a0", "blue"),
        ("203a60", "blue"),
        ("8a6a45", "brown"),
        ("306030", "green"),
    ],
)
def test_shades_as_people_name_them(shade, name):
    assert BASIC_COLORS[nearest_basic_color(from_hex(shade))[0]] == name
