"""Matches between views, by the descriptors of a network: where, how sure, and of what depth."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ffsplat.compiled import exactly_compiled
from ffsplat.geometry import pixel_grid, rays
from ffsplat.nn.matching import match_logits
from ffsplat.prediction import Prediction

PARTNERS = 6
"""Views that each view is matched with, beside the reference."""
MATCHES = 256
"""Matches kept of an ordered pair of views."""
STILL = 0.35
"""Cells within which what is matched has not moved in the image."""
MOVING = 1.5
"""Cells that half of a pair's matches move by, at least, where what stays is no part of the scene:
a gripper, a frame or dirt moves with the camera, and says falsely that nothing turned."""
LIKENESSES = 7 << 20
"""Pairs of cells that a CPU compares at once: memory from 32 MiB on is mapped anew at each use."""
ON_DEVICE = 1 << 25
"""And that a device with memory of its own does."""


@dataclass(frozen=True, eq=False)
class Matches:
    """p ordered pairs of views with n matches each, in ray coordinates (z = 1).

    `points` lie in the source camera, with `error` the expected one of their log depth; `places`
    is where the target sees them, at log z-depth `log_depth` by the target's own map. `cell` is the
    side of a descriptor's cell.
    """

    source: Int[Tensor, " p"]
    target: Int[Tensor, " p"]
    points: Float[Tensor, "b p n 3"]
    places: Float[Tensor, "b p n 2"]
    log_depth: Float[Tensor, "b p n"]
    error: Float[Tensor, "b p n"]
    confidence: Float[Tensor, "b p n"]
    cell: Float[Tensor, " b"]


def find_matches(prediction: Prediction, valid: Bool[Tensor, "b v h w"] | None) -> Matches:
    """Match the descriptors of all chosen pairs: best cell, its neighbourhood's mean, confidence.

    Confidence is the probability of the 3x3 neighbourhood to the fourth power, 0 where the
    match does not come back to within 1.5 cells. The `MATCHES` best of a pair are kept.
    """
    return match_views(
        prediction.descriptors, prediction.depth, prediction.depth_error, prediction.intrinsics,
        valid,
    )  # fmt: skip


def match_views(
    descriptors: Float[Tensor, "b v m n c"],
    depth_map: Float[Tensor, "b v h w"],
    depth_error: Float[Tensor, "b v h w"],
    intrinsics: Float[Tensor, "b v 3 3"],
    valid: Bool[Tensor, "b v h w"] | None,
) -> Matches:
    """`find_matches` of what it reads; for up to PARTNERS + 1 views no GPU is waited for."""
    b, v, _, columns, _ = descriptors.shape
    stride = depth_map.shape[-1] // columns
    centres, depth = _cells(depth_map, stride)
    error = F.avg_pool2d(depth_error.flatten(0, 1), stride).reshape(depth.shape)
    points = rays(centres.expand(b, v, -1, 2), intrinsics) * depth[..., None]
    cells = None
    if valid is not None:
        cells = valid[..., stride // 2 :: stride, stride // 2 :: stride].flatten(2)
    flat = descriptors.flatten(2, 3)
    found, ends = [], []
    likenesses = LIKENESSES if flat.device.type == "cpu" else ON_DEVICE
    for i, j in _pairs(flat).split(max(1, likenesses // (b * flat.shape[2] ** 2)), dim=1):
        for one, other, best, place, confidence in _compare(flat, cells, i, j, columns):
            moved = place - centres / stride
            confidence = confidence * _of_the_scene(moved, confidence)
            places = rays(place * stride, intrinsics[:, other])[..., :2]
            log_depth = depth[:, other].log().gather(2, best)
            rest = torch.stack([log_depth, error[:, one], confidence], dim=-1)
            found.append(torch.cat([points[:, one], places, rest], dim=-1))
            ends.append(torch.stack([one, other]))
    matches = torch.cat(found, dim=1)
    best = matches[..., -1].topk(min(MATCHES, matches.shape[2]), dim=2).indices
    matches = matches.gather(2, best[..., None].expand(*best.shape, 8)).double()
    points, places, rest = matches.split([3, 2, 3], dim=-1)
    log_depth, error, confidence = rest.unbind(-1)
    cell = stride / intrinsics[..., 0, 0].double().mean(1)
    source, target = torch.cat(ends, dim=1)
    return Matches(source, target, points, places, log_depth, error, confidence, cell)


def _compare(
    flat: Float[Tensor, "b v n c"], cells: Bool[Tensor, "b v n"] | None, first: Tensor,
    second: Tensor, columns: int,
):  # fmt: skip
    """For both directions of some pairs: source, target, best cell, soft place and confidence."""
    # Cosines over the temperature are at most 20: their exponentials need no shift.
    likeness = match_logits(flat[:, first], flat[:, second]).exp_()
    if cells is not None:
        likeness *= cells[:, first, :, None]
        likeness *= cells[:, second, None]
    there, back = _greatest(likeness)
    rows = flat.shape[2] // columns
    for one, other, scores, best, reverse in (
        (first, second, likeness, there, back),
        (second, first, likeness.mT, back, there),
    ):
        place, confidence = _soft_place(scores, best, rows, columns)
        confidence = confidence**4 * _returns(best, reverse, columns)
        confidence = confidence * _interior(best, rows, columns)
        if cells is not None:
            confidence = confidence * cells[:, one]
        yield one, other, best, place, confidence


def _greatest(
    likeness: Float[Tensor, "b q n m"],
) -> tuple[Int[Tensor, "b q n"], Int[Tensor, "b q m"]]:
    """Where each row and each column is greatest; on CPUs, torch takes ten times as long."""
    if likeness.device.type != "cpu":
        return likeness.argmax(3), likeness.argmax(2)
    values = likeness.detach().numpy()
    back = np.zeros((*values.shape[:2], values.shape[3]), np.int64)
    _greatest_of_columns(values, back)
    return torch.from_numpy(values.argmax(3)), torch.from_numpy(back)


@exactly_compiled
def _greatest_of_columns(values, rows):
    """The first row of the greatest value of each column; row 0 where none is a number."""
    for b in range(len(values)):
        for q in range(values.shape[1]):
            greatest = values[b, q, 0].copy()
            for i in range(1, values.shape[2]):
                for j in range(values.shape[3]):
                    value = values[b, q, i, j]
                    more = value > greatest[j]
                    greatest[j] = value if more else greatest[j]
                    rows[b, q, j] = i if more else rows[b, q, j]


def _returns(
    best: Int[Tensor, "*b n"], reverse: Int[Tensor, "*b m"], columns: int
) -> Bool[Tensor, "*b n"]:
    """Whether a match leads back to within 1.5 cells of where it came from."""
    here = torch.arange(best.shape[-1], device=best.device)
    back = reverse.gather(-1, best)
    rows, across = back // columns - here // columns, back % columns - here % columns
    return rows.square() + across.square() < 1.5**2


def _of_the_scene(
    moved: Float[Tensor, "*b n 2"], confidence: Float[Tensor, "*b n"]
) -> Bool[Tensor, "*b n"]:
    """Whether a match is not of something that moves with the camera; `moved` is in cells."""
    distance = moved.norm(dim=-1)
    typical = torch.where(confidence > 0, distance, torch.nan).nanmedian(-1, keepdim=True).values
    return (distance > STILL) | ~(typical > MOVING)


def _interior(cell: Int[Tensor, "*b n"], rows: int, columns: int) -> Bool[Tensor, "*b n"]:
    """Whether a match is off the target's border, where all that leaves the view piles up."""
    row, column = cell // columns, cell % columns
    return (row > 0) & (row < rows - 1) & (column > 0) & (column < columns - 1)


def _cells(depth: Float[Tensor, "b v h w"], stride: int) -> tuple[Tensor, Tensor]:
    """Centres of the descriptor cells in pixels (n, 2), and the z-depth there (b, v, n)."""
    height, width = depth.shape[-2:]
    centres = pixel_grid(height // stride, width // stride, depth) * stride
    middle = depth.log()[..., None, :, :].flatten(0, 1)
    # The centre of an even cell is a pixel corner: the mean of the four pixels around it.
    around = F.avg_pool2d(middle[..., stride // 2 - 1 :, stride // 2 - 1 :], 2, stride)
    return centres.reshape(-1, 2), around.exp().flatten(1).unflatten(0, depth.shape[:2])


def _pairs(descriptors: Float[Tensor, "b v n c"]) -> Int[Tensor, "2 q"]:
    """Pairs of views to match: the reference with all, each view with those most like it."""
    v = descriptors.shape[1]
    if v <= PARTNERS + 1:
        return torch.triu_indices(v, v, 1, device=descriptors.device)
    likeness = F.normalize(descriptors.mean(2), dim=-1)
    likeness = (likeness @ likeness.mT).mean(0).fill_diagonal_(-2)
    chosen = torch.zeros(v, v, dtype=torch.bool, device=descriptors.device)
    chosen.scatter_(1, likeness.topk(PARTNERS, dim=1).indices, True)
    chosen[0] = True
    return (chosen | chosen.T).triu(1).nonzero().T


def _soft_place(
    likeness: Float[Tensor, "*b n m"], best: Int[Tensor, "*b n"], rows: int, columns: int
) -> tuple[Float[Tensor, "*b n 2"], Float[Tensor, "*b n"]]:
    """Expected place (in cells, centres at half-integers) in the 3x3 block round the best cell.

    With it comes the block's probability.
    """
    nine = torch.arange(9, device=best.device)  # a cell and its neighbours, row by row
    y = (best // columns)[..., None] + nine // 3 - 1
    x = (best % columns)[..., None] + nine % 3 - 1
    inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    index = y.clamp(0, rows - 1) * columns + x.clamp(0, columns - 1)
    whole = likeness.sum(-1).clamp(min=1e-12)
    share = likeness.gather(-1, index) / whole[..., None] * inside
    mass = share.sum(-1)
    place = torch.stack([(share * x).sum(-1), (share * y).sum(-1)], dim=-1)
    return place / mass[..., None].clamp(min=1e-12) + 0.5, mass
