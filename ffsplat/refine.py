"""Camera poses made exact: robust Gauss-Newton on the network's own matches and depth.

Regression gives a pose to start from; what the descriptors match and the depth says is far more
accurate. All views move together, view 0 stays; where a focal length is not known it may change
too. One step solves the normal equations of

    sum over pairs (i, j) and matches m of  w r' S^-1 r  +  small priors,
    r = pi(T_j^-1 T_i x_i) - m_j,

with w the match confidence times a Cauchy weight (Hartley & Zisserman, 2nd ed., appendix 6). The
covariance S = s^2 I + d^2 u u' holds the error s of a match and, along the way u = dr / dlog z that
the target sees the point move with its depth, the error d that the network expects of that depth:
a match says where the epipolar line must pass even if its depth says little.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ffsplat.geometry import (
    cross_matrix,
    invert_rigid,
    pixel_grid,
    rays,
    rigid,
    rotation_from_vector,
    transform_points,
)
from ffsplat.nn.matching import match_logits
from ffsplat.prediction import Prediction

ITERATIONS = 8
MATCH_ERRORS = (10.0, 0.5)
"""Standard deviation of a match, in cells: at first, and in the end.

Starting wide lets most matches vote before outliers are told (graduated non-convexity: Blake &
Zisserman, 1987)."""
DEPTH_ERRORS = 2.0
"""Standard deviation of log depth over its expected absolute error: that of a Laplace density is
1.4, and neighbours err together."""
AGREEMENT = 0.5
"""Standard deviation of the difference of two views' log depths."""
OUTLIER = 2.0
"""Standard deviations at which a residual counts half."""
PRIOR_WEIGHT = 1e-3
"""Weight of staying near the regressed pose, for one full-confidence match a cell."""
ZOOM_WEIGHT = 1e-3
"""Weight of keeping the log of a focal length, in the same unit."""
APART_WEIGHT = 0.03
"""Weight of changing all focal lengths alike."""
FIXED = 1e12
"""Weight of what must not change."""
PARTNERS = 6
"""Views that each view is matched with, beside the reference."""
MATCHES = 256
"""Matches kept of an ordered pair of views."""
STILL = 0.35
"""Cells within which what is matched has not moved in the image."""
MOVING = 1.5
"""Cells that half of a pair's matches move by, at least, where what stays is no part of the scene:
a gripper, a frame or dirt moves with the camera, and says falsely that nothing turned."""


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


@dataclass(frozen=True, eq=False)
class _Cameras:
    """Poses, and the log of each focal length over the one that the matches were made with."""

    poses: Float[Tensor, "b v 4 4"]
    zoom: Float[Tensor, "b v"]


def refine_cameras(
    prediction: Prediction,
    valid: Bool[Tensor, "b v h w"] | None = None,
    known: Bool[Tensor, "b v"] | None = None,
) -> Prediction:
    """The same prediction with better `world_from_camera` and `intrinsics`.

    `valid` is False on padding, `known` is True where the intrinsics are exact. The size of a
    Gaussian follows that of its pixel. One view alone is returned as it is, and so are views of a
    network that does not describe them.
    """
    if prediction.depth.shape[1] < 2 or not prediction.descriptors.shape[-1]:
        return prediction
    matches = find_matches(prediction, valid)
    start = prediction.world_from_camera.double()
    cameras = _Cameras(start, torch.zeros_like(start[..., 0, 0]))
    first, last = (math.log10(error) for error in MATCH_ERRORS)
    for cells in torch.logspace(first, last, ITERATIONS).tolist():
        offset, stiffness = _prior(cameras, start, prediction.scale.double(), known)
        # The prior weighs as much as that share of all matches, whatever their error is by now.
        data = matches.points.shape[2] / (cells * matches.cell).square()[:, None, None]
        stiffness = torch.where(stiffness < FIXED, data * stiffness, stiffness)
        cameras = _step(cameras, matches, cells * matches.cell, offset, stiffness)
    factor = cameras.zoom.exp().to(prediction.depth)
    intrinsics = prediction.intrinsics.clone()
    intrinsics[..., :2, :2] *= factor[..., None, None]
    return replace(
        prediction,
        world_from_camera=cameras.poses.to(prediction.depth),
        intrinsics=intrinsics,
        scales=prediction.scales / factor[..., None, None, None],
    )


def find_matches(prediction: Prediction, valid: Bool[Tensor, "b v h w"] | None) -> Matches:
    """Match the descriptors of all chosen pairs: best cell, its neighbourhood's mean, confidence.

    Confidence is the probability of the 3x3 neighbourhood to the fourth power, 0 where the
    match does not come back to within 1.5 cells. The `MATCHES` best of a pair are kept.
    """
    descriptors = prediction.descriptors
    b, v, rows, columns, _ = descriptors.shape
    stride = prediction.depth.shape[-1] // columns
    centres, depth = _cells(prediction, stride)
    error = F.avg_pool2d(prediction.depth_error.flatten(0, 1), stride).reshape(depth.shape)
    points = rays(centres.expand(b, v, -1, 2), prediction.intrinsics) * depth[..., None]
    cells = torch.ones_like(depth, dtype=torch.bool)
    if valid is not None:
        cells = valid[..., stride // 2 :: stride, stride // 2 :: stride].flatten(2)
    flat = descriptors.flatten(2, 3)
    found, source, target = [], [], []
    for i, j in _pairs(flat):
        # Cosines over the temperature are at most 20: their exponentials need no shift.
        likeness = match_logits(flat[:, i], flat[:, j]).exp_()
        if valid is not None:
            both = cells[:, i, :, None] & cells[:, j, None]
            likeness = likeness * both
        there, back = likeness.argmax(2), likeness.argmax(1)
        for one, other, scores, best, reverse in (
            (i, j, likeness, there, back),
            (j, i, likeness.mT, back, there),
        ):
            place, confidence = _soft_place(scores, best, rows, columns)
            confidence = confidence**4 * _returns(best, reverse, columns)
            confidence = confidence * _interior(best, rows, columns) * cells[:, one]
            confidence = confidence * _of_the_scene(place - centres / stride, confidence)
            places = rays(place * stride, prediction.intrinsics[:, other])[..., :2]
            log_depth = depth[:, other].log().gather(1, best)
            rest = torch.stack([log_depth, error[:, one], confidence], dim=-1)
            found.append(torch.cat([points[:, one], places, rest], dim=-1))
            source.append(one)
            target.append(other)
    matches = torch.stack(found, dim=1)
    best = matches[..., -1].topk(min(MATCHES, matches.shape[2]), dim=2).indices
    matches = matches.gather(2, best[..., None].expand(*best.shape, 8)).double()
    index = torch.tensor([source, target], device=depth.device)
    points, places, rest = matches.split([3, 2, 3], dim=-1)
    log_depth, error, confidence = rest.unbind(-1)
    cell = stride / prediction.intrinsics[..., 0, 0].double().mean(1)
    return Matches(index[0], index[1], points, places, log_depth, error, confidence, cell)


def _returns(
    best: Int[Tensor, "b n"], reverse: Int[Tensor, "b m"], columns: int
) -> Bool[Tensor, "b n"]:
    """Whether a match leads back to within 1.5 cells of where it came from."""
    here = torch.arange(best.shape[1], device=best.device)
    back = reverse.gather(1, best)
    rows, across = back // columns - here // columns, back % columns - here % columns
    return rows.square() + across.square() < 1.5**2


def _of_the_scene(
    moved: Float[Tensor, "b n 2"], confidence: Float[Tensor, "b n"]
) -> Bool[Tensor, "b n"]:
    """Whether a match is not of something that moves with the camera; `moved` is in cells."""
    distance = moved.norm(dim=-1)
    typical = torch.where(confidence > 0, distance, torch.nan).nanmedian(-1, keepdim=True).values
    return (distance > STILL) | ~(typical > MOVING)


def _interior(cell: Int[Tensor, "b n"], rows: int, columns: int) -> Bool[Tensor, "b n"]:
    """Whether a match is off the target's border, where all that leaves the view piles up."""
    row, column = cell // columns, cell % columns
    return (row > 0) & (row < rows - 1) & (column > 0) & (column < columns - 1)


def _cells(prediction: Prediction, stride: int) -> tuple[Tensor, Tensor]:
    """Centres of the descriptor cells in pixels (n, 2), and the z-depth there (b, v, n)."""
    height, width = prediction.depth.shape[-2:]
    centres = pixel_grid(height // stride, width // stride, prediction.depth) * stride
    middle = prediction.depth.log()[..., None, :, :].flatten(0, 1)
    # The centre of an even cell is a pixel corner: the mean of the four pixels around it.
    around = F.avg_pool2d(middle[..., stride // 2 - 1 :, stride // 2 - 1 :], 2, stride)
    return centres.reshape(-1, 2), around.exp().flatten(1).unflatten(0, prediction.depth.shape[:2])


def _pairs(descriptors: Float[Tensor, "b v n c"]) -> list[tuple[int, int]]:
    """Pairs of views to match: the reference with all, each view with those most like it."""
    v = descriptors.shape[1]
    likeness = F.normalize(descriptors.mean(2), dim=-1)
    likeness = (likeness @ likeness.mT).mean(0).fill_diagonal_(-2)
    chosen = torch.zeros(v, v, dtype=torch.bool, device=descriptors.device)
    chosen.scatter_(1, likeness.topk(min(PARTNERS, v - 1), dim=1).indices, True)
    chosen[0] = True
    return [(i, j) for i, j in (chosen | chosen.T).triu(1).nonzero().tolist()]


def _soft_place(
    likeness: Float[Tensor, "b n m"], best: Int[Tensor, "b n"], rows: int, columns: int
) -> tuple[Float[Tensor, "b n 2"], Float[Tensor, "b n"]]:
    """Expected place (in cells, centres at half-integers) in the 3x3 block round the best cell.

    With it comes the block's probability.
    """
    whole = likeness.sum(-1).clamp(min=1e-12)
    row, column = best // columns, best % columns
    mass, place = torch.zeros_like(whole), torch.zeros(*best.shape, 2, device=best.device)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            y, x = row + dy, column + dx
            inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
            index = y.clamp(0, rows - 1) * columns + x.clamp(0, columns - 1)
            share = likeness.gather(2, index[..., None])[..., 0] / whole * inside
            mass = mass + share
            place = place + share[..., None] * torch.stack([x, y], dim=-1)
    return place / mass[..., None].clamp(min=1e-12) + 0.5, mass


def _step(
    cameras: _Cameras,
    matches: Matches,
    error: Float[Tensor, " b"],
    offset: Float[Tensor, "b v 7"],
    stiffness: Float[Tensor, "b 7*v 7*v"],
) -> _Cameras:
    """One Gauss-Newton step: T <- T exp(twist), and the log focal length as seventh of a view."""
    b, v = cameras.zoom.shape
    residual, weight, by_source, by_target = _linearize(cameras, matches, error)
    jacobian = torch.cat([by_source, by_target], dim=-1).flatten(2, 3)
    weighted = (jacobian * weight.flatten(2)[..., None]).mT
    # Each pair of views adds to two rows of the gradient and to four blocks of the matrix.
    ends = torch.stack([matches.source, matches.target], dim=1)
    blocks = (ends[:, :, None] * v + ends[:, None]).flatten()
    slopes = (weighted @ residual.flatten(2)[..., None]).reshape(b, -1, 7)
    curvature = (weighted @ jacobian).reshape(b, -1, 2, 7, 2, 7).transpose(3, 4)
    gradient = (stiffness @ offset.flatten(1)[..., None]).reshape(b, v, 7)
    gradient.index_add_(1, ends.flatten(), slopes)
    hessian = residual.new_zeros(b, v * v, 7, 7)
    hessian.index_add_(1, blocks, curvature.reshape(b, -1, 7, 7))
    hessian = hessian.unflatten(1, (v, v)).transpose(2, 3).reshape(b, 7 * v, 7 * v) + stiffness
    step = torch.linalg.solve(hessian, -gradient.flatten(1)[..., None])[..., 0].unflatten(1, (v, 7))
    fixed = stiffness.diagonal(dim1=1, dim2=2).unflatten(1, (v, 7)) >= FIXED
    step = step.masked_fill(fixed, 0)  # what is fixed stays to the last digit
    # A step is bounded, so that one bad linearisation cannot throw a camera away.
    reach = 0.5 * torch.linalg.vector_norm(matches.points, dim=-1).mean((1, 2))[:, None, None]
    turn, move = step[..., :3].clamp(-0.3, 0.3), step[..., 3:6]
    move = torch.maximum(torch.minimum(move, reach), -reach)
    return _Cameras(
        cameras.poses @ rigid(rotation_from_vector(turn), move),
        cameras.zoom + step[..., 6].clamp(-0.1, 0.1),
    )


def _linearize(cameras: _Cameras, matches: Matches, error: Float[Tensor, " b"]):
    """Residuals (b, p, n, 3) in standard deviations, weights, Jacobians (b, p, n, 3, 7) by views.

    The first two residuals are the place in the target, the third is the log of its depth.
    """
    poses, source, target = cameras.poses, matches.source, matches.target
    shrink, grow = (-cameras.zoom[:, source]).exp(), cameras.zoom[:, target].exp()
    points = _scale_xy(matches.points, shrink[..., None])
    target_from_source = invert_rigid(poses[:, target]) @ poses[:, source]
    local = transform_points(target_from_source, points)
    z = local[..., 2].clamp(min=1e-3)
    pixel = grow[..., None, None] * local[..., :2] / z[..., None]
    zero, one = torch.zeros_like(z), torch.ones_like(z)
    lens = grow[..., None] * one
    rows = [lens, zero, -pixel[..., 0], zero, lens, -pixel[..., 1], zero, zero, one]
    outer = torch.stack(rows, dim=-1).unflatten(-1, (3, 3)) / z[..., None, None]
    turned = outer @ target_from_source[..., :3, :3][:, :, None]
    moved = (turned @ points[..., None])[..., :2, 0]
    whiten = _whitening(moved, error[:, None, None], DEPTH_ERRORS * matches.error)
    residual = torch.cat([pixel - matches.places, (z.log() - matches.log_depth)[..., None]], dim=-1)
    residual = (whiten @ residual[..., None])[..., 0]
    by_source = torch.cat(
        [_twist_jacobian(points), -_scale_xy(points, one, 0.0)[..., None]], dim=-1
    )
    by_source = whiten @ turned @ by_source
    zoomed = torch.cat([pixel, zero[..., None]], dim=-1)[..., None]
    by_target = whiten @ torch.cat([-outer @ _twist_jacobian(local), zoomed], dim=-1)
    trusted = matches.confidence * (local[..., 2] > 1e-3)
    trusted = trusted / (1 + residual[..., :2].square().sum(-1) / OUTLIER**2)
    agreeing = trusted / (1 + residual[..., 2].square() / OUTLIER**2)
    return residual, torch.stack([trusted, trusted, agreeing], dim=-1), by_source, by_target


def _scale_xy(
    points: Float[Tensor, "*b 3"], factor: Float[Tensor, "*#b"], depth: float = 1.0
) -> Float[Tensor, "*b 3"]:
    """Points with x and y times `factor` and z times `depth`."""
    return torch.cat([points[..., :2] * factor[..., None], points[..., 2:] * depth], dim=-1)


def _whitening(
    moved: Float[Tensor, "*b 2"], error: Float[Tensor, "*#b"], depth_error: Float[Tensor, "*b"]
) -> Float[Tensor, "*b 3 3"]:
    """The square root of S^-1 (see above) for the place, and of 1 / AGREEMENT^2 for the depth."""
    squared = moved.square().sum(-1)
    along = depth_error.square() * squared
    shrink = 1 - (error.square() / (error.square() + along)).sqrt()
    outer = moved[..., :, None] * moved[..., None, :]
    place = torch.eye(2).to(moved) - (shrink / squared.clamp(min=1e-12))[..., None, None] * outer
    whiten = torch.zeros(*moved.shape[:-1], 3, 3).to(moved)
    whiten[..., :2, :2] = place / error[..., None, None]
    whiten[..., 2, 2] = 1 / AGREEMENT
    return whiten


def _twist_jacobian(points: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 6"]:
    """Derivative of exp(twist) x at zero: rotation first, then translation."""
    eye = torch.eye(3, dtype=points.dtype, device=points.device).expand(*points.shape, 3)
    return torch.cat([-cross_matrix(points), eye], dim=-1)


def _prior(cameras: _Cameras, start, scale, known: Bool[Tensor, "b v"] | None):
    """How far cameras are from what was regressed (b, v, 7), and the matrix of a quadratic pull.

    Photos mostly come from one lens: that their focal lengths change together costs little.
    """
    away = invert_rigid(start) @ cameras.poses
    # Near the start the rotation vector is the skew part; a weak pull needs no more.
    skew = 0.5 * (away[..., :3, :3] - away[..., :3, :3].transpose(-1, -2))
    rotation = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1)
    translation = torch.einsum("bvji,bvj->bvi", away[..., :3, :3], away[..., :3, 3])
    offset = torch.cat([rotation, translation, cameras.zoom[..., None]], dim=-1)
    weight = torch.full_like(offset, PRIOR_WEIGHT)
    weight[..., 3:6] /= scale[:, None, None].square()
    weight[..., 6] = ZOOM_WEIGHT
    weight[:, 0, :6] = FIXED
    if known is not None:
        weight[..., 6].masked_fill_(known, FIXED)
    stiffness = torch.diag_embed(weight.flatten(1))
    views = weight.shape[1]
    apart = torch.eye(views).to(weight) - 1 / views
    stiffness[:, 6::7, 6::7] += APART_WEIGHT * apart
    return offset, stiffness
