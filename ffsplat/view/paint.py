"""What colour each Gaussian is shown in: its own, its depth, its meaning, or how well it matches.

Pure functions of a scene and a `Look`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int

from ffsplat.errors import UsageError
from ffsplat.query import QueryResult
from ffsplat.render.colors import depth_colors, heat, label_colors, paint_labels, ramp
from ffsplat.types import LEVELS, NO_ID, Scene

SELECTED = np.array([0.1, 0.85, 1.0], np.float32)
"""Tint of what is selected: a colour that the ramp of scores does not hold."""

TINT = 0.65

_LABELS = 1024
"""Distinct colours of labels; larger numbers start over."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, eq=False)
class Look:
    """How a scene is shown.

    `coloring` is a key of COLORINGS; `level` is whose codes are shown, one of LEVELS;
    `world_from_camera` is from where depth is measured, None for the world's origin.
    """

    coloring: str = "color"
    level: str = "whole"
    world_from_camera: Float32[np.ndarray, "4 4"] | None = None


def paint(
    scene: Scene,
    look: Look,
    found: QueryResult | None = None,
    selected: Bool[np.ndarray, " n"] | None = None,
) -> Float32[np.ndarray, "n 3"]:
    """One sRGB colour a Gaussian, in [0, 1]; what is `selected` is tinted.

    Raises UsageError for a colouring that does not exist or that the scene has nothing for.
    """
    if look.coloring not in COLORINGS:
        raise UsageError(f"unknown colouring {look.coloring!r}", f"one of {', '.join(COLORINGS)}")
    colors = COLORINGS[look.coloring](scene, look, found)
    if selected is not None and selected.any():
        colors = colors.copy()
        colors[selected] = TINT * SELECTED + (1 - TINT) * colors[selected]
    return colors


def _color(scene: Scene, look: Look, found: QueryResult | None) -> Float32[np.ndarray, "n 3"]:
    return scene.gaussians.colors


def _depth(scene: Scene, look: Look, found: QueryResult | None) -> Float32[np.ndarray, "n 3"]:
    """z-depth from the camera, near bright and far dark; black behind it."""
    means, pose = scene.gaussians.means, look.world_from_camera
    depth = means[:, 2] if pose is None else (means - pose[:3, 3]) @ pose[:3, 2]
    return depth_colors(depth[None])[0]


def _code(scene: Scene, look: Look, found: QueryResult | None) -> Float32[np.ndarray, "n 3"]:
    rows, _ = heaviest(scene, look.level)
    return _labelled(rows)


def _instance(scene: Scene, look: Look, found: QueryResult | None) -> Float32[np.ndarray, "n 3"]:
    if scene.instances is None:
        raise UsageError("the scene has no instances", "show its codes")
    return _labelled(scene.instances)


def _confidence(scene: Scene, look: Look, found: QueryResult | None) -> Float32[np.ndarray, "n 3"]:
    """How sure the meaning is: the heaviest weight; without codes the opacity."""
    if scene.codes is None or scene.codebook is None:
        return ramp(scene.gaussians.opacities)
    return ramp(heaviest(scene, look.level)[1])


def _score(scene: Scene, look: Look, found: QueryResult | None) -> Float32[np.ndarray, "n 3"]:
    """Hot what matches, by its score; grey all the rest."""
    if found is None:
        raise UsageError("nothing was asked yet", "type what to find")
    high = max(float(found.scores.max(initial=0)), found.threshold, 1e-6)
    matches = (found.scores >= found.threshold) & (found.scores > 0)
    grey = (scene.gaussians.colors @ _LUMA)[:, None].repeat(3, axis=1)
    grey[matches] = heat(
        scene.gaussians.colors[matches][None], found.scores[matches][None], 0.0, high
    )[0]
    return grey


Coloring = Callable[[Scene, Look, QueryResult | None], Float32[np.ndarray, "n 3"]]

COLORINGS: dict[str, Coloring] = {
    "color": _color,
    "depth": _depth,
    "code": _code,
    "instance": _instance,
    "confidence": _confidence,
    "score": _score,
}
"""Every way to colour a scene by its name, in the order of a listing."""


def heaviest(scene: Scene, level: str) -> tuple[Int[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """The codebook row of a level with the largest weight, -1 for none, and that weight.

    Raises UsageError if the scene has no codes, or for a level that does not exist.
    """
    if scene.codes is None or scene.codebook is None:
        raise UsageError("the scene has no codes or no codebook", "show its colours")
    if level not in LEVELS:
        raise UsageError(f"unknown level {level!r}", f"one of {', '.join(LEVELS)}")
    member = np.append(scene.codebook.levels == LEVELS.index(level), False)
    ids = scene.codes.ids
    weights = np.where(member[np.clip(ids, NO_ID, len(member) - 1)], scene.codes.weights, 0)
    best = weights.argmax(axis=1)[:, None]
    most = np.take_along_axis(weights, best, axis=1)[:, 0].astype(np.float32)
    rows = np.take_along_axis(ids, best, axis=1)[:, 0].astype(np.int64)
    return np.where(most > 0, rows, NO_ID), most


def _labelled(labels: Int[np.ndarray, " n"]) -> Float32[np.ndarray, "n 3"]:
    return paint_labels(labels[None], label_colors(_LABELS))[0]
