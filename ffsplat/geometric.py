"""Gaussians from depth alone, for networks that have no Gaussian head: flat, on the surface.

On a plane the inverse depth is linear in the pixels, so its differences give the plane exactly.
"""

from typing import TypedDict

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ffsplat.geometry import focal_lengths, pixel_grid, quaternion_from_matrix, rays

ERROR_SCALE = 0.1
"""A confidence is exp(-expected error of log depth / ERROR_SCALE)."""

FOOTPRINT = 0.1
"""Standard deviation along the surface, in pixels of the view.

Renderers widen every splat by half a pixel, and scenes carry that filter (`merge.smoothed`): with
it neighbours close up, and a wider splat only blurs. On rooms, 0.5 costs 2 dB.
"""
THICKNESS = 0.01
"""Standard deviation across the surface, in pixels of the view."""
OPACITY = 0.99
"""Opacity of a pixel whose depth is certain."""
MAX_SLOPE = 3.0
"""Depth gained over distance moved across the view, at most: a splat is no longer than 3 pixels
at its depth. A surface seen at 18 degrees has this slope; one seen more edge-on is an edge or a
guess."""


class GeometricGaussians(TypedDict):
    """The Gaussian parameters of `Prediction`, in the camera's frame."""

    offsets: Float[Tensor, "b v h w 2"]
    scales: Float[Tensor, "b v h w 3"]
    quaternions_wxyz: Float[Tensor, "b v h w 4"]
    opacities: Float[Tensor, "b v h w"]
    colors: Float[Tensor, "b v h w 3"]


def geometric_gaussians(
    depth: Float[Tensor, "b v h w"],
    depth_error: Float[Tensor, "b v h w"],
    intrinsics: Float[Tensor, "b v 3 3"],
    pixels: Float[Tensor, "b v h w 3"],
    valid: Bool[Tensor, "b v h w"] | None = None,
) -> GeometricGaussians:
    """A flat Gaussian at every pixel, on the surface that the depths around it show.

    Seen from its own view each is round, with a standard deviation of FOOTPRINT pixels; its third
    axis is the surface's normal. Opacity is OPACITY times the square root of the confidence, which
    leaves fewer holes than the confidence itself; it is 0 where `valid` is False or the depth is no
    positive number, so that such pixels are dropped. `depth` is z-depth, `depth_error` the expected
    error of its logarithm, `intrinsics` is in pixels of these views, `pixels` sRGB. Differentiable
    in all but `valid`.
    """
    usable = torch.isfinite(depth) & (depth > 0)
    if valid is not None:
        usable = usable & valid
    depth = torch.where(usable, depth, 1)
    across, down = surface_steps(depth, intrinsics, usable)
    confidence = torch.exp(-torch.where(usable, depth_error, 0) / ERROR_SCALE)
    opacities = OPACITY * confidence.sqrt() * usable
    pixel = (depth[..., None] / focal_lengths(intrinsics)[..., None, None, :]).prod(-1).sqrt()
    first, second = _orthogonal(across, down)
    lengths = torch.stack([first.norm(dim=-1), second.norm(dim=-1)], dim=-1)
    axes = torch.stack([first, second], dim=-1) / lengths[..., None, :]
    normal = torch.linalg.cross(axes[..., 0], axes[..., 1])
    return {
        "offsets": torch.zeros(*depth.shape, 2).to(depth),
        "scales": torch.cat([FOOTPRINT * lengths, THICKNESS * pixel[..., None]], dim=-1),
        "quaternions_wxyz": quaternion_from_matrix(torch.cat([axes, normal[..., None]], dim=-1)),
        "opacities": opacities,
        "colors": pixels,
    }


def surface_steps(
    depth: Float[Tensor, "*b h w"],
    intrinsics: Float[Tensor, "*b 3 3"],
    usable: Bool[Tensor, "*b h w"],
) -> tuple[Float[Tensor, "*b h w 3"], Float[Tensor, "*b h w 3"]]:
    """How far a surface point moves when its pixel moves by one, across and down the image.

    Both are in the camera's frame, in the unit of `depth`, which is positive. A point is its ray
    r over its inverse depth q, so the step is (dr - r dq / q) / q, where dq is the smaller of the
    differences to both neighbours: one is on the same surface where a pixel lies beside an edge.
    Slopes are at most MAX_SLOPE. Without a usable neighbour the surface faces the camera.
    """
    h, w = depth.shape[-2:]
    inverse = 1 / depth
    focal = focal_lengths(intrinsics)[..., None, None, :]
    rise = torch.stack([_smaller_difference(inverse, usable, axis) for axis in (-1, -2)], dim=-1)
    slope = rise * depth[..., None] * focal
    steepness = slope.square().sum(-1, keepdim=True).clamp(min=MAX_SLOPE**2).sqrt()
    rise = slope * (MAX_SLOPE / steepness) / focal
    grid = pixel_grid(h, w, depth).reshape(-1, 2).expand(*depth.shape[:-2], -1, 2)
    ray = rays(grid, intrinsics).unflatten(-2, (h, w))
    sides = torch.eye(3).to(depth)[:2] / focal[..., None]
    steps = (sides - ray[..., None, :] * rise[..., None]) * depth[..., None, None]
    return steps[..., 0, :], steps[..., 1, :]


def _smaller_difference(
    values: Float[Tensor, "*b h w"], usable: Bool[Tensor, "*b h w"], axis: int
) -> Float[Tensor, "*b h w"]:
    """The smaller of the differences to the neighbours on both sides along an axis, signed.

    It is 0 where neither neighbour is usable.
    """
    count = values.shape[axis] - 1
    paired = usable.narrow(axis, 0, count) & usable.narrow(axis, 1, count)
    step = torch.where(paired, values.diff(dim=axis), torch.inf)
    border = torch.full_like(values.narrow(axis, 0, 1), torch.inf)
    before, after = torch.cat([border, step], dim=axis), torch.cat([step, border], dim=axis)
    smaller = torch.where(before.abs() < after.abs(), before, after)
    return torch.where(smaller.isfinite(), smaller, 0)


def _orthogonal(
    across: Float[Tensor, "*b 3"], down: Float[Tensor, "*b 3"]
) -> tuple[Float[Tensor, "*b 3"], Float[Tensor, "*b 3"]]:
    """Two orthogonal vectors with the same sum of outer products: the axes of the ellipse.

    Source: the plane rotation of the one-sided Jacobi method (Hestenes, 1958).
    """
    product = (across * down).sum(-1)
    excess = across.square().sum(-1) - down.square().sum(-1)
    # Equal and orthogonal steps may be turned by any angle; 0 has no gradient there.
    round_ = (product == 0) & (excess == 0)
    angle = 0.5 * torch.atan2(2 * product, torch.where(round_, 1, excess))[..., None]
    cosine, sine = angle.cos(), angle.sin()
    return cosine * across + sine * down, cosine * down - sine * across
