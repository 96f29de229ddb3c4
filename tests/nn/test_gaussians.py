"""Raw outputs to Gaussians: each parameter by hand at one pixel."""

import math

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ffsplat.geometry import quaternion_from_matrix, quaternion_multiply, rigid
from ffsplat.nn.gaussians import activate_harmonic_gaussians


def raw(**values: list[float]) -> torch.Tensor:
    parts = {
        "offset": [0, 0], "scale": [0, 0, 0], "xyzw": [0, 0, 0, 1], "red": [0] * 9,
        "green": [0] * 9, "blue": [0] * 9, "farther": [0], "opacity": [0],
    } | values  # fmt: skip
    return torch.tensor([float(x) for part in parts.values() for x in part])[None, None, None, None]


def activate(values: torch.Tensor, pose: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    intrinsics = torch.tensor([[10.0, 0, 0.5], [0, 20, 0.5], [0, 0, 1]])[None, None]
    pose = torch.eye(4) if pose is None else pose
    depth = torch.full((1, 1, 1, 1), 3.0)
    return activate_harmonic_gaussians(values, depth, intrinsics, pose[None, None])


def test_a_centre_lies_at_its_distance_along_the_moved_ray():
    found = activate(raw(offset=[5, -10], farther=[0.5]))
    depth = 3 + found["depth_offsets"].item()
    point = depth * torch.tensor([5 / 10, -10 / 20, 1])
    torch.testing.assert_close(point.norm(), torch.tensor(3.5))


def test_scales_are_a_share_of_the_pixel_at_the_distance():
    found = activate(raw(scale=[-100, 0, 100], farther=[1]))["scales"].flatten()
    pixel = 0.1 * 4 * (1 / 10 + 1 / 20)
    torch.testing.assert_close(found, pixel * torch.tensor([1e-5, (30 + 1e-5) / 2, 30]))
    assert (activate(raw(farther=[-5]))["scales"] > 0).all()


def test_colours_are_the_constant_band_and_the_others_are_damped():
    found = activate(raw(red=[1] * 9, blue=[2] + [0] * 8))
    harmonics = found["harmonics"][0, 0, 0, 0]
    assert harmonics.shape == (9, 3)
    expected = torch.tensor([1] + [0.025] * 3 + [0.00625] * 5)
    torch.testing.assert_close(harmonics[:, 0], expected)
    constant = 1 / math.sqrt(4 * math.pi)
    torch.testing.assert_close(
        found["colors"].flatten(), 0.5 + constant * torch.tensor([1.0, 0, 2])
    )


XYZW = np.array([0.1, -0.5, 0.3, 0.8]) / np.sqrt(0.99)


def test_an_unturned_camera_keeps_the_quaternion():
    found = activate(raw(xyzw=list(XYZW)))["quaternions_wxyz"].flatten()
    expected = torch.from_numpy(np.roll(XYZW, 1)).float()
    torch.testing.assert_close(found * found[0].sign(), expected)


def test_the_world_sees_the_original_s_product_of_misread_quaternions():
    turn = Rotation.random(random_state=1)
    pose = rigid(torch.from_numpy(turn.as_matrix()).float(), torch.zeros(3))
    found = activate(raw(xyzw=list(XYZW)), pose)["quaternions_wxyz"].flatten()
    world = quaternion_multiply(quaternion_from_matrix(pose[:3, :3]), found)
    misread = Rotation.from_quat(np.roll(XYZW, 1))  # w, x, y, z taken for x, y, z, w
    expected = torch.from_numpy((turn * misread).as_quat()).float()  # and the other way round
    torch.testing.assert_close(world * (world @ expected).sign(), expected)
