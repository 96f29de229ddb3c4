from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from ffsplat import merge
from ffsplat.codes import to_dense
from ffsplat.errors import UsageError
from ffsplat.geometry import matrix_from_quaternion, project, transform_points
from ffsplat.types import Codebook, Gaussians, Scene, ViewSource
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
    options = {"min_confidence": 0.0, "min_opacity": 0.0, "prune_edges": False} | options
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


@pytest.mark.parametrize("turned", [False, True])
def test_flying_pixels(turned):
    rows = torch.tensor(
        [
            [2.0, 2.0, 2.0, 4.0, 4.0, 4.0],  # a clean edge stays
            [2.0, 2.0, 3.0, 4.0, 4.0, 4.0],  # one pixel between
            [4.0, 4.0, 3.3, 2.6, 2.0, 2.0],  # two, falling
            [2.0, 2.1, 2.2, 2.3, 2.4, 2.5],  # a slope
            [2.0, 2.0, 3.0, 2.0, 2.0, 2.0],  # a thin thing
        ]
    )
    expected = torch.zeros(5, 6, dtype=torch.bool)
    expected[1, 2] = expected[2, 2] = expected[2, 3] = True
    depth = rows[:, None, None]  # five views of one row
    # 80 pixels of focal length along the row: steps of log depth over 0.1 count.
    intrinsics = torch.diag(torch.tensor([1.0, 80, 1] if turned else [80.0, 1, 1])).expand(
        5, 1, 3, 3
    )
    depth = depth.mT if turned else depth
    flying = merge.flying_pixels(depth, intrinsics, torch.ones_like(depth, dtype=torch.bool))
    torch.testing.assert_close(flying.flatten(1), expected)


def test_padding_makes_no_flying_pixel():
    depth, intrinsics = torch.tensor([[[2.0, 3.0, 4.5]]]), 80 * torch.eye(3)[None]
    assert merge.flying_pixels(depth, intrinsics, torch.tensor([[[True, True, True]]]))[0, 0, 1]
    assert not merge.flying_pixels(depth, intrinsics, torch.tensor([[[True, True, False]]])).any()


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


def test_merged_cells_keep_the_moments_of_their_mixture():
    scene = make_scene()
    confidence = np.linspace(0.1, 1, 96, dtype=np.float32)
    merged, merged_confidence = merge.merge_voxels(scene, confidence, 0.7)
    assert 2 < len(merged) < 48
    old, new = scene.gaussians, merged.gaussians
    weights = old.opacities * confidence
    shape = covariances(old.quaternions_wxyz, old.scales)
    merged_shape = covariances(new.quaternions_wxyz, new.scales)
    cells = np.floor(old.means / 0.7)
    dense = to_dense(scene.codes, 9)
    for i in range(len(merged)):
        # The cells are convex, so the merged mean lies in the cell of its members.
        members = (cells == np.floor(new.means[i] / 0.7)).all(axis=1)
        share = weights[members] / weights[members].sum()
        mean = share @ old.means[members]
        offset = old.means[members] - mean
        spread = np.einsum("n,ni,nj->ij", share, offset, offset)
        np.testing.assert_allclose(new.means[i], mean, atol=1e-5)
        expected = np.einsum("n,nij->ij", share, shape[members]) + spread
        np.testing.assert_allclose(merged_shape[i], expected, atol=2e-5)
        np.testing.assert_allclose(new.opacities[i], share @ old.opacities[members], atol=1e-5)
        np.testing.assert_allclose(new.sh[i, 0], share @ old.sh[members, 0], atol=1e-5)
        np.testing.assert_allclose(merged_confidence[i], share @ confidence[members], atol=1e-5)
        code = np.sort(share @ dense[members])[-4:]
        ours = np.sort(merged.codes.weights[i].astype(float))
        np.testing.assert_allclose(ours, code / code.sum(), atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(new.quaternions_wxyz, axis=1), 1, atol=1e-5)


def test_a_merged_instance_is_that_of_the_largest_weight():
    gaussians = Gaussians(
        means=np.array([[0.1, 0, 0], [0.2, 0, 0], [0.3, 0, 0], [5, 0, 0]], np.float32),
        scales=np.full((4, 3), 0.1, np.float32),
        quaternions_wxyz=np.tile(np.array([1, 0, 0, 0], np.float32), (4, 1)),
        opacities=np.array([0.5, 0.3, 0.3, 1], np.float32),
        sh=np.zeros((4, 1, 3), np.float32),
    )
    scene = Scene(gaussians, instances=np.array([7, 2, 2, -1], np.int32))
    merged, _ = merge.merge_voxels(scene, np.ones(4, np.float32), 1.0)
    by_place = np.argsort(merged.gaussians.means[:, 0])
    assert merged.instances[by_place].tolist() == [2, -1]
    assert merged.codes is None


def test_cells_too_small_to_be_numbered_are_refused():
    scene = make_scene()
    means = scene.gaussians.means.astype(np.float64)
    smallest = float(np.abs(means - np.median(means, axis=0)).mean(0).max()) / 2**14
    merged, _ = merge.merge_voxels(scene, np.ones(96, np.float32), 1.01 * smallest)
    assert len(merged) == 96
    merged_means = np.sort(merged.gaussians.means, axis=0)
    np.testing.assert_allclose(merged_means, np.sort(means, axis=0), atol=1e-6)
    for size in (0.99 * smallest, 1e-300):
        with pytest.raises(UsageError, match="too small"):
            make_scene(voxel=size)


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


def test_a_scene_carries_the_low_pass_of_its_own_resolution():
    prediction = fake_prediction(h=6, w=8)
    wide = merge.smoothed(prediction)
    focal = 0.9 * 8
    side = prediction.depth / focal
    expected = prediction.scales.square() + 0.3 * side.square()[..., None]
    torch.testing.assert_close(wide.scales.square(), expected)
    # Seen from its own view, a flat Gaussian of no size is as wide as the filter: 0.55 pixels.
    point = merge.smoothed(replace(prediction, scales=torch.zeros_like(prediction.scales)))
    pixels = point.scales * focal / prediction.depth[..., None]
    torch.testing.assert_close(pixels, torch.full_like(pixels, 0.3**0.5))
    scene = make_scene(prediction)
    np.testing.assert_allclose(scene.gaussians.scales, wide.scales.flatten(0, 3).numpy(), rtol=1e-5)
