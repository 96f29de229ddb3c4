"""Messages of one camera in, frames out: pictures meet their intrinsics and their poses."""

import logging
import threading
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ffsplat.errors import FFSplatError
from ffsplat.stream.frame import Frame
from ffsplat.stream.ros import images
from ffsplat.stream.ros.frames import FrameNames
from ffsplat.stream.ros.transforms import TransformBuffer

MADE = "%s was made by ffsplat: its poses are those of a map, and are not taken as given"

OWN = FrameNames().optical
"""The frame of pictures that a stream of ours has written, whatever they were copied to since."""

WAITING = 32
"""Pictures that wait for their pose at most."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Waiting:
    frame: Frame
    optical: str


class CameraFeed:
    """Joins the topics of one camera; it knows no transport, and no message class.

    A picture's pose is fixed_from_optical of tf at its stamp. `fixed_frame` None takes map, else
    odom, else the root of the tree, as found with the first pose, and stays with it: a change of
    world is worse than a poor one. Pictures that a stream of ours has written have no pose then:
    tf tells of them what its map said, and a map must not take itself for the truth. With
    `expects_poses` a picture waits up to `patience_ns`, in stamps, for transforms that come after
    it. What cannot be used is counted in `skipped`.
    """

    def __init__(
        self,
        fixed_frame: str | None = None,
        expects_poses: bool = False,
        patience_ns: int = 1_000_000_000,
        rectified: bool = False,
        name: str = "",
    ) -> None:
        self.transforms = TransformBuffer()
        self.skipped: Counter[str] = Counter()
        self.fixed_frame = fixed_frame
        self._believes_own = fixed_frame is not None
        self._expects_poses = expects_poses
        self._patience_ns = patience_ns
        self._rectified = rectified
        self.name = name
        self._info: Any = None
        self._waiting: deque[_Waiting] = deque()
        self._number = 0
        self._warned: set[str] = set()
        self._counting = threading.Lock()

    def add_image(self, message: Any, compressed: bool, received_ns: int) -> None:
        """Take an Image or a CompressedImage; damage is counted.

        Raises UnsupportedImage for a kind of picture that is not read. After one that was, it is
        taken for damage: a topic does not change its kind.
        """
        try:
            read = images.compressed_bytes if compressed else images.pixels_of
            picture = read(message)
        except FFSplatError as error:
            if isinstance(error, images.UnsupportedImage) and self._number == 0:
                raise
            self.skip("damaged picture", str(error))
            return
        stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        self.add_picture(picture, stamp or received_ns, message.header.frame_id)

    def add_picture(self, picture: bytes | np.ndarray, time_ns: int, optical: str = "") -> None:
        """Take a picture that came without a ROS message around it."""
        intrinsics = self._intrinsics(picture)
        if optical.removeprefix("/") == OWN and not self._believes_own:
            optical = ""
            if self._expects_poses:
                self._warn("own", MADE, self.name)
        name = f"{self.name}:{self._number}"
        frame = Frame(picture, time_ns, self._number, None, intrinsics, name)
        self._number += 1
        self._waiting.append(_Waiting(frame, optical))

    def add_camera_info(self, message: Any) -> None:
        """Take a CameraInfo; it holds for the pictures that follow."""
        if not self._rectified and images.is_distorted(message):
            self._warn(
                "distorted",
                "%s has a lens distortion, which is ignored: use the rectified topic",
                self.name or "the camera",
            )
        self._info = message

    def add_transforms(self, message: Any, static: bool) -> None:
        """Take a TFMessage, of /tf_static or of /tf."""
        self.transforms.add(message.transforms, static)

    def frames(self, last: bool = False) -> Iterator[Frame]:
        """Frames that are complete, or have waited long enough; all of them if nothing follows."""
        while self._waiting:
            oldest = self._waiting[0]
            pose = self._pose(oldest)
            if pose is None and not last and self._should_wait(oldest):
                return
            self._waiting.popleft()
            yield replace(oldest.frame, pose=pose)

    def skip(self, reason: str, detail: str) -> None:
        """Count what was left out, and tell of the first of each kind; from any thread."""
        with self._counting:
            self.skipped[reason] += 1
        self._warn(reason, "%s: skipped a %s (%s)", self.name or "stream", reason, detail)

    def _pose(self, waiting: _Waiting) -> np.ndarray | None:
        if not waiting.optical:
            return None
        fixed = self.fixed_frame or self.transforms.fixed_frame(waiting.optical)
        if fixed is None:
            return None
        pose = self.transforms.lookup(fixed, waiting.optical, waiting.frame.time_ns)
        if pose is not None:
            self.fixed_frame = fixed
        return pose

    def _should_wait(self, oldest: _Waiting) -> bool:
        if not self._expects_poses or not oldest.optical or len(self._waiting) > WAITING:
            return False
        newest = self._waiting[-1].frame.time_ns
        if not 0 <= newest - oldest.frame.time_ns <= self._patience_ns:
            return False
        fixed = self.fixed_frame or self.transforms.fixed_frame(oldest.optical)
        if fixed is None or fixed not in self.transforms.ancestors(oldest.optical):
            return True  # the tree is not complete yet
        return self.transforms.may_come(fixed, oldest.optical, oldest.frame.time_ns)

    def _intrinsics(self, picture: bytes | np.ndarray) -> np.ndarray | None:
        if self._info is None:
            return None
        try:
            width, height = images.picture_size(picture)
            return images.intrinsics_of(self._info, width, height, self._rectified)
        except (FFSplatError, TypeError, ValueError) as error:
            self.skip("camera info", str(error))
            return None

    def _warn(self, kind: str, text: str, *values: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            log.warning(text, *values)
