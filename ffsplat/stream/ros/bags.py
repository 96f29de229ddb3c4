"""Recordings of ROS 1 and ROS 2 behind one small interface, whatever their container.

ROS 1 bags and databases are read by `rosbags`, MCAP files by our own reader.
"""

import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ffsplat.errors import StreamError, system_hint
from ffsplat.stream.ros.compression import decompress, kind_of, unpack_file
from ffsplat.stream.ros.mcap_reader import McapFile
from ffsplat.stream.ros.store import (
    MAX_MESSAGE_BYTES,
    from_cdr,
    from_ros1,
    normal_type,
    ros2_types,
)

WHOLE = "give a .bag, .mcap or .db3 file that is whole, or the folder of a rosbag2"

MAX_CHUNK_BYTES = 512 << 20
MAX_METADATA_BYTES = 16 << 20
MAX_FILES = 10_000

MAX_GROWTH = 100
FREE_BYTES = 1 << 30
"""A compressed file may unpack to a hundred times its size, or to a gigabyte."""


@dataclass(frozen=True, eq=False)
class BagMessage:
    """A message of a recording; `time_ns` is when it was recorded."""

    topic: str
    type_name: str
    time_ns: int
    data: bytes
    encoding: str = "cdr"

    def read(self) -> Any:
        """The message. Raises StreamError if the bytes are no such message."""
        if self.encoding == "ros1":
            return from_ros1(self.data, self.type_name)
        if self.encoding == "cdr":
            return from_cdr(self.data, self.type_name)
        raise StreamError(f"messages written as {self.encoding[:20]!r} are not read")


class Bag(ABC):
    """A recording that is open; `topics` gives the type of each topic, by its ROS 2 name."""

    topics: dict[str, str]

    @abstractmethod
    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """The messages of some topics, in the order in which they were recorded."""

    @abstractmethod
    def close(self) -> None:
        """Close the files."""


def open_bag(path: Path) -> Bag:
    """A ROS 1 .bag, a rosbag2 folder (also one that lacks its metadata), a .mcap or a .db3 file.

    Raises StreamError with the reason if it cannot be opened.
    """
    if not path.exists():
        raise StreamError(f"{path} does not exist", "check the name")
    if not path.is_dir():
        return _open_file(path, per_message=False)
    mode = _compression_mode(path / "metadata.yaml")
    if mode == "file":
        return _UnpackedFiles(path)
    files = sorted((f for f in path.iterdir() if f.suffix in (".mcap", ".db3")), key=_natural)
    if not files:
        raise StreamError(f"{path} holds no recording", "a rosbag2 folder has .mcap or .db3 files")
    return _Chain([_open_file(file, mode == "message") for file in files[:MAX_FILES]])


def _open_file(path: Path, per_message: bool) -> Bag:
    bag = _McapBag(path) if path.suffix.lower() == ".mcap" else _RosbagsBag(path)
    return _Unpacked(bag) if per_message else bag


class _McapBag(Bag):
    def __init__(self, path: Path) -> None:
        self._file = McapFile(path)
        self.topics = {c.topic: c.type_name for c in self._file.channels.values()}

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        for message in self._file.messages(topics):
            channel, time = message.channel, message.log_time
            yield BagMessage(channel.topic, channel.type_name, time, message.data, channel.encoding)

    def close(self) -> None:
        self._file.close()


class _RosbagsBag(Bag):
    """What `rosbags` reads. Its readers are used bare: the types that a bag brings do not count."""

    def __init__(self, path: Path) -> None:
        ros2_types()  # says what to install
        from rosbags.rosbag1 import Reader as Reader1
        from rosbags.rosbag2 import Reader as Reader2

        self._path = path
        self._ros1 = path.name.lower().endswith((".bag", ".bag.active"))
        with _readable(path):
            self._reader: Any = (Reader1 if self._ros1 else Reader2)(path)
            self._reader.open()
            self._is_open = True
            if self._ros1:
                self._bound_chunks()
            self.topics = {c.topic: normal_type(c.msgtype) for c in self._reader.connections}

    def _bound_chunks(self) -> None:
        """`rosbags` unpacks a chunk to whatever it holds; here it may hold so much."""
        self._reader.chunks = {
            place: chunk._replace(decompressor=lambda b: decompress(b, kind_of(b), MAX_CHUNK_BYTES))
            for place, chunk in self._reader.chunks.items()
        }

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        with _readable(self._path):
            wanted = [c for c in self._reader.connections if c.topic in topics]
            if not wanted:
                return
            found = self._reader.messages(connections=wanted)
        while True:
            with _readable(self._path):
                item = next(found, None)
            if item is None:
                return
            connection, time, data = item
            kind = "ros1" if self._ros1 else "cdr"
            name = normal_type(connection.msgtype)
            yield BagMessage(connection.topic, name, time, bytes(data), kind)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            with _readable(self._path):
                self._reader.close()


class _Unpacked(Bag):
    """A recording whose messages are compressed one by one ("message" mode of rosbag2)."""

    def __init__(self, bag: Bag) -> None:
        self._bag = bag
        self.topics = bag.topics

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        for m in self._bag.messages(topics):
            try:
                data = decompress(m.data, kind_of(m.data), MAX_MESSAGE_BYTES)
            except StreamError:
                data = b""  # no message: whoever reads it counts it as damaged
            yield BagMessage(m.topic, m.type_name, m.time_ns, data, m.encoding)

    def close(self) -> None:
        self._bag.close()


class _Chain(Bag):
    """The files of one recording, one after the other."""

    def __init__(self, bags: Sequence[Bag]) -> None:
        self._bags = bags
        self.topics = {topic: name for bag in bags for topic, name in bag.topics.items()}

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        for bag in self._bags:
            yield from bag.messages(topics)

    def close(self) -> None:
        for bag in self._bags:
            bag.close()


class _UnpackedFiles(_Chain):
    """A recording whose files are compressed ("file" mode), unpacked as long as it is open."""

    def __init__(self, path: Path) -> None:
        packed = sorted((f for f in path.iterdir() if f.suffix in (".zstd", ".zst")), key=_natural)
        self._folder = TemporaryDirectory(prefix="ffsplat-bag-")
        bags = []
        try:
            for file in packed[:MAX_FILES]:
                target = Path(self._folder.name) / file.stem
                limit = max(MAX_GROWTH * file.stat().st_size, FREE_BYTES)
                unpack_file(file, target, limit)
                bags.append(_open_file(target, per_message=False))
            if not bags:
                raise StreamError(f"{path} lacks the files that its metadata speaks of", WHOLE)
        except BaseException:
            _Chain(bags).close()
            self._folder.cleanup()
            raise
        super().__init__(bags)

    def close(self) -> None:
        super().close()
        self._folder.cleanup()


def _compression_mode(metadata: Path) -> str:
    """What metadata.yaml says of compression: "file", "message", or "" for anything else."""
    try:
        with metadata.open("rb") as file:
            text = file.read(MAX_METADATA_BYTES)
    except OSError:
        return ""
    found = re.search(rb"^\s*compression_mode:\s*[\"']?(\w*)", text, re.MULTILINE)
    return found[1].decode().lower() if found else ""


def _natural(path: Path) -> list[tuple[int, str]]:
    """Order in which bag_10 stands behind bag_9."""
    return [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", path.name)]


@cache
def _reader_errors() -> tuple[type[Exception], ...]:
    """All that `rosbags` and what it uses raise for files that are not what they should be."""
    import sqlite3

    from rosbags.rosbag1 import ReaderError as Error1
    from rosbags.rosbag2 import ReaderError as Error2

    errors: list[type[Exception]] = [Error1, Error2, sqlite3.Error, struct.error, re.error]
    errors += [ValueError, LookupError, TypeError, AssertionError, OSError, EOFError, RuntimeError]
    errors += [MemoryError, ArithmeticError, AttributeError, NotImplementedError]
    try:
        import apsw
    except ImportError:
        return tuple(errors)
    return (*errors, apsw.Error)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except _reader_errors() as error:
        of_system = isinstance(error, OSError) and error.strerror
        reason = of_system or f"{str(error).rstrip('.')[:120]}" or type(error).__name__
        unindexed = any(words in reason for words in ("not indexed", "index looks damaged"))
        hint = "rosbag reindex FILE repairs it" if unindexed else WHOLE
        hint = system_hint(error) if isinstance(error, OSError) and of_system else hint
        raise StreamError(f"cannot read {path}: {reason}", hint) from error
