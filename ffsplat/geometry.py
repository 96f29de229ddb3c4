"""Rays, rigid transforms, rotations: pure torch functions, differentiable, batch axes first."""

import torch
from jaxtyping import Float
from torch import Tensor


def pixel_grid(height: int, width: int, like: Tensor) -> Float[Tensor, "h w 2"]:
    """Pixel centres (x, y) of an image; the top-left one is (0.5, 0.5)."""
    y = torch.arange(height, device=like.device, dtype=like.dtype) + 0.5
    x = torch.arange(width, device=like.device, dtype=like.dtype) + 0.5
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def image_size(height: int, width: int, device: torch.device) -> Float[Tensor, "2"]:
    """Width and height in pixels, made on the device: to copy them there would wait for a GPU."""
    return torch.stack([torch.full((), float(side), device=device) for side in (width, height)])


def focal_lengths(intrinsics: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 2"]:
    """Both focal lengths of a camera, as a view."""
    return intrinsics.diagonal(dim1=-2, dim2=-1)[..., :2]


def rays(
    pixels: Float[Tensor, "*b n 2"], intrinsics: Float[Tensor, "*b 3 3"]
) -> Float[Tensor, "*b n 3"]:
    """Camera-frame rays with z = 1 through pixels; a point at z-depth d is d times its ray."""
    focal = focal_lengths(intrinsics)[..., None, :]
    centre = intrinsics[..., :2, 2][..., None, :]
    xy = (pixels - centre) / focal
    return torch.cat([xy, torch.ones_like(xy[..., :1])], dim=-1)


def unproject(
    depth: Float[Tensor, "*b h w"],
    intrinsics: Float[Tensor, "*b 3 3"],
    offsets: Float[Tensor, "*b h w 2"] | None = None,
) -> Float[Tensor, "*b h w 3"]:
    """Lift z-depth to camera-frame points, in the unit of `depth`.

    `offsets` moves each point off its pixel's centre, in pixels.
    Source: Hartley & Zisserman, 2nd ed., section 6.1.
    """
    h, w = depth.shape[-2:]
    pixels = pixel_grid(h, w, depth).expand(*depth.shape, 2)
    if offsets is not None:
        pixels = pixels + offsets
    lifted = rays(pixels.flatten(-3, -2), intrinsics).unflatten(-2, (h, w))
    return lifted * depth[..., None]


def project(
    points: Float[Tensor, "*b n 3"], intrinsics: Float[Tensor, "*b 3 3"]
) -> Float[Tensor, "*b n 2"]:
    """Pixels of camera-frame points; z is kept off zero, so a point behind gives a far pixel."""
    z = points[..., 2:]
    z = torch.where(z.abs() < 1e-6, torch.full_like(z, 1e-6), z)
    focal = focal_lengths(intrinsics)[..., None, :]
    return points[..., :2] / z * focal + intrinsics[..., :2, 2][..., None, :]


def transform_points(
    transform: Float[Tensor, "*b 4 4"], points: Float[Tensor, "*b n 3"]
) -> Float[Tensor, "*b n 3"]:
    """Apply rigid (or affine) 4x4 transforms to points."""
    rotated = points @ transform[..., :3, :3].transpose(-1, -2)
    return rotated + transform[..., None, :3, 3]


def rigid(
    rotation: Float[Tensor, "*b 3 3"], translation: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b 4 4"]:
    """A 4x4 transform from its rotation and translation."""
    top = torch.cat([rotation, translation[..., None]], dim=-1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., 3] = 1
    return torch.cat([top, bottom], dim=-2)


def invert_rigid(transform: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """The inverse of a rigid transform, by transposition."""
    rotation = transform[..., :3, :3].transpose(-1, -2)
    return rigid(rotation, -(rotation @ transform[..., :3, 3:])[..., 0])


def cross_matrix(vector: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """The skew-symmetric matrix K with K u = vector x u."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def rotation_from_vector(vector: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrix of an axis-angle vector in radians; smooth at zero. Source: Rodrigues."""
    squared = vector.square().sum(-1)[..., None, None]
    small = squared < 1e-8
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    first = torch.where(small, 1 - squared / 6, angle.sin() / angle)
    second = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / safe)
    k = cross_matrix(vector)
    return torch.eye(3, dtype=vector.dtype, device=vector.device) + first * k + second * k @ k


def vector_from_rotation(rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Axis-angle vector in radians, angle in [0, pi], of a rotation matrix."""
    quaternion = quaternion_from_matrix(rotation)
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    length = quaternion[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(length, quaternion[..., :1])
    factor = torch.where(
        length < 1e-7, torch.full_like(length, 2.0), angle / length.clamp(min=1e-7)
    )
    return quaternion[..., 1:] * factor


def matrix_from_quaternion(quaternion_wxyz: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrix of a unit quaternion (w, x, y, z)."""
    w, x, y, z = quaternion_wxyz.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def quaternion_from_matrix(rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Unit quaternion (w, x, y, z) of a rotation matrix.

    Of the four ways to divide, each row takes the one with the largest divisor.
    Source: Shepperd, "Quaternion from rotation matrix", 1978.
    """
    m = rotation
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    squares = torch.stack(
        [1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], -1
    )
    wx, wy, wz = (
        m[..., 2, 1] - m[..., 1, 2],
        m[..., 0, 2] - m[..., 2, 0],
        m[..., 1, 0] - m[..., 0, 1],
    )
    xy, xz, yz = (
        m[..., 1, 0] + m[..., 0, 1],
        m[..., 2, 0] + m[..., 0, 2],
        m[..., 2, 1] + m[..., 1, 2],
    )
    candidates = torch.stack(
        [
            torch.stack([squares[..., 0], wx, wy, wz], -1),
            torch.stack([wx, squares[..., 1], xy, xz], -1),
            torch.stack([wy, xy, squares[..., 2], yz], -1),
            torch.stack([wz, xz, yz, squares[..., 3]], -1),
        ],
        dim=-2,
    )
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    return torch.nn.functional.normalize(candidates.gather(-2, best)[..., 0, :], dim=-1)


def quaternion_multiply(
    left_wxyz: Float[Tensor, "*b 4"], right_wxyz: Float[Tensor, "*b 4"]
) -> Float[Tensor, "*b 4"]:
    """Hamilton product: the rotation `right` followed by the rotation `left`."""
    a, b, c, d = left_wxyz.unbind(-1)
    e, f, g, h = right_wxyz.unbind(-1)
    return torch.stack(
        [
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ],
        dim=-1,
    )


def intrinsics_from_focal(
    focal: Float[Tensor, "*b"], height: int, width: int
) -> Float[Tensor, "*b 3 3"]:
    """Square-pixel intrinsics with the principal point at the image centre; focal in pixels."""
    matrix = torch.zeros(*focal.shape, 3, 3, dtype=focal.dtype, device=focal.device)
    matrix[..., 0, 0] = focal
    matrix[..., 1, 1] = focal
    matrix[..., 0, 2] = width / 2
    matrix[..., 1, 2] = height / 2
    matrix[..., 2, 2] = 1
    return matrix


def rotation_angle(rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b"]:
    """Angle of a rotation in radians, in [0, pi]; exact to rounding near 0 and pi."""
    return vector_from_rotation(rotation).norm(dim=-1)
