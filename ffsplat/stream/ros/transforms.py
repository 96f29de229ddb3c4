"""Where frames stand at a moment: transforms as they come, interpolated along their chain.

Source of the rules: tf2 (T. Foote, "tf: The transform library", 2013): every frame has one parent,
a transform is interpolated between two samples and never extrapolated, static ones always hold.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64

from ffsplat.stream.ros.frames import rotations_of, slerp

HISTORY_NS = 10_000_000_000
"""What is kept of a transform that changes: 10 s, as in tf2."""

MAX_SAMPLES = 4096
MAX_FRAMES = 1024
MAX_DEPTH = 64


@dataclass(eq=False)
class _Edge:
    """Samples of one transform, parent_from_child, in order of time."""

    parent: str
    static: bool
    times: list[int] = field(default_factory=list)
    samples: list[np.ndarray] = field(default_factory=list)  # x, y, z and quaternion xyzw

    def add(self, time: int, sample: np.ndarray) -> None:
        if self.static or (self.times and time < self.times[-1] - HISTORY_NS):
            self.times, self.samples = [], []  # the clock was set back, or a static one replaced
        place = bisect_right(self.times, time)
        if place and self.times[place - 1] == time:
            self.samples[place - 1] = sample
            return
        self.times.insert(place, time)
        self.samples.insert(place, sample)
        old = bisect_right(self.times, self.times[-1] - HISTORY_NS - 1)
        old = max(old, len(self.times) - MAX_SAMPLES)
        del self.times[:old], self.samples[:old]

    def at(self, time: int) -> np.ndarray | None:
        if self.static:
            return self.samples[-1]
        after = bisect_right(self.times, time)
        if after and self.times[after - 1] == time:
            return self.samples[after - 1]
        if after in (0, len(self.times)):
            return None
        first, second = self.samples[after - 1], self.samples[after]
        share = (time - self.times[after - 1]) / (self.times[after] - self.times[after - 1])
        xyz = (1 - share) * first[:3] + share * second[:3]
        return np.concatenate([xyz, slerp(first[3:], second[3:], share)])


class TransformBuffer:
    """The tree of frames of a robot over the last 10 s; bounded in frames and in samples."""

    def __init__(self) -> None:
        self._edges: dict[str, _Edge] = {}
        self.refused = 0
        """Transforms that were not finite, had no rotation, or were one frame too many."""

    def add(self, transforms: Sequence[Any], static: bool) -> None:
        """Take the transforms of a TFMessage (of rosbags or rclpy: the fields count)."""
        for stamped in transforms:
            parent, child = _clean(stamped.header.frame_id), _clean(stamped.child_frame_id)
            sample = _sample(stamped.transform)
            full = child not in self._edges and len(self._edges) >= MAX_FRAMES
            if sample is None or full or parent == child or not (parent and child):
                self.refused += 1
                continue
            edge = self._edges.get(child)
            if edge is None or edge.parent != parent or edge.static != static:
                edge = self._edges[child] = _Edge(parent, static)
            stamp = stamped.header.stamp
            edge.add(stamp.sec * 1_000_000_000 + stamp.nanosec, sample)

    def ancestors(self, frame: str) -> list[str]:
        """The frame itself, its parent and so on up to the root; a circle ends where it closes."""
        chain = [_clean(frame)]
        while (edge := self._edges.get(chain[-1])) and len(chain) < MAX_DEPTH:
            if edge.parent in chain:
                break
            chain.append(edge.parent)
        return chain

    def fixed_frame(self, frame: str) -> str | None:
        """What stands still while `frame` moves: map, else odom, else the root of its tree.

        None where nothing between the two moves: a tree of static transforms alone tells how a
        camera is mounted, not where it is.
        """
        chain = self.ancestors(frame)
        fixed = next((name for name in ("map", "odom") if name in chain), chain[-1])
        below = chain[: chain.index(fixed)]
        return None if all(self._edges[name].static for name in below) else fixed

    def lookup(self, fixed: str, frame: str, time: int) -> Float64[np.ndarray, "4 4"] | None:
        """fixed_from_frame at a time in nanoseconds, None where it is not known."""
        ways = self._ways(fixed, frame)
        if ways is None:
            return None
        up, down = (self._chain(way, time) for way in ways)
        return None if up is None or down is None else np.linalg.inv(down) @ up

    def may_come(self, fixed: str, frame: str, time: int) -> bool:
        """Whether `lookup` fails only because samples up to that time have not come yet."""
        ways = self._ways(fixed, frame)
        moving = [self._edges[n] for way in ways or () for n in way if not self._edges[n].static]
        return any(edge.times[-1] < time for edge in moving)

    def _ways(self, fixed: str, frame: str) -> tuple[list[str], list[str]] | None:
        """The frames below the first common ancestor on both sides: from `frame`, from `fixed`."""
        up, down = self.ancestors(frame), self.ancestors(fixed)
        common = next((name for name in up if name in down), None)
        return None if common is None else (up[: up.index(common)], down[: down.index(common)])

    def _chain(self, names: list[str], time: int) -> Float64[np.ndarray, "4 4"] | None:
        """ancestor_from_frame along edges given from the frame upwards."""
        samples = [sample for name in names if (sample := self._edges[name].at(time)) is not None]
        if len(samples) < len(names):
            return None
        pose = np.eye(4)
        table = np.array(samples).reshape(-1, 7)
        for rotation, sample in zip(rotations_of(table[:, 3:]), table, strict=True):
            step = np.eye(4)
            step[:3, :3], step[:3, 3] = rotation, sample[:3]
            pose = step @ pose
        return pose


def _clean(name: str) -> str:
    return name.removeprefix("/")  # tf of ROS 1 wrote names with a slash before them


def _sample(transform: Any) -> Float64[np.ndarray, "7"] | None:
    where, turn = transform.translation, transform.rotation
    sample = np.array([where.x, where.y, where.z, turn.x, turn.y, turn.z, turn.w], np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.linalg.norm(sample[3:])
    if not np.isfinite(sample).all() or not 0.5 < length < 2:
        return None
    sample[3:] /= length
    return sample
