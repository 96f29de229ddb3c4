"""EWA projection of 3D Gaussians to image-plane splats, in torch, differentiable everywhere.

Source: Zwicker et al., EWA Splatting (2001), as used by Kerbl et al. (2023), section 4; the clamp
of the Jacobian is the one of gsplat 1.5, so that both backends draw the same splats.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ffsplat.geometry import matrix_from_quaternion

ALPHA_CUT = 1 / 255
"""A splat counts at a pixel only where its alpha reaches this."""

_FIELD_MARGIN = 0.3  # the Jacobian is frozen this far outside the image, in half image sizes
_LARGEST = 1e9  # standard deviation in pixels above which float32 covariances overflow
_SMALLEST_AREA = 1e-12  # determinant of the covariance (px^4) of a splat seen edge-on, no low pass


@dataclass(frozen=True, eq=False)
class Projected:
    """n Gaussians as seen by v cameras.

    `conics` holds a, b, c of the inverse covariance [[a, b], [b, c]] (1/px^2); `extents` the half
    width and height (px) of the box outside which alpha < 1/255, 0 for a Gaussian out of sight.
    """

    means2d: Float[Tensor, "v n 2"]
    conics: Float[Tensor, "v n 3"]
    depths: Float[Tensor, "v n"]
    extents: Float[Tensor, "v n 2"]


def project(
    means: Float[Tensor, "n 3"],
    quaternions_wxyz: Float[Tensor, "n 4"],
    scales: Float[Tensor, "n 3"],
    opacities: Float[Tensor, " n"],
    world_from_camera: Float[Tensor, "v 4 4"],
    intrinsics: Float[Tensor, "v 3 3"],
    width: int,
    height: int,
    *,
    low_pass: float = 0.3,
    near: float = 0.01,
) -> Projected:
    """Project Gaussians into v pinhole cameras (skew ignored).

    `low_pass` (px^2) is added to the diagonal of the projected covariance; Gaussians whose centre
    is nearer than `near` are out of sight. Quaternions need not be unit.
    """
    camera_from_world = world_from_camera[:, :3, :3].transpose(1, 2)
    centred = means.T - world_from_camera[:, :3, 3:]
    x, y, z = (camera_from_world @ centred).unbind(1)
    focal = torch.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], 1)[:, :, None, None]
    centre = intrinsics[:, :2, 2, None]
    largest = scales.amax(-1) * focal.amax(dim=(1, 2))
    seen = (z > near) & (largest < _LARGEST * z)
    inverse_z = torch.where(seen, 1 / torch.where(seen, z, 1), 0)  # all that is unseen is neutral
    slope = torch.stack([x * inverse_z, y * inverse_z], 1)
    means2d = focal[:, :, 0] * slope + centre

    rotations = matrix_from_quaternion(normalize(quaternions_wxyz, dim=-1))
    axes = (rotations * scales[:, None]).permute(1, 2, 0)  # [i, k]: world coordinate i of axis k
    axes = torch.einsum("vij,jkn->vikn", camera_from_world, axes)
    size = slope.new_tensor([width, height])[:, None]
    margin = _FIELD_MARGIN / 2 * size
    bounded = slope.clamp(
        -(centre + margin) / focal[:, :, 0], (size - centre + margin) / focal[:, :, 0]
    )
    footprint = axes[:, :2] - bounded[:, :, None] * axes[:, 2:]
    across, down = (focal * inverse_z[:, None, None] * footprint).unbind(1)
    conics, variances = _invert(across, down, low_pass)
    with torch.no_grad():
        reach = (2 * (opacities / ALPHA_CUT).clamp_min(1).log()).sqrt()
        extents = torch.where(seen[:, None], variances.sqrt() * reach, 0)
    return Projected(means2d.transpose(1, 2), conics, z, extents.transpose(1, 2))


def _invert(
    across: Float[Tensor, "v 3 n"], down: Float[Tensor, "v 3 n"], low_pass: float
) -> tuple[Float[Tensor, "v n 3"], Float[Tensor, "v 2 n"]]:
    """Conics and variances of the covariance [across; down] [across; down]^T + low_pass I.

    The determinant is |across x down|^2 + low_pass (|across|^2 + |down|^2) + low_pass^2: a sum of
    squares, so it stays right in float32 for needles, where a c - b^2 cancels to nothing.
    """
    xx, yy, xy = (across * across).sum(1), (down * down).sum(1), (across * down).sum(1)
    area = torch.linalg.cross(across, down, dim=1).square().sum(1)
    determinant = (area + low_pass * (xx + yy) + low_pass**2).clamp_min(_SMALLEST_AREA)
    xx, yy = xx + low_pass, yy + low_pass
    return torch.stack([yy, -xy, xx], -1) / determinant[..., None], torch.stack([xx, yy], 1)
