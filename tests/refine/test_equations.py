"""Normal equations of a step: slopes by automatic differentiation, covariances by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from described import exact_prediction

from ffsplat.geometry import invert_rigid, rigid, rotation_from_vector, transform_points
from ffsplat.refine.equations import CameraState, Sightings, inverse, normal_equations
from ffsplat.refine.matches import find_matches
from ffsplat.refine.residuals import AGREEMENT, DEPTH_ERRORS, OUTLIER, sum_pairs

ERROR = 0.04


def changed(seen: Sightings, **rows: np.ndarray) -> Sightings:
    """The same with other points (p, 3, n), log depths, errors or confidences (p, n)."""
    matches = seen.matches.copy()
    of = {"points": slice(0, 3), "log_depth": 5, "error": 6, "confidence": 7}
    for name, values in rows.items():
        matches[:, of[name]] = values
    return replace(seen, matches=matches)


def scene(views: int = 3) -> tuple[CameraState, Sightings]:
    """Cameras a little off, with focal lengths a little off, and matches of uncertain depth."""
    prediction = exact_prediction(views)
    seen = Sightings.of(find_matches(prediction, None), 0)
    random = np.random.default_rng(0)
    exact = prediction.world_from_camera[0].double().numpy()
    start = CameraState(exact, np.zeros(views))
    seen = changed(seen, error=random.uniform(0, 0.2, seen.matches[:, 6].shape))
    return start.moved(random.normal(0, 0.05, (views, 7))), seen


def residuals(step: torch.Tensor, cameras: CameraState, seen: Sightings) -> torch.Tensor:
    """In the image and in log depth (p, n, 3), after a step of the cameras (v, 7), by torch."""
    poses = torch.from_numpy(cameras.poses) @ rigid(rotation_from_vector(step[:, :3]), step[:, 3:6])
    zoom = torch.from_numpy(cameras.zoom) + step[:, 6]
    source, target = torch.from_numpy(seen.source), torch.from_numpy(seen.target)
    points, seen_there, _ = torch.from_numpy(seen.matches).mT.split([3, 3, 2], dim=-1)
    shrink = torch.exp(-zoom[source])[:, None, None]
    points = torch.cat([points[..., :2] * shrink, points[..., 2:]], dim=-1)
    local = transform_points(invert_rigid(poses[target]) @ poses[source], points)
    place = local[..., :2] / local[..., 2:] * torch.exp(zoom[target])[:, None, None]
    return torch.cat([place, local[..., 2:].log()], dim=-1) - seen_there


def inverse_covariance(cameras: CameraState, seen: Sightings) -> torch.Tensor:
    """Of each residual (p, n, 3, 3): u is how the place changes as a point goes along its ray."""
    nothing = torch.zeros(len(cameras.zoom), 7, dtype=torch.float64)
    points, longer = seen.matches[:, :3], 1e-6
    near, far = (
        residuals(nothing, cameras, changed(seen, points=points * (1 + s * longer)))[..., :2]
        for s in (-1, 1)
    )
    along = (
        (far - near) / (2 * longer) * DEPTH_ERRORS * torch.from_numpy(seen.matches[:, 6, :, None])
    )
    covariance = torch.zeros(*along.shape[:2], 3, 3, dtype=torch.float64)
    covariance[..., :2, :2] = along[..., :, None] * along[..., None, :]
    covariance += torch.diag(torch.tensor([ERROR**2, ERROR**2, AGREEMENT**2]))
    return torch.linalg.inv(covariance)


def test_normal_equations_are_those_of_automatic_differentiation():
    cameras, seen = scene()
    nothing = torch.zeros(3, 7, dtype=torch.float64)
    slopes = torch.autograd.functional.jacobian(lambda s: residuals(s, cameras, seen), nothing)
    slopes, r = slopes.flatten(3), residuals(nothing, cameras, seen)
    inverse_of = inverse_covariance(cameras, seen)
    far = torch.einsum("pni,pnij,pnj->pn", r[..., :2], inverse_of[..., :2, :2], r[..., :2])
    trusted = torch.from_numpy(seen.matches[:, 7]) / (1 + far / OUTLIER**2)
    agreeing = trusted / (1 + (r[..., 2] / AGREEMENT).square() / OUTLIER**2)
    weight = torch.stack([trusted, trusted, agreeing], dim=-1)
    weighted = inverse_of * weight[..., None]
    gradient, hessian = normal_equations(cameras, seen, ERROR)
    expected = torch.einsum("pnia,pnij,pnj->a", slopes, weighted, r)
    np.testing.assert_allclose(
        gradient, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max())
    )
    expected = torch.einsum("pnia,pnij,pnjb->ab", slopes, weighted, slopes)
    np.testing.assert_allclose(
        hessian, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max())
    )


@pytest.mark.parametrize(("error", "blind"), [(1e6, True), (1e-6, False)])
def test_a_match_of_unknown_depth_is_blind_along_its_epipolar_line(error, blind):
    cameras, seen = scene(2)
    relative = inverse(cameras.poses[seen.target]) @ cameras.poses[seen.source]
    zooms = np.stack([cameras.zoom[seen.source], cameras.zoom[seen.target]], axis=1)
    nothing = torch.zeros(2, 7, dtype=torch.float64)
    away = []
    for longer in (1.0, 1.001):
        points = longer * seen.matches[:, :3]
        moved = changed(seen, points=points, error=np.float64(error), confidence=np.float64(1))
        depth = moved.matches[:, 5] + residuals(nothing, cameras, moved)[..., 2].numpy()
        matches = changed(moved, log_depth=depth).matches  # only places disagree
        # Each match in a pair of its own.
        alone = matches.transpose(0, 2, 1).reshape(-1, 8, 1)
        pairs = np.repeat(np.arange(2), matches.shape[2])
        away.append(sum_pairs(relative[pairs], zooms[pairs], alone, ERROR)[:, 8, 8])
    assert (np.abs(away[1] - away[0]).max() < 1e-4) == blind


def test_points_behind_a_camera_say_nothing():
    cameras, seen = scene(2)
    behind = changed(seen, points=seen.matches[:, :3] * np.array([1, 1, -1])[:, None])
    gradient, hessian = normal_equations(cameras, behind, ERROR)
    assert not gradient.any()
    assert not hessian.any()


def test_a_step_back_is_what_cameras_are_from_their_start():
    cameras, _ = scene()
    step = np.random.default_rng(1).normal(0, 1e-3, (3, 7))
    np.testing.assert_allclose(
        cameras.moved(step).from_start(cameras)[:, :6], step[:, :6], atol=2e-6
    )
