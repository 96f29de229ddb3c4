"""What views say of each other's points: one stands where another looks through, or both agree.

Every pixel of a view is a point; seen by another view it lies before, on or behind the surface
there. Fused depth maps are made in this way (Merrell et al., "Real-Time Visibility-Based Fusion of
Depth Maps", 2007); here it is decided which pixels become Gaussians.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from ffsplat.geometric import ERROR_SCALE, surface_steps
from ffsplat.geometry import invert_rigid, transform_points, unproject
from ffsplat.prediction import Prediction

NEIGHBORS = 8
"""Other views that a view is compared with, at most: those that look from and at near places."""
SAME_SURFACE = 0.02
"""Difference of log depth up to which two points are the same, however sure both are."""
FREE_SPACE = 0.1
"""Difference of log depth from which a point stands in free space, however sure both are."""
VETO = 0.3
"""A point goes if those who look through it have this share of the confidence of those who see it.

At 1 the majority would win, and what it misplaces would veil the view of the others.
"""
MOST_OPAQUE = 0.999
"""Opacity that a Gaussian reaches at most in a picture, as renderers clamp it."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """Which pixels of v views become Gaussians, and what these look like to all that agree."""

    kept: Bool[Tensor, "v h w"]
    colors: Float[Tensor, "v h w 3"]
    opacities: Float[Tensor, "v h w"]


@dataclass(frozen=True, eq=False)
class Maps:
    """What v views know of their p pixels, on which others look.

    `columns` holds, a row a pixel: log depth; the least log depth of the pixel and those around it,
    so that a point just beside a silhouette does not seem to stand before what is behind; expected
    error; confidence; cost, the surface in the pixel over its confidence: the least is the best;
    the log of what the pixel's Gaussian lets through. Depths are NaN where a pixel is not usable,
    and nothing compares with NaN.
    """

    columns: Float[Tensor, "v p 6"]
    cameras: Float[Tensor, "v 3 4"]
    """From points of the world to homogeneous pixels."""
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Sight:
    """The points of one view as another sees them: for each the pixel it falls on."""

    pixel: Int64[Tensor, " p"]
    image: Float[Tensor, "p 2"]
    confidence: Float[Tensor, " p"]
    transmitted: Float[Tensor, " p"]
    agrees: Bool[Tensor, " p"]
    veils: Bool[Tensor, " p"]
    cheaper: Bool[Tensor, " p"]
    """Whether the pixel costs less than the point's own."""
    as_cheap: Bool[Tensor, " p"]


def agreement(prediction: Prediction, kept: Bool[Tensor, "1 v h w"]) -> Agreement:
    """Of the pixels `kept` of one set, those that no other view contradicts and none does better.

    Two points agree if their log depths differ by no more than both their expected errors; a point
    stands in free space if it is nearer than what another view sees there by more than that. It
    goes if the confidence of the views that look through it is more than VETO times its own and
    that of those which agree. Of points that agree the best is kept, with the mean colour of all
    by confidence and the opacity of all in a row: the one with the smallest footprint, over its
    confidence. Every point that goes for that reason agrees with a better one that stays.
    """
    v, h, w = kept.shape[1:]
    maps = maps_of(prediction, kept[0])
    colors, confidence = prediction.colors[0], maps.columns[..., 3]
    points = points_of(prediction, kept)
    neighbors = _neighbors(prediction, kept)
    better = torch.full((neighbors.shape[1], v, h * w), -1, dtype=torch.int32, device=kept.device)
    vetoed = torch.zeros_like(kept[0]).flatten(1)
    images = colors.permute(0, 3, 1, 2).float().contiguous()
    blended = torch.empty_like(colors).flatten(1, 2)
    transmitted = maps.columns[..., 5].clone()
    for i in range(v):
        support, veto = confidence[i].clone(), torch.zeros_like(confidence[i])
        total = support[:, None] * colors[i].flatten(0, 1)
        for slot, j in enumerate(neighbors[i].tolist()):
            sight = look(points[i], maps, i, j)
            weight = sight.confidence * sight.agrees
            support += weight
            veto += sight.confidence * sight.veils
            transmitted[i] += sight.transmitted * sight.agrees
            total += weight[:, None] * _sample(images[j], sight.image)
            # Of pixels that cost the same, that of the first view is the better one.
            beaten = sight.agrees & (sight.as_cheap if j < i else sight.cheaper)
            better[slot, i] = torch.where(beaten, sight.pixel + j * h * w, -1)
        vetoed[i] = veto > VETO * support
        blended[i] = total / support[:, None].clamp(min=1e-12)
    chosen = best_of_each(better.flatten(1), kept.flatten() & ~vetoed.flatten())
    opacities = -torch.expm1(transmitted)
    return Agreement(
        chosen.view(v, h, w), blended.view(v, h, w, 3), opacities.view(v, h, w).to(colors)
    )


def best_of_each(
    better: Int[Tensor, "slots n"], candidates: Bool[Tensor, " n"]
) -> Bool[Tensor, " n"]:
    """The candidates that agree with no better one which is chosen itself.

    `better` numbers the better ones that each agrees with, -1 for none. "Better" must be an order:
    then in each round at least the best of those that are left is chosen.
    """
    chosen = torch.zeros_like(candidates)
    while candidates.any():
        new = candidates & ~_any_of(candidates, better)
        chosen = chosen | new
        candidates = candidates & ~new & ~_any_of(chosen, better)
    return chosen


def _any_of(marked: Bool[Tensor, " n"], rows: Int[Tensor, "slots n"]) -> Bool[Tensor, " n"]:
    """Whether one of the rows that are listed for each is marked; -1 lists none."""
    none = torch.cat([marked, marked.new_zeros(1)])
    found = torch.zeros_like(marked)
    for listed in rows:
        found |= none[listed.long()]
    return found


def points_of(prediction: Prediction, kept: Bool[Tensor, "1 v h w"]) -> Float[Tensor, "v p 3"]:
    """The points in the world; those that are not kept lie anywhere."""
    depth = prediction.depth
    if prediction.depth_offsets is not None:
        depth = depth + prediction.depth_offsets
    depth = torch.where(kept, depth, 1)[0]
    points = unproject(depth, prediction.intrinsics[0], prediction.offsets[0])
    return transform_points(prediction.world_from_camera[0], points.flatten(1, 2))


def maps_of(prediction: Prediction, usable: Bool[Tensor, "v h w"]) -> Maps:
    """What the views of one set know of their usable pixels."""
    depth = torch.where(usable, prediction.depth[0], 1)
    error = torch.where(usable, prediction.depth_error[0], 0)
    log_depth = torch.where(usable, depth.log(), torch.inf)
    nearest = -F.max_pool2d(-log_depth[:, None], 3, stride=1, padding=1)[:, 0]
    across, down = surface_steps(depth, prediction.intrinsics[0], usable)
    confidence = torch.exp(-error / ERROR_SCALE) * usable
    cost = torch.linalg.cross(across, down).norm(dim=-1) / confidence
    nothing = torch.where(usable, 0, torch.nan)
    transmitted = torch.log1p(-prediction.opacities[0].clamp(max=MOST_OPAQUE))
    columns = torch.stack(
        [log_depth + nothing, nearest + nothing, error, confidence, cost, transmitted], dim=-1
    )
    cameras = prediction.intrinsics[0] @ invert_rigid(prediction.world_from_camera[0])[:, :3]
    _, h, w = usable.shape
    return Maps(columns.flatten(1, 2), cameras, (h, w))


def _neighbors(prediction: Prediction, kept: Bool[Tensor, "1 v h w"]) -> Int64[Tensor, "v n"]:
    """The views that each is compared with: near in place, and near in what they look at."""
    poses = prediction.world_from_camera[0]
    middle = torch.where(kept, prediction.depth, torch.nan)[0].flatten(1).nanmedian(dim=1).values
    centres = poses[:, :3, 3]
    targets = centres + middle.nan_to_num(0)[:, None] * poses[:, :3, 2]
    apart = torch.cdist(centres, centres) + torch.cdist(targets, targets)
    apart.fill_diagonal_(torch.inf)
    return apart.argsort(dim=1, stable=True)[:, : min(NEIGHBORS, len(poses) - 1)]


def look(points: Float[Tensor, "p 3"], maps: Maps, i: int, j: int) -> Sight:
    """The points of view i in view j."""
    h, w = maps.size
    seen = points @ maps.cameras[j, :, :3].T + maps.cameras[j, :, 3]
    z = seen[:, 2:].clamp(min=1e-6)
    image = seen[:, :2] / z
    x, y = image.unbind(-1)
    inside = (seen[:, 2] > 0) & (x >= 0) & (x < w) & (y >= 0) & (y < h)
    pixel = torch.where(inside, y.long() * w + x.long(), 0)
    there = maps.columns[j].index_select(0, pixel)
    log_depth, nearest, error, confidence, cost, transmitted = there.unbind(-1)
    _, _, own_error, own_confidence, own_cost, _ = maps.columns[i].unbind(-1)
    inside &= own_confidence > 0
    log_z = z[:, 0].log()
    tolerance = own_error + error
    return Sight(
        pixel,
        image,
        confidence,
        transmitted,
        agrees=inside & ((log_depth - log_z).abs() <= tolerance.clamp(min=SAME_SURFACE)),
        veils=inside & (nearest - log_z > tolerance.clamp(min=FREE_SPACE)),
        cheaper=cost < own_cost,
        as_cheap=cost <= own_cost,
    )


def _sample(image: Float[Tensor, "3 h w"], pixels: Float[Tensor, "p 2"]) -> Float[Tensor, "p 3"]:
    """Colours at places in an image, between its pixels; outside those of its border."""
    h, w = image.shape[1:]
    grid = (2 * pixels / pixels.new_tensor([w, h]) - 1)[None, None].to(image)
    sampled = F.grid_sample(image[None], grid, align_corners=False, padding_mode="border")
    return sampled[0, :, 0].T
