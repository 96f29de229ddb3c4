"""Styles of photographing rooms: who gets which, and what the pictures are then like."""

from functools import cache
from itertools import islice

import numpy as np
import pytest
import torch

from data.rooms import SPLITS, endless_rooms, render_rooms
from data.rooms.cameras import PROBE, choose_cameras, is_clear, overlap
from data.rooms.caster import Cameras, cast, make_tiles, untile
from data.rooms.pool import pool_tensors
from data.rooms.render import furnish_rooms
from data.rooms.scene import build_scenes
from data.rooms.styles import CLOSE, STEADY, WALK, style_of

WALKED = {
    7: (22.996847, [-2.398936, 0.051429, 1.348149], [-1.828126, -1.387565, 1.8]),
    2**30 + 3: (22.092344, [1.456177, 1.567207, 1.368242], [2.132308, -0.027194, 0.3]),
    2**30 + 8192: (45.13158, [0.439407, -1.534066, 0.302152], [-1.475702, -1.534066, 0.3]),
}
"""Focal length at 32 pixels and the places of both cameras, as before there were styles."""


@cache
def built():
    """40 rooms, which are the same in all styles."""
    return build_scenes(list(range(40)))


@cache
def photographed(style: str) -> tuple[Cameras, torch.Tensor]:
    """Three cameras in each of 40 rooms and what they probe as depth."""
    shares = {} if style == "walk" else {style: 1.0}
    scenes, layouts = built()
    cameras = choose_cameras(scenes, layouts, list(range(40)), 3, PROBE, PROBE, shares)
    tiles = make_tiles(cameras, torch.full((1, 2), 0.5))
    depth, _ = cast(scenes, cameras, tiles)
    return cameras, untile(depth, tiles, 1, PROBE, PROBE)[:, :, 0]


def field_of_view(cameras: Cameras) -> torch.Tensor:
    return 2 * torch.atan(PROBE / 2 / cameras.focal)


def pitch(cameras: Cameras) -> torch.Tensor:
    return torch.rad2deg(torch.asin(cameras.world_from_camera[..., 2, 2]))


def test_a_share_of_the_rooms_is_close():
    close = {
        share: {s for s in range(2000) if style_of(s, {"close": share}) is CLOSE}
        for share in (0.3, 0.6)
    }
    assert len(close[0.3]) / 2000 == pytest.approx(0.3, abs=0.03)  # 3 standard deviations
    assert len(close[0.6]) / 2000 == pytest.approx(0.6, abs=0.03)
    assert close[0.3] < close[0.6]
    assert all(style_of(seed, {}) is WALK for seed in range(2000))
    assert all(style_of(seed, {"close": 1.0}) is CLOSE for seed in range(2000))


def test_styles_share_the_rooms_and_the_first_keeps_its_own():
    styles = [style_of(s, {"steady": 0.5, "close": 0.3}) for s in range(2000)]
    for style, share in ((CLOSE, 0.3), (STEADY, 0.5), (WALK, 0.2)):
        assert sum(s is style for s in styles) / 2000 == pytest.approx(share, abs=0.035)
    alone = [style_of(s, {"close": 0.3}) for s in range(2000)]
    assert [s is CLOSE for s in styles] == [s is CLOSE for s in alone]


@pytest.mark.parametrize("seed", WALKED)
def test_published_rooms_are_photographed_as_ever(seed):
    focal, *places = WALKED[seed]
    _, cameras = furnish_rooms([seed], 2, 32, 32, None)
    assert cameras.focal.item() == pytest.approx(focal, abs=1e-4)
    np.testing.assert_allclose(cameras.world_from_camera[0, :, :3, 3], places, atol=1e-4)


@pytest.mark.parametrize("seeds", [list(range(8)), [3], [4]])
def test_a_room_has_the_cameras_of_its_style_in_any_company(seeds):
    _, mixed = furnish_rooms(seeds, 3, PROBE, PROBE, None, shares={"close": 0.5})
    for row, seed in enumerate(seeds):
        close = style_of(seed, {"close": 0.5}) is CLOSE
        expected = photographed("close" if close else "walk")[0]
        for name in ("world_from_camera", "focal"):
            found = getattr(mixed, name)[row]
            torch.testing.assert_close(found, getattr(expected, name)[seed], atol=1e-4, rtol=0)


def test_close_rooms_are_near_and_seen_from_above():
    (walk, far), (close, near) = photographed("walk"), photographed("close")
    assert near.median() < 0.65 * far.median()
    assert pitch(close).median() < pitch(walk).median() - 4
    steep = (pitch(close) < WALK.pitch[0] - 1).float().mean()
    assert 0.15 < steep < 0.6
    tenth = near.flatten(2).quantile(0.1, -1)
    assert (tenth < 0.4).float().mean() > 0.15, "things are in reach"


def test_close_rooms_keep_to_their_style():
    cameras, depth = photographed("close")
    fov, height = field_of_view(cameras), cameras.world_from_camera[..., 2, 3]
    assert pitch(cameras).min() >= CLOSE.pitch[0] - 1e-3
    assert pitch(cameras).max() <= CLOSE.pitch[1] + 1e-3
    assert torch.rad2deg(fov).min() >= CLOSE.field_of_view[0] - 1e-3
    assert torch.rad2deg(fov).max() <= CLOSE.field_of_view[1] + 1e-3
    assert height.min() >= CLOSE.eye_height[0] - 1e-5
    assert height.max() <= CLOSE.eye_height[1] + 1e-5
    seen = overlap(depth, cameras.world_from_camera, fov)[:, 1:]
    assert ((seen > CLOSE.overlap[0]) & (seen < CLOSE.overlap[1])).float().mean() > 0.95
    assert is_clear(depth / CLOSE.nearness).float().mean() > 0.95
    assert is_clear(depth).float().mean() < 0.9, "nearer than a walker would stand"


def test_close_cameras_move_around_what_they_look_at():
    turned, strayed = {}, {}
    for style in ("walk", "close"):
        cameras, depth = photographed(style)
        axis, place = cameras.world_from_camera[..., :3, 2], cameras.world_from_camera[..., :3, 3]
        middle = place[:, 0] + axis[:, 0] * depth[:, 0, 7:9, 7:9].mean((-1, -2))[:, None]
        ray = torch.nn.functional.normalize(middle - place[:, -1], dim=-1)
        for angles, other in ((turned, axis[:, 0]), (strayed, ray)):
            cosine = (other * axis[:, -1]).sum(-1).clamp(-1, 1)
            angles[style] = torch.rad2deg(torch.acos(cosine)).median()
    assert turned["close"] > 1.3 * turned["walk"]
    assert strayed["close"] < 0.6 * turned["close"]
    assert strayed["walk"] > 0.8 * turned["walk"], "one who walks looks elsewhere"


def test_steady_cameras_move_less_and_see_wider():
    (steady, near), (walk, far) = photographed("steady"), photographed("walk")
    seen = overlap(near, steady.world_from_camera, field_of_view(steady))[:, 1:]
    assert ((seen > STEADY.overlap[0]) & (seen < STEADY.overlap[1])).float().mean() > 0.95
    less = overlap(far, walk.world_from_camera, field_of_view(walk))[:, 1:]
    assert seen.median() > less.median() + 0.1
    assert (seen > 0.85).float().mean() > 4 * (less > 0.85).float().mean(), "some hardly moved"
    degrees = torch.rad2deg(field_of_view(steady))
    assert degrees.min() >= STEADY.field_of_view[0]
    assert degrees.max() <= STEADY.field_of_view[1]


def test_endless_rooms_are_close_where_told():
    options = {"group": 2, "views": 2, "size": 16, "atlas": None, "workers": 0}
    device = torch.device("cpu")
    seeds = [SPLITS["train"][i] for i in range(6)]
    walked = pool_tensors(render_rooms(seeds, 2, 16, 16))["world_from_camera"]
    groups = islice(endless_rooms(first=0, device=device, shares={"close": 0.5}, **options), 3)
    found = torch.cat([group["world_from_camera"] for group in groups])
    same = [torch.allclose(a, b, atol=1e-3) for a, b in zip(found, walked, strict=True)]
    assert same == [style_of(seed, {"close": 0.5}) is WALK for seed in seeds]
    assert len(set(same)) == 2
