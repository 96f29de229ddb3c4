"""What video files, webcams and network cameras share: pictures from a container, by PyAV.

Pixels are made of a picture when somebody asks for them, so what is dropped costs no conversion.
"""

import importlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ffsplat.errors import StreamError, UsageError, system_hint
from ffsplat.stream.decoding import MAX_MEGAPIXELS

_log = logging.getLogger(__name__)

PROBE = "ffprobe, which comes with FFmpeg, tells what is there"

SMALLER = "have it made smaller: no network sees more than 2048 pixels a side"

MAX_STREAMS = 64
MAX_DAMAGED = 1000
"""Packets in a row that cannot be decoded, after which the rest is given up."""

_HDR = {16: "PQ", 18: "HLG"}  # ITU-T H.273, table 3


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture of a video; `seconds` since its first picture, None if it has no time."""

    frame: Any
    seconds: float | None

    def pixels(self) -> UInt8[np.ndarray, "h w 3"]:
        """Upright sRGB pixels."""
        pixels = self.frame.to_ndarray(format="rgb24")
        # FFmpeg's angle, like numpy's, runs against the clock.
        return np.ascontiguousarray(np.rot90(pixels, round(self.frame.rotation / 90)))


class Container:
    """An open video: iterate over its pictures once, in order of display.

    `duration` in seconds and `frames` are what it claims, None where it claims nothing; `damaged`
    counts packets that could not be decoded.
    """

    def __init__(
        self,
        address: str,
        *,
        name: str,
        format: str | None = None,
        options: Mapping[str, str] | None = None,
        seconds: tuple[float, float] | None = None,
    ):
        """Open `address`; messages call it `name`.

        `seconds` to open and to wait for data, at most. Raises StreamError if it cannot be opened,
        has no picture in it, or has larger ones than MAX_MEGAPIXELS; UsageError without PyAV.
        """
        self._av = import_av()
        self.name, self.damaged = name, 0
        self._said, self._start = False, None
        try:
            self._open = self._av.open(
                address, format=format, options=dict(options or {}), timeout=seconds
            )
        except (self._av.FFmpegError, OSError, ValueError) as error:
            hint = system_hint(error) if isinstance(error, PermissionError) else PROBE
            raise StreamError(f"cannot open {name}: {reason(error)}", hint) from error
        try:
            self._stream = self._choose()
        except StreamError:
            self._open.close()
            raise
        self.frames = self._stream.frames or None
        self.duration = self._open.duration / 1e6 if self._open.duration else None

    def __iter__(self) -> Iterator[Picture]:
        """Every picture that can be decoded; StreamError if the connection breaks off."""
        failed = 0
        packets = self._open.demux(self._stream)
        while failed <= MAX_DAMAGED:
            try:
                packet = next(packets, None)
            except (self._av.FFmpegError, OSError) as error:
                if isinstance(error, self._av.InvalidDataError):
                    self.damaged += 1
                    return
                raise StreamError(f"{self.name} broke off: {reason(error)}", PROBE) from error
            if packet is None:
                return
            try:
                frames = packet.decode()
            except (self._av.FFmpegError, OSError):
                failed += 1
                self.damaged += 1
                continue
            failed = 0 if frames else failed
            yield from (self._picture(frame) for frame in frames)

    def close(self) -> None:
        """Give up the file or connection."""
        self._open.close()

    def _choose(self) -> Any:
        """The stream of pictures to read: the first that is no cover image."""
        if len(self._open.streams) > MAX_STREAMS:
            raise StreamError(f"{self.name} has more than {MAX_STREAMS} streams", PROBE)
        videos = self._open.streams.video
        if not videos:
            only = "only sound" if self._open.streams.audio else "no picture"
            raise StreamError(f"there is {only} in {self.name}", PROBE)
        moving = [one for one in videos if not one.disposition & one.disposition.attached_pic]
        if not moving:
            raise StreamError(f"there is only sound, and a cover image, in {self.name}", PROBE)
        stream = moving[0]
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_MEGAPIXELS * 1e6:
            raise StreamError(
                f"{self.name} has {width} x {height} pixels, limit {MAX_MEGAPIXELS} MP", SMALLER
            )
        return stream

    def _picture(self, frame: Any) -> Picture:
        if frame.width * frame.height > MAX_MEGAPIXELS * 1e6:  # it may change on the way
            raise StreamError(f"{self.name} has {frame.width} x {frame.height} pixels", SMALLER)
        if frame.color_trc in _HDR and not self._said:
            self._say_hdr(_HDR[frame.color_trc])
        if frame.pts is None:
            return Picture(frame, None)
        self._start = frame.pts if self._start is None else self._start
        return Picture(frame, float((frame.pts - self._start) * frame.time_base))

    def _say_hdr(self, curve: str) -> None:
        self._said = True
        _log.warning("%s is HDR video (%s): its colors are not tone mapped", self.name, curve)


def import_av() -> Any:
    """The module of PyAV, an optional package; UsageError if it is not there."""
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise UsageError(
            "videos and cameras need PyAV, which is not installed",
            'install it with: pip install "ffsplat[video]"',
        ) from error


def reason(error: Exception) -> str:
    """A few words on what FFmpeg reports, without the address: it may hold a password."""
    av = import_av()
    if isinstance(error, av.ExitError):
        return "no answer in time"
    if isinstance(error, av.InvalidDataError):
        return "no video, or damaged, or cut short"
    if isinstance(error, av.HTTPUnauthorizedError | av.HTTPForbiddenError):
        return "user name or password refused"
    return (getattr(error, "strerror", None) or type(error).__name__).lower()
