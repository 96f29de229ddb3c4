"""Ray intersections and normals of the primitives, each in its own unit frame.

A primitive fills (part of) the box [-1, 1]^3 of its frame. Rays are o + t d with d of any length, so
t means the same in every frame. A miss is infinity.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from data.rooms.templates import BALL, FRUSTUM

NEAR = 1e-3
"""Smallest t that counts as a hit."""

Axes = tuple[Tensor, Tensor, Tensor]


def _slabs(origin: Axes, direction: Axes) -> tuple[Tensor, Tensor]:
    """Entry and exit of the box [-1, 1]^3 (Kay and Kajiya 1986)."""
    near, far = [], []
    for o, d in zip(origin, direction, strict=True):
        inverse = 1 / torch.where(d.abs() < 1e-9, 1e-9, d)
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
    for t in (q / torch.where(a == 0, 1e-12, a), c / torch.where(q == 0, 1e-12, q)):
        inside = (discriminant >= 0) & ((oz + t * dz).abs() <= 1) & (t > nearest)
        first = torch.where(inside, torch.minimum(first, t), first)
    inverse = 1 / torch.where(dz.abs() < 1e-9, 1e-9, dz)
    for end, z in enumerate((-1.0, 1.0)):
        t = (z - oz) * inverse
        x, y = ox + t * dx, oy + t * dy
        inside = (x * x + y * y <= ends[:, end : end + 1] ** 2) & (t > nearest)
        inside = inside & (opened[:, end : end + 1] == 0)
        first = torch.where(inside, torch.minimum(first, t), first)
    return first + shift


def local_normal(
    point: Float[Tensor, "n 3"],
    half: Float[Tensor, "n 3"],
    shape: Int64[Tensor, " n"],
    ends: Float[Tensor, "n 2"],
) -> Float[Tensor, "n 3"]:
    """Outward unit normals (metric local axes) at points given in the unit frame of a primitive."""
    size = point.abs()
    axis = size.argmax(1, keepdim=True)
    normal = torch.zeros_like(point).scatter_(1, axis, point.gather(1, axis).sign())
    ball = point / half
    slope = (ends[:, 1] - ends[:, 0]) / 2
    radius = ends.mean(1) + slope * point[:, 2]
    side = torch.stack([point[:, 0], point[:, 1], -slope * radius], 1) / half
    on_side = point[:, 0] ** 2 + point[:, 1] ** 2 > (radius * 0.999) ** 2
    cap = torch.zeros_like(point)
    cap[:, 2] = point[:, 2].sign()
    is_frustum = (shape == FRUSTUM)[:, None]
    normal = torch.where(is_frustum, torch.where(on_side[:, None], side, cap), normal)
    normal = torch.where((shape == BALL)[:, None], ball, normal)
    return normal / normal.norm(dim=1, keepdim=True).clamp(min=1e-12)
