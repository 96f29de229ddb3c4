"""Camera clips that move as a person or a robot does, chosen so that views overlap.

Candidates are drawn per room, rendered as 16 x 16 depth, and the first clip is taken whose views
are not blocked and whose overlap with the first view lies in a range.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from data.rooms.caster import Cameras, cast, make_tiles, untile
from data.rooms.labels import WHOLE_INDEX
from data.rooms.layout import Layout
from data.rooms.scene import Scenes
from data.rooms.styles import NO_SHARES, CameraStyle, style_of

PROBE = 16
"""Pixels along the side of a probe."""
ANCHORS = 4
SCALES = (1.0, 0.5, 0.25)
ROUNDS = 6

_ON_FURNITURE = {"top", "desk", "media", "books", "cushions"}
"""Places (see `Template`) of things that stand on others."""
_LARGE = {WHOLE_INDEX[n] for n in ("curtain", "door", "rug", "window", "wardrobe", "refrigerator")}


def _pose(
    position: np.ndarray, yaw: float, pitch: float, roll: float, style: CameraStyle
) -> np.ndarray:
    """world_from_camera (OpenCV axes) for angles in degrees; yaw 0 looks along +x."""
    pitch, roll = np.clip(pitch, *style.pitch), np.clip(roll, -style.roll, style.roll)
    yaw, pitch, roll = np.radians([yaw, pitch, roll])
    forward = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    down = np.cross(forward, right)
    pose = np.eye(4)
    pose[:3, 0] = np.cos(roll) * right + np.sin(roll) * down
    pose[:3, 1] = np.cos(roll) * down - np.sin(roll) * right
    pose[:3, 2], pose[:3, 3] = forward, position
    return pose


def _look(position: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Yaw and pitch in degrees from a position to a target."""
    x, y, z = target - position
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))


def _target(
    layout: Layout, rng: np.random.Generator, style: CameraStyle
) -> tuple[np.ndarray, float, float]:
    """A point of interest, its size in metres and the azimuth of its front in degrees.

    A class counts once however many of it there are, small ones more, so that rare and small things
    are seen often.
    """
    items = layout.items
    if style.on_furniture and rng.random() < style.on_furniture:
        items = [item for item in items if item.kind.place in _ON_FURNITURE] or items
    sizes = {item.kind.label: float(item.size.max()) for item in items}
    labels = sorted(set(sizes) - _LARGE)
    if not labels or rng.random() < style.aimless:
        span = np.array([0.4, 0.4, 0.3]) * layout.room
        middle = np.array([0, 0, 0.9])
        return middle + rng.uniform(-1, 1, 3) * span, 1.5, rng.uniform(0, 360)
    weight = np.array([1 / (sizes[label] + 0.2) for label in labels])
    label = int(rng.choice(labels, p=weight / weight.sum()))
    items = [item for item in items if item.kind.label == label]
    item = items[int(rng.integers(len(items)))]
    centre = item.position + np.array([0, 0, item.size[2] * rng.uniform(0.4, 0.9)])
    return centre, float(item.size.max()), np.degrees(item.yaw) + 90


def _stand(
    target: np.ndarray, size: float, front: float, rng: np.random.Generator, style: CameraStyle
) -> tuple[np.ndarray, bool]:
    """Where the first camera of a clip stands, walls aside, and whether that is close."""
    close = rng.random() < style.close_share
    distance = (
        rng.uniform(*style.close_distance) + 0.6 * size
        if close
        else rng.uniform(*style.far_distance)
    )
    azimuth = front + rng.normal(0, 40)
    low, high = style.eye_height
    robot = rng.random() < 0.3
    height = rng.uniform(low, 1.2) if robot else rng.uniform(1.2, high)
    if close:
        elevation = np.radians(rng.uniform(*style.elevation))
        distance *= np.cos(elevation) if style.slant else 1.0
        height = np.clip(target[2] + distance * np.tan(elevation), low, high)
    step = np.array([np.cos(np.radians(azimuth)), np.sin(np.radians(azimuth))])
    return np.array([*(target[:2] + distance * step), height]), close


def _around(offset: np.ndarray, degrees: float) -> np.ndarray:
    """How far a turn about the vertical axis moves what lies at `offset` from the axis."""
    c, s = np.cos(np.radians(degrees)) - 1, np.sin(np.radians(degrees))
    return np.array([c * offset[0] - s * offset[1], s * offset[0] + c * offset[1], 0.0])


def _clip(
    layout: Layout, rng: np.random.Generator, views: int, style: CameraStyle
) -> Float64[np.ndarray, "n 4 4"]:
    """An anchor pose, then followers for each scale: n = 1 + scales * (views - 1)."""
    target, size, front = _target(layout, rng, style)
    position, close = _stand(target, size, front, rng, style)
    low, high = style.eye_height
    half = layout.room[:2] / 2 - 0.12
    position[:2] = np.clip(position[:2], -half, half)
    yaw, pitch = _look(position, target)
    shift = rng.normal(0, [7, 5]) if close else rng.normal(0, [16, 8])
    tilt = rng.normal(0, style.tilt)
    poses = [_pose(position, yaw + shift[0], pitch + shift[1], tilt, style)]
    reach = np.linalg.norm(target - position)
    move = rng.normal(0, 1, 3) * [1, 1, 0.35]
    move *= reach * rng.uniform(*style.travel) / max(np.linalg.norm(move), 1e-6)
    follow = rng.uniform(*style.follow)
    turn = rng.normal(0, style.turn, 2) * [1, 0.35]
    arc = rng.uniform(-style.arc, style.arc) if style.arc else 0.0
    for scale in SCALES:
        for fraction in np.arange(1, views) / max(views - 1, 1):
            s = scale * (fraction + rng.normal(0, 0.08))
            there = position + s * move + rng.normal(0, 0.01 * style.jitter, 3)
            there += _around(position - target, s * arc)
            there = np.array([*np.clip(there[:2], -half, half), np.clip(there[2], low, high)])
            y, p = _look(there, target)
            drift = np.array([(y - yaw + 180) % 360 - 180, p - pitch]) * follow + turn * s
            y, p = np.array([yaw, pitch]) + shift + drift + rng.normal(0, style.jitter, 2)
            poses.append(_pose(there, y, p, tilt + rng.normal(0, 1.5 * style.jitter), style))
    return np.stack(poses)


def _probe(scenes: Scenes, poses: Tensor, fov: Tensor) -> Float[Tensor, "b n 16 16"]:
    """Low-resolution depth of candidate views."""
    cameras = Cameras(poses, PROBE / 2 / torch.tan(fov / 2), PROBE, PROBE)
    tiles = make_tiles(cameras, torch.full((1, 2), 0.5, device=poses.device))
    depth, _ = cast(scenes, cameras, tiles)
    return untile(depth, tiles, 1, PROBE, PROBE)[:, :, 0]


def is_clear(depth: Float[Tensor, "*n h w"]) -> Bool[Tensor, "*n"]:
    """Not blocked: few pixels are near and the median is far enough; views of detail may be closer.

    A view passes if at most 30 % of its pixels are nearer than 0.4 m and its median is above
    0.45 m, and either it is open (at most 30 % nearer than 0.6 m, median above 0.9 m) or its depth
    varies, as it does on a table and not on a wall.
    """
    flat = depth.flatten(-2)
    median = flat.median(-1).values
    near = (flat < 0.4).float().mean(-1)
    nearish = (flat < 0.6).float().mean(-1)
    spread = flat.quantile(0.9, -1) / flat.quantile(0.1, -1)
    is_open = (nearish <= 0.3) & (median >= 0.9)
    return (near <= 0.3) & (median >= 0.45) & (is_open | (spread > 1.5))


def overlap(
    depth: Float[Tensor, "b n h w"], poses: Float[Tensor, "b n 4 4"], fov: Float[Tensor, " b"]
) -> Float[Tensor, "b n"]:
    """Fraction of the first view's pixels that each view sees (in frame and not hidden)."""
    b, _, h, w = depth.shape
    focal = (w / 2 / torch.tan(fov / 2))[:, None, None]
    y, x = torch.meshgrid(
        *[torch.arange(s, device=depth.device) + 0.5 for s in (h, w)], indexing="ij"
    )
    d = depth[:, 0]
    points = torch.stack(
        [(x - w / 2) / focal * d, (y - h / 2) / focal * d, d, torch.ones_like(d)], -1
    )
    other_from_first = torch.linalg.inv(poses) @ poses[:, :1]
    moved = points.reshape(b, 1, h * w, 4) @ other_from_first.transpose(-1, -2)
    z = moved[..., 2].clamp(min=1e-6)
    u, v = (moved[..., k] / z * focal + s / 2 for k, s in ((0, w), (1, h)))
    column, row = (k.floor().long() for k in (u, v))
    inside = (moved[..., 2] > 0.05) & (column >= 0) & (column < w) & (row >= 0) & (row < h)
    index = row.clamp(0, h - 1) * w + column.clamp(0, w - 1)
    there = depth.flatten(2).gather(2, index)
    return (inside & ((there / z).log().abs() < 0.12)).float().mean(-1)


def choose_cameras(
    scenes: Scenes,
    layouts: list[Layout],
    seeds: list[int],
    views: int,
    height: int,
    width: int,
    shares: Mapping[str, float] = NO_SHARES,
) -> Cameras:
    """A clip of `views` cameras for each room; falls back on the best clip of the last rounds.

    `shares` are those of all rooms that are photographed in a style other than WALK (`STYLES`).
    """
    b, device = len(seeds), scenes.centre.device
    rngs = [np.random.default_rng([seed, 1]) for seed in seeds]
    styles = [style_of(seed, shares) for seed in seeds]
    drawn = zip(rngs, styles, strict=True)
    fov = [np.radians(rng.uniform(*style.field_of_view)) for rng, style in drawn]
    limits = [(style.nearness, *style.overlap) for style in styles]
    fov, limits = (torch.tensor(rows).float().to(device) for rows in (fov, limits))
    nearness, least, most = limits[:, None, None].unbind(-1)
    best, chosen = torch.full((b,), -1.0, device=device), torch.zeros(b, views, 4, 4, device=device)
    followers = views - 1
    for _ in range(ROUNDS):
        clips = [
            np.stack([_clip(layout, rng, views, style) for _ in range(ANCHORS)])
            for layout, rng, style in zip(layouts, rngs, styles, strict=True)
        ]
        poses = torch.from_numpy(np.stack(clips)).float().to(device)
        n = poses.shape[2]
        depth = _probe(scenes, poses.flatten(1, 2), fov).unflatten(1, (ANCHORS, n))
        clear = is_clear(depth / nearness[..., None, None])
        seen = overlap(depth.flatten(0, 1), poses.flatten(0, 1), fov.repeat_interleave(ANCHORS))
        seen = seen.reshape(b, ANCHORS, n)
        good = clear & (seen >= least + 0.05) & (seen <= most - 0.03)
        good = good[..., 1:].unflatten(-1, (len(SCALES), followers)).float().mean(-1)
        # The first clip that is all right wins; a follower that is not counts against a clip.
        score = (good + clear[..., :1].float()).flatten(1)
        value, index = score.max(1)
        anchor, scale = index // len(SCALES), index % len(SCALES)
        rows = torch.arange(b, device=device)
        follow = poses[:, :, 1:].unflatten(2, (len(SCALES), followers))[rows, anchor, scale]
        clip = torch.cat([poses[rows, anchor, :1], follow], 1)
        better = value > best
        chosen = torch.where(better[:, None, None, None], clip, chosen)
        best = torch.maximum(best, value)
        if bool((best >= 2).all()):
            break
    return Cameras(chosen, width / 2 / torch.tan(fov / 2), height, width)
