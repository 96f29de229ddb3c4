"""Recordings of robots as sources: ROS 1 bags, rosbag2 folders, MCAP files."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ffsplat.errors import StreamError
from ffsplat.stream.frame import Frame
from ffsplat.stream.ros.bags import Bag, BagMessage, open_bag
from ffsplat.stream.ros.feed import CameraFeed
from ffsplat.stream.ros.images import UnsupportedImage, is_rectified
from ffsplat.stream.ros.store import CAMERA_INFO, COMPRESSED_IMAGE, IMAGES, TF
from ffsplat.stream.sources import Source


class BagSource(Source):
    """The pictures of one camera in a recording, with intrinsics and poses where it has them.

    `topic` is that of the pictures, needed if there are several besides depth. `camera_info_topic`
    None takes the one beside it. Poses are those of tf in `fixed_frame` (None: map, else odom, else
    the root of the tree); `poses` False leaves them out. Pictures of a recording of ours have
    none unless `fixed_frame` is named: tf says there where its map had put them. Static
    ones, and the first intrinsics, hold from the start, whenever they were recorded. Times are the
    stamps of the pictures, else when they were recorded, in the order of the recording. Raises
    StreamError if the file cannot be read or has no such topic; what is damaged inside is skipped
    and counted in `skipped`.
    """

    live = False

    def __init__(
        self,
        path: str | Path,
        topic: str | None = None,
        camera_info_topic: str | None = None,
        fixed_frame: str | None = None,
        poses: bool = True,
    ) -> None:
        self.name = str(path)
        self._bag = open_bag(Path(path))
        self._closed = self._busy = False
        try:
            self.topic = _image_topic(self._bag, topic, self.name)
            info = _info_topic(self._bag, self.topic, camera_info_topic)
        except StreamError:
            self._bag.close()
            raise
        tf = [name for name, kind in self._bag.topics.items() if kind == TF] if poses else []
        self._static = {name for name in tf if name.endswith("tf_static")}
        self._infos = {info} if info else set()
        self._wanted = {self.topic, *tf, *self._infos}
        rectified = is_rectified(self.topic)
        self._feed = CameraFeed(fixed_frame, bool(tf), rectified=rectified, name=self.topic)
        self.skipped = self._feed.skipped

    def __iter__(self) -> Iterator[Frame]:
        """The frames. Raises StreamError where the recording cannot be read any further."""
        self._busy = True
        try:
            self._take_early()
            for message in self._bag.messages(self._wanted):
                if self._closed:
                    return
                self._take(message)
                yield from self._feed.frames()
            yield from self._feed.frames(last=True)
        except UnsupportedImage as error:
            raise UnsupportedImage(f"{self.topic}: {error}", error.hint) from error
        except StreamError:
            yield from self._feed.frames(last=True)
            raise
        finally:
            self._busy = False
            self.close()

    def _take_early(self) -> None:
        """Take what holds from the start, though it may have been recorded after the pictures."""
        with suppress(StreamError):  # whatever it is, the whole recording tells
            for message in self._bag.messages(self._static):
                if self._closed:
                    return
                self._feed.add_transforms(message.read(), static=True)
        with suppress(StreamError):
            for message in self._bag.messages(self._infos):
                self._feed.add_camera_info(message.read())
                return

    def _take(self, message: BagMessage) -> None:
        try:
            content = message.read()
        except StreamError as error:
            self._feed.skip("damaged message", f"{message.topic}: {error}")
            return
        if message.type_name == TF:
            self._feed.add_transforms(content, message.topic.endswith("tf_static"))
        elif message.type_name == CAMERA_INFO:
            self._feed.add_camera_info(content)
        else:
            compressed = message.type_name == COMPRESSED_IMAGE
            self._feed.add_image(content, compressed, message.time_ns)

    def close(self) -> None:
        """End the iteration, which closes the files; without one they are closed at once."""
        self._closed = True
        if not self._busy:
            self._bag.close()


def _image_topic(bag: Bag, wanted: str | None, name: str) -> str:
    """The topic that is wanted, or else the only one, beside those that by their name are depth."""
    topics = sorted(topic for topic, kind in bag.topics.items() if kind in IMAGES)
    if wanted in topics:
        return wanted
    topics = [topic for topic in topics if "depth" not in topic.lower()] or topics
    listed = ", ".join(topics[:20])
    if wanted is not None:
        has = f"it has {listed}" if topics else "it has no pictures"
        raise StreamError(f"{name} has no pictures on {wanted}", has)
    if len(topics) > 1:
        raise StreamError(f"{name} has several cameras: {listed}", "choose one with --topic TOPIC")
    if not topics:
        others = sorted({kind for kind in bag.topics.values() if kind})[:10]
        raise StreamError(f"{name} has no pictures", f"its types are {', '.join(others) or 'none'}")
    return topics[0]


def _info_topic(bag: Bag, image_topic: str, wanted: str | None) -> str | None:
    """The CameraInfo beside the pictures (source: image_transport's naming), or the only one."""
    topics = [topic for topic, kind in bag.topics.items() if kind == CAMERA_INFO]
    if wanted is not None and wanted not in topics:
        raise StreamError(f"there is no CameraInfo on {wanted}", f"on {', '.join(sorted(topics))}")
    if wanted is not None:
        return wanted
    for depth in (1, 2):  # .../image_raw, .../image_raw/compressed
        beside = "/".join([*image_topic.split("/")[:-depth], "camera_info"])
        if beside in topics:
            return beside
    one_camera = sum(kind in IMAGES for kind in bag.topics.values()) == 1
    return topics[0] if len(topics) == 1 and one_camera else None
