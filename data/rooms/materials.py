"""Random materials: what colour, texture and gloss wood, fabric, ceramic and so on may have."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

PLAIN, CHECKER, STRIPES, NOISE, WOOD, BRICKS, PHOTO, PATCHES, SKY, MIRROR = range(10)
"""Texture kinds; the formulas are in `textures`."""

COLUMNS = 15
"""A material: kind, colour (3), second colour (3), cells per metre, gloss, emission, tile,
offset (3), casts shadow."""


@dataclass(frozen=True)
class Family:
    """Ranges in HSV of a kind of stuff, its texture kinds, photo categories and gloss.

    `frequency` is in cells per metre; `contrast` is how far the second colour may lie.
    """

    hue: tuple[float, float]
    saturation: tuple[float, float]
    value: tuple[float, float]
    kinds: tuple[int, ...] = (PLAIN,)
    photos: tuple[str, ...] = ()
    frequency: tuple[float, float] = (4.0, 20.0)
    contrast: float = 0.2
    gloss: float = 0.1
    emission: float = 0.0
    shadow: bool = True


_WOOD = {"photos": ("Wood", "Planks", "WoodFloor"), "frequency": (6.0, 16.0), "gloss": 0.25}
_CLOTH = {"photos": ("Fabric", "Carpet"), "frequency": (8.0, 40.0), "gloss": 0.0}
_ANY = (0.0, 1.0)

_FAMILIES: dict[str, Family] = {
    "wood": Family((0.04, 0.11), (0.25, 0.7), (0.25, 0.85), (WOOD, WOOD, PLAIN), **_WOOD),
    "paint": Family(_ANY, (0.0, 0.5), (0.4, 0.95), (PLAIN, PLAIN, NOISE), gloss=0.2),
    "fabric": Family(_ANY, (0.05, 0.75), (0.2, 0.9), (PLAIN, NOISE, STRIPES, CHECKER), **_CLOTH),
    "metal": Family((0.5, 0.7), (0.0, 0.15), (0.25, 0.75), (PLAIN, NOISE), ("Metal",), gloss=0.8),
    "chrome": Family((0.5, 0.7), (0.0, 0.06), (0.7, 0.95), gloss=1.0),
    "plastic": Family(_ANY, (0.3, 0.9), (0.3, 0.95), gloss=0.5),
    "accent": Family(_ANY, (0.5, 1.0), (0.4, 1.0), gloss=0.3),
    "white": Family((0.05, 0.6), (0.0, 0.07), (0.8, 0.97), gloss=0.45),
    "ceramic": Family(_ANY, (0.0, 0.6), (0.5, 0.97), (PLAIN, PLAIN, STRIPES, NOISE), gloss=0.6,
                      frequency=(20.0, 60.0)),
    "black": Family((0.5, 0.7), (0.0, 0.15), (0.03, 0.2), gloss=0.4),
    "glass": Family((0.4, 0.6), (0.05, 0.2), (0.45, 0.75), gloss=1.0),
    "sky": Family((0.52, 0.62), (0.05, 0.35), (0.8, 1.0), (SKY,), emission=1.0, shadow=False),
    "screen": Family((0.5, 0.7), (0.1, 0.6), (0.02, 0.5), (PLAIN, PLAIN, PATCHES, SKY),
                     frequency=(6.0, 20.0), contrast=0.6, gloss=0.8, emission=0.5),
    "leaf": Family((0.22, 0.38), (0.4, 0.85), (0.2, 0.6), (NOISE,), frequency=(20.0, 50.0),
                   contrast=0.45, gloss=0.15),
    "bark": Family((0.05, 0.12), (0.3, 0.6), (0.2, 0.45), (NOISE,), ("Bark",)),
    "soil": Family((0.05, 0.1), (0.3, 0.6), (0.1, 0.25), (NOISE,), frequency=(40.0, 80.0)),
    "clay": Family((0.02, 0.08), (0.4, 0.75), (0.4, 0.8), (PLAIN, NOISE), ("Clay",)),
    "paper": Family((0.08, 0.15), (0.0, 0.15), (0.82, 0.97), (PLAIN, STRIPES), contrast=0.08,
                    frequency=(60.0, 120.0)),
    "cover": Family(_ANY, (0.2, 0.95), (0.2, 0.95), (PLAIN, PLAIN, PATCHES, STRIPES),
                    frequency=(6.0, 25.0), contrast=0.5, gloss=0.2),
    "art": Family(_ANY, (0.2, 0.9), (0.3, 0.95), (PATCHES, PATCHES, SKY, NOISE),
                  ("Rock", "Marble", "GlazedTerracotta"), (3.0, 12.0), contrast=0.7),
    "cardboard": Family((0.07, 0.1), (0.3, 0.5), (0.5, 0.75), (PLAIN, NOISE), ("Cardboard",)),
    "tape": Family((0.08, 0.14), (0.0, 0.4), (0.75, 0.97)),
    "wicker": Family((0.07, 0.11), (0.3, 0.6), (0.4, 0.8), (BRICKS, CHECKER),
                     ("ThatchedRoof", "Tatami"), (30.0, 60.0), contrast=0.35),
    "stone": Family((0.05, 0.6), (0.0, 0.15), (0.4, 0.95), (NOISE,), ("Marble", "Travertine"),
                    (3.0, 10.0), contrast=0.3, gloss=0.5),
    "keys": Family((0.5, 0.7), (0.0, 0.1), (0.1, 0.9), (BRICKS,), frequency=(50.0, 60.0),
                   contrast=0.6),
    "lampshade": Family((0.06, 0.15), (0.05, 0.5), (0.8, 1.0), emission=0.6, shadow=False),
    "light": Family((0.08, 0.16), (0.0, 0.15), (1.0, 1.0), emission=2.0, shadow=False),
    "fire": Family((0.06, 0.12), (0.5, 0.8), (1.0, 1.0), emission=2.0, shadow=False),
    "candle": Family(_ANY, (0.0, 0.6), (0.7, 1.0), gloss=0.3),
    "mirror": Family((0.5, 0.6), (0.0, 0.1), (0.75, 0.95), (MIRROR,), gloss=1.0),
    "red": Family((0.98, 1.01), (0.85, 1.0), (0.6, 0.85), gloss=0.6),
    "orange": Family((0.03, 0.07), (0.85, 1.0), (0.85, 1.0), gloss=0.2),
    "fruit": Family((-0.03, 0.25), (0.7, 0.95), (0.5, 0.9), (PLAIN, NOISE), frequency=(20.0, 60.0),
                    contrast=0.3, gloss=0.4),
    "ball": Family(_ANY, (0.5, 1.0), (0.4, 1.0), (PLAIN, STRIPES, CHECKER), frequency=(6.0, 20.0),
                   contrast=0.8, gloss=0.3),
    "rug": Family(_ANY, (0.1, 0.8), (0.2, 0.85), (STRIPES, CHECKER, NOISE, PATCHES),
                  ("Carpet", "Fabric"), (2.0, 12.0), contrast=0.5),
    "curtain": Family(_ANY, (0.0, 0.6), (0.4, 0.95), (PLAIN, PLAIN, STRIPES), ("Fabric",),
                      (4.0, 12.0)),
    "wall": Family(_ANY, (0.0, 0.35), (0.55, 0.97), (PLAIN, PLAIN, PLAIN, NOISE, STRIPES, BRICKS),
                   ("Plaster", "Bricks", "Paint", "Concrete", "Tiles", "WoodSiding"), (2.0, 8.0),
                   0.12),
    "floor": Family((0.03, 0.12), (0.05, 0.6), (0.25, 0.85), (WOOD, CHECKER, BRICKS, NOISE, PLAIN),
                    ("WoodFloor", "Planks", "Tiles", "Carpet", "Marble", "Concrete", "PavingStones",
                     "Tatami"), (2.0, 6.0), 0.25, 0.25),
    "ceiling": Family((0.05, 0.6), (0.0, 0.06), (0.8, 0.97), (PLAIN, PLAIN, NOISE, CHECKER),
                      ("OfficeCeiling", "Plaster"), (1.5, 3.0), 0.06),
}  # fmt: skip

FAMILIES = {name: index for index, name in enumerate(_FAMILIES)}
_TABLE = tuple(_FAMILIES.values())


def rgb_from_hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """Colour in [0, 1] of hue (any real, period 1), saturation and value (Smith 1978)."""
    k = (np.array([5.0, 3.0, 1.0]) + 6 * hue) % 6
    return value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)


def draw_material(
    rng: np.random.Generator, family: int, tiles: dict[str, range]
) -> Float32[np.ndarray, " 15"]:
    """A random material of a family; `tiles` are the photo tiles by category, empty for none."""
    stuff = _TABLE[family]
    u = rng.random(12)

    def between(limits: tuple[float, float], x: float) -> float:
        return limits[0] + (limits[1] - limits[0]) * x

    hue, value = between(stuff.hue, u[0]), between(stuff.value, u[2])
    saturation = between(stuff.saturation, u[1])
    kind = stuff.kinds[int(u[3] * len(stuff.kinds))]
    shift = stuff.contrast * (0.3 + 0.7 * u[4]) * (1 if value < 0.5 else -1)
    second = rgb_from_hsv(
        hue + (u[5] - 0.5) * stuff.contrast, saturation, min(max(value + shift, 0.0), 1.0)
    )
    frequency = stuff.frequency[0] * (stuff.frequency[1] / stuff.frequency[0]) ** u[6]
    tile, photos = -1, [name for name in stuff.photos if name in tiles]
    if photos and u[7] < 0.5:
        chosen = tiles[photos[int(u[8] * len(photos))]]
        tile, kind = chosen[int(rng.integers(len(chosen)))], PHOTO
        frequency = 0.35 + 1.5 * u[6]
    gloss = stuff.gloss * (0.4 + 0.9 * u[8])
    emission = stuff.emission * (0.5 + u[9])
    row = [kind, *rgb_from_hsv(hue, saturation, value), *second, frequency, gloss, emission, tile]
    return np.array([*row, *(7 * u[9:12]), stuff.shadow], dtype=np.float32)
