"""Network cameras: RTSP, and MJPEG or HLS over HTTP."""

from collections.abc import Sequence
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from ffsplat.errors import StreamError, UsageError
from ffsplat.stream.sources.container import Container
from ffsplat.stream.sources.live import WAITS, LiveSource

SECONDS = (10.0, 5.0)
"""To open a connection, and to wait for data on it, at most."""

# What an address may lead to: a playlist from outside must not open files here.
_PROTOCOLS = {
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsp,rtsps,rtp,srtp,tcp,tls,crypto",
    "http": "http,https,tcp,tls,crypto",
    "https": "https,tcp,tls,crypto",
}


def open_rtsp(
    address: str,
    *,
    transport: Literal["tcp", "udp"] | None = None,
    waits: Sequence[float] = WAITS,
) -> LiveSource:
    """The camera at an rtsp, rtsps, http or https address, which may hold user and password.

    `transport` is how RTSP carries pictures; None: by TCP, or by UDP if the camera has nothing
    else, as FFmpeg's "prefer_tcp". Messages name the address without user, password and
    query. Raises UsageError for an address that is none, StreamError if nothing answers.
    """
    parts = _split(address)
    name = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
    options = {"protocol_whitelist": _PROTOCOLS[parts.scheme], "flags": "low_delay"}
    if parts.scheme.startswith("rtsp"):
        options |= {"rtsp_transport": transport} if transport else {"rtsp_flags": "prefer_tcp"}

    def connect() -> Container:
        container = Container(address, name=name, options=options, seconds=SECONDS)
        if container.duration is not None:
            container.close()
            raise StreamError(f"{name} is a recording, not a camera", "download it first")
        return container

    return LiveSource(name, connect, waits=waits)


def _split(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises for one that cannot be
    except ValueError as error:
        raise UsageError("that is no address of a camera", f"{error}") from error
    if parts.scheme not in _PROTOCOLS or not parts.hostname:
        raise UsageError("that is no address of a camera", "expected rtsp://HOST[:PORT]/PATH")
    return parts
