"""Writing MCAP: a container of timed messages that every ROS tool reads.

The `rosbags` writer makes a folder, and puts a megabyte in a file before anything can be read; this
one writes a file of its own and closes a chunk whenever it is told to, so that a process that dies
leaves all chunks before. Source: the MCAP format specification, version 0 (mcap.dev/spec).
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

MAGIC = b"\x89MCAP0\r\n"

CHUNK_BYTES = 1 << 20
"""A chunk is closed when it has this many bytes."""

MAX_CHUNKS = 100_000
"""The index of the chunks is kept until the end, some 15 MB at most."""

HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
STATISTICS, SUMMARY_OFFSET, DATA_END = 0x0B, 0x0E, 0x0F


@dataclass
class _Chunk:
    """What is gathered before it is written; `index` has the time and place of each message."""

    records: bytearray = field(default_factory=bytearray)
    index: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def times(self) -> tuple[int, int]:
        times = [time for entries in self.index.values() for time, _ in entries]
        return min(times), max(times)


class McapWriter:
    """Messages of ROS 2 into one file, in chunks that are whole on disk once `flush` returns.

    Times are nanoseconds since 1970, and not negative. Not safe for several threads.
    """

    def __init__(self, file: BinaryIO, library: str) -> None:
        self._file = file
        self._place = 0
        self._chunk = _Chunk()
        self._schemas: dict[str, tuple[int, bytes]] = {}
        self._channels: list[bytes] = []
        self._counts: dict[int, int] = {}
        self._chunk_indexes: list[bytes] = []
        self._span: tuple[int, int] | None = None
        self._emit(MAGIC)
        self._emit(_record(HEADER, _text("ros2") + _text(library)))

    @property
    def full(self) -> bool:
        """Whether the file has as many chunks as it may."""
        return len(self._chunk_indexes) >= MAX_CHUNKS

    @property
    def pending_bytes(self) -> int:
        """What is not on disk yet."""
        return len(self._chunk.records)

    def add_channel(
        self, topic: str, type_name: str, definition: str, metadata: Mapping[str, str]
    ) -> int:
        """A topic and its type, with the text that defines it; gives the channel's number."""
        if type_name not in self._schemas:
            number = len(self._schemas) + 1
            body = struct.pack("<H", number) + _text(type_name) + _text("ros2msg")
            schema = _record(SCHEMA, body + _text(definition))
            self._schemas[type_name] = (number, schema)
            self._emit(schema)
        channel = len(self._channels) + 1
        pairs = b"".join(_text(key) + _text(value) for key, value in metadata.items())
        body = struct.pack("<HH", channel, self._schemas[type_name][0])
        body += _text(topic) + _text("cdr") + struct.pack("<I", len(pairs)) + pairs
        self._channels.append(_record(CHANNEL, body))
        self._counts[channel] = 0
        self._emit(self._channels[-1])
        return channel

    def write(self, channel: int, log_time: int, publish_time: int, data: bytes) -> None:
        """Put a message in the chunk; it is on disk when the chunk is full, or flushed."""
        head = struct.pack("<HIQQ", channel, self._counts[channel], log_time, publish_time)
        index = self._chunk.index.setdefault(channel, [])
        index.append((log_time, len(self._chunk.records)))
        self._chunk.records += struct.pack("<BQ", MESSAGE, len(head) + len(data)) + head + data
        self._counts[channel] += 1
        if len(self._chunk.records) >= CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Close the chunk and hand it to the system: a process that dies after that loses nothing.

        A power cut may, as nothing is synced before the end.
        """
        chunk, self._chunk = self._chunk, _Chunk()
        if chunk.index:
            self._write_chunk(chunk)
        self._file.flush()

    def close(self) -> None:
        """Write the last chunk and the index; the file itself stays open."""
        self.flush()
        self._emit(_record(DATA_END, struct.pack("<I", 0)))
        start = self._place
        groups = {
            SCHEMA: b"".join(schema for _, schema in self._schemas.values()),
            CHANNEL: b"".join(self._channels),
            STATISTICS: self._statistics(),
            CHUNK_INDEX: b"".join(self._chunk_indexes),
        }
        offsets, place = b"", start
        for kind, group in groups.items():
            if group:
                offsets += _record(SUMMARY_OFFSET, struct.pack("<BQQ", kind, place, len(group)))
            place += len(group)
        summary = b"".join(groups.values()) + offsets
        footer = struct.pack("<BQQQ", FOOTER, 20, start, place)
        self._emit(summary + footer + struct.pack("<I", zlib.crc32(summary + footer)) + MAGIC)
        self._file.flush()

    def _write_chunk(self, chunk: _Chunk) -> None:
        first, last = chunk.times()
        compression, packed = _compress(chunk.records)
        start = self._place
        head = struct.pack("<QQQI", first, last, len(chunk.records), zlib.crc32(chunk.records))
        self._emit(_record(CHUNK, head + _text(compression) + _long(packed)))
        length, offsets = self._place - start, b""
        indexes = self._place
        for channel, entries in chunk.index.items():
            offsets += struct.pack("<HQ", channel, self._place)
            table = b"".join(struct.pack("<QQ", *entry) for entry in entries)
            body = struct.pack("<HI", channel, len(table)) + table
            self._emit(_record(MESSAGE_INDEX, body))
        body = struct.pack("<QQQQI", first, last, start, length, len(offsets)) + offsets
        body += struct.pack("<Q", self._place - indexes) + _text(compression)
        body += struct.pack("<QQ", len(packed), len(chunk.records))
        self._chunk_indexes.append(_record(CHUNK_INDEX, body))
        low, high = self._span or (first, last)
        self._span = min(low, first), max(high, last)

    def _statistics(self) -> bytes:
        first, last = self._span or (0, 0)
        counts = b"".join(struct.pack("<HQ", *pair) for pair in self._counts.items())
        totals = (sum(self._counts.values()), len(self._schemas), len(self._channels), 0, 0)
        body = struct.pack("<QHIII", *totals)
        body += struct.pack("<IQQI", len(self._chunk_indexes), first, last, len(counts)) + counts
        return _record(STATISTICS, body)

    def _emit(self, data: bytes) -> None:
        self._file.write(data)
        self._place += len(data)


def _record(kind: int, body: bytes) -> bytes:
    return struct.pack("<BQ", kind, len(body)) + body


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def _long(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def _compress(records: bytearray) -> tuple[str, bytes]:
    """As zstd where that helps; JPEGs are what they are."""
    from ffsplat.stream.ros.compression import zstd_compress

    packed = zstd_compress(bytes(records))
    return ("zstd", packed) if len(packed) < 0.95 * len(records) else ("", bytes(records))
