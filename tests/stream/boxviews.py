"""Exact predictions of a painted box, and of things that move in it."""

from dataclasses import replace

import numpy as np
import torch
from boxpool import paint
from boxroom import depth_and_points
from fakes import fake_prediction
from jaxtyping import Bool, Float32

from ffsplat.prediction import Prediction
from ffsplat.stream.sight import PosedViews

HEIGHT, WIDTH, FOCAL = 72, 96, 80.0
SURE = 0.01

Shot = tuple[Prediction, Float32[np.ndarray, "v h w 3"], Bool[np.ndarray, "v h w"]]


def box_views(poses: torch.Tensor, seeds: tuple[int, ...] | int = 0) -> Shot:
    """What a perfect network says of views (v, 4, 4) of the box, the paint of each by its seed."""
    depth, intrinsics, points = depth_and_points(poses[None], FOCAL, HEIGHT, WIDTH)
    paints = seeds if isinstance(seeds, tuple) else (seeds,) * len(poses)
    colors = [paint(one, seed) for one, seed in zip(points[0], paints, strict=True)]
    pixels = torch.stack(colors).reshape(-1, HEIGHT, WIDTH, 3).numpy()
    prediction = fake_prediction(
        v=len(poses), h=HEIGHT, w=WIDTH, depth=depth, depth_error=torch.full_like(depth, SURE),
        intrinsics=intrinsics, world_from_camera=poses[None],
    )  # fmt: skip
    return prediction, pixels, np.ones(pixels.shape[:3], dtype=bool)


def posed(shot: Shot) -> PosedViews:
    """The views as a window holds them."""
    prediction, pixels, valid = shot
    return PosedViews.of(prediction, np.rint(255 * pixels).astype(np.uint8), valid)


def with_disc(shot: Shot, view: int, center: tuple[float, float], radius: float) -> np.ndarray:
    """Put a spotted disc before one view, half as far as what is behind; returns its pixels."""
    prediction, pixels, _ = shot
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    disc = np.hypot(x - center[0], y - center[1]) < radius
    spots = np.where((x // 5 + y // 5) % 2, 0.95, 0.03)[..., None] * np.array([1.0, 0.9, 0.2])
    pixels[view][disc] = spots[disc]
    depth = prediction.depth[0, view]
    depth[torch.from_numpy(disc)] = 0.5 * depth[torch.from_numpy(disc)].min()
    return disc


def turned(prediction: Prediction, view: int, radians: float) -> Prediction:
    """The prediction with one camera turned about its vertical axis by mistake."""
    cosine, sine = np.cos(radians), np.sin(radians)
    turn = torch.eye(4)
    turn[0, 0], turn[0, 2], turn[2, 0], turn[2, 2] = cosine, sine, -sine, cosine
    poses = prediction.world_from_camera.clone()
    poses[0, view] = poses[0, view] @ turn
    return replace(prediction, world_from_camera=poses)
