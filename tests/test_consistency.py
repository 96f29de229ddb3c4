"""What views say of each other: two planes by hand, and everything against a slow double loop."""

import math
from dataclasses import replace

import pytest
import torch

from ffsplat.consistency import FREE_SPACE, NEIGHBORS, SAME_SURFACE, VETO, agreement, best_of_each
from ffsplat.geometric import surface_steps
from ffsplat.geometry import (
    intrinsics_from_focal,
    invert_rigid,
    project,
    transform_points,
    unproject,
)
from tests.fakes import fake_prediction

SIDE = 8


def side_by_side(*depths, step=0.5, errors=None, **changes):
    """Views of one set in a row, `step` apart and looking ahead: their depths, 8 x 8 each."""
    v = len(depths)
    depth = torch.stack([torch.as_tensor(d).float().expand(SIDE, SIDE) for d in depths])[None]
    poses = torch.eye(4).repeat(1, v, 1, 1)
    poses[0, :, 0, 3] = step * torch.arange(v)
    errors = [0.0] * v if errors is None else errors
    fields = {
        "depth": depth,
        "depth_error": torch.tensor(errors)[None, :, None, None].expand_as(depth).clone(),
        "world_from_camera": poses,
        "intrinsics": intrinsics_from_focal(torch.full((1, v), 8.0), SIDE, SIDE),
        "offsets": torch.zeros(1, v, SIDE, SIDE, 2),
    }
    return fake_prediction(v=v, h=SIDE, w=SIDE, **(fields | changes))


def everything(prediction):
    return torch.ones_like(prediction.depth, dtype=torch.bool)


def test_a_wall_that_two_views_share_is_kept_once():
    # At depth 4 a step of 0.5 is one pixel: 7 of 8 columns are shared, of equal worth.
    prediction = side_by_side(4.0, 4.0)
    found = agreement(prediction, everything(prediction))
    expected = torch.ones(2, SIDE, SIDE, dtype=torch.bool)
    expected[1, :, : SIDE - 1] = False
    torch.testing.assert_close(found.kept, expected)
    colors = prediction.colors[0]
    mean = (colors[0, :, 1:] + colors[1, :, :-1]) / 2
    torch.testing.assert_close(found.colors[0, :, 1:], mean)
    torch.testing.assert_close(found.colors[1, :, :-1], mean)
    torch.testing.assert_close(found.colors[0, :, 0], colors[0, :, 0])
    # Two that stand in one place let through what each lets through of the other.
    first, second = prediction.opacities[0]
    both = 1 - (1 - first[:, 1:]) * (1 - second[:, :-1])
    torch.testing.assert_close(found.opacities[0, :, 1:], both)
    torch.testing.assert_close(found.opacities[0, :, 0], first[:, 0])


def test_the_surer_view_keeps_the_wall_and_weighs_more_in_its_colour():
    prediction = side_by_side(4.0, 4.0, errors=[0.1, 0.0])
    found = agreement(prediction, everything(prediction))
    assert found.kept.sum((1, 2)).tolist() == [SIDE, SIDE * SIDE]
    first, second = prediction.colors[0, 0, :, 1:], prediction.colors[0, 1, :, :-1]
    share = math.exp(-1) / (1 + math.exp(-1))
    expected = share * first + (1 - share) * second
    torch.testing.assert_close(found.colors[1, :, :-1], expected)


def test_the_nearer_view_keeps_the_wall():
    prediction = side_by_side(4.0, 2.0, step=0.0)
    prediction.world_from_camera[0, 1, 2, 3] = 2.0
    found = agreement(prediction, everything(prediction))
    # From 2 away half as much is seen, twice as fine: the middle 4 x 4 of the far view goes.
    far = torch.ones(SIDE, SIDE, dtype=torch.bool)
    far[2:6, 2:6] = False
    torch.testing.assert_close(found.kept, torch.stack([far, torch.ones_like(far)]))


def two_planes(errors=None):
    """View 0 sees a wall at 4. View 1 sees it too, and a poster in free space, in 2 x 2 pixels."""
    poster = torch.full((SIDE, SIDE), 4.0)
    poster[3:5, 3:5] = 2.0
    return side_by_side(4.0, poster, errors=errors)


@pytest.mark.parametrize(
    ("errors", "left"),
    [
        (None, 0),  # view 0 looks through it
        ([0.0, 0.2], 0),  # the more so if view 1 is unsure
        ([0.1, 0.0], 0),  # a third of the confidence, exp(-1), is enough
        ([0.15, 0.0], 4),  # a fifth is not
        ([0.4, 0.4], 4),  # log 2 is within what both expect to be wrong
    ],
)
def test_what_another_view_looks_through_goes(errors, left):
    prediction = two_planes(errors)
    found = agreement(prediction, everything(prediction))
    poster = found.kept[1, 3:5, 3:5]
    # An unsure poster may go for being the wall of view 0, but only where it is unsure.
    if errors == [0.4, 0.4]:
        assert found.kept[0].sum() + found.kept[1].sum() < 2 * SIDE * SIDE
    else:
        assert poster.sum() == left


def test_what_stands_beside_a_silhouette_is_not_in_free_space():
    near = torch.full((SIDE, SIDE), 4.0)
    near[:, 4:] = 2.0
    prediction = side_by_side(near, near, step=0.12)  # less than half a pixel at depth 2
    shifted = agreement(prediction, everything(prediction))
    both = shifted.kept.any(dim=0)
    assert both.all()


def test_a_majority_does_not_veil_a_third_view():
    poster = torch.full((SIDE, SIDE), 4.0)
    poster[3:5, 3:5] = 2.0
    prediction = side_by_side(4.0, poster, poster, step=0.0)
    found = agreement(prediction, everything(prediction))
    # One against two: 1 > 0.3 x 2.
    assert not found.kept[1:, 3:5, 3:5].any()
    assert found.kept[0].all()


def test_pixels_that_are_not_kept_neither_speak_nor_come_back():
    prediction = two_planes()
    prediction.depth[0, 0, 0, 0] = torch.nan
    kept = everything(prediction)
    kept[0, 0] = False
    found = agreement(prediction, kept)
    torch.testing.assert_close(found.kept, kept[0])
    torch.testing.assert_close(found.colors[1], prediction.colors[0, 1])
    assert not agreement(prediction, torch.zeros_like(kept)).kept.any()


def slow_agreement(prediction, kept):
    """The same in a loop over pixels, from the definitions."""
    depth, error = prediction.depth[0], prediction.depth_error[0]
    poses, intrinsics = prediction.world_from_camera[0], prediction.intrinsics[0]
    v, h, w = depth.shape
    lifted = unproject(depth, intrinsics, prediction.offsets[0]).flatten(1, 2)
    points = transform_points(poses, lifted).unflatten(1, (h, w))
    steps = surface_steps(depth, intrinsics, kept[0])
    cost = torch.linalg.cross(*steps).norm(dim=-1) * torch.exp(error / 0.1)
    pixels = [(i, y, x) for i in range(v) for y in range(h) for x in range(w) if kept[0, i, y, x]]
    vetoed, rivals = {}, {}
    for i, y, x in pixels:
        support, veto, rivals[i, y, x] = math.exp(-error[i, y, x] / 0.1), 0.0, []
        for j in set(range(v)) - {i}:
            local = transform_points(invert_rigid(poses[j]), points[i, y, x][None])
            column, row = project(local, intrinsics[j])[0].floor().int().tolist()
            z = local[0, 2].item()
            if z <= 0 or not (0 <= row < h and 0 <= column < w) or not kept[0, j, row, column]:
                continue
            tolerance = (error[i, y, x] + error[j, row, column]).item()
            around = [
                depth[j, r, c].item()
                for r in range(max(row - 1, 0), min(row + 2, h))
                for c in range(max(column - 1, 0), min(column + 2, w))
                if kept[0, j, r, c]
            ]
            confidence = math.exp(-error[j, row, column] / 0.1)
            if abs(math.log(depth[j, row, column] / z)) <= max(tolerance, SAME_SURFACE):
                support += confidence
                theirs = (cost[j, row, column].item(), j)
                if theirs < (cost[i, y, x].item(), i):
                    rivals[i, y, x].append((j, row, column))
            if math.log(min(around) / z) > max(tolerance, FREE_SPACE):
                veto += confidence
        vetoed[i, y, x] = veto > VETO * support
    result = torch.zeros_like(kept[0])
    for pixel in sorted(pixels, key=lambda p: (cost[p].item(), p[0])):
        result[pixel] = not vetoed[pixel] and not any(result[other] for other in rivals[pixel])
    return result


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_a_loop_over_pixels_gives(seed):
    random = torch.Generator().manual_seed(seed)
    depth = 2 + 0.4 * torch.randn(1, 3, 6, 8, generator=random)
    error = 0.1 * torch.rand(1, 3, 6, 8, generator=random)
    kept = torch.rand(1, 3, 6, 8, generator=random) > 0.1
    prediction = fake_prediction(v=3, seed=seed, depth=depth.clamp(min=0.5), depth_error=error)
    expected = slow_agreement(prediction, kept)
    found = agreement(prediction, kept)
    assert 0 < expected.sum() < kept.sum()
    torch.testing.assert_close(found.kept, expected)


def test_every_one_that_goes_has_a_better_one_that_stays():
    random = torch.Generator().manual_seed(0)
    rank = torch.randperm(200, generator=random)
    listed = torch.randint(-1, 200, (3, 200), generator=random)
    # Only better ones are listed: those of lower rank.
    listed = torch.where((listed >= 0) & (rank[listed.clamp(min=0)] < rank), listed, -1)
    candidates = torch.rand(200, generator=random) > 0.2
    chosen = best_of_each(listed, candidates)
    beaten = ((listed >= 0) & chosen[listed.clamp(min=0)]).any(dim=0)
    torch.testing.assert_close(chosen, candidates & ~beaten)


def test_of_many_views_only_near_ones_are_compared():
    prediction = side_by_side(*[4.0] * (NEIGHBORS + 1))
    found = agreement(prediction, everything(prediction))
    # Each view adds the one column that none before it has seen.
    assert found.kept.sum((1, 2)).tolist() == [SIDE * SIDE] + [SIDE] * NEIGHBORS
    prediction = side_by_side(*[4.0] * 30)
    found = agreement(prediction, everything(prediction))
    columns = torch.zeros(30 + SIDE - 1)
    for view, kept in enumerate(found.kept[:, 0]):
        columns[view : view + SIDE] += kept
    assert columns.min() == 1
    assert columns.max() <= 2


def test_a_gaussian_before_its_own_depth_is_judged_where_it_stands():
    prediction = side_by_side(4.0, 4.0, step=0.0)
    nearer = torch.zeros_like(prediction.depth)
    nearer[0, 1, 2, 2] = -1.0
    found = agreement(replace(prediction, depth_offsets=nearer), everything(prediction))
    assert found.kept[0].all()
    assert not found.kept[1].any()  # one is in free space, the others are what view 0 has
    torch.testing.assert_close(found.colors[1, 2, 2], prediction.colors[0, 1, 2, 2])


def test_scale_does_not_matter():
    prediction = fake_prediction(v=3, seed=4, depth=2 + torch.rand(1, 3, 6, 8))
    poses = prediction.world_from_camera.clone()
    poses[..., :3, 3] *= 100
    large = replace(prediction, depth=100 * prediction.depth, world_from_camera=poses)
    one, other = (agreement(p, everything(p)) for p in (prediction, large))
    torch.testing.assert_close(one.kept, other.kept)
    torch.testing.assert_close(one.colors, other.colors, atol=1e-4, rtol=0)
