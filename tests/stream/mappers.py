"""Stand-ins for a mapper: fast, raising, hanging until told otherwise, and never with a network."""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ffsplat.io.atomic import atomic_output
from ffsplat.stream.delta import FramePoses, MapDelta, SplatRows
from ffsplat.stream.frame import Dropped, Frame, Used, Verdict


class Gate(threading.Event):
    """An answer that is waited for, which says when that begins."""

    def __init__(self):
        super().__init__()
        self.reached = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.reached.set()
        return super().wait(timeout)


@dataclass
class StandIn:
    """Gives each frame the next verdict of `answers`, "keyframe" when they are used up.

    An answer may be an exception, which is raised, or an Event, which is waited for.
    """

    answers: Iterable[Used | Dropped | Exception | threading.Event] = ()
    epoch: int = 0
    resolution: int = 64
    deltas: int = 0
    keyframes: int = 0
    seen: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    changed: bool = False

    def __post_init__(self) -> None:
        self._answers: Iterator = iter(self.answers)

    def add(
        self,
        image: np.ndarray,
        time_ns: int | None = None,
        pose: np.ndarray | None = None,
        intrinsics: np.ndarray | None = None,
        *,
        number: int | None = None,
        size: tuple[int, int] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        tell: Callable[[Verdict], None] = lambda verdict: None,
    ) -> Verdict:
        self.seen.append((number, image.shape, time_ns, pose, intrinsics, size))
        answer = next(self._answers, "keyframe")
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, threading.Event):
            assert answer.wait(30)
            answer: Used | Dropped = "timeout" if cancelled() else "keyframe"
        self.asked.append(cancelled())
        self.changed |= answer == "keyframe"
        self.keyframes += answer == "keyframe"
        return Verdict(number or 0, answer, seconds={"network": 0.002, "fuse": 0.001})

    def take_delta(self) -> MapDelta | None:
        if not self.changed:
            return None
        self.changed = False
        self.deltas += 1
        return empty_delta(self.deltas)

    def save(self, path: Path) -> Path:
        with atomic_output(path) as file:
            file.write(str(self.keyframes).encode())
        return path

    def statistics(self) -> dict[str, float]:
        return {"keyframes": float(self.keyframes)}


def empty_delta(number: int) -> MapDelta:
    """A delta that is all headers."""
    none = SplatRows(
        np.zeros(0, np.uint32),
        np.zeros(0, np.uint16),
        np.zeros((0, 3), np.float32),
        np.zeros((0, 3), np.float16),
        np.zeros((0, 4), np.int8),
        np.zeros(0, np.uint8),
        np.zeros((0, 3), np.uint8),
        np.zeros((0, 4), np.int16),
        np.zeros((0, 4), np.uint8),
        np.zeros(0, np.int32),
    )
    no_frames = FramePoses(
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
        np.zeros(0, np.uint16),
        np.zeros((0, 7)),
        np.zeros((0, 6), np.float32),
        np.zeros(0, np.uint8),
    )
    return MapDelta(
        number=number,
        epoch=0,
        time_ns=0,
        splats=none,
        removed=np.zeros(0, np.uint32),
        submaps=np.zeros(0, np.uint16),
        submap_poses=np.zeros((0, 8)),
        removed_submaps=np.zeros(0, np.uint16),
        frames=no_frames,
    )


def picture(grey: int = 128, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """Pixels with a step in the middle, which a camera that moves would shift."""
    pixels = np.full((size[1], size[0], 3), grey, np.uint8)
    pixels[:, : size[0] // 2] //= 2
    return pixels


def jpeg(pixels: np.ndarray) -> bytes:
    """Pixels as a JPEG."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def frame(number: int, image: np.ndarray | bytes | None = None, **more) -> Frame:
    """The frame that a camera of 30 frames a second takes at its turn."""
    time_ns = more.pop("time_ns", number * 33_333_333)
    return Frame(picture() if image is None else image, time_ns, number, **more)


class Verdicts:
    """Collects verdicts, and waits for them."""

    def __init__(self) -> None:
        self.all: list[Verdict] = []
        self._came = threading.Condition()

    def __call__(self, verdict: Verdict) -> None:
        with self._came:
            self.all.append(verdict)
            self._came.notify_all()

    def wait(self, count: int) -> list[Verdict]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.all) >= count, 30)
            return list(self.all)

    @property
    def reasons(self) -> dict[int, str]:
        """By number of the frame; each frame has one."""
        numbers = [verdict.number for verdict in self.all]
        assert len(set(numbers)) == len(numbers)
        return {verdict.number: verdict.reason for verdict in self.all}
