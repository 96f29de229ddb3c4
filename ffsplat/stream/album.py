"""More photos than one pass of a network holds: mapped one by one, as a camera would bring them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from ffsplat.alignment import Similarity
from ffsplat.chunks.place import Placement
from ffsplat.errors import ImageError
from ffsplat.merge import strongest
from ffsplat.stream.canvas import Picture
from ffsplat.stream.mapper import Mapper
from ffsplat.stream.predictor import Predictor
from ffsplat.stream.settings import MapperSettings
from ffsplat.stream.window import Arrival
from ffsplat.types import Scene, Views

MOST_GAUSSIANS = 2_000_000
"""Gaussians of a scene of many photos; a place in the map takes 156 bytes."""

ALWAYS = 2.0
"""Share of a photo that would have to be known for it to bring nothing new."""

SEEN_TWICE = 0.25
"""Share of the pixels of many photos that show something for the first time, about."""


@dataclass(frozen=True, eq=False)
class Album:
    """The scene of photos, the depth of each in its unit, and how each window was placed."""

    scene: Scene
    depth: Float32[np.ndarray, "v h w"]
    placements: tuple[Placement, ...]

    def warnings(self, views: Views, doubt: float = 0.5) -> tuple[str, ...]:
        """Which photos lie where their cameras say, though what they share says otherwise."""
        doubtful = [row for row, one in enumerate(self.placements) if one.agreement < doubt]
        starts = [row for row in doubtful if row - 1 not in doubtful]
        ends = [row for row in doubtful if row + 1 not in doubtful]
        names = [source.name for source in views.sources]
        return tuple(
            f"{names[a]}{f' to {names[b]}' if b > a else ''}: little of what they share with the "
            "photos before agrees; they lie where their cameras say"
            for a, b in zip(starts, ends, strict=True)
        )


def map_photos(
    predictor: Predictor,
    views: Views,
    window: int,
    *,
    cell: float | None = None,
    max_gaussians: int | None = None,
    min_confidence: float = 0.05,
) -> Album:
    """Map photos in their order, `window` views at a time; every one is used.

    Neighbours should show the same things, as they do in the order of capture; where a place comes
    back, loops are closed. `cell` is the side of the cells that are fused, in the unit of the scene
    (a pixel's, unless given, or more if the scene would be too large). `max_gaussians` keeps the
    most opaque ones. Raises ImageError if no photo has a usable pixel.
    """
    height, width = views.valid.shape[1:]
    settings = MapperSettings(
        window=window,
        overlap=ALWAYS,
        cell=cell,
        coarse=_coarse(views.valid.size),
        believe=True,
        min_confidence=min_confidence,
        max_splats=min(MOST_GAUSSIANS, views.valid.size),
        max_keyframes=len(views),
        max_submaps=len(views) + 1,
        max_frames=len(views),
    )
    mapper = Mapper(predictor, settings)
    mapper.canvas.size = width, height
    placements = []
    for row in range(len(views)):
        mapper.add_together([Arrival(row, row, _picture(views, row))])
        placements.append(mapper.placed)
    if mapper.atlas is None:
        raise ImageError("the photos have no usable pixel: they are transparent")
    scene = _from_first_view(mapper.scene())
    if max_gaussians is not None and len(scene) > max_gaussians:
        scene = scene[strongest(scene.gaussians.presence, max_gaussians)]
    depth = np.zeros(views.valid.shape, np.float32)
    for one in mapper.atlas.keyframes:
        depth[one.number] = mapper.atlas.submaps.poses[one.submap].scale * one.depth
    return Album(scene, depth, tuple(placements))


def _from_first_view(scene: Scene) -> Scene:
    """The scene in the frame of its first camera, the convention of all scenes."""
    assert scene.cameras is not None
    first = scene.cameras.world_from_camera[0].astype(np.float64)
    return Similarity(1.0, first[:3, :3], first[:3, 3]).inverse().scene(scene)


def _coarse(pixels: int) -> float:
    """Side of the cells over that of a pixel, so that most of what so many show fits."""
    return float(max(1.0, np.sqrt(SEEN_TWICE * pixels / MOST_GAUSSIANS)))


def _picture(views: Views, row: int) -> Picture:
    pixels = (views.pixels[row] * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return Picture(pixels, views.valid[row], views.intrinsics[row], views.sources[row])
