"""The data that flows between stages, and the conventions that hold everywhere.

Conventions, stated once:

- Camera axes are OpenCV's: x right, y down, z forward; `world_from_camera` is rigid, 4x4.
- Intrinsics are in pixels; the centre of the top-left pixel is (0.5, 0.5).
- The world is the frame of the first (reference) view; `Scene.metric`: is its unit the metre?
- Depth is z-depth: the camera-frame z coordinate, not the length of the ray.
- Gaussians in memory: linear scales, unit quaternions (w, x, y, z), opacity in [0, 1],
  spherical harmonics (n, k, 3) with colour = 0.5 + SH_C0 * sh[:, 0].
- Images are sRGB in [0, 1].
- A scene is numpy: only networks and renderers need torch, so reading, asking and writing do not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Float16, Float32, Int8, Int16, Int32, UInt8

if TYPE_CHECKING:
    from ffsplat.embeddings import TextEmbedding
    from ffsplat.query import QueryResult
    from ffsplat.render import What

SH_C0 = 0.28209479177387814
"""Value of the constant spherical harmonic, 1 / (2 sqrt(pi))."""

NO_ID = -1
"""A codebook or instance ID that says: no evidence."""

LEVELS = ("whole", "part", "appearance", "subpart")
"""Levels of a codebook row; `Codebook.levels` holds indices into this tuple."""

ASKED_LEVELS = ("whole", "part", "subpart")
"""The levels that a question may be narrowed to, from coarse to fine."""


@dataclass(frozen=True, eq=False)
class ViewSource:
    """Where a view came from, and how to get back to its original pixels.

    `original_from_view` maps homogeneous view pixels to pixels of the oriented original photo.
    """

    name: str
    width: int
    height: int
    original_from_view: Float[np.ndarray, "3 3"]


@dataclass(frozen=True, eq=False)
class Views:
    """Photos on one common canvas, ready for a network.

    `pixels` is sRGB in [0, 1], zero where `valid` is False (padding or transparency).
    `intrinsics` is in view pixels, NaN for a view whose focal length is unknown.
    """

    pixels: Float32[np.ndarray, "v h w 3"]
    valid: Bool[np.ndarray, "v h w"]
    intrinsics: Float32[np.ndarray, "v 3 3"]
    sources: tuple[ViewSource, ...]

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, eq=False)
class Cameras:
    """Posed pinhole cameras; `sizes` holds (width, height) in the pixels of `intrinsics`.

    `thumbnails` are the photos in grey, each squeezed to 16 x 16, where they are known: by them the
    same photo is found again under another name.
    """

    world_from_camera: Float32[np.ndarray, "v 4 4"]
    intrinsics: Float32[np.ndarray, "v 3 3"]
    sizes: Int32[np.ndarray, "v 2"]
    names: tuple[str, ...]
    thumbnails: UInt8[np.ndarray, "v 16 16"] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: slice | list[int] | np.ndarray) -> "Cameras":
        """A subset of the cameras, by slice or by list of indices."""
        rows = np.arange(len(self))[index]
        return Cameras(
            self.world_from_camera[rows],
            self.intrinsics[rows],
            self.sizes[rows],
            tuple(self.names[i] for i in rows),
            None if self.thumbnails is None else self.thumbnails[rows],
        )


@dataclass(frozen=True, eq=False)
class Gaussians:
    """n anisotropic 3D Gaussians in world units (see the conventions above).

    `opacities` blend colours. `meaning_opacities` blend codes, instances and scores; None where
    that is the same (Peng et al., "3D Vision-Language Gaussian Splatting", 2025).
    """

    means: Float32[np.ndarray, "n 3"]
    scales: Float32[np.ndarray, "n 3"]
    quaternions_wxyz: Float32[np.ndarray, "n 4"]
    opacities: Float32[np.ndarray, " n"]
    sh: Float32[np.ndarray, "n k 3"]
    meaning_opacities: Float32[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, rows: np.ndarray | slice) -> "Gaussians":
        """A subset by boolean mask, index array or slice."""
        return Gaussians(
            self.means[rows],
            self.scales[rows],
            self.quaternions_wxyz[rows],
            self.opacities[rows],
            self.sh[rows],
            None if self.meaning_opacities is None else self.meaning_opacities[rows],
        )

    @property
    def opacities_of_meaning(self) -> Float32[np.ndarray, " n"]:
        """The opacities that blend meaning: those of the colours where there are no others."""
        return self.opacities if self.meaning_opacities is None else self.meaning_opacities

    @property
    def presence(self) -> Float32[np.ndarray, " n"]:
        """The larger of both opacities: how much a Gaussian matters to either picture."""
        return np.maximum(self.opacities, self.opacities_of_meaning)

    @property
    def colors(self) -> Float32[np.ndarray, "n 3"]:
        """View-independent sRGB colour, clipped to [0, 1]."""
        return np.clip(0.5 + np.float32(SH_C0) * self.sh[:, 0], 0, 1)


@dataclass(frozen=True, eq=False)
class SparseCode:
    """The meaning of each Gaussian: K pairs of codebook ID and weight, 18 bytes at K = 4.

    Pairs stand by falling weight; an unused pair has ID -1 and weight 0. Weights are >= 0 and sum
    to 1, or to 0 where there is no evidence at all. `norms` is the length of the coded vector
    sum_k w_k row[id_k] in the codebook's first space; the algebra is in `ffsplat.codes`.
    """

    ids: Int16[np.ndarray, "n k"]
    weights: Float16[np.ndarray, "n k"]
    norms: Float16[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: np.ndarray | slice) -> "SparseCode":
        """A subset by boolean mask, index array or slice."""
        return SparseCode(self.ids[rows], self.weights[rows], self.norms[rows])


@dataclass(frozen=True, eq=False)
class Codebook:
    """A table of rows that codes point into. IDs stay; spaces can be added.

    `spaces` maps a text space ("lexicon", "open_clip:<arch>/<tag>") to one unit embedding a row.
    `names` is "" where a row has none; `levels` indexes LEVELS; `parents` is a row ID or -1;
    `counts` is the evidence behind a row.
    """

    names: tuple[str, ...]
    levels: Int8[np.ndarray, " rows"]
    parents: Int16[np.ndarray, " rows"]
    counts: Float32[np.ndarray, " rows"]
    spaces: Mapping[str, Float16[np.ndarray, "rows _"]]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Scene:
    """What `infer` returns and `save` writes: Gaussians, their meaning, and where they came from.

    `instances` is an object number per Gaussian, -1 for none. `provenance` holds model, revision,
    licence and the like as plain strings. `metric` is True when the unit is the metre.
    """

    gaussians: Gaussians
    codes: SparseCode | None = None
    instances: Int32[np.ndarray, " n"] | None = None
    codebook: Codebook | None = None
    cameras: Cameras | None = None
    metric: bool = False
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.gaussians)

    def __getitem__(self, rows: np.ndarray | slice) -> "Scene":
        """The same scene with a subset of its Gaussians."""
        return replace(
            self,
            gaussians=self.gaussians[rows],
            codes=None if self.codes is None else self.codes[rows],
            instances=None if self.instances is None else self.instances[rows],
        )

    # What follows is for the user's convenience: the layers above, imported when they are called.

    @classmethod
    def load(cls, path: str | Path, codebook: str | Path | None = None) -> "Scene":
        """Read a scene file; see `ffsplat.io.load_scene`."""
        from ffsplat.io import load_scene

        return load_scene(path, codebook)

    def save(self, path: str | Path, **options: Any) -> list[Path]:
        """Write a scene file with its codebook beside it; see `ffsplat.io.save_scene`."""
        from ffsplat.io import save_scene

        return save_scene(self, path, **options)

    def query(self, text: "str | TextEmbedding", **options: Any) -> "QueryResult":
        """Find things by text; see `ffsplat.query.query`."""
        from ffsplat.query import query

        return query(self, text, **options)

    def render(self, cameras: Cameras, what: "What" = "rgb", **options: Any) -> np.ndarray:
        """Draw the scene; see `ffsplat.render.render`."""
        from ffsplat.render import render

        return render(self, cameras, what, **options)
