"""Views of a box, with exact depth and descriptors that tell every point from the others."""

import torch
from boxroom import cameras, depth_and_points

from ffsplat.prediction import Prediction

SIZE, STRIDE = 64, 4


def exact_prediction(views: int) -> Prediction:
    """What a network that knew everything would say."""
    poses = cameras(views)
    depth, intrinsics, _ = depth_and_points(poses, 50.0, SIZE, SIZE)
    # Cell centres are pixel corners; the box is rendered there at a quarter of the size.
    _, _, points = depth_and_points(poses, 50.0 / STRIDE, SIZE // STRIDE, SIZE // STRIDE)
    random = torch.Generator().manual_seed(1)
    waves = 1.6 * torch.randn(3, 64, generator=random)
    phase = 6 * torch.rand(64, generator=random)
    descriptors = torch.nn.functional.normalize((points @ waves + phase).cos(), dim=-1)
    descriptors = descriptors.unflatten(2, (SIZE // STRIDE, SIZE // STRIDE))
    one = torch.ones(1, views, SIZE, SIZE)
    return Prediction(
        depth=depth, depth_error=0.01 * one, scale=depth.mean((1, 2, 3)), world_from_camera=poses,
        intrinsics=intrinsics, offsets=one[..., None].expand(-1, -1, -1, -1, 2),
        scales=one[..., None].expand(-1, -1, -1, -1, 3),
        quaternions_wxyz=one[..., None].expand(-1, -1, -1, -1, 4), opacities=one,
        colors=one[..., None].expand(-1, -1, -1, -1, 3), whole_logits=one[..., None],
        part_logits=one[..., None], instances=one[..., None], descriptors=descriptors,
        token_descriptors=descriptors,
    )  # fmt: skip
