"""A camera whose messages are brought by some middleware: the part that knows none of them."""

import time
from collections.abc import Iterator

from ffsplat.errors import StreamError
from ffsplat.stream.frame import Frame
from ffsplat.stream.ros.feed import CameraFeed
from ffsplat.stream.ros.images import UnsupportedImage
from ffsplat.stream.ros.mailbox import Mailbox, Parcel
from ffsplat.stream.ros.store import CAMERA_INFO, COMPRESSED_IMAGE, IMAGES, TF, from_cdr
from ffsplat.stream.sources import Source

PATIENCE_NS = 200_000_000
"""How long, in stamps, a picture waits for the transform after it."""


class LiveMessages(Source):
    """Frames from the messages of one camera; whoever has a connection calls `receive`.

    Messages are read in the thread that asks for frames. The newest pictures win: `missed` counts
    those that nobody asked for in time, `skipped` those that cannot be used, by reason.
    """

    live = True

    def __init__(
        self, name: str, fixed_frame: str | None, expects_poses: bool, rectified: bool = False
    ) -> None:
        self.name = name
        self._mailbox = Mailbox()
        self._feed = CameraFeed(fixed_frame, expects_poses, PATIENCE_NS, rectified, name)
        self.skipped = self._feed.skipped

    @property
    def missed(self) -> int:
        """Pictures that newer ones took the place of."""
        return self._mailbox.missed

    def receive(self, topic: str, type_name: str, data: bytes, time_ns: int | None = None) -> None:
        """Take a message; an empty type is that of a bare picture. From any thread."""
        received = time.time_ns() if time_ns is None else time_ns
        picture = type_name == "" or type_name in IMAGES
        self._mailbox.put(Parcel(topic, type_name, received, data), picture)

    def __iter__(self) -> Iterator[Frame]:
        """Frames until it is closed. Raises StreamError for pictures of a kind that is not read."""
        while (parcel := self._mailbox.get()) is not None:
            try:
                self._take(parcel)
            except UnsupportedImage as error:
                raise UnsupportedImage(f"{self.name}: {error}", error.hint) from error
            except StreamError as error:
                self._feed.skip("damaged message", f"{parcel.topic}: {error}")
            yield from self._feed.frames()

    def close(self) -> None:
        """End the iteration."""
        self._mailbox.close()

    def _take(self, parcel: Parcel) -> None:
        if parcel.type_name == "":
            self._feed.add_picture(parcel.data, parcel.received_ns)
            return
        message = from_cdr(parcel.data, parcel.type_name)
        if parcel.type_name == TF:
            self._feed.add_transforms(message, "tf_static" in parcel.topic)
        elif parcel.type_name == CAMERA_INFO:
            self._feed.add_camera_info(message)
        else:
            compressed = parcel.type_name == COMPRESSED_IMAGE
            self._feed.add_image(message, compressed, parcel.received_ns)
