"""Where a surface point of one view lies in another, and what descriptors should say of it."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ffsplat.geometry import image_size, invert_rigid, pixel_grid, project, rays, transform_points
from ffsplat.nn.matching import match_logits
from train.losses.masks import masked_mean


def correspondences(
    depth: Float[Tensor, "b v h w"],
    intrinsics: Float[Tensor, "b v 3 3"],
    world_from_camera: Float[Tensor, "b v 4 4"],
    source: Int[Tensor, " p"],
    target: Int[Tensor, " p"],
    stride: int,
) -> tuple[Float[Tensor, "b p n 2"], Bool[Tensor, "b p n"]]:
    """Where the cells of source views (n, row by row) lie in target views, in pixels.

    A cell's place is its centre, at `stride` pixels a cell. The mask is True where the surface is
    seen in both views: inside the target and within 3 % of its depth there.
    """
    h, w = depth.shape[-2:]
    cell_depth, smooth = _cell_depth(depth, stride)
    centres = stride * pixel_grid(h // stride, w // stride, depth).reshape(-1, 2)
    points = rays(centres.expand(*depth.shape[:2], -1, 2), intrinsics) * cell_depth[..., None]
    world = transform_points(world_from_camera[:, source], points[:, source])
    local = transform_points(invert_rigid(world_from_camera[:, target]), world)
    pixels = project(local, intrinsics[:, target])
    grid = 2 * pixels / image_size(h, w, depth.device) - 1
    seen = F.grid_sample(
        depth[:, target].flatten(0, 1)[:, None], grid.flatten(0, 1)[:, :, None],
        mode="nearest", align_corners=False,
    )[:, 0, :, 0].unflatten(0, grid.shape[:2])  # fmt: skip
    inside = (grid.abs() < 1).all(-1) & (local[..., 2] > 0.05) & smooth[:, source]
    visible = inside & ((seen - local[..., 2]).abs() < 0.03 * local[..., 2])
    return pixels, visible


def _cell_depth(
    depth: Float[Tensor, "b v h w"], stride: int
) -> tuple[Float[Tensor, "b v n"], Bool[Tensor, "b v n"]]:
    """Depth at the cell centres, and where it can be told.

    The centre of an even cell is a pixel corner. Inverse depth is linear over a plane, so the mean
    of the four pixels around is exact there; where they differ by over 5 % is an edge.
    """
    low, high = stride // 2 - 1, stride // 2
    around = torch.stack(
        [depth[..., y::stride, x::stride].flatten(2) for y in (low, high) for x in (low, high)]
    )
    smooth = (around.amin(0) > 0) & (around.amax(0) < 1.05 * around.amin(0))
    return 1 / (1 / around.clamp(min=1e-3)).mean(0), smooth


def match_loss(
    descriptors: Float[Tensor, "b v y x c"],
    places: Float[Tensor, "b p n 2"],
    visible: Bool[Tensor, "b p n"],
    source: Int[Tensor, " p"],
    target: Int[Tensor, " p"],
    stride: int,
    cells: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy of the all-pairs softmax against the true place, shared by its four cells.

    `places` and `visible` are those of the source's `cells` (row by row), or of all of them. Scores
    are linear in the target's descriptors, so that the mean score of the four cells is the score of
    the mean descriptor: the table of all pairs is read once, for its softmax.
    """
    flat = descriptors.flatten(2, 3)
    asked = flat if cells is None else flat.index_select(2, cells)
    asked = asked.index_select(1, source)
    rows, columns = descriptors.shape[2:4]
    size = stride * image_size(rows, columns, flat.device)
    true = F.grid_sample(
        descriptors.index_select(1, target).flatten(0, 1).movedim(-1, 1),
        (2 * places / size - 1).nan_to_num(0).flatten(0, 1)[:, :, None],
        mode="bilinear", padding_mode="border", align_corners=False,
    )[..., 0].mT.unflatten(0, places.shape[:2])  # fmt: skip
    score = match_logits(asked[..., None, :], true[..., None, :])[..., 0, 0]
    total = match_logits(asked, flat.index_select(1, target)).logsumexp(-1)
    return masked_mean(torch.where(visible, total - score, 0.0), visible)
