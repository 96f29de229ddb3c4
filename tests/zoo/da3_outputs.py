"""What both networks say about the same photos, in one form: arrays by name, view 0 the world.

Intrinsics are over the sides of the image, so that 1e-4 means the same for them as for the rest.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ffsplat.alignment import rotate_harmonics
from ffsplat.geometry import (
    invert_rigid,
    matrix_from_quaternion,
    rigid,
    transform_points,
    unproject,
)
from ffsplat.model import ERROR_OF_CONFIDENCE, FFSplat
from ffsplat.nn.camera import relative_poses
from ffsplat.nn.gaussians import SMALLEST_SCALE
from ffsplat.prediction import Prediction

Outputs = dict[str, np.ndarray]
Cameras = tuple[Tensor, Tensor] | None


@torch.inference_mode()
def our_outputs(network: FFSplat, images: Tensor, cameras: Cameras = None) -> Outputs:
    """Of our network, for one set of photos in [0, 1]."""
    out = network(images, cameras=cameras, rays=True)
    assert out.rays is not None
    assert out.ray_confidence is not None
    outputs = {
        "depth": out.depth,
        "confidence": ERROR_OF_CONFIDENCE / out.depth_error,
        "rays": out.rays,
        "ray_confidence": out.ray_confidence,
        "poses": out.world_from_camera,
        "intrinsics": _over_sides(out.intrinsics, images),
    }
    if out.harmonics is not None and cameras is None:
        outputs |= _our_gaussians(out)
    return {name: value[0].numpy() for name, value in outputs.items()}


def original_outputs(
    raw: Mapping[str, Tensor], head: Mapping[str, Tensor], images: Tensor
) -> Outputs:
    """Of the original, from its network's output (`raw`) and what its depth head gave (`head`)."""
    pose = raw["extrinsics"]
    world_from_camera = invert_rigid(rigid(pose[..., :3, :3], pose[..., :3, 3]))
    outputs = {
        "depth": head["depth"],
        "confidence": head["depth_conf"],
        "rays": head["ray"],
        "ray_confidence": head["ray_conf"],
        "poses": relative_poses(world_from_camera),
        "intrinsics": _over_sides(raw["intrinsics"], images),
    }
    if "gaussians" in raw:
        outputs |= _their_gaussians(raw["gaussians"], world_from_camera[:, 0])
    return {name: value[0].numpy() for name, value in outputs.items()}


def sample(outputs: Outputs, count: int = 24) -> np.ndarray:
    """Evenly spaced values of each output, one after the other, in the order of their names."""
    parts = []
    for _, values in sorted(outputs.items()):
        rows = np.linspace(0, values.size - 1, count).round().astype(int)
        parts.append(values.ravel()[rows].astype(np.float32))
    return np.stack(parts)


def _over_sides(intrinsics: Tensor, images: Tensor) -> Tensor:
    h, w = images.shape[-2:]
    return intrinsics / torch.tensor([w, h, 1.0])[:, None]


def _our_gaussians(out: Prediction) -> dict[str, Tensor]:
    assert out.depth_offsets is not None
    assert out.harmonics is not None
    points = unproject(out.depth + out.depth_offsets, out.intrinsics, out.offsets)
    turns = out.world_from_camera[..., :3, :3]
    axes = turns[:, :, None] @ matrix_from_quaternion(out.quaternions_wxyz.flatten(2, 3))
    harmonics = [
        _turned(colors.flatten(0, 1), turn)
        for colors, turn in zip(out.harmonics[0], turns[0], strict=True)
    ]
    return {
        "means": transform_points(out.world_from_camera, points.flatten(2, 3)).flatten(1, 2),
        "scales": out.scales.flatten(1, 3),
        "axes": axes.flatten(1, 2),
        "opacities": out.opacities.flatten(1),
        "harmonics": torch.cat(harmonics)[None],
    }


def _their_gaussians(gaussians, first: Tensor) -> dict[str, Tensor]:
    """In the frame of the first camera; `first` takes that to the original's own world."""
    back = invert_rigid(first)
    return {
        "means": transform_points(back, gaussians.means),
        # Behind a camera theirs is negative, and ours the smallest there is: neither is drawn.
        "scales": gaussians.scales.clamp(min=SMALLEST_SCALE),
        "axes": back[:, None, :3, :3] @ matrix_from_quaternion(gaussians.rotations),
        "opacities": gaussians.opacities,
        "harmonics": _turned(gaussians.harmonics[0].mT, back[0, :3, :3])[None],
    }


def _turned(harmonics: Tensor, rotation: Tensor) -> Tensor:
    return torch.from_numpy(rotate_harmonics(harmonics.double().numpy(), rotation.double().numpy()))
