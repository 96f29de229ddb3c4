"""Gaussians with linear features to images: one signature, three backends."""

import importlib.util
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ffsplat.errors import UsageError
from ffsplat.render.gsplat_backend import splat_gsplat
from ffsplat.render.projection import project
from ffsplat.render.reference import splat_reference

Backend = Literal["auto", "cpu", "reference", "gsplat"]


@dataclass(frozen=True, eq=False)
class Rasterized:
    """What v cameras see.

    `features` is premultiplied: the sum of weight x feature, with no background. `opacity` is the
    sum of the weights. `depth` is the expected z-depth, the weighted mean over the Gaussians of
    the pixel (divided by opacity), and 0 where the opacity is 0.
    """

    features: Float[Tensor, "v h w c"]
    depth: Float[Tensor, "v h w"]
    opacity: Float[Tensor, "v h w"]


def rasterize(
    means: Float[Tensor, "n 3"],
    quaternions_wxyz: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 3"],
    opacities: Float[Tensor, " n"],
    features: Float[Tensor, "n c"],
    world_from_camera: Float[Tensor, "v 4 4"],
    intrinsics: Float[Tensor, "v 3 3"],
    width: int,
    height: int,
    *,
    backend: Backend = "auto",
    low_pass: float = 0.3,
    near: float = 0.01,
) -> Rasterized:
    """Splat n Gaussians with c linear features each into v pinhole views of width x height pixels.

    Differentiable with respect to every tensor (gsplat: except `intrinsics`). `low_pass` (px^2)
    widens every splat; Gaussians nearer than `near` are not drawn. Backend "auto" is gsplat for
    CUDA tensors where it is installed, else "cpu"; "reference" is slow, exact and works in float64.
    Raises UsageError for an image without pixels, an unknown backend, or gsplat that is not there,
    and MemoryLimit where the Gaussians cover more tiles than the CPU can list.
    Source: Kerbl et al., 3D Gaussian Splatting (2023).
    """
    if width < 1 or height < 1:
        raise UsageError(f"an image of {width} x {height} pixels cannot be rendered")
    geometry = (means, quaternions_wxyz, scales, opacities)
    cameras = (world_from_camera, intrinsics, width, height)
    match _choose(backend, means):
        case "gsplat":
            blended = splat_gsplat(*geometry, features, *cameras, low_pass, near)
        case "reference":
            blended = splat_reference(*geometry, features, *cameras, low_pass, near)
        case _:
            from ffsplat.render import cpu  # numba: half a second that other backends do not need

            projected = project(*geometry, *cameras, low_pass=low_pass, near=near)
            blended = cpu.blend(projected, opacities, features, width, height)
    return _rasterized(*blended)


def rasterize_sets(
    means: Float[Tensor, "b n 3"],
    quaternions_wxyz: Float[Tensor, "b n 4"],
    scales: Float[Tensor, "b n 3"],
    opacities: Float[Tensor, "b n"],
    features: Float[Tensor, "b n c"],
    world_from_camera: Float[Tensor, "b 4 4"],
    intrinsics: Float[Tensor, "b 3 3"],
    width: int,
    height: int,
    *,
    backend: Backend = "auto",
    low_pass: float = 0.3,
    near: float = 0.01,
) -> Rasterized:
    """`rasterize` for b scenes with one view each: the views of the result are theirs, in order.

    gsplat draws all of them at once; the other backends take one after the other.
    """
    geometry = (means, quaternions_wxyz, scales, opacities, features)
    cameras = (world_from_camera[:, None], intrinsics[:, None])
    if _choose(backend, means) == "gsplat":
        drawn = splat_gsplat(*geometry, *cameras, width, height, low_pass, near)
        return _rasterized(*(image[:, 0] for image in drawn))
    views = [
        rasterize(
            m, q, s, o, f, pose, lens, width, height, backend=backend, low_pass=low_pass, near=near
        )
        for m, q, s, o, f, pose, lens in zip(*geometry, *cameras, strict=True)
    ]
    return Rasterized(*(torch.cat([vars(v)[name] for v in views]) for name in vars(views[0])))


def _rasterized(image: Tensor, depth: Tensor, opacity: Tensor) -> Rasterized:
    covered = opacity > 0
    return Rasterized(image, depth / torch.where(covered, opacity, 1), opacity)


def _choose(backend: str, means: Tensor) -> str:
    installed = importlib.util.find_spec("gsplat") is not None
    match backend:
        case "auto":
            return "gsplat" if means.is_cuda and installed else "cpu"
        case "cpu" | "reference":
            return backend
        case "gsplat" if means.is_cuda and installed:
            return backend
        case "gsplat":
            missing = "CUDA tensors" if installed else "the package gsplat"
            raise UsageError(
                f"the gsplat backend needs {missing}",
                hint="install ffsplat[cuda] on a machine with a CUDA device, or use backend 'cpu'",
            )
        case _:
            raise UsageError(f"unknown backend {backend!r}", hint="auto, cpu, reference or gsplat")
