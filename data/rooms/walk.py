"""A walk through a procedural room that never ends, with exact truth."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
import torch
from jaxtyping import Float16, Float32, Float64, UInt8
from torch import Tensor

from data.rooms.caster import Cameras
from data.rooms.path import closed_path
from data.rooms.render import render_views
from data.rooms.scene import build_scenes
from data.rooms.sensor import encode

STEP = 16
"""Views that are rendered at once."""
FIELD_OF_VIEW = 64.0
"""Horizontal, in degrees."""
EXPOSURE = 0.25
"""Linear grey that the mean of a walk is brought to."""
NOISE = 0.008
"""Standard deviation of the sensor's noise, as a part of white: half of it in black."""
DAY = 977
"""Frames in which the light grows and fades by DAYLIGHT: prime, so that rounds are lit unlike."""
DAYLIGHT = 0.08


@dataclass(frozen=True, eq=False)
class Places:
    """What cameras see in a room, without noise, and all that is true of it: n places.

    `depth` is z-depth in metres, to a part of 2000; `whole` and `part` index the lexicon's rows of
    that level, `instance` is 0 for the structure; `intrinsics` is in pixels; the world has z up.
    """

    image: UInt8[np.ndarray, "n h w 3"]
    depth: Float16[np.ndarray, "n h w"]
    whole: UInt8[np.ndarray, "n h w"]
    part: UInt8[np.ndarray, "n h w"]
    instance: UInt8[np.ndarray, "n h w"]
    intrinsics: Float64[np.ndarray, "3 3"]
    world_from_camera: Float64[np.ndarray, "n 4 4"]

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, eq=False)
class WalkFrame:
    """A frame of a walk: its picture, and what is true of it (see `Places`).

    `place` is the number of the place that it was taken from.
    """

    number: int
    place: int
    time_ns: int
    image: UInt8[np.ndarray, "h w 3"]
    depth: Float32[np.ndarray, "h w"]
    whole: UInt8[np.ndarray, "h w"]
    part: UInt8[np.ndarray, "h w"]
    instance: UInt8[np.ndarray, "h w"]
    intrinsics: Float64[np.ndarray, "3 3"]
    world_from_camera: Float64[np.ndarray, "4 4"]


@dataclass(frozen=True, eq=False)
class Walk:
    """A closed way through a room, rendered once and walked for ever, `rate` frames a second.

    Frame i is taken from place i modulo the number of places: a camera comes back exactly, to other
    light and with other noise. That costs 0.1 MB a place at 128 x 96, and no more after hours.
    """

    places: Places
    seed: int
    rate: float = 10.0

    def __len__(self) -> int:
        return len(self.places)

    def frame(self, number: int) -> WalkFrame:
        """The frame of a number from 0 on, however large; the same every time."""
        place = number % len(self)
        light = np.float32((1 + DAYLIGHT * np.sin(2 * np.pi * number / DAY)) / 255)
        clean = self.places.image[place] * light
        random = np.random.default_rng([self.seed, number])
        noise = random.standard_normal(clean.shape, np.float32) * (0.5 + 0.5 * np.sqrt(clean))
        return WalkFrame(
            number,
            place,
            round(number / self.rate * 1e9),
            ((clean + np.float32(NOISE) * noise).clip(0, 1) * 255).round().astype(np.uint8),
            self.places.depth[place].astype(np.float32),
            self.places.whole[place],
            self.places.part[place],
            self.places.instance[place],
            self.places.intrinsics,
            self.places.world_from_camera[place],
        )

    def frames(self, start: int = 0, stop: int | None = None, step: int = 1) -> Iterator[WalkFrame]:
        """Frames one by one, without end unless `stop` is given."""
        return (self.frame(number) for number in islice(count(), start, stop, step))


def endless_walk(
    seed: int, height: int = 96, width: int = 128, *, rounds: int = 3, rate: float = 10.0
) -> Walk:
    """The walk through the room of a seed (see `SPLITS`); rendering takes 20 ms a place."""
    _, (layout,) = build_scenes([seed])
    return Walk(
        render_places(seed, closed_path(layout, seed, rounds, rate), height, width), seed, rate
    )


@torch.inference_mode()
def render_places(
    seed: int, poses: Float64[np.ndarray, "n 4 4"], height: int = 96, width: int = 128
) -> Places:
    """What cameras (world_from_camera) see in the room of a seed, all in one exposure."""
    scenes, _ = build_scenes([seed])
    focal = torch.tensor([width / 2 / np.tan(np.radians(FIELD_OF_VIEW / 2))]).float()
    seen: dict[str, list[Tensor]] = {}
    cameras = Cameras(torch.from_numpy(poses)[None].float(), focal, height, width)
    for some in cameras.world_from_camera.split(STEP, dim=1):
        batch = render_views(
            scenes, Cameras(some, focal, height, width), [seed], None,
            develop=lambda linear, _: linear,
        )  # fmt: skip
        for name in ("image", "depth", "whole", "part", "instance"):
            values = getattr(batch, name)[0]
            seen.setdefault(name, []).append(
                values.half() if values.is_floating_point() else values
            )
    arrays = {name: torch.cat(parts) for name, parts in seen.items()}
    gain = EXPOSURE / torch.stack([view.float().mean() for view in arrays["image"]]).mean()
    for row, view in enumerate(arrays["image"]):
        arrays["image"][row] = (encode(gain * view.float()) * 255).round()
    arrays["image"] = arrays["image"].byte()
    return Places(
        **{name: values.numpy() for name, values in arrays.items()},
        intrinsics=cameras.intrinsics[0, 0].double().numpy(),
        world_from_camera=poses,
    )
