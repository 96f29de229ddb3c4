"""The fast rasteriser against the oracle, hand values and identities."""

import math
import subprocess
import sys
import types
from dataclasses import fields

import numpy as np
import pytest
import torch

from ffsplat.errors import MemoryLimit, UsageError
from ffsplat.render import rasterize, rasterize_sets
from ffsplat.render.projection import project
from ffsplat.render.reference import splat_reference
from tests.render.scenes import Leaves, clear_pixels, scene

NO_GSPLAT = not torch.cuda.is_available()
SIZES = {"odd": (53, 37), "tiles": (32, 32), "sliver": (3, 41)}


def images(result) -> list[torch.Tensor]:
    return [result.features, result.depth, result.opacity]


def random_loss(result, mask) -> torch.Tensor:
    """A random linear functional of all three images at the clear pixels."""
    generator = torch.Generator().manual_seed(3)
    total = torch.zeros((), dtype=torch.float64)
    for image in images(result):
        weight = torch.randn(image.shape, generator=generator, dtype=torch.float64)
        total = total + (image.double() * weight)[mask].sum()
    return total


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 4, 20, 68])
@pytest.mark.parametrize("dense", [False, True], ids=["thin", "dense"])
def test_images_match_the_reference(dense, channels, size):
    width, height = SIZES[size]
    leaves = scene(150, channels, width, height, dense)
    fast = rasterize(*leaves.arguments(torch.float32), width, height, backend="cpu")
    slow = rasterize(*leaves.arguments(), width, height, backend="reference")
    mask = clear_pixels(leaves, width, height)
    assert mask.float().mean() > 0.9
    # What a pixel drops after its stop is less than 1e-4 of its features.
    bound = 5e-4 if dense else 2e-4
    for got, expected in zip(images(fast), images(slow), strict=True):
        assert got.shape == expected.shape
        torch.testing.assert_close(got.double()[mask], expected[mask], atol=bound, rtol=bound)
    assert slow.opacity.max() > (0.9999 if dense else 0.5)


@pytest.mark.parametrize("channels", [1, 4, 20, 68])
@pytest.mark.parametrize("dense", [False, True], ids=["thin", "dense"])
def test_gradients_match_the_reference(dense, channels):
    width, height = SIZES["odd"]
    leaves = scene(150, channels, width, height, dense)
    mask = clear_pixels(leaves, width, height)
    gradients = {}
    for backend in ("cpu", "reference"):
        inputs = Leaves(**{k: v.clone().requires_grad_() for k, v in vars(leaves).items()})
        random_loss(rasterize(*inputs.arguments(), width, height, backend=backend), mask).backward()
        gradients[backend] = inputs
    for field in fields(Leaves):
        got = getattr(gradients["cpu"], field.name).grad
        expected = getattr(gradients["reference"], field.name).grad
        assert expected.abs().max() > 0, field.name
        error = (got - expected).norm() / expected.norm()
        assert error < (2e-3 if dense else 2e-4), f"{field.name}: {error:.1e}"


def test_gradients_stop_where_the_image_stopped():
    # A wall of opaque splats: a pixel is full after a few of hundreds. Walking back from the end
    # of the list instead of the stored stop would blow the transmittance up by 1e3 a splat.
    width, height = 19, 17
    leaves = scene(400, 3, width, height, dense=True, views=1)
    leaves.scales.mul_(3)
    mask = clear_pixels(leaves, width, height)
    gradients = {}
    for backend in ("cpu", "reference"):
        arguments = leaves.arguments()
        arguments[3].fill_(0.995)
        arguments[4] = arguments[4].clone().requires_grad_()
        arguments[0] = arguments[0].clone().requires_grad_()
        random_loss(rasterize(*arguments, width, height, backend=backend), mask).backward()
        gradients[backend] = arguments[0].grad, arguments[4].grad
    for got, expected in zip(gradients["cpu"], gradients["reference"], strict=True):
        assert (got - expected).norm() / expected.norm() < 5e-3


def test_one_gaussian_by_hand():
    # Standard deviation 0.1 at depth 2 under focal 40 is 2 px; the low pass adds 0.3 px^2.
    result = one_gaussian(opacity=0.8)
    variance = 2.0**2 + 0.3
    for dx, dy in [(0, 0), (1, 0), (2, 3), (-4, 1)]:
        weight = 0.8 * math.exp(-(dx**2 + dy**2) / (2 * variance))
        at = result.features[0, 10 + dy, 10 + dx]
        torch.testing.assert_close(at, weight * torch.tensor([1.0, -2.0]), atol=2e-6, rtol=0)
        torch.testing.assert_close(
            result.opacity[0, 10 + dy, 10 + dx].item(), weight, atol=1e-6, rtol=0
        )
        torch.testing.assert_close(result.depth[0, 10 + dy, 10 + dx].item(), 2.0, atol=1e-6, rtol=0)
    reach = math.sqrt(2 * variance * math.log(0.8 * 255))
    inside = torch.tensor([abs(x - 10) < reach for x in range(21)])
    assert torch.equal(result.opacity[0, 10] > 0, inside)
    assert (result.depth[result.opacity == 0] == 0).all()


def one_gaussian(opacity: float):
    return rasterize(
        torch.tensor([[0.0, 0.0, 2.0]]),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        torch.full((1, 3), 0.1),
        torch.tensor([opacity]),
        torch.tensor([[1.0, -2.0]]),
        torch.eye(4)[None],
        torch.tensor([[[40.0, 0, 10.5], [0, 40, 10.5], [0, 0, 1]]]),
        21,
        21,
    )


def test_two_gaussians_blend_front_to_back_whatever_their_order():
    for order in ([0, 1], [1, 0]):
        depths, features = torch.tensor([1.0, 2.0])[order], torch.eye(2)[order]
        result = rasterize(
            torch.stack([torch.zeros(2), torch.zeros(2), depths], 1),
            torch.tensor([[1.0, 0, 0, 0]]).repeat(2, 1),
            torch.full((2, 3), 0.05),
            torch.tensor([0.6, 0.5]),
            features,
            torch.eye(4)[None],
            torch.tensor([[[10.0, 0, 2.5], [0, 10, 2.5], [0, 0, 1]]]),
            5,
            5,
        )
        first, second = (0.6, 0.5) if order == [0, 1] else (0.5, 0.6)
        second *= 1 - first
        expected = torch.tensor([first, second])
        torch.testing.assert_close(result.features[0, 2, 2], expected, atol=1e-6, rtol=0)
        depth = (first + 2 * second) / (first + second)
        assert result.depth[0, 2, 2].item() == pytest.approx(depth, abs=1e-6)


def test_views_are_independent():
    leaves = scene(120, 5, 40, 24, views=3)
    mask = clear_pixels(leaves, 40, 24)
    *gaussians, poses, intrinsics = leaves.arguments(torch.float32)
    together = rasterize(*gaussians, poses, intrinsics, 40, 24)
    for view in range(3):
        alone = rasterize(*gaussians, poses[view : view + 1], intrinsics[view : view + 1], 40, 24)
        for a, b in zip(images(together), images(alone), strict=True):
            torch.testing.assert_close(a[view][mask[view]], b[0][mask[view]], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("dense", [False, True], ids=["thin", "dense"])
def test_bits_do_not_depend_on_run_or_threads(dense, monkeypatch):
    monkeypatch.setattr("ffsplat.render.cpu._PAIRS_PER_CHUNK", 64)
    leaves = scene(300, 19, 53, 37, dense)
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 1, 3):
            torch.set_num_threads(count)
            inputs = [tensor.requires_grad_() for tensor in leaves.arguments(torch.float32)]
            result = rasterize(*inputs, 53, 37)
            sum(image.sum() for image in images(result)).backward()
            results.append([*images(result), *(tensor.grad for tensor in inputs)])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_features_are_linear():
    leaves = scene(150, 34, 53, 37)
    arguments = leaves.arguments(torch.float32)
    mixing = torch.randn(34, 3, generator=torch.Generator().manual_seed(1))
    mixed = rasterize(*arguments[:4], arguments[4] @ mixing, *arguments[5:], 53, 37)
    plain = rasterize(*arguments, 53, 37)
    torch.testing.assert_close(mixed.features, plain.features @ mixing, atol=2e-5, rtol=1e-5)


def test_length_of_quaternions_does_not_matter():
    arguments = scene(60, 3, 30, 20).arguments(torch.float32)
    plain = rasterize(*arguments, 30, 20)
    arguments[1] = 5 * arguments[1]
    torch.testing.assert_close(rasterize(*arguments, 30, 20).features, plain.features)


def test_nothing_to_see():
    leaves = scene(40, 3, 30, 20)
    arguments = leaves.arguments(torch.float32)
    behind = arguments.copy()
    behind[0] = arguments[0] * torch.tensor([1.0, 1.0, -1.0]) - torch.tensor([0.0, 0.0, 9.0])
    faint = [*arguments[:3], torch.full((40,), 0.003), *arguments[4:]]
    empty = [tensor[:0] for tensor in arguments[:5]] + arguments[5:]
    no_views = arguments[:5] + [tensor[:0] for tensor in arguments[5:]]
    for case in (behind, faint, empty, no_views):
        inputs = [tensor.clone().requires_grad_() for tensor in case]
        result = rasterize(*inputs, 30, 20)
        assert all((image == 0).all() for image in images(result))
        sum(image.sum() for image in images(result)).backward()
        assert all((tensor.grad == 0).all() for tensor in inputs)


def test_no_channels():
    arguments = scene(40, 0, 30, 20).arguments(torch.float32)
    result = rasterize(*arguments, 30, 20)
    assert result.features.shape == (2, 20, 30, 0)
    assert result.depth.max() > 1


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e-3, 1e4, 1e12, 1e30])
@pytest.mark.parametrize("shape", ["ball", "needle", "disc"])
@pytest.mark.parametrize("low_pass", [0.3, 0.0])
def test_extreme_scales_stay_finite(scale, shape, low_pass):
    leaves = scene(30, 3, 30, 20)
    pattern = {"ball": [1, 1, 1], "needle": [1, 0, 0], "disc": [1, 1, 0]}[shape]
    arguments = leaves.arguments(torch.float32)
    arguments[2] = scale * torch.tensor(pattern).float().repeat(30, 1)
    inputs = [tensor.requires_grad_() for tensor in arguments]
    result = rasterize(*inputs, 30, 20, low_pass=low_pass)
    sum(image.sum() for image in images(result)).backward()
    assert all(image.isfinite().all() for image in images(result))
    assert all(tensor.grad.isfinite().all() for tensor in inputs)


def test_needles_keep_their_area():
    # In float32, a c - b^2 of this covariance is noise; the determinant must not be.
    arguments = scene(1, 1, 64, 64, views=1).arguments(torch.float64)
    arguments[0] = torch.tensor([[0.0, 0.0, 1.0]]).double()
    arguments[2] = torch.tensor([[300.0, 1e-3, 1e-3]]).double()
    arguments[1] = torch.tensor([[0.9, 0.1, 0.2, 0.35]]).double()
    geometry = [*arguments[:4], torch.eye(4).double()[None], arguments[6]]
    exact = project(*geometry, 64, 64).conics
    rounded = project(*(tensor.float() for tensor in geometry), 64, 64).conics
    torch.testing.assert_close(rounded.double(), exact, rtol=1e-3, atol=1e-6)


def test_bad_numbers_harm_only_their_own_gaussian():
    arguments = scene(40, 3, 30, 20).arguments(torch.float32)
    clean = rasterize(*(tensor[1:] for tensor in arguments[:5]), *arguments[5:], 30, 20)
    for index in range(4):
        broken = [tensor.clone() for tensor in arguments]
        broken[index][0] = math.nan
        result = rasterize(*broken, 30, 20)
        assert all(torch.equal(a, b) for a, b in zip(images(result), images(clean), strict=True)), (
            index
        )


def test_too_many_tiles_are_refused_before_they_are_listed(monkeypatch):
    monkeypatch.setattr("ffsplat.render.cpu._MOST_PAIRS", 10)
    with pytest.raises(MemoryLimit, match="too many to draw"):
        rasterize(*scene(40, 3, 30, 20).arguments(torch.float32), 30, 20)


def test_exponential_is_exact_to_two_millionths():
    from ffsplat.render.kernel import exponential

    x = np.linspace(-5.6, 0, 2001).astype(np.float32)
    got = np.array([exponential(value) for value in x])
    np.testing.assert_allclose(got, np.exp(x.astype(np.float64)), rtol=2e-6)


def test_mistakes_are_named():
    arguments = scene(4, 3, 30, 20).arguments(torch.float32)
    with pytest.raises(UsageError, match="0 x 20"):
        rasterize(*arguments, 0, 20)
    with pytest.raises(UsageError, match="unknown backend 'cuda'"):
        # Past the type checker of the tests, as a user's string would go.
        rasterize.__wrapped__(*arguments, 30, 20, backend="cuda")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="gsplat backend needs"):
            rasterize(*arguments, 30, 20, backend="gsplat")


def test_threads_start_anew_after_a_fork():
    # torch itself must not compute in a child whose parent used threads; the kernel may.
    program = """
import os, torch
torch.set_num_threads(2)
from ffsplat.render.cpu import _deal
work = [(i, i + 1) for i in range(9)]
before = list(_deal(sum, work))
child = os.fork()
if child == 0:
    os._exit(0 if list(_deal(sum, work)) == before == list(range(1, 19, 2)) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=120, check=False)
    assert done.returncode == 0


def test_gsplat_is_called_as_version_1_5_3_wants(monkeypatch):
    # The signature of gsplat 1.5.3, answered by the reference: names, frames and channels fit.
    def rasterization(
        means, quats, scales, opacities, colors, viewmats, Ks, width, height,
        near_plane=0.01, far_plane=1e10, radius_clip=0.0, eps2d=0.3, sh_degree=None, packed=True,
        tile_size=16, backgrounds=None, render_mode="RGB", sparse_grad=False, absgrad=False,
        rasterize_mode="classic", channel_chunk=32,
    ):  # fmt: skip
        assert (render_mode, sh_degree, backgrounds) == ("RGB+D", None, None)
        assert channel_chunk >= colors.shape[-1] + 1
        if means.ndim > 2:
            both = zip(means, quats, scales, opacities, colors, viewmats, Ks, strict=True)
            drawn = [
                rasterization(
                    *one, width, height, near_plane=near_plane, eps2d=eps2d,
                    render_mode=render_mode, channel_chunk=channel_chunk,
                )
                for one in both
            ]  # fmt: skip
            images, opacities, _ = zip(*drawn, strict=True)
            return torch.stack(images), torch.stack(opacities), {}
        image, depth, opacity = splat_reference(
            means, quats, scales, opacities, colors, torch.linalg.inv(viewmats), Ks, width, height,
            eps2d, near_plane,
        )  # fmt: skip
        return torch.cat([image, depth[..., None]], -1), opacity[..., None], {}

    monkeypatch.setitem(sys.modules, "gsplat", types.SimpleNamespace(rasterization=rasterization))
    from ffsplat.render.gsplat_backend import splat_gsplat

    arguments = scene(60, 7, 30, 20).arguments()
    got = splat_gsplat(*arguments, 30, 20, 0.5, 2.0)
    expected = splat_reference(*arguments, 30, 20, 0.5, 2.0)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)
    twice = [torch.stack([tensor, tensor]) for tensor in arguments]
    for a, b in zip(splat_gsplat(*twice, 30, 20, 0.5, 2.0), expected, strict=True):
        torch.testing.assert_close(a, torch.stack([b, b]))


SETS = ("cpu", pytest.param("gsplat", marks=pytest.mark.skipif(NO_GSPLAT, reason="no CUDA device")))


@pytest.mark.parametrize("backend", SETS)
def test_sets_are_drawn_as_each_alone(backend):
    scenes = [scene(40, 3, 30, 20, seed=seed).arguments(torch.float32) for seed in range(3)]
    device = "cuda" if backend == "gsplat" else "cpu"
    *geometry, poses, lenses = (
        torch.stack(tensors).to(device).detach() for tensors in zip(*scenes, strict=True)
    )
    leaves = [tensor.requires_grad_() for tensor in geometry]
    together = rasterize_sets(*leaves, poses[:, 0], lenses[:, 0], 30, 20, backend=backend)
    (together.features.square().sum() + together.depth.sum()).backward()
    for index in range(3):
        alone = [tensor[index].detach().requires_grad_() for tensor in leaves]
        one = rasterize(*alone, poses[index, :1], lenses[index, :1], 30, 20, backend=backend)
        (one.features.square().sum() + one.depth.sum()).backward()
        for got, expected in zip(images(together), images(one), strict=True):
            torch.testing.assert_close(got[index : index + 1], expected)
        for all_of_them, own in zip(leaves, alone, strict=True):
            # A GPU adds up in any order.
            torch.testing.assert_close(all_of_them.grad[index], own.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(NO_GSPLAT, reason="no CUDA device")
@pytest.mark.parametrize("channels", [3, 67])
def test_gsplat_draws_what_the_cpu_draws(channels):
    pytest.importorskip("gsplat")
    leaves = scene(200, channels, 64, 48)
    mask = clear_pixels(leaves, 64, 48)
    arguments = leaves.arguments(torch.float32)
    results = {}
    for device, backend in (("cuda", "gsplat"), ("cpu", "cpu")):
        inputs = [tensor.to(device).detach().requires_grad_() for tensor in arguments]
        result = rasterize(*inputs, 64, 48, backend=backend)
        drawn = [image.cpu() for image in images(result)]
        random_loss(type(result)(*drawn), mask).backward()
        results[backend] = drawn, [tensor.grad for tensor in inputs[:6]]
    for got, expected in zip(results["gsplat"][0], results["cpu"][0], strict=True):
        torch.testing.assert_close(got[mask], expected[mask], atol=1e-3, rtol=1e-3)
    for got, expected in zip(results["gsplat"][1][:5], results["cpu"][1][:5], strict=True):
        assert (got.cpu() - expected).norm() / expected.norm() < 1e-2
