"""Views in, one scene out, however many there are: pass by pass, each placed beside the last."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from ffsplat.chunks.join import Bound, join_scenes, keep_within, median_cell, number_by_size
from ffsplat.chunks.place import FIRST, Placement, Shared, place, shared_views
from ffsplat.chunks.plan import take_prediction, take_views
from ffsplat.prediction import Prediction
from ffsplat.types import Scene, Views

_log = logging.getLogger(__name__)

Predict = Callable[[Views], Prediction]
"""The network with placed cameras; what it gives lies on the CPU."""

Build = Callable[[Prediction, Views, float | None], Scene]
"""Gaussians of a prediction; the number is the side of cells to merge, in its own unit."""


@dataclass(frozen=True, eq=False)
class Passes:
    """The scene of some passes, the depth of all views in its unit, and how each was placed.

    `bound` is the one that held in the end; `prediction` is that of the only pass, None if there
    were several.
    """

    scene: Scene
    depth: Float32[np.ndarray, "v h w"]
    placements: tuple[Placement, ...]
    bound: Bound
    prediction: Prediction | None

    def warnings(self, views: Views, chunks: list[range]) -> tuple[str, ...]:
        """What a user should know: passes that pixels could not place, and cells that were merged.

        `views` and `chunks` are those of `run_passes`.
        """
        names = [source.name for source in views.sources]
        told = [
            f"{names[rows.start]} to {names[rows.stop - 1]} lie where their cameras say: of what "
            f"they share with the photos before, {placed.agreement:.0%} agrees"
            for placed, rows in zip(self.placements, chunks, strict=True)
            if placed.by == "cameras"
        ]
        if self.bound.automatic:
            told.append(
                f"cells of {self.bound.automatic:.2g} were merged to keep to {self.bound.most} "
                "Gaussians; --voxel or --max-gaussians choose otherwise"
            )
        return tuple(told)


def run_passes(
    views: Views,
    chunks: list[range],
    predict: Predict,
    build: Build,
    bound: Bound,
    growing: bool = False,
) -> Passes:
    """Predict pass by pass; each view's Gaussians come from the first pass that sees it.

    The world is that of the first pass. Of a pass no more is kept than its scene and depth, and
    what it says of the views that the next one shares. `growing` says that the codebook of a later
    scene has the rows of all earlier ones under the same IDs.
    """
    depth = np.zeros(views.valid.shape, np.float32)
    placements: list[Placement] = []
    scene, known, prediction = None, None, None
    for number, rows in enumerate(chunks):
        chunk = take_views(views, rows)
        prediction = predict(chunk)
        old = 0 if known is None else len(known.poses)
        found = shared_views(prediction, list(range(old)))
        placed = FIRST if known is None else place(found, known, chunk.valid[:old])
        new = range(old, len(rows))
        part = _contribution(prediction, chunk, new, placed, build, bound)
        depth[rows.start + old : rows.stop] = placed.similarity.scale * _numbers(prediction, new)
        footprint = _footprint(prediction) * placed.similarity.scale
        cell = median_cell(depth[rows.start : rows.stop].ravel())
        if growing and scene is not None:
            scene = replace(scene, codebook=part.codebook)
        scene = part if scene is None else join_scenes(scene, part, cell)
        if len(chunks) > 1:
            scene, bound = keep_within(scene, bound, footprint, last=number + 1 == len(chunks))
        known = _next_shared(prediction, chunks, number, placed)
        placements.append(placed)
        _log.info(
            "pass %d of %d: %d views, placed by %s, agreement %.2f, %d Gaussians",
            number + 1, len(chunks), len(rows), placed.by, placed.agreement, len(scene),
        )  # fmt: skip
    assert scene is not None  # there is a chunk
    if len(chunks) == 1:
        return Passes(scene, depth, tuple(placements), bound, prediction)
    return Passes(number_by_size(scene), depth, tuple(placements), bound, None)


def _contribution(
    prediction: Prediction,
    chunk: Views,
    new: range,
    placed: Placement,
    build: Build,
    bound: Bound,
) -> Scene:
    """What the new views of a pass add to the map, in its world."""
    voxel = None if bound.cell is None else bound.cell / placed.similarity.scale
    if len(new) < len(chunk):
        prediction, chunk = take_prediction(prediction, new), take_views(chunk, new)
    scene = build(prediction, chunk, voxel)
    return scene if placed is FIRST else placed.similarity.scene(scene)


def _next_shared(
    prediction: Prediction, chunks: list[range], number: int, placed: Placement
) -> Shared | None:
    """What this pass says of the views that the next pass has too, in the world of the map."""
    if number + 1 == len(chunks):
        return None
    rows, following = chunks[number], chunks[number + 1]
    return shared_views(prediction, list(range(following.start - rows.start, len(rows)))).moved(
        placed.similarity
    )


def _numbers(prediction: Prediction, new: range) -> Float32[np.ndarray, "v h w"]:
    return prediction.depth[0, list(new)].float().numpy()


def _footprint(prediction: Prediction) -> float:
    """The median side of what a pixel shows, in the unit of the prediction."""
    focal = prediction.intrinsics[..., 0, 0, None, None]
    return float((prediction.depth / focal).median())
