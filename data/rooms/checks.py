"""Ground truth checked against itself: pixels of one view found again in another."""

from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

from data.rooms.render import RoomBatch


@dataclass(frozen=True)
class Agreement:
    """How well the other views of each clip agree with the first.

    Covisible fraction of pixels, median relative depth error there, shares of them with the same
    whole, part and instance label, median cosine between the two normals.
    """

    covisible: float
    depth_error: float
    whole: float
    part: float
    instance: float
    normal_cosine: float


def _sample(image: Shaped[Tensor, "n h w c"], index: Tensor) -> Tensor:
    flat = image.flatten(1, 2)
    return flat.gather(1, index[..., None].expand(-1, -1, flat.shape[-1]))


def reprojection(batch: RoomBatch, tolerance: float = 0.02) -> Agreement:
    """Lift the first view's pixels by depth and pose, look them up in the other views.

    A pixel is covisible if its depth there agrees within `tolerance` (relative); normals are
    compared in the world.
    """
    b, v, h, w = batch.depth.shape
    y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], -1).reshape(-1, 3).to(batch.depth)
    rays = pixels @ torch.linalg.inv(batch.intrinsics[:, 0]).transpose(1, 2)
    points = rays * batch.depth[:, 0].reshape(b, -1, 1)
    pose = batch.world_from_camera
    world = points @ pose[:, 0, :3, :3].transpose(1, 2) + pose[:, 0, None, :3, 3]
    first = [t[:, 0].reshape(b, -1) for t in (batch.whole, batch.part, batch.instance)]
    normal = batch.normals[:, 0].reshape(b, -1, 3) @ pose[:, 0, :3, :3].transpose(1, 2)
    seen, errors, cosines = [], [], []
    same: list[list[Tensor]] = [[], [], []]
    for k in range(1, v):
        local = (world - pose[:, k, None, :3, 3]) @ pose[:, k, :3, :3]
        image = local @ batch.intrinsics[:, k].transpose(1, 2)
        column, row = ((image[..., i] / image[..., 2]).floor().long() for i in (0, 1))
        inside = (local[..., 2] > 0) & (column >= 0) & (column < w) & (row >= 0) & (row < h)
        index = row.clamp(0, h - 1) * w + column.clamp(0, w - 1)
        depth = _sample(batch.depth[:, k, ..., None], index)[..., 0]
        error = (depth / local[..., 2] - 1).abs()
        visible = inside & (error < tolerance)
        seen.append(visible.float().mean(1))
        errors.append(error[visible])
        there = _sample(batch.normals[:, k], index) @ pose[:, k, :3, :3].transpose(1, 2)
        cosines.append((there * normal).sum(-1)[visible])
        for store, mine, table in zip(
            same, first, (batch.whole, batch.part, batch.instance), strict=True
        ):
            store.append((_sample(table[:, k, ..., None], index)[..., 0] == mine)[visible])
    whole, part, instance = (torch.cat(store).float().mean().item() for store in same)
    return Agreement(
        covisible=torch.cat(seen).mean().item(),
        depth_error=torch.cat(errors).median().item(),
        whole=whole,
        part=part,
        instance=instance,
        normal_cosine=torch.cat(cosines).median().item(),
    )
