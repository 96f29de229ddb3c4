"""Ray intersections and normals of the primitives, each in its own unit frame.

A primitive fills (part of) the box [-1, 1]^3 of its frame. Rays are o + t d with d of any length,
so t means the same in every frame. A miss is infinity.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from data.rooms.templates import BALL, FRUSTUM

NEAR = 1e-3
"""Smallest t that counts as a hit."""

TINY = 1e-20
"""Added to divisors, so that an exact zero does not make a NaN."""

Axes = tuple[Tensor, Tensor, Tensor]


def _slabs(origin: Axes, direction: Axes) -> tuple[Tensor, Tensor]:
    """Entry and exit of the box [-1, 1]^3 (Kay and Kajiya 1986)."""
    near, far = [], []
    for o, d in zip(origin, direction, strict=True):
        inverse = (d + TINY).reciprocal()
        middle, reach = -o * inverse, inverse.abs()
        near.append(middle - reach)
        far.append(middle + reach)
    entry = torch.maximum(torch.maximum(near[0], near[1]), near[2])
    return entry, torch.minimum(torch.minimum(far[0], far[1]), far[2])


def hit_box(origin: Axes, direction: Axes) -> Tensor:
    """First hit of the box from outside."""
    entry, leave = _slabs(origin, direction)
    return torch.where((entry < leave) & (entry > NEAR), entry, torch.inf)


def hit_room(origin: Axes, direction: Axes) -> Tensor:
    """Hit of the box from inside."""
    return _slabs(origin, direction)[1]


def _dot(a: Axes, b: Axes) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _centred(origin: Axes, direction: Axes) -> tuple[Axes, Tensor]:
    """The point of the ray nearest to the frame's centre, and its t.

    Solving from there keeps the quadratics precise for small and far primitives.
    """
    shift = -_dot(origin, direction) / _dot(direction, direction)
    x, y, z = (o + shift * d for o, d in zip(origin, direction, strict=True))
    return (x, y, z), shift


def hit_ball(origin: Axes, direction: Axes) -> Tensor:
    """First hit of the unit ball from outside."""
    foot, shift = _centred(origin, direction)
    squared = (1 - _dot(foot, foot)) / _dot(direction, direction)
    t = shift - squared.clamp(min=0).sqrt()
    return torch.where((squared > 0) & (t > NEAR), t, torch.inf)


def hit_frustum(
    origin: Axes, direction: Axes, ends: Float[Tensor, "n 2"], opened: Float[Tensor, "n 2"]
) -> Tensor:
    """First hit of x^2 + y^2 = r(z)^2, r linear from ends[0] at z = -1 to ends[1] at z = 1.

    An end that is not `opened` is capped; through an open one the inside is seen.
    """
    (ox, oy, oz), shift = _centred(origin, direction)
    dx, dy, dz = direction
    nearest = NEAR - shift
    middle, slope = ends.sum(1, keepdim=True) / 2, (ends[:, 1:] - ends[:, :1]) / 2
    radius, growth = middle + slope * oz, slope * dz
    a = dx * dx + dy * dy - growth * growth
    b = ox * dx + oy * dy - radius * growth
    c = ox * ox + oy * oy - radius * radius
    discriminant = b * b - a * c
    # The stable pair of roots (Press et al., Numerical Recipes, section 5.6).
    q = -(b + torch.where(b < 0, -1.0, 1.0) * discriminant.clamp(min=0).sqrt())
    first = torch.full_like(q, torch.inf)
    for t in (q / (a + TINY), c / (q + TINY)):
        inside = (discriminant >= 0) & ((oz + t * dz).abs() <= 1) & (t > nearest)
        first = torch.where(inside, torch.minimum(first, t), first)
    inverse = (dz + TINY).reciprocal()
    for end, z in enumerate((-1.0, 1.0)):
        t = (z - oz) * inverse
        x, y = ox + t * dx, oy + t * dy
        inside = (x * x + y * y <= ends[:, end : end + 1] ** 2) & (t > nearest)
        inside = inside & (opened[:, end : end + 1] == 0)
        first = torch.where(inside, torch.minimum(first, t), first)
    return first + shift


def unit(vectors: Float[Tensor, "3 *n"]) -> Float[Tensor, "3 *n"]:
    """Vectors of length 1; a zero vector stays zero."""
    return vectors / (vectors * vectors).sum(0).sqrt().clamp(min=1e-12)


def main_axis(vectors: Float[Tensor, "3 *n"]) -> Int64[Tensor, " *n"]:
    """The axis along which each vector is longest."""
    x, y, z = vectors.abs()
    return torch.where((x >= y) & (x >= z), 0, torch.where(y >= z, 1, 2))


def local_normal(
    point: Float[Tensor, "3 n"],
    half: Float[Tensor, "3 n"],
    shape: Int64[Tensor, " n"],
    ends: Float[Tensor, "2 n"],
) -> Float[Tensor, "3 n"]:
    """Outward unit normals (metric local axes) at points given in the unit frame of a primitive."""
    axes = torch.arange(3, device=point.device)[:, None]
    normal = torch.where(main_axis(point) == axes, point.sign(), 0)
    normal = torch.where(shape == BALL, point / half, normal)
    rows = (shape == FRUSTUM).nonzero()[:, 0]
    x, y, z = point.index_select(1, rows)
    bottom, top = ends.index_select(1, rows)
    slope = (top - bottom) / 2
    radius = (top + bottom) / 2 + slope * z
    side = torch.stack([x, y, -slope * radius]) / half.index_select(1, rows)
    cap = torch.stack([torch.zeros_like(x), torch.zeros_like(x), z.sign()])
    frustum = torch.where(x * x + y * y > (0.999 * radius) ** 2, side, cap)
    normal.index_copy_(1, rows, frustum)
    return unit(normal)
