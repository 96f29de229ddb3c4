"""Where frames come from: one small interface, one file for each kind, opened by what a text says.

Adapters are imported when they are needed, so that none of their packages is needed otherwise.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ffsplat.errors import StreamError, UsageError, system_hint
from ffsplat.images import EXTENSIONS, HEIC_EXTENSIONS
from ffsplat.stream.frame import Frame

KNOWN = (
    "a folder or pattern of photos, a video file, webcam[:NUMBER], rtsp://..., http://..., "
    "a .bag or .mcap file, a rosbag2 folder, ros2:/TOPIC or zenoh:KEY"
)

_VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".mpg", ".mpeg", ".ogv")
_BAGS = (".bag", ".bag.active", ".mcap", ".db3")
_CONNECTIONS = ("rtsp", "rtsps", "http", "https")
_MIDDLEWARES = ("ros2", "zenoh")

_LACKS = {"fps": "has its own times", "topic": "has no topics", "no_poses": "has no poses"}


@runtime_checkable
class Source(Protocol):
    """Frames in the order in which they were taken; ends, or goes on until it is closed.

    A `live` source is never waited for: it drops what comes while nobody asks. Iterated once.
    Raises StreamError when it breaks off for good.
    """

    name: str
    live: bool

    def __iter__(self) -> Iterator[Frame]:
        """The frames."""
        ...

    def close(self) -> None:
        """End the iteration, from whatever thread, within seconds; twice does no harm."""
        ...

    def __enter__(self) -> "Source":
        """The source itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def open_source(
    text: str,
    *,
    fps: int | float | None = None,
    realtime: int | float | None = None,
    topic: str | None = None,
    no_poses: bool = False,
) -> Source:
    """The source that a text means; see KNOWN.

    `fps` is how fast the photos of a folder were taken, how many frames a second of a video are
    used, or what a webcam is asked for. `realtime` plays a recorded source at that many times its
    own speed, as if it were live. `topic` is that of the pictures, where a bag has several. With
    `no_poses` those of tf, in a bag, ROS 2 or Zenoh, are not taken as given. Raises
    UsageError for a text or option that makes no sense, StreamError or ImageError for a source that
    cannot be opened.
    """
    if fps is not None and not 0 < fps <= 1000:
        raise UsageError(f"{fps:g} frames a second cannot be", "give 0 to 1000")
    if realtime is not None and not 0 < realtime <= 1000:
        raise UsageError(f"speed {realtime:g} cannot be", "1 is as it was recorded")
    try:
        source = _open(text, fps, topic, no_poses)
    except OSError as error:
        why = f"cannot open {text[:200]}: {(error.strerror or str(error)).lower()}"
        raise StreamError(why, system_hint(error)) from error
    if realtime is None:
        return source
    if source.live:
        source.close()
        raise UsageError(f"{source.name} is live: it has no other speed", "leave out --realtime")
    from ffsplat.stream.sources.pacing import Paced

    return Paced(source, realtime)


def _open(text: str, fps: int | float | None, topic: str | None, no_poses: bool) -> Source:
    """Choose by the text, and by what the file system says of it."""
    if not text or "\0" in text:
        raise UsageError("that is no source of frames", f"give {KNOWN}")
    path = Path(text)
    if path.name.lower().endswith(_BAGS) or (path / "metadata.yaml").is_file():
        _refuse(text, fps=fps)
        return _open_bag(path, topic, no_poses)
    _refuse(text, topic=topic)
    scheme, _, rest = text.partition(":")
    if scheme.lower() in _MIDDLEWARES and rest:
        _refuse(text, fps=fps)
        return _open_middleware(scheme.lower(), rest, no_poses)
    _refuse(text, no_poses=no_poses or None)
    if scheme.lower() == "webcam" or re.fullmatch(r"/dev/video\d+", text):
        from ffsplat.stream.sources.webcam import open_webcam

        return open_webcam(text if text.startswith("/") else rest, fps=fps)
    if scheme.lower() in _CONNECTIONS and rest:
        from ffsplat.stream.sources.rtsp import open_rtsp

        _refuse(text, fps=fps)
        return open_rtsp(text)
    return _open_pictures(path, fps)


def _refuse(text: str, **options: Any) -> None:
    """Options that this kind of source does not have must not be given."""
    for name, value in options.items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{text} {_LACKS[name]}", f"leave out {option}")


def _open_bag(path: Path, topic: str | None, no_poses: bool) -> Source:
    from ffsplat.stream.sources.bag import BagSource

    if not path.exists():
        raise StreamError(f"no bag {path}", "check the name")
    return BagSource(path, topic, poses=not no_poses)


def _open_pictures(path: Path, fps: int | float | None) -> Source:
    """Photos or a video."""
    pattern = any(mark in path.name for mark in "*?[") and not path.exists()
    if pattern or path.is_dir() or path.suffix[1:].lower() in EXTENSIONS + HEIC_EXTENSIONS:
        from ffsplat.stream.sources.folder import FPS, FolderSource

        return FolderSource(path, fps=fps or FPS)
    if path.is_file() or path.suffix.lower() in _VIDEOS:
        from ffsplat.stream.sources.video import VideoSource

        return VideoSource(path, fps=fps)
    raise UsageError(f"{path} is no source of frames", f"give {KNOWN}")


def _open_middleware(scheme: str, name: str, no_poses: bool) -> Source:
    if scheme == "zenoh":
        from ffsplat.stream.sources.zenoh import ZenohSource

        return ZenohSource(name, poses=not no_poses)
    from ffsplat.stream.ros.node import RosSource

    return RosSource(name, poses=not no_poses)
