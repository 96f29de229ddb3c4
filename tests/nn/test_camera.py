"""Cameras as nine numbers: conventions of quaternion and field of view, and the unit of poses."""

import math

import torch
from scipy.spatial.transform import Rotation

from ffsplat.geometry import invert_rigid, rigid
from ffsplat.nn.camera import (
    CameraDecoder,
    normalized_poses,
    relative_poses,
    rotation_from_xyzw,
)


def poses(views: int) -> torch.Tensor:
    turns = torch.from_numpy(Rotation.random(views, random_state=0).as_matrix()).float()
    places = torch.randn(views, 3, generator=torch.Generator().manual_seed(0))
    return rigid(turns, places)[None]


def test_quaternions_have_w_last_and_any_length():
    quaternion = Rotation.random(5, random_state=1).as_quat()
    expected = torch.from_numpy(Rotation.from_quat(quaternion).as_matrix())
    torch.testing.assert_close(rotation_from_xyzw(torch.from_numpy(3 * quaternion)), expected)


def test_a_field_of_view_of_a_right_angle_is_half_the_side():
    decoder = CameraDecoder(8)
    with torch.no_grad():
        decoder.field.weight.zero_()
        decoder.field.bias.copy_(torch.tensor([math.pi / 2, 2 * math.atan(0.5)]))  # down, across
    _, intrinsics = decoder(torch.randn(1, 1, 8), torch.tensor([[[64.0, 48.0]]]))
    expected = torch.tensor([[64.0, 0, 32], [0, 24, 24], [0, 0, 1]])
    torch.testing.assert_close(intrinsics[0, 0], expected)


def test_no_field_of_view_gives_a_finite_camera():
    decoder = CameraDecoder(8)
    with torch.no_grad():
        decoder.field.weight.zero_()
        decoder.field.bias.fill_(-1)
    _, intrinsics = decoder(torch.randn(1, 2, 8), torch.tensor([[[64.0, 48.0]]]).expand(1, 2, 2))
    assert intrinsics.isfinite().all()


def test_poses_are_relative_to_the_first_camera():
    given = poses(4)
    found = relative_poses(given)
    assert torch.equal(found[0, 0], torch.eye(4))
    torch.testing.assert_close(given[:, :1] @ found, given)


def test_normalised_poses_forget_the_world_and_its_unit():
    given = poses(5)
    moved = poses(6)[:, 5:] @ given
    moved[..., :3, 3] *= 7
    found = normalized_poses(given)
    torch.testing.assert_close(normalized_poses(moved), found, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[..., :3, 3].norm(dim=-1).median(), torch.tensor(1.0))
    still = given[:, :1].expand(1, 5, 4, 4)
    torch.testing.assert_close(
        normalized_poses(still), (invert_rigid(still) @ still), atol=1e-5, rtol=1e-5
    )
