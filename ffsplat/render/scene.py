"""A scene seen by cameras, numpy in and numpy out: colour, depth, meaning, scores, instances."""

import importlib.util
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int32

from ffsplat.errors import UsageError
from ffsplat.render.spherical import sh_colors
from ffsplat.render.splatting import Backend, rasterize
from ffsplat.types import LEVELS, NO_ID, Cameras, Gaussians, Scene

What = Literal["rgb", "depth", "opacity", "codes", "score", "instance"]

Blend = Literal["color", "meaning"]
"""Which opacity blends what Gaussians mean."""

_CHUNK = 64  # IDs blended in one pass
_SOLID = 0.5  # opacity from which a pixel has a dominant ID


def render(
    scene: Scene,
    cameras: Cameras,
    what: What = "rgb",
    *,
    scores: Float[np.ndarray, " n"] | None = None,
    level: str = "whole",
    opacity: Blend = "meaning",
    background: Sequence[float | int] = (0, 0, 0),
    backend: Backend = "auto",
) -> np.ndarray:
    """Draw v views of a scene; all cameras must have one size (h, w).

    - "rgb": float32 (v, h, w, 3), sRGB in [0, 1] over `background`;
    - "depth": float32 (v, h, w), expected z-depth in world units, 0 where nothing is;
    - "opacity": float32 (v, h, w) in [0, 1];
    - "score": float32 (v, h, w), the per-Gaussian `scores` blended, nothing behind them;
    - "codes": int32 (v, h, w), the codebook row of `level` with the largest blended weight;
    - "instance": int32 (v, h, w), the instance with the largest blended weight.

    The last two are -1 where the opacity is below one half or there is no evidence. The last three
    are blended by the Gaussians' `meaning_opacities` where there are any, unless `opacity` is
    "color" (Peng et al., "3D Vision-Language Gaussian Splatting", 2025, equation 4).
    Raises UsageError for no cameras, cameras of several sizes, or what the scene does not have.
    """
    if opacity not in Blend.__args__:
        raise UsageError(f"unknown opacity {opacity!r}", hint="color or meaning")
    gaussians, meant = scene.gaussians, what in ("score", "codes", "instance")
    solid = (
        gaussians.opacities_of_meaning if meant and opacity == "meaning" else gaussians.opacities
    )
    view = _Viewer(gaussians, solid, cameras, backend)
    match what:
        case "rgb":
            images = (view.rgb(index, background) for index in range(len(cameras)))
        case "depth":
            images = (view.splat(index)[1] for index in range(len(cameras)))
        case "opacity":
            images = (view.splat(index)[2] for index in range(len(cameras)))
        case "score":
            features = _scores(scene, scores)
            images = (view.splat(index, features)[0][..., 0] for index in range(len(cameras)))
        case "codes":
            images = view.dominant(*_codes(scene, level))
        case "instance":
            images = view.dominant(*_instances(scene))
        case _:
            raise UsageError(f"cannot render {what!r}", hint=f"one of {', '.join(What.__args__)}")
    return np.stack(list(images))


class _Viewer:
    """The Gaussians and cameras of one call, as tensors on the device of the backend."""

    def __init__(
        self,
        gaussians: Gaussians,
        opacities: Float32[np.ndarray, " n"],
        cameras: Cameras,
        backend: Backend,
    ):
        sizes = np.unique(cameras.sizes, axis=0)
        if not len(sizes):
            raise UsageError("no cameras to render from")
        if len(sizes) > 1:
            raise UsageError(
                f"cannot render {len(sizes)} image sizes in one call",
                hint="group the cameras by size",
            )
        self.width, self.height = (int(side) for side in sizes[0])
        self.device = _device(backend)
        self.gaussians, self.cameras = gaussians, cameras
        self.backend: Backend = backend
        self.means = self._tensor(gaussians.means)
        self.quaternions_wxyz = self._tensor(gaussians.quaternions_wxyz)
        self.scales = self._tensor(gaussians.scales)
        self.opacities = self._tensor(opacities)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.tensor(array, dtype=torch.float32, device=self.device)

    @torch.no_grad()
    def splat(
        self, index: int, features: Float[np.ndarray, "n c"] | None = None
    ) -> tuple[
        Float32[np.ndarray, "h w c"], Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]
    ]:
        """Features, depth and opacity of one view."""
        if features is None:
            features = np.zeros((len(self.gaussians), 1), np.float32)
        drawn = rasterize(
            self.means,
            self.quaternions_wxyz,
            self.scales,
            self.opacities,
            self._tensor(features),
            self._tensor(self.cameras.world_from_camera[index : index + 1]),
            self._tensor(self.cameras.intrinsics[index : index + 1]),
            self.width,
            self.height,
            backend=self.backend,
        )
        features, depth, opacity = (
            image[0].cpu().numpy() for image in (drawn.features, drawn.depth, drawn.opacity)
        )
        return features, depth, opacity

    def rgb(self, index: int, background: Sequence[float | int]) -> Float32[np.ndarray, "h w 3"]:
        """Colours as seen from this camera, over the background."""
        centre = self.cameras.world_from_camera[index, :3, 3]
        colors = sh_colors(self.gaussians.sh, self.gaussians.means - centre)
        image, _, opacity = self.splat(index, colors)
        return np.clip(image + (1 - opacity[..., None]) * np.asarray(background, np.float32), 0, 1)

    def dominant(
        self, ids: Int[np.ndarray, "n k"], weights: Float[np.ndarray, "n k"]
    ) -> Iterator[Int32[np.ndarray, "h w"]]:
        """Per view, the ID with the largest blended weight: exact, as blending is linear."""
        present = np.unique(ids[weights > 0])
        for index in range(len(self.cameras)):
            winner = np.full((self.height, self.width), NO_ID, np.int32)
            most = np.zeros((self.height, self.width), np.float32)
            for start in range(0, len(present), _CHUNK):
                chunk = present[start : start + _CHUNK]
                blended, _, opacity = self.splat(index, _spread(ids, weights, chunk))
                best = blended.max(-1)
                better = (best > most) & (opacity >= _SOLID)
                winner[better] = chunk[blended.argmax(-1)[better]]
                most = np.maximum(most, best)
            yield winner


def _spread(
    ids: Int[np.ndarray, "n k"], weights: Float[np.ndarray, "n k"], columns: Int[np.ndarray, " c"]
) -> Float32[np.ndarray, "n c"]:
    """Dense weights over the given (sorted) IDs."""
    dense = np.zeros((len(ids), len(columns)), np.float32)
    place = np.searchsorted(columns, ids).clip(max=len(columns) - 1)
    rows, pairs = np.nonzero(columns[place] == ids)
    np.add.at(dense, (rows, place[rows, pairs]), weights[rows, pairs])
    return dense


def _scores(scene: Scene, scores: np.ndarray | None) -> Float32[np.ndarray, "n 1"]:
    if scores is None or scores.shape != (len(scene),):
        shape = None if scores is None else scores.shape
        raise UsageError(f"rendering a score needs one number a Gaussian, got {shape}")
    return scores.astype(np.float32)[:, None]


def _codes(scene: Scene, level: str) -> tuple[np.ndarray, np.ndarray]:
    """IDs and weights, with weight 0 where a row is of another level."""
    if scene.codes is None or scene.codebook is None:
        raise UsageError(
            "the scene has no codes or no codebook",
            hint="keep the .codebook.safetensors file beside the PLY, or draw its colours",
        )
    if level not in LEVELS:
        raise UsageError(f"unknown level {level!r}", hint=f"one of {', '.join(LEVELS)}")
    ids, weights = scene.codes.ids, scene.codes.weights.astype(np.float32)
    member: Bool[np.ndarray, " rows"] = scene.codebook.levels == LEVELS.index(level)
    known = (ids >= 0) & (ids < len(member))
    keep = known & member[np.where(known, ids, 0)] if len(member) else known
    return ids, np.where(keep, weights, 0)


def _instances(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Every Gaussian votes for its instance, also for being of none."""
    if scene.instances is None:
        raise UsageError("the scene has no instances", hint="draw its codes, or infer it again")
    return scene.instances[:, None], np.ones((len(scene), 1), np.float32)


def _device(backend: Backend) -> torch.device:
    """CUDA for gsplat, where both are; else the CPU."""
    usable = torch.cuda.is_available() and importlib.util.find_spec("gsplat") is not None
    return torch.device("cuda" if usable and backend in ("auto", "gsplat") else "cpu")
