"""The oracle: every pixel blends every Gaussian, straight from the formulas, in any precision.

No tiles, no boxes, no early stop, no shared code with the fast backends. Memory is n x pixels.
Source: Kerbl et al., 3D Gaussian Splatting (2023), sections 4 and 6.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def splat_reference(
    means: Float[Tensor, "n 3"],
    quaternions_wxyz: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 3"],
    opacities: Float[Tensor, " n"],
    features: Float[Tensor, "n c"],
    world_from_camera: Float[Tensor, "v 4 4"],
    intrinsics: Float[Tensor, "v 3 3"],
    width: int,
    height: int,
    low_pass: float,
    near: float,
) -> tuple[Float[Tensor, "v h w c"], Float[Tensor, "v h w"], Float[Tensor, "v h w"]]:
    """Accumulated features, accumulated z-depth and opacity of each view."""
    covariances = _covariances(quaternions_wxyz, scales)
    views = []
    for pose, matrix in zip(world_from_camera, intrinsics, strict=True):
        to_camera = torch.linalg.inv(pose)
        points = means @ to_camera[:3, :3].T + to_camera[:3, 3]
        order = torch.argsort(points[:, 2], stable=True)
        order = order[points[order, 2] > near]
        points, rotation = points[order], to_camera[:3, :3]
        jacobian = _jacobian(points, matrix, width, height)
        projected = jacobian @ rotation @ covariances[order] @ rotation.T @ jacobian.mT
        projected = projected + low_pass * torch.eye(2).to(means)
        centres = (points @ matrix.T)[:, :2] / points[:, 2:]
        weights, opacity = _weights(centres, projected, opacities[order], width, height)
        channels = torch.cat([features[order], points[:, 2:]], dim=1)
        image = (weights.T @ channels).reshape(height, width, -1)
        views.append((image[..., :-1], image[..., -1], opacity.reshape(height, width)))
    image, depth, opacity = (torch.stack(parts) for parts in zip(*views, strict=True))
    return image, depth, opacity


def _covariances(
    quaternions_wxyz: Float[Tensor, "n 4"], scales: Float[Tensor, "n 3"]
) -> Float[Tensor, "n 3 3"]:
    """R S S R^T, with R = I + 2 w [v]x + 2 [v]x [v]x of the unit quaternion (w, v)."""
    unit = quaternions_wxyz / quaternions_wxyz.norm(dim=-1, keepdim=True)
    w, (x, y, z) = unit[:, 0, None, None], unit[:, 1:].T
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    rotation = torch.eye(3).to(unit) + 2 * w * skew + 2 * skew @ skew
    return rotation @ torch.diag_embed(scales**2) @ rotation.mT


def _jacobian(
    points: Float[Tensor, "n 3"], matrix: Float[Tensor, "3 3"], width: int, height: int
) -> Float[Tensor, "n 2 3"]:
    """Derivative of the pinhole projection, frozen beyond a 15 % margin around the image."""
    x, y, z = points.T
    (fx, cx), (fy, cy) = (matrix[0, 0], matrix[0, 2]), (matrix[1, 1], matrix[1, 2])
    x = z * torch.clamp(x / z, -(cx + 0.15 * width) / fx, (1.15 * width - cx) / fx)
    y = z * torch.clamp(y / z, -(cy + 0.15 * height) / fy, (1.15 * height - cy) / fy)
    zero = torch.zeros_like(z)
    rows = [fx / z, zero, -fx * x / z**2, zero, fy / z, -fy * y / z**2]
    return torch.stack(rows, -1).reshape(-1, 2, 3)


def _weights(
    centres: Float[Tensor, "n 2"],
    covariances: Float[Tensor, "n 2 2"],
    opacities: Float[Tensor, " n"],
    width: int,
    height: int,
) -> tuple[Float[Tensor, "n p"], Float[Tensor, " p"]]:
    """Blending weight of each Gaussian (near to far) at each pixel, and the pixels' opacity."""
    x, y = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")
    pixels = torch.stack([x, y], -1).reshape(-1, 2).to(centres) + 0.5
    offsets = pixels - centres[:, None]
    distance = torch.einsum("npi,nij,npj->np", offsets, torch.linalg.inv(covariances), offsets)
    alpha = (opacities[:, None] * torch.exp(-distance / 2)).clamp(max=0.999)
    alpha = torch.where(alpha >= 1 / 255, alpha, 0)
    transmittance = torch.cumprod(torch.cat([torch.ones_like(alpha[:1]), 1 - alpha]), dim=0)
    return alpha * transmittance[:-1], 1 - transmittance[-1]
