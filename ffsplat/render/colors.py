"""Colours for what is not a colour: depth, labels, scores, and the legend that explains them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from ffsplat.types import NO_ID

_UNLABELLED = 0.25  # grey of pixels without an ID
_LONGEST_NAME = 40  # letters in a legend; a file may hold names without end
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def oklch(lightness: Any, chroma: Any, hue: Any) -> Float32[np.ndarray, "*shape 3"]:
    """sRGB, clipped to [0, 1], of OKLab lightness and chroma and of hue in degrees.

    Source: Bjorn Ottosson, A perceptual color space for image processing (2020).
    """
    lightness, chroma, hue = np.broadcast_arrays(lightness, chroma, np.radians(hue))
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    lms_from_lab = [
        [1, 0.3963377774, 0.2158037573],
        [1, -0.1055613458, -0.0638541728],
        [1, -0.0894841775, -1.2914855480],
    ]
    rgb_from_lms = [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
    lms = (np.stack([lightness, a, b], -1) @ np.array(lms_from_lab).T) ** 3
    linear = np.clip(lms @ np.array(rgb_from_lms).T, 0, 1)
    curved = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, 12.92 * linear, curved).astype(np.float32)


def ramp(values: Float[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape 3"]:
    """A perceptual map of [0, 1]: dark violet to pale yellow, lightness linear in the value."""
    values = np.clip(np.nan_to_num(values), 0, 1)
    return oklch(
        0.22 + 0.72 * values, 0.09 + 0.24 * values * (1 - values), 300 - 560 * values / 2.8
    )


def luma(rgb: Float[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape 3"]:
    """The grey that is as bright as an sRGB colour, three times. Source: ITU-R BT.601."""
    return np.repeat((rgb @ _LUMA)[..., None], 3, axis=-1)


def depth_colors(
    depth: Float[np.ndarray, "h w"],
    visible: Bool[np.ndarray, "h w"] | None = None,
    ends: tuple[float, float] | None = None,
) -> Float32[np.ndarray, "h w 3"]:
    """Depth as colour, near bright and far dark, even in 1 / depth; black where there is none.

    The range is `ends` (near, far), by default that of `depth_ends` for the visible pixels
    (default: those with depth > 0).
    """
    visible = depth > 0 if visible is None else visible & (depth > 0)
    if not visible.any():
        return np.zeros((*depth.shape, 3), np.float32)
    near, far = ends or depth_ends(depth[visible])
    inverse = 1 / np.where(visible, depth, 1)
    colors = ramp((inverse - 1 / far) / max(1 / near - 1 / far, 1e-12))
    return np.where(visible[..., None], colors, np.float32(0))


def depth_ends(depths: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """The nearest and the farthest of the inner 96 % of at least one positive depth."""
    far, near = np.percentile(1 / depths, [2, 98])
    return float(1 / near), float(1 / far)


def label_colors(n: int) -> Float32[np.ndarray, "n 3"]:
    """Distinct colours, the same ones at every call, however many are asked for.

    Hue, lightness and chroma follow an additive recurrence that spreads evenly in three
    dimensions. Source: Roberts, The Unreasonable Effectiveness of Quasirandom Sequences (2018).
    """
    ratio = 1.2207440846057596  # the root of x^4 = x + 1
    hue, lightness, chroma = (np.arange(n) / ratio**power % 1 for power in (1, 2, 3))
    return oklch(0.5 + 0.42 * lightness, 0.08 + 0.1 * chroma, 360 * hue)


def paint_labels(
    ids: Int[np.ndarray, "h w"], colors: Float[np.ndarray, "n 3"]
) -> Float32[np.ndarray, "h w 3"]:
    """Each pixel in the colour of its ID; grey where it is -1. IDs beyond n start over."""
    if not len(colors):
        return np.full((*ids.shape, 3), _UNLABELLED, np.float32)
    painted = colors[ids % len(colors)]
    return np.where((ids == NO_ID)[..., None], _UNLABELLED, painted).astype(np.float32)


def heat(
    rgb: Float[np.ndarray, "h w 3"],
    score: Float[np.ndarray, "h w"],
    low: float = 0.0,
    high: float = 1.0,
) -> Float32[np.ndarray, "h w 3"]:
    """A score over its photo: grey where it is at most `low`, the ramp's bright end at `high`."""
    strength = np.clip((np.nan_to_num(score) - low) / max(high - low, 1e-12), 0, 1)[..., None]
    grey = luma(rgb)
    hot = ramp(0.35 + 0.65 * strength[..., 0])
    return (grey + 0.85 * strength * (hot - grey)).astype(np.float32)


def to_bytes(image: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """[0, 1] to 0..255, rounded."""
    return np.rint(255 * np.clip(np.nan_to_num(image), 0, 1)).astype(np.uint8)


def legend(
    image: Float[np.ndarray, "h w 3"], entries: Sequence[tuple[str, Sequence[float]]]
) -> UInt8[np.ndarray, "h wide 3"]:
    """The image with a panel at its right: one swatch and name an entry, as many as fit."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = image.shape[:2]
    line = max(12, min(24, height // max(len(entries), 1)))
    font = ImageFont.load_default(size=0.7 * line)
    shown = [(short_label(name), color) for name, color in list(entries)[: height // line]]
    text = max((font.getlength(name) for name, _ in shown), default=0)
    panel = int(np.ceil(text)) + 2 * line if shown else 0
    canvas = Image.new("RGB", (width + panel, height), (24, 24, 24))
    canvas.paste(Image.fromarray(to_bytes(image)), (0, 0))
    draw = ImageDraw.Draw(canvas)
    for row, (name, color) in enumerate(shown):
        left, top = width + line // 4, row * line
        swatch = (left, top + line // 6, left + 2 * line // 3, top + 5 * line // 6)
        draw.rectangle(swatch, fill=tuple(int(v) for v in to_bytes(np.asarray(color, float))))
        draw.text((left + line, top + line // 2), name, (235, 235, 235), font, anchor="lm")
    return np.asarray(canvas)


def short_label(name: str) -> str:
    """The name on one line, cut where it is too long to draw."""
    plain = "".join(c if c.isprintable() else " " for c in name[: _LONGEST_NAME + 1])
    return plain if len(plain) <= _LONGEST_NAME else plain[: _LONGEST_NAME - 1] + "\u2026"
