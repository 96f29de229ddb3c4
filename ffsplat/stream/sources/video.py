"""A video file as a stream: its own times, its own size, upright."""

import logging
import math
from collections.abc import Iterator
from pathlib import Path

from ffsplat.errors import StreamError
from ffsplat.stream.frame import Frame
from ffsplat.stream.sources import Source
from ffsplat.stream.sources.container import PROBE, Container, Picture

_log = logging.getLogger(__name__)

FPS = 30.0
"""Pictures a second of a video that gives them no times."""

CUT_SHORT = 0.9
"""A video that has less than this share of the frames it claims is warned of."""


class VideoSource(Source):
    """Frames of a video file, timed from the first one; all, or at most `fps` a second.

    Raises StreamError for a file without a picture in it, at once or, where only decoding shows it,
    from the iteration. A file that is damaged or cut short gives what can be decoded, and a
    warning says so.
    """

    live = False

    def __init__(self, path: str | Path, *, fps: int | float | None = None):
        path = Path(path)
        if not path.is_file():
            raise StreamError(f"no video file {path}", "check the name")
        self.name = str(path)
        self._fps, self._closed = fps, False
        # As a file, whatever the name looks like, and one that cannot point to anything else.
        self._container = Container(
            f"file:{path.absolute()}", name=path.name, options={"protocol_whitelist": "file"}
        )

    def __iter__(self) -> Iterator[Frame]:
        """The frames in the order in which they are shown."""
        number, latest = -1, -1
        try:
            for number, picture in enumerate(self._container):
                if self._closed:
                    return
                seconds = number / FPS if picture.seconds is None else picture.seconds
                if self._fps is not None:
                    turn = math.floor(seconds * self._fps + 1e-6)
                    if turn <= latest:
                        continue
                    latest = turn
                yield self._frame(picture, seconds, number)
        finally:
            self._container.close()
        self._check(number + 1)

    def close(self) -> None:
        """End after the frame at hand; the file is closed by who reads it."""
        self._closed = True

    def _frame(self, picture: Picture, seconds: float, number: int) -> Frame:
        return Frame(
            picture.pixels(), round(seconds * 1e9), number, name=f"{self._container.name}:{number}"
        )

    def _check(self, count: int) -> None:
        """Say what was wrong with a video that has come to its end."""
        container = self._container
        if not count:
            raise StreamError(f"there is no frame in {container.name} that can be decoded", PROBE)
        claimed = container.frames or count
        if container.damaged or count < CUT_SHORT * claimed:
            _log.warning(
                "%s is damaged or cut short: %d of %d frames", container.name, count, claimed
            )
