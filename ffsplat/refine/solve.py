"""Camera poses made exact: robust Gauss-Newton on the network's own matches and depth.

Regression gives a pose to start from; what the descriptors match and the depth says is far more
accurate. All views move together, view 0 stays; where a focal length is not known it may change
too. One step solves the normal equations of

    sum over pairs (i, j) and matches m of  w r' S^-1 r  +  small priors,
    r = pi(T_j^-1 T_i x_i) - m_j,

with w the match confidence times a Cauchy weight (Hartley & Zisserman, 2nd ed., appendix 6); see
`residuals`. There are a few cameras and some thousand matches: no device is quicker than the CPU.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ffsplat.device import on_cpu
from ffsplat.prediction import Prediction
from ffsplat.refine.equations import CameraState, Sightings, normal_equations
from ffsplat.refine.matches import Matches, find_matches

ITERATIONS = 8
MATCH_ERRORS = (10.0, 0.5)
"""Standard deviation of a match, in cells: at first, and in the end.

Starting wide lets most matches vote before outliers are told (graduated non-convexity: Blake &
Zisserman, 1987)."""
PRIOR_WEIGHT = 1e-3
"""Weight of staying near the regressed pose, for one full-confidence match a cell."""
ZOOM_WEIGHT = 1e-3
"""Weight of keeping the log of a focal length, in the same unit."""
APART_WEIGHT = 0.03
"""Weight of changing all focal lengths alike."""
FIXED = 1e12
"""Weight of what must not change."""


def refine_cameras(
    prediction: Prediction,
    valid: Bool[Tensor, "b v h w"] | None = None,
    known: Bool[Tensor, "b v"] | None = None,
    find: Callable[[Prediction, Bool[Tensor, "b v h w"] | None], Matches] = find_matches,
) -> Prediction:
    """The same prediction with better `world_from_camera` and `intrinsics`.

    `valid` is False on padding, `known` is True where the intrinsics are exact. The size of a
    Gaussian follows that of its pixel. `find` finds the matches, on any device. One view alone is
    returned as it is, and so are views of a network that does not describe them.
    """
    if prediction.depth.shape[1] < 2 or not prediction.descriptors.shape[-1]:
        return prediction
    matches = on_cpu(find(prediction, valid))
    starts = prediction.world_from_camera.double().cpu().numpy()
    refined = [
        _refine(
            CameraState(start, np.zeros(len(start))),
            Sightings.of(matches, row),
            float(prediction.scale[row]),
            np.zeros(len(start), bool) if known is None else known[row].cpu().numpy(),
        )
        for row, start in enumerate(starts)
    ]
    like = prediction.depth
    poses = torch.from_numpy(np.stack([one.poses for one in refined])).to(like)
    factor = torch.from_numpy(np.exp([one.zoom for one in refined])).to(like)
    intrinsics = prediction.intrinsics.clone()
    intrinsics[..., :2, :2] *= factor[..., None, None]
    shaped = factor[:, -prediction.scales.shape[1] :]
    scales = prediction.scales / shaped[..., None, None, None]
    return replace(prediction, world_from_camera=poses, intrinsics=intrinsics, scales=scales)


def _refine(
    start: CameraState, seen: Sightings, scale: float, known: Bool[np.ndarray, " v"]
) -> CameraState:
    """Cameras after all steps; `scale` is the mean depth, as the unit of how far they may go."""
    stiffness = _stiffness(scale, known)
    # A step is bounded, so that one bad linearisation cannot throw a camera away.
    reach = 0.5 * float(np.linalg.norm(seen.matches[:, :3], axis=1).mean())
    bound = np.array([0.3] * 3 + [reach] * 3 + [0.1])
    first, last = (math.log10(error) for error in MATCH_ERRORS)
    cameras = start
    for cells in np.logspace(first, last, ITERATIONS).tolist():
        error = cells * seen.cell
        gradient, hessian = normal_equations(cameras, seen, error)
        # The prior weighs as much as that share of all matches, whatever their error is by now.
        pull = np.where(stiffness < FIXED, seen.matches.shape[2] / error**2 * stiffness, stiffness)
        gradient += pull @ cameras.from_start(start).ravel()
        step = -np.linalg.solve(hessian + pull, gradient)
        step[pull.diagonal() >= FIXED] = 0  # what is fixed stays to the last digit
        cameras = cameras.moved(np.clip(step.reshape(-1, 7), -bound, bound))
    return cameras


def _stiffness(scale: float, known: Bool[np.ndarray, " v"]) -> Float64[np.ndarray, "m m"]:
    """The matrix of a quadratic pull to what was regressed, seven rows a view.

    Photos mostly come from one lens: that their focal lengths change together costs little.
    """
    views = len(known)
    weight = np.full((views, 7), PRIOR_WEIGHT)
    weight[:, 3:6] /= scale**2
    weight[:, 6] = np.where(known, FIXED, ZOOM_WEIGHT)
    weight[0, :6] = FIXED
    stiffness = np.diag(weight.ravel())
    stiffness[6::7, 6::7] += APART_WEIGHT * (np.eye(views) - 1 / views)
    return stiffness
