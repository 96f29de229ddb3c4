"""What colour each Gaussian is shown in: its own, its depth, its meaning, or how well it matches.

Pure functions of a scene and a `Look`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int

from ffsplat.errors import UsageError
from ffsplat.query import QueryResult
from ffsplat.render.colors import depth_ends, heat, label_colors, luma, paint_labels, ramp
from ffsplat.render.spherical import sh_colors
from ffsplat.types import LEVELS, NO_ID, Scene

SELECTED = np.array([0.1, 0.85, 1.0], np.float32)
"""Tint of what is selected: a colour that the ramp of scores does not hold."""

TINT = 0.65

DIMMED = 0.5
"""Of the grey of what does not match: pale heat is seen before a pale wall."""

MOST_SEEN = 500_000
"""Gaussians whose colours follow the camera; more of them are shown in their mean colours, because
all that changes is sent again."""

_LABELS = 1024
"""Distinct colours of labels; larger numbers start over."""

VIEW_COSINE = 0.8
"""Of the angle from the axis of a camera within which depths count: 37 degrees."""

_CHUNK = 2**15
"""Gaussians at a time: temporaries stay in the cache."""


@dataclass(frozen=True, eq=False)
class Look:
    """How a scene is shown.

    `coloring` is a key of COLORINGS; `level` is whose codes are shown, one of LEVELS;
    `world_from_camera` is from where depth is measured and colours are seen; None for depth from
    the world's origin, and colours that are those of no direction.
    """

    coloring: str = "rgb"
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


def _rgb(scene: Scene, look: Look, found: QueryResult | None) -> Float32[np.ndarray, "n 3"]:
    """Its own colour, as it is seen from where the camera is."""
    gaussians, pose = scene.gaussians, look.world_from_camera
    if gaussians.sh.shape[1] == 1 or pose is None or len(gaussians) > MOST_SEEN:
        return gaussians.colors
    colors = np.empty((len(gaussians), 3), np.float32)
    for start in range(0, len(gaussians), _CHUNK):
        rows = slice(start, start + _CHUNK)
        colors[rows] = sh_colors(gaussians.sh[rows], gaussians.means[rows] - pose[:3, 3])
    return colors.clip(0, 1)


def _depth(scene: Scene, look: Look, found: QueryResult | None) -> Float32[np.ndarray, "n 3"]:
    """z-depth from the camera, near bright and far dark, over what is in view; black behind it."""
    depth, seen = _depths(scene, look)
    near, far = _ends(depth[seen])
    inverse = 1 / np.where(depth > 0, depth, 1)
    colors = ramp((inverse - 1 / far) / max(1 / near - 1 / far, 1e-12))
    return np.where((depth > 0)[:, None], colors, np.float32(0))


def depth_range(scene: Scene, look: Look) -> tuple[float, float]:
    """The depths, in world units, that the brightest and the darkest colour of depth stand for.

    That is the inner 96 % of what is in view, even in 1 / depth; 1 and infinity for nothing.
    """
    depth, seen = _depths(scene, look)
    return _ends(depth[seen])


def _ends(depths: Float32[np.ndarray, " m"]) -> tuple[float, float]:
    return depth_ends(depths) if len(depths) else (1.0, np.inf)


def _depths(scene: Scene, look: Look) -> tuple[Float32[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """The z-depths of all Gaussians, and which of them are in view."""
    pose = np.eye(4, dtype=np.float32) if look.world_from_camera is None else look.world_from_camera
    offsets = scene.gaussians.means - pose[:3, 3]
    depth = offsets @ pose[:3, 2]
    return depth, depth > VIEW_COSINE * np.linalg.norm(offsets, axis=1)


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
    """Hot what matches, by its score; dark grey all the rest."""
    if found is None:
        raise UsageError("nothing was asked yet", "type what to find")
    high = max(float(found.scores.max(initial=0)), found.threshold, 1e-6)
    matches = (found.scores >= found.threshold) & (found.scores > 0)
    grey = DIMMED * luma(scene.gaussians.colors)
    grey[matches] = heat(
        scene.gaussians.colors[matches][None], found.scores[matches][None], 0.0, high
    )[0]
    return grey


Coloring = Callable[[Scene, Look, QueryResult | None], Float32[np.ndarray, "n 3"]]

COLORINGS: dict[str, Coloring] = {
    "rgb": _rgb,
    "depth": _depth,
    "code": _code,
    "instance": _instance,
    "confidence": _confidence,
    "score": _score,
}
"""Every way to colour a scene by its name, in the order of a listing."""


def possible(scene: Scene, found: QueryResult | None) -> tuple[str, ...]:
    """The colourings for which a scene has something to show; none asks for more than it has."""
    has_codes = scene.codes is not None and scene.codebook is not None
    lacking = {
        "code": not has_codes,
        "instance": scene.instances is None,
        "score": found is None,
    }
    return tuple(name for name in COLORINGS if not lacking.get(name))


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


def label_color(label: int) -> Float32[np.ndarray, "3"]:
    """The colour in which a codebook row or an instance is shown."""
    return label_colors(_LABELS)[label % _LABELS]


def _labelled(labels: Int[np.ndarray, " n"]) -> Float32[np.ndarray, "n 3"]:
    return paint_labels(labels[None], label_colors(_LABELS))[0]
