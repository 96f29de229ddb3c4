"""What a stream does, told as ROS messages on named topics; whoever sends them knows no more.

`Recorder` writes them to a file, `ZenohSink` and the ROS 2 node send them.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from ffsplat.errors import ImageError
from ffsplat.hits import Hit
from ffsplat.stream.delta import MapDelta
from ffsplat.stream.frame import Frame, Verdict
from ffsplat.stream.ros import messages
from ffsplat.stream.ros.frames import BODY_FROM_OPTICAL, MAP_FROM_WORLD, FrameNames, correction
from ffsplat.stream.ros.images import picture_size
from ffsplat.stream.ros.points import point_cloud, points
from ffsplat.stream.ros.store import (
    BYTES,
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    MARKERS,
    PATH,
    POINTS,
    TF,
)


@runtime_checkable
class CopiedMap(Protocol):
    """The part of a `Replica` that is needed here."""

    @property
    def number(self) -> int:
        """That of the last delta."""
        ...

    def snapshot(self) -> MapDelta:
        """The delta that makes this map from nothing."""
        ...


@dataclass(frozen=True)
class Topic:
    """A topic that is written; a latched one gives its last message to whoever comes late.

    In DDS: reliable, transient local, depth 1. The others keep the last ten.
    """

    name: str
    type_name: str
    latched: bool = False


TF_TOPIC = Topic("/tf", TF)
TF_STATIC = Topic("/tf_static", TF, latched=True)
PICTURE = Topic("/ffsplat/image", IMAGE)
COMPRESSED = Topic("/ffsplat/image/compressed", COMPRESSED_IMAGE)
INFO = Topic("/ffsplat/camera_info", CAMERA_INFO)
TRAJECTORY = Topic("/ffsplat/path", PATH, latched=True)
CLOUD = Topic("/ffsplat/points", POINTS, latched=True)
HITS = Topic("/ffsplat/hits", MARKERS, latched=True)
DELTAS = Topic("/ffsplat/deltas", BYTES)


@dataclass(frozen=True, eq=False)
class Output:
    """A message for a topic, of a moment in nanoseconds."""

    topic: Topic
    message: Any
    time_ns: int


class MapMessages:
    """Makes the messages; points and path no more often than every `period_s` seconds.

    `map_from_world` says how the map's world lies in the `map` frame. None: as its first camera
    (MAP_FROM_WORLD), until a frame comes with a pose; from then on the map's world is the sender's
    and `map` is the same. With `correct_odometry`, frames that came with a pose give map -> odom in
    place of the camera, as REP-105 wants of a localizer: their poses must be those of `odom`. What
    `queries` find is marked whenever the points are told.
    """

    def __init__(
        self,
        names: FrameNames | None = None,
        map_from_world: Float64[np.ndarray, "4 4"] | None = None,
        period_s: int | float = 2,
        correct_odometry: bool = False,
        queries: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.names = names or FrameNames()
        self.queries = tuple(queries)
        self._map_from_world = map_from_world
        self._posed = False
        self._period_s = period_s
        self._correct_odometry = correct_odometry
        self._clock = clock
        self._last = -float("inf")

    @property
    def map_from_world(self) -> Float64[np.ndarray, "4 4"]:
        """How the map's world lies in the `map` frame."""
        if self._map_from_world is not None:
            return self._map_from_world
        return np.eye(4) if self._posed else MAP_FROM_WORLD

    def mount(self, time_ns: int = 0) -> Output:
        """How the camera's body lies in its optical frame, which never changes."""
        optical_from_body = np.ascontiguousarray(BODY_FROM_OPTICAL.T)
        names = self.names
        stamped = messages.transform(names.optical, names.body, optical_from_body, time_ns)
        return Output(TF_STATIC, messages.transforms([stamped]), time_ns)

    def picture(self, frame: Frame) -> Iterator[Output]:
        """The picture as it came; its intrinsics, if they came with it, go before it."""
        at, optical = frame.time_ns, self.names.optical
        if frame.intrinsics is not None:
            with suppress(ImageError):  # the picture is no picture: the engine says so
                size = picture_size(frame.image)
                info = messages.camera_info(frame.intrinsics, *size, optical, at)
                yield Output(INFO, info, at)
        if isinstance(frame.image, bytes):
            yield Output(COMPRESSED, messages.compressed_image(frame.image, optical, at), at)
        else:
            yield Output(PICTURE, messages.image(frame.image, optical, at), at)

    def placed(self, frame: Frame, verdict: Verdict) -> Iterator[Output]:
        """Where the camera of a frame stands, if it was placed."""
        self._posed = self._posed or frame.pose is not None
        if verdict.pose is None:
            return
        pose, names = self.map_from_world @ verdict.pose, self.names
        if self._correct_odometry and frame.pose is not None:
            pose = correction(pose, frame.pose)
            stamped = messages.transform(names.map, names.odom, pose, frame.time_ns)
        else:
            stamped = messages.transform(names.map, names.optical, pose, frame.time_ns)
        yield Output(TF_TOPIC, messages.transforms([stamped]), frame.time_ns)

    def due(self) -> bool:
        """Whether it is time again for points and path; if so, the time begins anew."""
        now = self._clock()
        if now - self._last < self._period_s:
            return False
        self._last = now
        return True

    def map(self, snapshot: MapDelta) -> Iterator[Output]:
        """The whole map as points, and the path of its cameras."""
        at, name = snapshot.time_ns, self.names.map
        rows = points(snapshot, self.map_from_world)
        yield Output(CLOUD, point_cloud(rows, name, at), at)
        yield Output(TRAJECTORY, messages.path(snapshot, self.map_from_world, name), at)

    def hits(self, hits: Sequence[Hit], time_ns: int) -> Output:
        """The answer to a query, in place of the one before."""
        made = messages.markers(hits, self.map_from_world, self.names.map, time_ns)
        return Output(HITS, made, time_ns)
