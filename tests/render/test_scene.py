"""Scenes drawn by cameras: what each kind of image means."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.special
import torch

from ffsplat.errors import UsageError
from ffsplat.render import rasterize, render
from ffsplat.render.spherical import sh_basis, sh_colors
from ffsplat.types import SH_C0, Cameras, Codebook, Gaussians, Scene, SparseCode

ROWS = 150  # more than one pass blends
WIDTH, HEIGHT = 29, 23


def cameras(views: int = 2) -> Cameras:
    poses = np.tile(np.eye(4, dtype=np.float32), (views, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 0.3, views)
    lens = np.array([[25, 0, 14.5], [0, 25, 11.5], [0, 0, 1]], np.float32)
    return Cameras(
        poses,
        np.tile(lens, (views, 1, 1)),
        np.tile(np.array([[WIDTH, HEIGHT]], np.int32), (views, 1)),
        tuple(str(view) for view in range(views)),
    )


@pytest.fixture(scope="module")
def scene() -> Scene:
    random = np.random.default_rng(0)
    n = 400
    means = random.normal(size=(n, 3)) * [0.8, 0.6, 0.3] + [0, 0, 2.5]
    gaussians = Gaussians(
        means.astype(np.float32),
        random.uniform(0.02, 0.2, (n, 3)).astype(np.float32),
        random.normal(size=(n, 4)).astype(np.float32),
        random.uniform(0.2, 1, n).astype(np.float32),
        random.normal(size=(n, 16, 3)).astype(np.float32) * 0.3,
    )
    ids = np.argsort(random.random((n, ROWS)), axis=1)[:, :4].astype(np.int16)
    weights = -np.sort(-random.dirichlet(np.ones(4), n), axis=1)
    ids[:20], weights[:20] = -1, 0
    codes = SparseCode(ids, weights.astype(np.float16), np.ones(n, np.float16))
    codebook = Codebook(
        tuple(f"row {row}" for row in range(ROWS)),
        (np.arange(ROWS) % 2).astype(np.int8),
        np.full(ROWS, -1, np.int16),
        np.ones(ROWS, np.float32),
        {},
    )
    instances = random.integers(-1, 3, n).astype(np.int32)
    return Scene(gaussians, codes, instances, codebook)


def reference(scene: Scene, features: np.ndarray, view: int):
    """Features of one view, by the oracle in float64."""
    seen, where = scene.gaussians, cameras()
    arrays = (
        seen.means, seen.quaternions_wxyz, seen.scales, seen.opacities, features,
        where.world_from_camera[view : view + 1], where.intrinsics[view : view + 1],
    )  # fmt: skip
    tensors = [torch.tensor(array, dtype=torch.float64) for array in arrays]
    drawn = rasterize(*tensors, WIDTH, HEIGHT, backend="reference")
    return drawn.features[0].numpy(), drawn.depth[0].numpy(), drawn.opacity[0].numpy()


def test_basis_is_the_orthonormal_one_of_scipy():
    # The third column of 3DGS is -C1 x: real harmonics with the Condon-Shortley phase.
    random = np.random.default_rng(1)
    directions = random.normal(size=(40, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    polar = np.arccos(directions[:, 2])
    azimuth = np.arctan2(directions[:, 1], directions[:, 0])
    expected = []
    for degree in range(4):
        for order in range(-degree, degree + 1):
            value = scipy.special.sph_harm_y(degree, abs(order), polar, azimuth)
            part = value.imag if order < 0 else value.real
            expected.append(part * (1 if order == 0 else np.sqrt(2)))
    np.testing.assert_allclose(sh_basis(directions, 3), np.stack(expected, 1), atol=1e-12)


def test_colour_of_a_constant_and_of_one_side():
    sh = np.zeros((2, 4, 3), np.float32)
    sh[:, 0, 0] = 0.2 / SH_C0
    sh[:, 2, 1] = 0.1 / np.sqrt(3 / (4 * np.pi))  # grows with z
    colors = sh_colors(sh, np.array([[0, 0, 5.0], [0, 0, -5.0]], np.float32))
    np.testing.assert_allclose(colors, [[0.7, 0.6, 0.5], [0.7, 0.4, 0.5]], atol=1e-6)
    dark = sh_colors(-100 * np.ones((1, 1, 3), np.float32), np.ones((1, 3), np.float32))
    np.testing.assert_array_equal(dark, 0)


def test_rgb_depends_on_the_view_and_lies_over_the_background(scene):
    images = render(scene, cameras(), background=(0.1, 0.9, 0.3))
    assert images.shape == (2, HEIGHT, WIDTH, 3)
    assert images.dtype == np.float32
    for view in range(2):
        centre = cameras().world_from_camera[view, :3, 3]
        colors = sh_colors(scene.gaussians.sh, scene.gaussians.means - centre)
        image, _, opacity = reference(scene, colors, view)
        expected = np.clip(image + (1 - opacity[..., None]) * [0.1, 0.9, 0.3], 0, 1)
        close = np.abs(images[view] - expected).max(-1) < 5e-4
        assert close.mean() > 0.98  # a pixel at the cut of 1/255 may fall to the other side


def test_depth_and_opacity(scene):
    depth, opacity = (render(scene, cameras(), what) for what in ("depth", "opacity"))
    for view in range(2):
        _, expected_depth, expected_opacity = reference(scene, np.zeros((400, 1)), view)
        assert (np.abs(opacity[view] - expected_opacity) < 2e-4).mean() > 0.98
        assert (np.abs(depth[view] - expected_depth) < 2e-3).mean() > 0.98
    assert ((depth > 0) == (opacity > 0)).all()


@pytest.mark.parametrize("level", ["whole", "part"])
def test_codes_are_the_largest_blended_weight(scene, level):
    images = render(scene, cameras(), "codes", level=level)
    assert images.dtype == np.int32
    dense = np.zeros((400, ROWS))
    for pair in range(4):
        known = scene.codes.ids[:, pair] >= 0
        rows, ids = np.nonzero(known)[0], scene.codes.ids[known, pair]
        dense[rows, ids] += scene.codes.weights[known, pair]
    dense[:, scene.codebook.levels != ("whole", "part").index(level)] = 0
    for view in range(2):
        weights, _, opacity = reference(scene, dense, view)
        top = np.sort(weights, axis=-1)
        sure = (top[..., -1] - top[..., -2] > 1e-3) & (np.abs(opacity - 0.5) > 1e-3)
        expected = np.where(opacity >= 0.5, weights.argmax(-1), -1)
        assert sure.mean() > 0.8
        assert (images[view] == expected)[sure].mean() > 0.995
    assert (images == -1).any()
    assert len(np.unique(images)) > 20


def test_splat_of_scores_is_score_of_splatted_codes(scene):
    # score_i = sum_k w_ik s[id_ik]: blending commutes with it.
    table = np.random.default_rng(2).normal(size=ROWS).astype(np.float32)
    known = scene.codes.ids >= 0
    weights = scene.codes.weights.astype(np.float32)
    scores = np.where(known, weights * table[np.where(known, scene.codes.ids, 0)], 0).sum(1)
    splatted = render(scene, cameras(), "score", scores=scores)
    dense = np.zeros((400, ROWS), np.float32)
    rows, pairs = np.nonzero(known)
    dense[rows, scene.codes.ids[rows, pairs]] = weights[rows, pairs]
    gaussians = scene.gaussians
    tensors = [
        torch.tensor(array)
        for array in (
            gaussians.means, gaussians.quaternions_wxyz, gaussians.scales, gaussians.opacities,
            dense, cameras().world_from_camera, cameras().intrinsics,
        )
    ]  # fmt: skip
    codes = rasterize(*tensors, WIDTH, HEIGHT).features.numpy()
    close = np.abs(splatted - codes @ table) < 1e-5
    assert close.mean() > 0.98
    assert np.abs(splatted).max() > 0.1


def test_instances(scene):
    images = render(scene, cameras(), "instance")
    votes = np.eye(4)[scene.instances + 1]
    weights, _, opacity = reference(scene, votes, 0)
    top = np.sort(weights, axis=-1)
    sure = (top[..., -1] - top[..., -2] > 1e-3) & (np.abs(opacity - 0.5) > 1e-3)
    expected = np.where(opacity >= 0.5, weights.argmax(-1) - 1, -1)
    assert (images[0] == expected)[sure].mean() > 0.995
    assert set(np.unique(images)) == {-1, 0, 1, 2}


MEANT = {"codes": {}, "instance": {}, "score": {"scores": np.linspace(0, 1, 400, np.float32)}}


@pytest.fixture(scope="module")
def double(scene) -> Scene:
    """The same scene, with an opacity for meaning beside that for colour."""
    opacities = np.random.default_rng(5).uniform(0.1, 1, 400).astype(np.float32)
    return replace(scene, gaussians=replace(scene.gaussians, meaning_opacities=opacities))


@pytest.mark.parametrize("what", MEANT)
def test_meaning_is_blended_by_its_own_opacity(scene, double, what):
    image = render(double, cameras(), what, **MEANT[what])
    opacities = double.gaussians.meaning_opacities
    swapped = replace(scene, gaussians=replace(scene.gaussians, opacities=opacities))
    np.testing.assert_array_equal(image, render(swapped, cameras(), what, **MEANT[what]))
    colored = render(double, cameras(), what, opacity="color", **MEANT[what])
    np.testing.assert_array_equal(colored, render(scene, cameras(), what, **MEANT[what]))
    assert not np.array_equal(image, colored)


@pytest.mark.parametrize("what", ["rgb", "depth", "opacity"])
def test_colour_does_not_see_the_opacity_for_meaning(scene, double, what):
    expected = render(scene, cameras(), what)
    np.testing.assert_array_equal(render(double, cameras(), what), expected)


@pytest.mark.parametrize("what", MEANT)
def test_equal_opacities_draw_the_same(scene, what):
    opacities = scene.gaussians.opacities.copy()
    same = replace(scene, gaussians=replace(scene.gaussians, meaning_opacities=opacities))
    image = render(same, cameras(), what, **MEANT[what])
    np.testing.assert_array_equal(image, render(scene, cameras(), what, **MEANT[what]))


def test_glass_is_seen_through_and_yet_meant(double):
    # A pane of colour opacity 0 before everything: the picture is that without it.
    pane = replace(
        double[:1].gaussians,
        means=np.array([[0, 0, 1]], np.float32), scales=np.full((1, 3), 3, np.float32),
        opacities=np.zeros(1, np.float32), meaning_opacities=np.ones(1, np.float32),
    )  # fmt: skip
    front = replace(
        double,
        gaussians=Gaussians(
            *(
                np.concatenate([vars(pane)[name], vars(double.gaussians)[name]])
                for name in vars(pane)
            )
        ),
        codes=None,
        instances=np.append(np.int32(9), double.instances).astype(np.int32),
    )
    np.testing.assert_array_equal(render(front, cameras()), render(double, cameras()))
    assert (render(front, cameras(), "instance") == 9).all()


def test_empty_scene_and_no_cameras(scene):
    empty = scene[:0]
    np.testing.assert_array_equal(render(empty, cameras(), background=(1, 0, 0))[..., 0], 1)
    np.testing.assert_array_equal(render(empty, cameras(), "codes"), -1)
    np.testing.assert_array_equal(render(empty, cameras(), "depth"), 0)


def test_mistakes_are_named(scene):
    where = cameras()
    mixed = replace(where, sizes=np.array([[29, 23], [30, 23]], np.int32))
    with pytest.raises(UsageError, match="2 image sizes"):
        render(scene, mixed)
    with pytest.raises(UsageError, match="no cameras"):
        render(scene, where[:0])
    with pytest.raises(UsageError, match="one number a Gaussian"):
        render(scene, where, "score")
    with pytest.raises(UsageError, match="one number a Gaussian"):
        render(scene, where, "score", scores=np.zeros(3, np.float32))
    with pytest.raises(UsageError, match="no codes"):
        render(replace(scene, codes=None), where, "codes")
    with pytest.raises(UsageError, match="no instances"):
        render(replace(scene, instances=None), where, "instance")
    with pytest.raises(UsageError, match="level 'colour'"):
        render(scene, where, "codes", level="colour")
    with pytest.raises(UsageError, match="unknown opacity 'both'"):
        render.__wrapped__(scene, where, "codes", opacity="both")
    with pytest.raises(UsageError, match="cannot render 'normals'"):
        render.__wrapped__(scene, where, "normals")
