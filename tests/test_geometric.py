"""Gaussians from depth: planes with a known normal, footprints by hand, edges and holes."""

import pytest
import torch

from ffsplat import geometric
from ffsplat.geometric import MAX_SLOPE, geometric_gaussians, surface_steps
from ffsplat.geometry import intrinsics_from_focal, matrix_from_quaternion, pixel_grid, rays
from ffsplat.render.projection import project

HEIGHT, WIDTH = 9, 12


def plane(normal, distance=2.0, focal=14.0):
    """Depth of the plane normal . x = distance, in double precision, and its camera."""
    intrinsics = intrinsics_from_focal(torch.full((1, 1), focal).double(), HEIGHT, WIDTH)
    grid = pixel_grid(HEIGHT, WIDTH, intrinsics).reshape(1, 1, -1, 2)
    depth = distance / (rays(grid, intrinsics) @ normal)
    return depth.reshape(1, 1, HEIGHT, WIDTH), intrinsics


def gaussians(depth, intrinsics, error=0.0, valid=None):
    pixels = torch.zeros(*depth.shape, 3).to(depth)
    return geometric_gaussians(depth, torch.full_like(depth, error), intrinsics, pixels, valid)


def covariances(found):
    axes = matrix_from_quaternion(found["quaternions_wxyz"]) * found["scales"][..., None, :]
    return axes @ axes.mT


def test_a_facing_plane_by_hand():
    depth, intrinsics = plane(torch.tensor([0, 0, 1.0]).double(), distance=3.0, focal=6.0)
    found = gaussians(depth, intrinsics)
    # A pixel is 3 / 6 wide: a tenth of it along the surface, a hundredth across, without a turn.
    expected = torch.tensor([0.05, 0.05, 0.005]).double().square().diag()
    torch.testing.assert_close(covariances(found), expected.expand(1, 1, HEIGHT, WIDTH, 3, 3))
    assert torch.equal(found["offsets"], torch.zeros(1, 1, HEIGHT, WIDTH, 2).double())
    torch.testing.assert_close(found["opacities"], torch.full_like(depth, 0.99))


@pytest.mark.parametrize("normal", [[0.3, 0.2, 0.9], [-0.8, 0.1, 0.7], [0.2, -0.7, 0.6]])
def test_a_tilted_plane_gives_its_normal_everywhere(normal):
    normal = torch.nn.functional.normalize(torch.tensor(normal).double(), dim=0)
    found = gaussians(*plane(normal))
    across = matrix_from_quaternion(found["quaternions_wxyz"])[..., 2]
    torch.testing.assert_close((across @ normal).abs(), torch.ones(1, 1, HEIGHT, WIDTH).double())
    rotations = matrix_from_quaternion(found["quaternions_wxyz"])
    eye = torch.eye(3).double().expand_as(rotations)
    torch.testing.assert_close(rotations @ rotations.mT, eye)


def test_seen_from_its_own_view_every_splat_is_round_and_a_tenth_of_a_pixel_wide():
    normal = torch.nn.functional.normalize(torch.tensor([0.5, -0.3, 0.8]).double(), dim=0)
    depth, intrinsics = plane(normal)
    found = gaussians(depth, intrinsics)
    grid = pixel_grid(HEIGHT, WIDTH, depth).reshape(1, -1, 2)
    means = (rays(grid, intrinsics[0]) * depth.reshape(1, -1, 1))[0]
    scales = found["scales"].reshape(-1, 3).clone()
    scales[:, 2] = 0
    seen = project(
        means, found["quaternions_wxyz"].reshape(-1, 4), scales, torch.ones(len(means)).double(),
        torch.eye(4).double()[None], intrinsics[0], WIDTH, HEIGHT, low_pass=0.0,
    )  # fmt: skip
    expected = torch.tensor([100.0, 0, 100]).double().expand_as(seen.conics)
    torch.testing.assert_close(seen.conics, expected)
    torch.testing.assert_close(seen.means2d, grid)


def test_a_pixel_beside_an_edge_belongs_to_its_own_side():
    depth = torch.full((1, 1, HEIGHT, WIDTH), 2.0)
    depth[..., 5:] = 6.0
    found = gaussians(depth, intrinsics_from_focal(torch.full((1, 1), 10.0), HEIGHT, WIDTH))
    pixel = depth / 10
    expected = torch.stack([0.1 * pixel, 0.1 * pixel, 0.01 * pixel], -1)
    torch.testing.assert_close(found["scales"], expected)


def test_what_lies_between_two_surfaces_is_not_longer_than_the_limit():
    depth = torch.full((1, 1, 1, 5), 2.0)
    depth[..., 2], depth[..., 3:] = 5.0, 9.0
    intrinsics = intrinsics_from_focal(torch.full((1, 1), 100.0), 1, 5)
    usable = torch.ones_like(depth, dtype=torch.bool)
    across, down = surface_steps(depth, intrinsics, usable)
    # The middle pixel is on the axis: it moves a pixel across and MAX_SLOPE pixels in depth.
    torch.testing.assert_close(across[0, 0, 0, 2], torch.tensor([0.05, 0, MAX_SLOPE * 0.05]))
    torch.testing.assert_close(down[0, 0, 0, 2], torch.tensor([0, 0.05, 0]))


def test_opacity_follows_the_expected_error():
    depth, intrinsics = plane(torch.tensor([0, 0, 1.0]).double())
    found = gaussians(depth, intrinsics, error=0.2)
    torch.testing.assert_close(
        found["opacities"], torch.full_like(depth, 0.99 * 0.36787944117144233)
    )


@pytest.mark.parametrize("hole", [torch.nan, torch.inf, 0.0, -1.0])
def test_pixels_without_depth_are_transparent_and_finite_and_hide_nothing(hole):
    normal = torch.nn.functional.normalize(torch.tensor([0.3, 0.2, 0.9]).double(), dim=0)
    depth, intrinsics = plane(normal)
    whole = gaussians(depth, intrinsics)
    broken = depth.clone()
    broken[0, 0, 4, 4] = hole
    kept = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    kept[4, 4] = False
    found = gaussians(broken, intrinsics, valid=None)
    masked = gaussians(depth, intrinsics, valid=kept[None, None])
    for other in (found, masked):
        assert all(value.isfinite().all() for value in other.values())
        assert torch.equal(other["opacities"][0, 0] > 0, kept)
        torch.testing.assert_close(covariances(other)[0, 0][kept], covariances(whole)[0, 0][kept])


def test_a_single_pixel_faces_the_camera():
    depth = torch.full((1, 1, 1, 1), 4.0)
    found = gaussians(depth, intrinsics_from_focal(torch.full((1, 1), 2.0), 1, 1))
    torch.testing.assert_close(found["scales"][0, 0, 0, 0], torch.tensor([0.2, 0.2, 0.02]))


def test_gradients_are_those_of_finite_differences_and_holes_have_none():
    depth, intrinsics = plane(torch.tensor([0.3, 0.2, 0.9]).double())
    noise = torch.rand(depth.shape, generator=torch.Generator().manual_seed(0)).double()
    depth = (depth + 0.2 * noise)[..., :3, :4].clone()

    def shape(depth, intrinsics):
        found = gaussians(depth, intrinsics)
        return covariances(found)

    inputs = (depth.requires_grad_(), intrinsics.clone().requires_grad_())
    assert torch.autograd.gradcheck(shape, inputs, atol=1e-6)
    flat = torch.full((1, 1, 3, 4), 2.0)
    flat[0, 0, 1, 1] = torch.nan
    flat.requires_grad_()
    found = gaussians(flat, intrinsics_from_focal(torch.full((1, 1), 3.0), 3, 4))
    sum(value.sum() for value in found.values()).backward()
    assert flat.grad.isfinite().all()
    assert flat.grad[0, 0, 1, 1] == 0


def test_views_and_sets_are_independent():
    random = torch.Generator().manual_seed(3)
    depth = 2 + torch.rand(2, 3, 5, 6, generator=random)
    error = torch.rand(2, 3, 5, 6, generator=random)
    focal = 5 + torch.rand(2, 3, generator=random)
    intrinsics = intrinsics_from_focal(focal, 5, 6)
    pixels = torch.rand(2, 3, 5, 6, 3, generator=random)
    together = geometric.geometric_gaussians(depth, error, intrinsics, pixels)
    for b, v in ((0, 0), (1, 2)):
        rows = (slice(b, b + 1), slice(v, v + 1))
        alone = geometric_gaussians(depth[rows], error[rows], intrinsics[rows], pixels[rows])
        for name, value in alone.items():
            torch.testing.assert_close(together[name][rows], value)
