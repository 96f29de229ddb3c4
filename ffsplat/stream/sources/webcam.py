"""A camera of this machine, through the system's own interface."""

import sys
from collections.abc import Sequence
from pathlib import Path

from ffsplat.errors import StreamError, UsageError
from ffsplat.stream.sources.container import PROBE, Container
from ffsplat.stream.sources.live import WAITS, LiveSource

SECONDS = (10.0, 5.0)
"""To open the camera, and to wait for a picture, at most."""

_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}


def open_webcam(
    device: str = "",
    *,
    fps: int | float | None = None,
    format: str | None = None,
    waits: Sequence[float] = WAITS,
) -> LiveSource:
    """The camera of a number (0 unless given), of a path such as /dev/video1, or of a name.

    `fps` is what the camera is asked for. `format` is FFmpeg's name of the system's interface,
    which the platform decides unless it is given; then `device` is passed on as it is. Raises
    StreamError if there is no such camera, UsageError on systems that no interface is known of.
    """
    interface, address = (format, device) if format else _on_this_system(device)
    options = {} if fps is None else {"framerate": f"{fps:g}"}
    name = f"webcam {device or '0'}"

    def connect() -> Container:
        try:
            return Container(address, name=name, format=interface, options=options, seconds=SECONDS)
        except StreamError as error:
            hint = _hint(interface) if error.hint in (None, PROBE) else error.hint
            raise StreamError(str(error), hint or PROBE) from error

    return LiveSource(name, connect, waits=waits)


def _on_this_system(device: str) -> tuple[str, str]:
    """FFmpeg's interface and the address of a camera in it."""
    if sys.platform not in _FORMATS:
        raise UsageError(f"cameras of {sys.platform} are not supported", "stream them over RTSP")
    interface = _FORMATS[sys.platform]
    if interface == "dshow":
        if not device or device.isdecimal():
            raise UsageError("a camera needs its name here", 'give "webcam:NAME"')
        return interface, f"video={device}"
    if interface == "v4l2" and (not device or device.isdecimal()):
        return interface, f"/dev/video{device or 0}"
    return interface, device or "0"


def _hint(interface: str) -> str | None:
    """Which cameras there are, where the system shows them as files."""
    if interface != "v4l2":
        return None
    found = sorted(str(path) for path in Path("/dev").glob("video*"))
    return f"cameras here: {', '.join(found)}" if found else "no camera is connected"
