import numpy as np
import torch
from boxroom import cameras

from ffsplat.consistency import SAME_SURFACE
from ffsplat.geometry import invert_rigid, project, transform_points, unproject
from ffsplat.stream.sight import THINNED, look
from tests.stream.boxviews import HEIGHT, WIDTH, box_views, posed, with_disc


def test_points_fall_where_they_are_projected_to():
    shot = box_views(cameras(2, seed=1)[0])
    (sight,), prediction = look(posed(shot), 0, [1]), shot[0]
    points = unproject(prediction.depth[0, 0], prediction.intrinsics[0, 0]).flatten(0, 1)
    local = transform_points(
        invert_rigid(prediction.world_from_camera[0, 1]),
        transform_points(prediction.world_from_camera[0, 0], points),
    )
    expected = project(local, prediction.intrinsics[0, 1]).reshape(HEIGHT, WIDTH, 2).numpy()
    inside = (expected >= 0).all(-1) & (expected < [WIDTH, HEIGHT]).all(-1)
    np.testing.assert_array_equal(sight.inside, inside & (local[:, 2] > 0).reshape(72, 96).numpy())
    np.testing.assert_allclose(sight.x[inside], expected[inside][:, 0], atol=1e-3)
    np.testing.assert_allclose(sight.y[inside], expected[inside][:, 1], atol=1e-3)


def test_exact_views_agree_in_depth():
    (sight,) = look(posed(box_views(cameras(2, seed=1)[0])), 0, [1])
    assert sight.inside.mean() > 0.6
    # Where walls meet, the pixel that a point falls on may lie on the other wall.
    assert sight.agrees.sum() > 0.95 * sight.inside.sum()


def test_a_thing_before_the_wall_stands_in_free_space_and_hides_what_is_behind():
    shot = box_views(cameras(2, seed=1)[0])
    disc = with_disc(shot, 0, (48, 36), 10)
    views = posed(shot)
    (there,) = look(views, 0, [1])
    assert (there.nearer[disc & there.inside] > 0.4).all()
    (back,) = look(views, 1, [0])
    hidden = back.inside & disc[back.y.astype(int), back.x.astype(int)]
    assert hidden.any()
    assert (back.nearer[hidden] < -0.3).all()


def test_what_is_not_usable_is_neither_looked_from_nor_at():
    shot = box_views(cameras(2, seed=1)[0])
    prediction, _, valid = shot
    prediction.depth[0, 0, :10] = torch.nan
    valid[1, :, :20] = False
    (sight,) = look(posed(shot), 0, [1])
    assert not sight.inside[:10].any()
    assert not (sight.inside & (sight.x < 20)).any()
    assert np.isfinite(sight.nearer).all()


def test_views_back_to_back_see_nothing_of_each_other():
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, 0, 0] = poses[1, 2, 2] = -1
    assert not look(posed(box_views(poses)), 0, [1])[0].inside.any()


def test_every_third_pixel_says_what_it_says_among_all():
    views = posed(box_views(cameras(3, seed=1)[0]))
    (_, whole), (thinned,) = look(views, 0, [2, 1]), look(views, 0, [1], 3)
    for name in ("inside", "agrees", "x", "y", "nearer", "tolerance"):
        np.testing.assert_allclose(
            getattr(thinned, name), getattr(whole, name)[1::3, 1::3], atol=1e-5
        )


def test_what_agrees_is_within_the_tolerance():
    views = posed(box_views(cameras(2, seed=1)[0]))
    views.depth[0, :40] *= 1.03
    views.depth_error[1, :, :50] = 0.05
    (sight,) = look(views, 0, [1])
    both = views.depth_error[0] + views.depth_error[1][sight.y.astype(int), sight.x.astype(int)]
    np.testing.assert_allclose(sight.tolerance, np.maximum(both, SAME_SURFACE))
    agrees = sight.inside & (np.abs(sight.nearer) <= sight.tolerance)
    np.testing.assert_array_equal(sight.agrees, agrees)
    assert 0.2 < agrees.sum() / sight.inside.sum() < 0.8


def test_sights_are_looked_for_once():
    views = posed(box_views(cameras(3, seed=1)[0]))
    (first,) = views.sights(0, [2])
    other, again = views.sights(0, [1, 2])
    assert again is first
    np.testing.assert_array_equal(other.x, look(views, 0, [1], THINNED)[0].x)


def test_coarse_grey_is_the_mean_luma_of_squares():
    views = posed(box_views(cameras(2, seed=1)[0]))
    luma = views.colors / 255 @ np.array([0.299, 0.587, 0.114])
    squares = luma.reshape(2, HEIGHT // 2, 2, WIDTH // 2, 2).mean((2, 4))
    np.testing.assert_allclose(views.coarse, squares, atol=1e-6)
