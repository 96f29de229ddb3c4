"""A closed way through a furnished room that meets nothing: rounds of changing width and gaze.

All is smooth and periodic, so that a walk along it never ends: after the last pose comes the first.
"""

import numpy as np
from jaxtyping import Bool, Float64

from data.rooms.layout import Layout

SPEED = 0.5
"""Metres a second, at most."""
TURN_RATE = np.radians(30.0)
"""Turn of the camera about the vertical a second, at most."""
HEIGHT = 1.45
"""Of the camera over the floor, in metres; it sways by SWAY."""
SWAY = 0.08
CLEARANCE = 0.4
"""Distance from the camera to walls and to furniture of its height, in metres, at least."""
LOOK_IN = np.radians(40.0)
"""Mean angle from straight ahead to the inner side of the way."""
LOOK_AROUND = np.radians(45.0)
"""The gaze swings by this about that mean."""
CELL = 0.05
DIRECTIONS = 360
FINE = 20_000
"""Steps in which the way is laid before it is cut into frames."""


def free_cells(layout: Layout) -> tuple[Bool[np.ndarray, "x y"], Float64[np.ndarray, "x y 2"]]:
    """Where the camera may be, on a grid of CELL metres, and the places (x, y) of the cells."""
    half = layout.room[:2] / 2
    axes = [np.arange(-side + CELL / 2, side, CELL) for side in half]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    free = np.asarray((np.abs(places) < half - CLEARANCE).all(-1))
    for item in layout.items:
        low, high = item.position[2], item.position[2] + item.size[2]
        if high < HEIGHT - SWAY - 0.15 or low > HEIGHT + SWAY + 0.15:
            continue
        c, s = np.cos(item.yaw), np.sin(item.yaw)
        local = (places - item.position[:2]) @ np.array([[c, -s], [s, c]])
        outside = np.maximum(np.abs(local) - item.size[:2] / 2, 0)
        free &= np.linalg.norm(outside, axis=-1) > CLEARANCE
    return free, places


def reach_around(layout: Layout) -> tuple[Float64[np.ndarray, "2"], Float64[np.ndarray, " d"]]:
    """A place in the open, and how far it is free from there in each of DIRECTIONS directions.

    The place is the one with the widest way round it, by the mean of the square root of the reach.
    """
    free, places = free_cells(layout)
    angle = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    rays = np.stack([np.cos(angle), np.sin(angle)], -1)
    steps = np.arange(0, np.hypot(*layout.room[:2]), CELL)
    best, chosen = -1.0, (np.zeros(2), np.zeros(DIRECTIONS))
    for centre in places[free][:: max(1, int(free.sum()) // 200)]:
        along = centre + steps[:, None, None] * rays
        cells = np.floor((along + layout.room[:2] / 2) / CELL).astype(int)
        inside = ((cells >= 0) & (cells < free.shape)).all(-1)
        cells = cells.clip(0, np.array(free.shape) - 1)
        blocked = ~(inside & free[cells[..., 0], cells[..., 1]])
        reach = steps[np.maximum(blocked.argmax(0) - 1, 0)]
        if (score := float(np.sqrt(reach).mean())) > best:
            best, chosen = score, (centre, reach)
    return chosen


def smoothed(reach: Float64[np.ndarray, " d"], width: int = 20) -> Float64[np.ndarray, " d"]:
    """The same on a smooth line that nowhere goes farther: the mean of least reaches nearby."""
    window = np.lib.stride_tricks.sliding_window_view
    around = np.pad(reach, width, mode="wrap")
    least = np.pad(window(around, 2 * width + 1).min(-1), width, mode="wrap")
    weights = np.hanning(2 * width + 3)[1:-1]
    return window(least, 2 * width + 1) @ (weights / weights.sum())


def closed_path(
    layout: Layout, seed: int, rounds: int = 3, rate: float = 10.0
) -> Float64[np.ndarray, "n 4 4"]:
    """Poses (world_from_camera) at `rate` a second, all round and back to the start.

    The camera keeps CLEARANCE, SPEED and TURN_RATE; it goes `rounds` times round the open middle of
    the room, each time at other distances from it and with other turns of the head, and crosses its
    own way. How many poses that takes follows from the room.
    """
    random = np.random.default_rng([seed, 3])
    phase = random.uniform(0, 2 * np.pi, 5)
    sense = random.choice([-1.0, 1.0])
    centre, reach = reach_around(layout)
    turn = np.linspace(0, 2 * np.pi, FINE + 1)
    angle = sense * rounds * turn + phase[0]
    degrees = np.mod(angle, 2 * np.pi) * DIRECTIONS / (2 * np.pi)
    radius = np.interp(degrees, np.arange(DIRECTIONS + 1), np.append(*_closed(smoothed(reach))))
    radius = radius * (0.7 + 0.25 * np.sin((rounds + 1) * turn + phase[1]))
    height = HEIGHT + SWAY * np.sin((2 * rounds + 1) * turn + phase[2])
    path = np.stack(
        [centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle), height], -1
    )
    swing = LOOK_AROUND * np.sin((rounds + 2) * turn + phase[3])
    yaw = angle + sense * (np.pi / 2 + LOOK_IN) + swing
    pitch = np.radians(-12 + 7 * np.sin((2 * rounds + 3) * turn + phase[4]))
    moved = np.linalg.norm(np.diff(path, axis=0), axis=-1) / SPEED
    seconds = np.append(0, np.cumsum(np.maximum(moved, np.abs(np.diff(yaw)) / TURN_RATE)))
    count = int(np.ceil(seconds[-1] * rate))
    moments = np.linspace(0, seconds[-1], count, endpoint=False)
    parts = [np.interp(moments, seconds, part) for part in (*path.T, yaw, pitch)]
    return camera_poses(np.stack(parts[:3], -1), parts[3], parts[4])


def camera_poses(
    centres: Float64[np.ndarray, "n 3"],
    yaw: Float64[np.ndarray, " n"],
    pitch: Float64[np.ndarray, " n"],
) -> Float64[np.ndarray, "n 4 4"]:
    """Upright cameras (OpenCV axes, world z up); angles in radians, yaw 0 looks along +x."""
    forward = np.stack(
        [np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)], -1
    )
    right = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros(len(yaw))], -1)
    poses = np.tile(np.eye(4), (len(yaw), 1, 1))
    poses[:, :3, :3] = np.stack([right, np.cross(forward, right), forward], -1)
    poses[:, :3, 3] = centres
    return poses


def _closed(values: Float64[np.ndarray, " d"]) -> tuple[np.ndarray, float]:
    """The values of a turn, and that which begins the next."""
    return values, float(values[0])
