"""Which of the eleven basic colours a colour is: the nearest example in a perceptual space."""

from functools import cache

import numpy as np
from jaxtyping import Float, Float32, UInt8

EXAMPLES = {
    "black": ("000000", "2b2b2b"),
    "white": ("ffffff", "ffffe4", "dedede"),
    "red": ("e50000", "ff474c", "840000", "bb3f3f"),
    "green": ("15b01a", "96f97b", "033500", "74a662"),
    "blue": ("0343df", "95d0fc", "00035b", "49759c", "214761"),
    "yellow": ("ffff14", "fffe7a", "d5b60a", "eedc5b"),
    "brown": ("653700", "ad8150", "341c02", "876e4b", "d1b26f"),
    "orange": ("f97306", "fdaa48", "c65102", "d8863b"),
    "purple": ("7e1e9c", "bf77f6", "35063e", "84597e"),
    "pink": ("ff81c0", "ffd1df", "cb416b", "d5869d"),
    "gray": ("929591", "4a4a4a", "6f7072", "bababa"),
}
"""The plain, light, dark and dull shades of each basic colour term (Berlin and Kay, 1969) in sRGB,
after the names that people gave in the xkcd colour survey (2010). Black, white and gray have
several steps: photos of black and white things are seldom at the ends of the range."""

LIGHTNESS_WEIGHT = 0.5
"""How much lightness counts beside the opponent axes: shading changes it, paint the others."""

BASIC_COLORS = tuple(EXAMPLES)

LMS_FROM_LINEAR = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
LAB_FROM_CUBE_ROOT = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)

LEVELS_PER_CHANNEL = 32


def oklab(colors: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Lightness and two opponent axes of sRGB colours in [0, 1].

    Source: B. Ottosson, A perceptual color space for image processing, 2020.
    """
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ LMS_FROM_LINEAR.T) @ LAB_FROM_CUBE_ROOT.T


def nearest_basic_color(colors: Float32[np.ndarray, "n 3"]) -> UInt8[np.ndarray, " n"]:
    """Index into `BASIC_COLORS` of the nearest example of each sRGB colour in [0, 1].

    Colours are rounded to 32 levels a channel, so that a million of them cost a table look-up.
    """
    top = LEVELS_PER_CHANNEL - 1
    red, green, blue = np.rint(np.clip(colors, 0, 1) * np.float32(top)).astype(np.intp).T
    return _table()[red, green, blue]


@cache
def _table() -> UInt8[np.ndarray, "r g b"]:
    steps = np.linspace(0, 1, LEVELS_PER_CHANNEL)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    shades = [bytes.fromhex(shade) for shades in EXAMPLES.values() for shade in shades]
    term = np.repeat(np.arange(len(EXAMPLES)), [len(shades) for shades in EXAMPLES.values()])
    examples = oklab(np.array([list(shade) for shade in shades]) / 255)
    differences = oklab(grid.reshape(-1, 3))[:, None] - examples
    differences[..., 0] *= LIGHTNESS_WEIGHT
    nearest = np.square(differences).sum(axis=-1).argmin(axis=1)
    return term[nearest].astype(np.uint8).reshape(grid.shape[:3])
