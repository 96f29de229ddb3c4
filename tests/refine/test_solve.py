"""Refinement: with exact depth and tell-tale descriptors it finds the exact poses."""

from dataclasses import replace

import torch
from described import exact_prediction

from ffsplat.geometry import rigid, rotation_angle, rotation_from_vector
from ffsplat.prediction import Prediction
from ffsplat.refine import solve
from ffsplat.refine.matches import find_matches
from ffsplat.refine.solve import refine_cameras


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


def test_reference_stays_and_one_view_is_left_alone():
    start = disturb(exact_prediction(3), 0.05, 0.1)
    assert torch.equal(refine_cameras(start).world_from_camera[:, 0], torch.eye(4)[None])
    single = exact_prediction(1)
    assert refine_cameras(single) is single


def test_useless_matches_leave_finite_poses():
    prediction = exact_prediction(3)
    noise = torch.nn.functional.normalize(torch.randn(prediction.descriptors.shape), dim=-1)
    blind = Prediction(**{**vars(prediction), "descriptors": noise})
    assert refine_cameras(blind).world_from_camera.isfinite().all()


def test_a_wrong_focal_length_is_mended_unless_it_is_known(monkeypatch):
    # Without the prior nothing holds it back: exact depth and matches tell the focal length.
    monkeypatch.setattr(solve, "ZOOM_WEIGHT", 1e-6)
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
