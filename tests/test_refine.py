"""Refinement: with exact depth and tell-tale descriptors it finds the exact poses."""

from dataclasses import replace

import torch
from boxroom import cameras, depth_and_points

from ffsplat import refine
from ffsplat.geometry import rigid, rotation_angle, rotation_from_vector
from ffsplat.prediction import Prediction
from ffsplat.refine import _Cameras, _linearize, _whitening, find_matches, refine_cameras

SIZE, STRIDE = 64, 4


def exact_prediction(views: int) -> Prediction:
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


def errors(found: torch.Tensor, truth: torch.Tensor) -> tuple[float, float]:
    turn = rotation_angle(found[..., :3, :3] @ truth[..., :3, :3].mT).rad2deg()
    return turn.max().item(), (found - truth)[..., :3, 3].norm(dim=-1).max().item()


def disturb(prediction: Prediction, turn: float, move: float) -> Prediction:
    random = torch.Generator().manual_seed(2)
    shape = (*prediction.world_from_camera.shape[:2], 3)
    noise = rigid(
        rotation_from_vector(turn * torch.randn(shape, generator=random)),
        move * torch.randn(shape, generator=random),
    )
    noise[:, 0] = torch.eye(4)
    return Prediction(
        **{**vars(prediction), "world_from_camera": prediction.world_from_camera @ noise}
    )


def test_matches_lie_where_geometry_says():
    prediction = exact_prediction(2)
    matches = find_matches(prediction, None)
    good = matches.confidence > 0.2
    assert good.sum() > 50
    pose = prediction.world_from_camera.double()
    local = torch.linalg.inv(pose[:, matches.target]) @ pose[:, matches.source]
    there = matches.points @ local[..., :3, :3].mT + local[..., None, :3, 3]
    error = (there[..., :2] / there[..., 2:] - matches.places).norm(dim=-1)[good]
    # In focal lengths: a cell is 0.08.
    assert error.median() < 0.02


def test_poses_are_found_again():
    for views in (2, 4):
        truth = exact_prediction(views)
        start = disturb(truth, 0.1, 0.2)
        before = errors(start.world_from_camera, truth.world_from_camera)
        after = errors(refine_cameras(start).world_from_camera, truth.world_from_camera)
        assert after[0] < 1.0 < before[0]
        assert after[1] < 0.06 < before[1]


def test_what_moves_with_the_camera_does_not_hold_it():
    truth = exact_prediction(2)
    stuck = truth.descriptors.clone()
    corner = (slice(None), slice(None), slice(1, 7), slice(1, 7))  # a gripper, said to be far away
    marks = torch.nn.functional.normalize(
        torch.randn(1, 1, 6, 6, 64, generator=torch.Generator().manual_seed(3)), dim=-1
    )
    stuck[corner] = marks.expand(-1, 2, -1, -1, -1)
    depth = truth.depth.clone()
    depth[:, :, 4:28, 4:28] = 20.0
    gripped = disturb(replace(truth, descriptors=stuck, depth=depth), 0.05, 0.1)
    still = find_matches(gripped, None)
    own = still.points[..., :2] / still.points[..., 2:]
    unmoved = (own - still.places).norm(dim=-1) < 0.02
    assert unmoved.sum() > 20
    assert not still.confidence[unmoved].any()
    found = refine_cameras(gripped).world_from_camera
    turn, move = errors(found, truth.world_from_camera)
    assert turn < 1.5
    assert move < 0.1


def test_cameras_that_hardly_move_keep_all_their_matches():
    truth = exact_prediction(2)
    same = replace(
        truth,
        descriptors=truth.descriptors[:, :1].expand(-1, 2, -1, -1, -1),
        depth=truth.depth[:, :1].expand(-1, 2, -1, -1),
        world_from_camera=truth.world_from_camera[:, :1].expand(-1, 2, -1, -1).clone(),
    )
    assert (find_matches(same, None).confidence > 0.2).sum() > 100
    found = refine_cameras(disturb(same, 0.05, 0.05)).world_from_camera
    turn, move = errors(found, same.world_from_camera)
    assert turn < 0.3
    assert move < 0.02


def linearized(prediction: Prediction, **changes):
    matches = replace(find_matches(prediction, None), **changes)
    poses = prediction.world_from_camera.double()
    cameras = _Cameras(poses, torch.zeros_like(poses[..., 0, 0]) + 0.1)
    return cameras, matches, _linearize(cameras, matches, 0.5 * matches.cell)


def test_jacobians_are_those_of_finite_differences():
    exact = find_matches(exact_prediction(3), None)
    # Without an error of depth the weighting does not depend on the poses.
    cameras, matches, (residual, _, by_source, by_target) = linearized(
        exact_prediction(3), error=torch.zeros_like(exact.error)
    )
    for pair, (i, j) in enumerate(zip(matches.source, matches.target, strict=True)):
        for view, expected in ((i, by_source), (j, by_target)):
            for axis in range(7):
                step = torch.zeros(7, dtype=torch.float64)
                step[axis] = 1e-6
                twist = rigid(rotation_from_vector(step[:3]), step[3:6])
                moved = _Cameras(cameras.poses.clone(), cameras.zoom.clone())
                moved.poses[:, view] = cameras.poses[:, view] @ twist
                moved.zoom[:, view] += step[6]
                after = _linearize(moved, matches, 0.5 * matches.cell)[0]
                change = (after - residual)[:, pair] / 1e-6
                torch.testing.assert_close(
                    change, expected[:, pair, ..., axis], atol=1e-3, rtol=1e-3
                )


def test_a_match_of_unknown_depth_is_blind_along_its_epipolar_line():
    prediction = exact_prediction(2)
    points = find_matches(prediction, None).points
    for error, blind in ((1e6, True), (1e-6, False)):
        unknown = {"error": torch.full(points.shape[:3], error, dtype=torch.float64)}
        before = linearized(prediction, **unknown)[2][0][..., :2]
        after = linearized(prediction, points=1.001 * points, **unknown)[2][0][..., :2]
        assert ((after - before).abs().amax() < 1e-4) == blind


def test_whitening_is_the_root_of_the_inverse_covariance():
    moved = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    depth_error = torch.linspace(0, 2, 5, dtype=torch.float64)
    whiten = _whitening(moved, torch.full((5,), 0.3).double(), depth_error)[..., :2, :2]
    spread = moved * depth_error[:, None]
    covariance = 0.09 * torch.eye(2, dtype=torch.float64) + spread[:, :, None] * spread[:, None]
    torch.testing.assert_close(whiten @ whiten.mT, torch.linalg.inv(covariance))


def test_reference_stays_and_one_view_is_left_alone():
    start = disturb(exact_prediction(3), 0.05, 0.1)
    assert torch.equal(refine_cameras(start).world_from_camera[:, 0], torch.eye(4)[None])
    single = exact_prediction(1)
    assert refine_cameras(single) is single


def test_padding_is_never_matched():
    prediction = exact_prediction(2)
    valid = torch.ones(1, 2, SIZE, SIZE, dtype=torch.bool)
    valid[..., 32:] = False
    matches = find_matches(prediction, valid)
    trusted = matches.confidence > 0
    assert trusted.any()
    # The principal point is the canvas's middle: what is padded has a positive x.
    assert (matches.points[..., 0][trusted] < 0).all()
    assert (matches.places[..., 0][trusted] < 0.01).all()


def test_useless_matches_leave_finite_poses():
    prediction = exact_prediction(3)
    noise = torch.nn.functional.normalize(torch.randn(prediction.descriptors.shape), dim=-1)
    blind = Prediction(**{**vars(prediction), "descriptors": noise})
    assert refine_cameras(blind).world_from_camera.isfinite().all()


def test_a_wrong_focal_length_is_mended_unless_it_is_known(monkeypatch):
    # Without the prior nothing holds it back: exact depth and matches tell the focal length.
    monkeypatch.setattr(refine, "ZOOM_WEIGHT", 1e-6)
    truth = exact_prediction(4)
    wrong = replace(truth, intrinsics=truth.intrinsics * torch.tensor([1.1, 1.1, 1])[:, None])
    wrong.intrinsics[..., :2, 2] = truth.intrinsics[..., :2, 2]
    mended = refine_cameras(wrong)
    focal = truth.intrinsics[..., 0, 0]
    assert ((mended.intrinsics[..., 0, 0] / focal - 1).abs() < 0.02).all()
    torch.testing.assert_close(mended.scales * mended.intrinsics[..., 0, 0][..., None, None, None],
                               wrong.scales * 1.1 * focal[..., None, None, None])  # fmt: skip
    kept = refine_cameras(wrong, known=torch.ones(1, 4, dtype=torch.bool))
    assert torch.equal(kept.intrinsics, wrong.intrinsics)
