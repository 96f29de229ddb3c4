from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from ffsplat import merge
from ffsplat.codes import to_dense
from ffsplat.consistency import agreement
from ffsplat.geometry import matrix_from_quaternion, project, transform_points
from ffsplat.prediction import PixelMeaning
from ffsplat.render.spherical import sh_colors
from ffsplat.types import Codebook, Gaussians, ViewSource
from tests.fakes import fake_prediction, fake_views

CODEBOOK = Codebook(
    # Levels interleaved, so that a class number is not a row ID.
    names=tuple("abcdefghi"),
    levels=np.array([1, 0, 0, 1, 0, 1, 0, 1, 0], np.int8),
    parents=np.full(9, -1, np.int16),
    counts=np.zeros(9, np.float32),
    spaces={"lexicon": np.eye(9, dtype=np.float16)},
)
WHOLE_ROWS, PART_ROWS = np.array([1, 2, 4, 6, 8]), np.array([0, 3, 5, 7])


def make_scene(prediction=None, views=None, **options):
    options = {
        "min_confidence": 0.0,
        "min_opacity": 0.0,
        "prune_edges": False,
        "consistent": False,
    } | options
    return merge.to_scene(
        prediction or fake_prediction(), views or fake_views(), CODEBOOK, **options
    )


def covariances(quaternions_wxyz, scales):
    axes = (
        matrix_from_quaternion(torch.as_tensor(quaternions_wxyz)) * torch.as_tensor(scales)[:, None]
    )
    return (axes @ axes.mT).numpy()


def test_a_pixel_by_hand():
    prediction = fake_prediction(v=1, h=4, w=4)
    prediction.depth[0, 0, 1, 3] = 2.0
    prediction.offsets[0, 0, 1, 3] = torch.tensor([0.25, -0.5])
    prediction.intrinsics[0, 0] = torch.tensor([[4.0, 0, 2], [0, 4, 2], [0, 0, 1]])
    world = merge.gaussians_from_prediction(prediction)
    # Pixel centre (3.5, 1.5) moved to (3.75, 1.0): ((3.75 - 2) / 4, (1 - 2) / 4, 1) * 2.
    torch.testing.assert_close(world.means[0, 4 + 3], torch.tensor([0.875, -0.5, 2.0]))


def test_means_project_back_to_their_pixels_and_covariances_turn_with_the_camera():
    prediction = fake_prediction(b=2, v=3)
    world = merge.gaussians_from_prediction(prediction)
    assert [value.shape[:2] for value in world] == [(2, 144)] * 5
    means = world.means.unflatten(1, (3, 48))
    points = transform_points(prediction.world_from_camera.inverse(), means)
    torch.testing.assert_close(points[..., 2], prediction.depth.flatten(2))
    x, y = torch.meshgrid(torch.arange(8) + 0.5, torch.arange(6) + 0.5, indexing="xy")
    pixels = (torch.stack([x, y], -1) + prediction.offsets).flatten(2, 3)
    torch.testing.assert_close(project(points, prediction.intrinsics), pixels)
    rotation = prediction.world_from_camera[1, 2, :3, :3].numpy()
    local = covariances(
        prediction.quaternions_wxyz[1, 2].flatten(0, 1), prediction.scales[1, 2].flatten(0, 1)
    )
    ours = covariances(world.quaternions_wxyz[1, 96:], world.scales[1, 96:])
    np.testing.assert_allclose(ours, rotation @ local @ rotation.T, atol=1e-5)


def test_gradients_reach_everything_that_shapes_a_gaussian():
    names = ("depth", "world_from_camera", "intrinsics", "offsets", "scales", "quaternions_wxyz",
             "opacities", "colors")  # fmt: skip
    leaves = {name: getattr(fake_prediction(), name).double().requires_grad_() for name in names}
    world = merge.gaussians_from_prediction(replace(fake_prediction(), **leaves))
    weights = torch.Generator().manual_seed(1)
    sum((value * torch.randn(value.shape, generator=weights)).sum() for value in world).backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None, name
        assert leaf.grad.abs().sum() > 0, name

    def means(depth):
        return merge.gaussians_from_prediction(
            replace(fake_prediction(), **leaves, depth=depth)
        ).means

    leaves = {name: leaf.detach() for name, leaf in leaves.items() if name != "depth"}
    assert torch.autograd.gradcheck(means, 2 + torch.rand(1, 2, 6, 8).double().requires_grad_())


def test_the_scene_holds_the_gaussians_of_every_kept_pixel_in_order():
    prediction = fake_prediction()
    scene = make_scene(prediction)
    world = merge.gaussians_from_prediction(prediction)
    np.testing.assert_array_equal(scene.gaussians.means, world.means[0])
    np.testing.assert_array_equal(scene.gaussians.opacities, prediction.opacities.flatten())
    np.testing.assert_allclose(scene.gaussians.colors, prediction.colors.reshape(-1, 3), atol=1e-6)
    assert scene.provenance == {}
    assert not scene.metric


def test_pixels_are_dropped_for_each_reason():
    prediction, views = fake_prediction(), fake_views()
    prediction.opacities[:] = 0.5
    views.valid[0, 0, 0] = False
    prediction.opacities[0, 0, 0, 1] = 0.001
    prediction.depth_error[0, 0, 0, 2] = 1.0
    prediction.depth[0, 0, 0, 3] = torch.nan
    prediction.depth[0, 0, 0, 4] = -1.0
    scene = make_scene(prediction, views, min_confidence=0.05, min_opacity=0.005)
    world = merge.gaussians_from_prediction(prediction)
    np.testing.assert_array_equal(scene.gaussians.means, world.means[0, 5:])


def test_an_unsure_network_keeps_at_least_half():
    error = torch.linspace(0.5, 1.0, 96).reshape(1, 2, 6, 8)
    prediction = fake_prediction(depth_error=error, opacities=torch.full((1, 2, 6, 8), 0.5))
    scene = make_scene(prediction, min_confidence=0.05)
    world = merge.gaussians_from_prediction(prediction)
    assert 48 <= len(scene) <= 49
    np.testing.assert_array_equal(scene.gaussians.means, world.means[0, : len(scene)])


def test_nothing_valid_gives_an_empty_scene():
    scene = make_scene(
        views=fake_views(valid=np.zeros((2, 6, 8), bool)), voxel=0.1, max_gaussians=5
    )
    assert len(scene) == len(scene.codes) == len(scene.instances) == 0


def test_flying_pixels_are_dropped_from_the_scene():
    prediction = fake_prediction(v=1, depth=torch.full((1, 1, 6, 8), 2.0))
    prediction.depth[..., 3], prediction.depth[..., 4:] = 8.0, 32.0
    views = fake_views(v=1)
    assert len(make_scene(prediction, views)) == 48
    assert len(make_scene(prediction, views, prune_edges=True)) == 42


@pytest.mark.parametrize(("topk", "whole", "part"), [(1, 1, 0), (2, 1, 1), (3, 2, 1), (4, 2, 2)])
def test_codes_share_their_weight_between_the_levels(topk, whole, part):
    prediction = fake_prediction()
    codes = make_scene(prediction, topk=topk).codes
    assert codes.ids.shape == (96, topk)
    expected = np.zeros((96, 9))
    levels = (
        (prediction.whole_logits, WHOLE_ROWS, whole),
        (prediction.part_logits, PART_ROWS, part),
    )
    for logits, rows, count in levels:
        probability = softmax(logits.reshape(96, -1).numpy(), axis=1)
        cut = np.sort(probability, axis=1)[:, -count:][:, :1] if count else 2.0
        probability[probability < cut] = 0
        total = np.maximum(probability.sum(axis=1, keepdims=True), 1e-9)
        expected[:, rows] = probability / total * (0.5 if part else 1.0)
    np.testing.assert_allclose(to_dense(codes, 9), expected, atol=2e-3)
    np.testing.assert_allclose(codes.weights.sum(axis=1, dtype=np.float32), 1, atol=2e-3)
    np.testing.assert_allclose(codes.norms, np.linalg.norm(expected, axis=1), atol=2e-3)


def test_norms_follow_the_first_space():
    rows = np.zeros((9, 2), np.float16)
    rows[:, 0] = 1  # all rows are the same vector: every code is as long as one row
    codebook = replace(CODEBOOK, spaces={"other": rows})
    scene = merge.to_scene(fake_prediction(), fake_views(), codebook)
    np.testing.assert_allclose(scene.codes.norms, 1, atol=2e-3)


def test_instances_follow_place_class_and_embedding():
    prediction = fake_prediction(v=1, h=16, w=16, depth=torch.full((1, 1, 16, 16), 2.0))
    prediction.whole_logits[..., 2] = 100.0
    prediction.whole_logits[0, 0, :, 6:, 3] = 200.0
    prediction.instances[:] = torch.tensor([1.0, 0, 0, 0])
    prediction.instances[0, 0, 10:] = torch.tensor([0, 1.0, 0, 0])
    # At depth 2 a pixel is 0.14 wide and a cell 0.06: no offsets, and pixels that touch.
    prediction.offsets[:] = 0
    prediction.intrinsics[..., (0, 1), (0, 1)] = 40.0
    scene = make_scene(prediction, views=fake_views(v=1, h=16, w=16))
    labels = scene.instances.reshape(16, 16)
    expected = np.zeros((16, 16), int)
    expected[10:], expected[:, :6] = 1, 2
    expected[10:, :6] = 3
    # 10 x 10, 6 x 10, 10 x 6 and 6 x 6 pixels; of equal size, the one with the lower row is first.
    expected[:10, :6], expected[10:, 6:] = 1, 2
    np.testing.assert_array_equal(labels, expected)


def test_cameras_are_in_pixels_of_the_original_photos():
    prediction = fake_prediction()
    crop = np.array([[10.0, 0, 3], [0, 12, -5], [0, 0, 1]])
    views = fake_views()
    views = replace(
        views, sources=tuple(replace(s, original_from_view=crop) for s in views.sources)
    )
    cameras = make_scene(prediction, views).cameras
    assert cameras.names == ("0.jpg", "1.jpg")
    assert cameras.sizes.tolist() == [[80, 60]] * 2
    np.testing.assert_array_equal(cameras.world_from_camera, prediction.world_from_camera[0])
    points = torch.tensor([[[0.3, -0.2, 2.0]], [[-0.5, 0.4, 3.0]]])
    in_view = project(points, prediction.intrinsics[0])[:, 0].numpy()
    in_original = project(points, torch.from_numpy(cameras.intrinsics))[:, 0].numpy()
    np.testing.assert_allclose(in_original, in_view * [10, 12] + [3, -5], rtol=1e-5)


def test_known_focal_lengths_replace_predicted_ones():
    prediction, views = fake_prediction(), fake_views()
    views.intrinsics[1] = [[14.4, 0, 4], [0, 14.4, 3], [0, 0, 1]]  # twice the predicted 7.2
    known = merge.with_known_intrinsics(prediction, views)
    torch.testing.assert_close(known.intrinsics[0, 0], prediction.intrinsics[0, 0])
    np.testing.assert_allclose(known.intrinsics[0, 1], views.intrinsics[1])
    torch.testing.assert_close(known.scales[0, 0], prediction.scales[0, 0])
    torch.testing.assert_close(known.scales[0, 1], prediction.scales[0, 1] / 2)


def test_photos_have_square_pixels_and_their_principal_point_in_the_middle():
    prediction, views = fake_prediction(), fake_views()
    wide = replace(views.sources[0], original_from_view=np.diag([10.0, 12.0, 1.0]), height=72)
    tall = ViewSource("tall.jpg", 45, 60, np.diag([9.0, 10.0, 1.0]))
    views = replace(views, sources=(wide, tall))
    known = merge.with_known_intrinsics(prediction, views)  # 7.2 is predicted, in view pixels
    expected = [[7.2, 7.2 * 10 / 12, 4, 3], [7.2 * 10 / 9, 7.2, 2.5, 3]]
    found = known.intrinsics[0][:, [0, 1, 0, 1], [0, 1, 2, 2]]
    torch.testing.assert_close(found, torch.tensor(expected))
    torch.testing.assert_close(known.scales[0, 0], prediction.scales[0, 0] * (12 / 10) ** 0.5)
    cameras = merge.original_cameras(known, views)
    np.testing.assert_allclose(cameras.intrinsics[0], [[72, 0, 40], [0, 72, 36], [0, 0, 1]], 1e-6)
    np.testing.assert_allclose(cameras.intrinsics[1], [[72, 0, 22.5], [0, 72, 30], [0, 0, 1]], 1e-6)


def test_the_focal_length_of_a_photo_is_that_along_its_longer_side():
    prediction, views = fake_prediction(), fake_views()
    prediction.intrinsics[..., 1, 1] = 9.0  # a network may predict two that differ
    tall = ViewSource("tall.jpg", 60, 80, np.diag([10.0, 10.0, 1.0]))
    views = replace(views, sources=(views.sources[0], tall))
    known = merge.with_known_intrinsics(prediction, views)
    assert known.intrinsics[0, 0, 0, 0] == prediction.intrinsics[0, 0, 0, 0]
    assert known.intrinsics[0, 1, 0, 0] == pytest.approx(9.0)


def test_max_gaussians_keeps_the_surest_in_order():
    prediction = fake_prediction()
    prediction.depth_error[0, 1] = 0.5
    strength = (prediction.opacities * torch.exp(-prediction.depth_error / 0.1)).flatten().numpy()
    scene, thin = make_scene(prediction), make_scene(prediction, max_gaussians=10)
    rows = np.sort(np.argsort(-strength)[:10])
    np.testing.assert_array_equal(thin.gaussians.means, scene.gaussians.means[rows])
    np.testing.assert_array_equal(thin.codes.ids, scene.codes.ids[rows])
    assert merge.strongest(np.ones(5, np.float32), 3).tolist() == [0, 1, 2]
    assert len(make_scene(prediction, max_gaussians=1000)) == 96


def test_a_batch_of_sets_is_no_scene():
    with pytest.raises(ValueError, match="one view set, not 2"):
        make_scene(fake_prediction(b=2))


def test_the_same_input_gives_the_same_scene():
    meaning = torch.linspace(0, 1, 96).reshape(1, 2, 6, 8)
    first, second = (
        make_scene(fake_prediction(meaning_opacities=meaning), voxel=0.3, max_gaussians=40)
        for _ in range(2)
    )
    for item in fields(Gaussians):
        a, b = getattr(first.gaussians, item.name), getattr(second.gaussians, item.name)
        assert a.tobytes() == b.tobytes()
    assert first.codes.weights.tobytes() == second.codes.weights.tobytes()


def test_a_scene_carries_a_low_pass_of_its_own_resolution_and_stays_flat():
    prediction = fake_prediction(h=6, w=8)
    prediction.scales[0, 0, 3, 4] = torch.tensor([0.2, 0.01, 0.3])
    # The shortest axis is y turned about x towards the ray through (4.5, 3.5): what is left of it
    # across the view gains its share.
    half = torch.tensor(0.4)
    prediction.quaternions_wxyz[0, 0, 3, 4] = torch.stack([half.cos(), half.sin(), *[half * 0] * 2])
    axis = torch.tensor([0, (2 * half).cos(), (2 * half).sin()])
    focal = 0.9 * 8
    ray = torch.tensor([0.5 / focal, 0.5 / focal, 1])
    share = 1 - (axis @ ray) ** 2 / (ray @ ray)
    added = 0.25 * (prediction.depth[0, 0, 3, 4] / focal) ** 2
    expected = torch.stack([0.2**2 + added, 0.01**2 + share * added, 0.3**2 + added]).sqrt()
    wide = merge.smoothed(prediction)
    torch.testing.assert_close(wide.scales[0, 0, 3, 4], expected)
    scene = make_scene(prediction)
    np.testing.assert_allclose(scene.gaussians.scales, wide.scales.flatten(0, 3).numpy(), rtol=1e-5)


def test_a_gaussian_moved_behind_its_camera_is_dropped():
    prediction = fake_prediction()
    offsets = torch.zeros_like(prediction.depth)
    offsets[0, 0, 1, 2] = -2 * prediction.depth[0, 0, 1, 2]
    scene = make_scene(replace(prediction, depth_offsets=offsets), consistent=False)
    assert len(scene) == 95


def test_depth_offsets_move_a_gaussian_along_its_ray():
    farther = torch.full((1, 2, 6, 8), 0.5)
    prediction = fake_prediction()
    moved = merge.gaussians_from_prediction(replace(prediction, depth_offsets=farther))
    expected = merge.gaussians_from_prediction(replace(prediction, depth=prediction.depth + 0.5))
    torch.testing.assert_close(moved.means, expected.means)


def test_harmonics_are_turned_into_the_world():
    random = torch.Generator().manual_seed(5)
    coefficients = torch.randn(1, 2, 6, 8, 9, 3, generator=random)
    prediction = fake_prediction(harmonics=coefficients)
    scene = make_scene(prediction)
    directions = np.random.default_rng(0).normal(size=(96, 3)).astype(np.float32)
    rotation = prediction.world_from_camera[0, :, :3, :3].numpy().repeat(48, axis=0)
    seen = sh_colors(scene.gaussians.sh, np.einsum("nij,nj->ni", rotation, directions))
    expected = sh_colors(coefficients.reshape(96, 9, 3).numpy(), directions)
    np.testing.assert_allclose(seen, expected, atol=1e-5)


def pixel_meaning() -> PixelMeaning:
    """Two pairs a pixel over five rows that are all the same vector, and an object a view."""
    random = np.random.default_rng(0)
    rows = np.zeros((5, 2), np.float16)
    rows[:, 0] = 1
    book = Codebook(
        names=("",) * 5,
        levels=np.zeros(5, np.int8),
        parents=np.full(5, -1, np.int16),
        counts=np.ones(5, np.float32),
        spaces={"other": rows},
    )
    return PixelMeaning(
        random.permuted(np.tile(np.arange(5, dtype=np.int16), (2, 6, 8, 1)), axis=-1)[..., :2],
        np.tile(np.array([0.75, 0.25], np.float32), (2, 6, 8, 1)),
        np.arange(2, dtype=np.int32).repeat(48).reshape(2, 6, 8),
        book,
    )


def test_meaning_that_is_given_goes_before_that_of_the_network():
    meaning, prediction = pixel_meaning(), fake_prediction()
    prediction.opacities.clamp_(min=0.3)
    prediction.depth[0, 1, 0, 0] = torch.nan
    scene = make_scene(prediction, meaning=meaning)
    kept = np.delete(np.arange(96), 48)
    np.testing.assert_array_equal(scene.codes.ids[:, :2], meaning.ids.reshape(96, 2)[kept])
    np.testing.assert_array_equal(scene.codes.weights[0], [0.75, 0.25, 0, 0])
    np.testing.assert_allclose(scene.codes.norms, 1, atol=1e-3)  # not that of orthonormal rows
    np.testing.assert_array_equal(scene.instances, meaning.instances.flatten()[kept])
    assert scene.codebook is meaning.codebook
    assert make_scene(prediction, meaning=meaning, topk=1).codes.ids.shape == (95, 1)


def test_faint_gaussians_carry_no_meaning_that_is_given():
    meaning, prediction = pixel_meaning(), fake_prediction()
    prediction.opacities.fill_(0.9)[0, 0, 0, :3] = torch.tensor([0.24, 0.26, 0.1])
    scene = make_scene(prediction, meaning=meaning)
    assert (scene.codes.ids[:, 0] == -1).nonzero()[0].tolist() == [0, 2]
    prediction = replace(prediction, meaning_opacities=torch.full_like(prediction.depth, 0.5))
    assert (make_scene(prediction, meaning=meaning).codes.ids[:, 0] >= 0).all()


def test_radii_are_those_that_a_renderer_draws():
    prediction = fake_prediction()
    prediction.depth[0, 0, 1, 1] = 2.0
    prediction.intrinsics[..., 0, 0] = 8.0
    prediction.scales[0, 0, 1, 1] = torch.tensor([0.1, 0.5, 0.2])  # 2 pixels of 0.25
    assert merge.radii(prediction)[0, 0, 1, 1] == pytest.approx(3 * 4.3**0.5)


def test_without_any_meaning_a_scene_has_colours_only():
    dumb = fake_prediction(whole=0, part=0)
    for codebook in (CODEBOOK, None):
        scene = merge.to_scene(dumb, fake_views(), codebook)
        assert scene.codes is None
        assert scene.instances is None
        assert scene.codebook is None
    assert len(scene) == len(merge.to_scene(fake_prediction(), fake_views(), CODEBOOK))


def test_a_scene_shows_what_the_views_agree_on():
    prediction = fake_prediction(seed=3)
    scene = make_scene(prediction, consistent=True)
    kept = torch.ones(1, 2, 6, 8, dtype=torch.bool)
    agreed = agreement(prediction, kept)
    rows = agreed.kept.flatten().nonzero()[:, 0]
    assert 0 < len(rows) < 96
    world = merge.gaussians_from_prediction(prediction)
    np.testing.assert_array_equal(scene.gaussians.means, world.means[0, rows])
    colors = agreed.colors.reshape(-1, 3)[rows].clamp(0, 1)
    np.testing.assert_allclose(scene.gaussians.colors, colors, atol=1e-5)
    opacities = agreed.opacities.flatten()[rows]
    np.testing.assert_array_equal(scene.gaussians.opacities, opacities)
