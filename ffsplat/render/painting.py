"""Pictures of a scene as bytes ready to be saved: what `render` computes, in colours."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import UInt8

from ffsplat.render.colors import (
    depth_colors,
    depth_ends,
    heat,
    label_colors,
    legend,
    paint_labels,
    to_bytes,
)
from ffsplat.types import Cameras, Scene

if TYPE_CHECKING:
    from ffsplat.query import QueryResult

Picture = UInt8[np.ndarray, "h w 3"]
Entries = list[tuple[str, list[float]]]
"""Names and sRGB colours in [0, 1] of a legend, what covers most pixels first."""


@dataclass(frozen=True, eq=False)
class Painter:
    """Paints views of a scene one by one; `options` are those of `render`.

    `progress` is told before each view what is drawn.
    """

    scene: Scene
    options: dict[str, Any] = field(default_factory=dict)
    progress: Callable[[str], None] = lambda text: None

    def plain(
        self, what: Literal["rgb", "depth", "opacity"], cameras: Cameras
    ) -> Iterator[Picture]:
        """Colours, depths (near is bright, each view by its own range), or opacities as grey."""
        for image in self._render(what, cameras):
            if what == "depth":
                yield to_bytes(depth_colors(image))
            else:
                yield to_bytes(image if image.ndim == 3 else image[..., None].repeat(3, -1))

    def depths(self, cameras: Cameras) -> tuple[list[Picture], tuple[float, float] | None]:
        """Depths in one range for all views, and its near and far end; None if nothing is seen."""
        maps = list(self._render("depth", cameras))
        seen = np.concatenate([one[one > 0] for one in maps])
        ends = depth_ends(seen) if len(seen) else None
        return [to_bytes(depth_colors(one, ends=ends)) for one in maps], ends

    def labels(
        self, what: Literal["codes", "instance"], cameras: Cameras
    ) -> tuple[list[Picture], Entries]:
        """One colour a codebook row or instance, and the rows' names and colours."""
        maps = list(self._render(what, cameras))
        labels = np.stack(maps)
        found, counts = np.unique(labels[labels >= 0], return_counts=True)
        colors = label_colors(int(found.max(initial=-1)) + 1)
        painted = [to_bytes(paint_labels(one, colors)) for one in maps]
        book = self.scene.codebook
        if what == "instance" or book is None:
            return painted, []
        rows = found[np.argsort(-counts, kind="stable")]
        return painted, [(book.names[r] or f"row {r}", colors[r].tolist()) for r in rows]

    def with_legend(
        self, what: Literal["codes", "instance"], cameras: Cameras
    ) -> Iterator[Picture]:
        """The same, each with one legend of all at its side."""
        painted, entries = self.labels(what, cameras)
        for image in painted:
            yield legend(image.astype(np.float32) / 255, entries) if entries else image

    def heat(self, found: "QueryResult", cameras: Cameras) -> Iterator[Picture]:
        """The scene in grey, hot where it matches: full heat is the best score of all."""
        highest = max(float(found.scores.max(initial=0)), found.threshold)
        colors = self._render("rgb", cameras)
        scores = self._render("score", cameras, scores=found.scores)
        for rgb, score in zip(colors, scores, strict=True):
            yield to_bytes(heat(rgb, score, 0.0, highest))

    def _render(self, what: Any, cameras: Cameras, **more: Any) -> Iterator[np.ndarray]:
        from ffsplat.render.scene import render

        for number in range(len(cameras)):
            self.progress(f"drawing {number + 1} of {len(cameras)}")
            yield render(self.scene, cameras[[number]], what, **self.options, **more)[0]
