"""Cameras from tokens and tokens from cameras, as Depth Anything 3 writes them.

A camera is nine numbers: the position, the rotation as a quaternion (x, y, z, w), both of the
camera in the world, and its vertical and horizontal field of view in radians.
Source: Lin et al., "Depth Anything 3", 2025, and its code.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ffsplat.geometry import (
    focal_lengths,
    invert_rigid,
    matrix_from_quaternion,
    quaternion_from_matrix,
    rigid,
)
from ffsplat.nn.attention import perceptron
from ffsplat.nn.blocks import Block

ENCODER_HEADS = 16
SMALLEST_TANGENT = 1e-6
"""Of half a field of view, so that a focal length stays finite."""
SMALLEST_SPREAD = 0.1
"""Median distance between cameras below which their unit is kept."""


class CameraDecoder(nn.Module):
    """Nine numbers of each view from its camera token."""

    def __init__(self, width: int):
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.position = nn.Linear(width, 3)
        self.quaternion_xyzw = nn.Linear(width, 4)
        self.field = nn.Linear(width, 2)

    def forward(
        self, tokens: Float[Tensor, "b v c"], size: Float[Tensor, "b v 2"]
    ) -> tuple[Float[Tensor, "b v 4 4"], Float[Tensor, "b v 3 3"]]:
        """Poses (world from camera; the world is the network's own) and intrinsics in pixels.

        `size` is width and height of each photo; the principal point lies in its middle.
        """
        for layer in self.hidden:
            tokens = F.relu(layer(tokens))
        rotation = rotation_from_xyzw(self.quaternion_xyzw(tokens))
        field = F.relu(self.field(tokens)).flip(-1)  # horizontal first
        focal = size / 2 / (field / 2).tan().clamp(min=SMALLEST_TANGENT)
        intrinsics = torch.diag_embed(F.pad(focal, (0, 1), value=1.0))
        intrinsics = torch.cat(
            [intrinsics[..., :2], F.pad(size / 2, (0, 1), value=1.0)[..., None]], dim=-1
        )
        return rigid(rotation, self.position(tokens)), intrinsics


class CameraEncoder(nn.Module):
    """Camera tokens of known cameras: these attend to one another."""

    def __init__(self, width: int, blocks: int):
        super().__init__()
        self.embed = perceptron(9, width // 2, width)
        self.start_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            Block(width, ENCODER_HEADS, query_norm=False) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        world_from_camera: Float[Tensor, "b v 4 4"],
        intrinsics: Float[Tensor, "b v 3 3"],
        size: Float[Tensor, "b v 2"],
    ) -> Float[Tensor, "b v c"]:
        """One token a view; `size` is width and height in pixels, the world is any."""
        poses = normalized_poses(world_from_camera)
        quaternion = quaternion_from_matrix(poses[..., :3, :3])
        quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
        field = 2 * torch.atan(size / 2 / focal_lengths(intrinsics))
        numbers = [poses[..., :3, 3], quaternion.roll(-1, -1), field.flip(-1)]
        tokens = self.start_norm(self.embed(torch.cat(numbers, dim=-1)))
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)


def normalized_poses(world_from_camera: Float[Tensor, "b v 4 4"]) -> Float[Tensor, "b v 4 4"]:
    """Poses in the frame of the first camera, in units of the median distance to it."""
    relative = relative_poses(world_from_camera)
    distance = relative[..., :3, 3].norm(dim=-1).median(dim=1).values[:, None, None]
    translation = relative[..., :3, 3] / distance.clamp(min=SMALLEST_SPREAD)
    return rigid(relative[..., :3, :3], translation)


def relative_poses(world_from_camera: Float[Tensor, "b v 4 4"]) -> Float[Tensor, "b v 4 4"]:
    """Poses in the frame of the first camera, whose own is exactly the identity."""
    others = invert_rigid(world_from_camera[:, :1]) @ world_from_camera[:, 1:]
    first = torch.eye(4, dtype=others.dtype, device=others.device).expand(len(others), 1, 4, 4)
    return torch.cat([first, others], dim=1)


def rotation_from_xyzw(quaternion: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation of a quaternion (x, y, z, w) of any length but 0."""
    return matrix_from_quaternion(F.normalize(quaternion, dim=-1, eps=1e-30).roll(1, -1))
