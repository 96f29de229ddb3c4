"""Reading MCAP, also where the file breaks off because its writer died.

`rosbags` reads files that are complete and say that they are of ROS 2; this reads what other
writers and power cuts leave, under limits. Source: the MCAP format specification (mcap.dev/spec).
"""

import heapq
import logging
import os
import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ffsplat.errors import StreamError, system_hint
from ffsplat.stream.ros.compression import decompress
from ffsplat.stream.ros.mcap_writer import (
    CHANNEL,
    CHUNK,
    CHUNK_INDEX,
    DATA_END,
    FOOTER,
    HEADER,
    MAGIC,
    MESSAGE,
    SCHEMA,
)
from ffsplat.stream.ros.store import MAX_MESSAGE_BYTES, normal_type

DOCTOR = "`mcap doctor FILE` tells what is wrong with it"

MAX_CHUNK_BYTES = 512 << 20
MAX_OPEN_BYTES = 256 << 20
"""Chunks whose times overlap are open together, as long as they fit in this."""

MAX_CHANNELS = 10_000
MAX_CHUNKS = 2_000_000
MAX_SUMMARY_BYTES = 512 << 20

_FOOTER_BYTES = 9 + 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Channel:
    """A topic; `encoding` is how its messages are written ("cdr", "ros1", "json", ...)."""

    number: int
    topic: str
    encoding: str
    type_name: str


@dataclass(frozen=True, order=True)
class _ChunkPlace:
    start: int
    offset: int
    length: int
    channels: frozenset[int] | None  # None: not known


@dataclass(frozen=True)
class McapMessage:
    """A message as it was logged, at nanoseconds since 1970."""

    channel: Channel
    log_time: int
    data: bytes


class McapFile:
    """An MCAP file. Raises StreamError if it is none, or has no record that can be read.

    `broken` says that it ends before its end; `damaged` counts chunks that were left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.channels: dict[int, Channel] = {}
        self.broken = False
        self.damaged = 0
        self._schemas: dict[int, str] = {}
        self._chunks: list[_ChunkPlace] = []
        self._loose = False  # messages outside of chunks
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            why = f"cannot open {path}: {error.strerror}"
            raise StreamError(why, system_hint(error)) from error
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self._open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def messages(self, topics: Collection[str]) -> Iterator[McapMessage]:
        """The messages of some topics by the time they were logged, as far as chunks tell it.

        At the same time, and without chunks, their order in the file holds.
        """
        wanted = {n: c for n, c in self.channels.items() if c.topic in topics}
        yield from self._merged(wanted)
        if self._loose:
            for kind, offset, length in self._records(len(MAGIC), self._size):
                if kind == MESSAGE and 22 <= length <= MAX_MESSAGE_BYTES:
                    body = self._read(offset, length)
                    if (message := _message(memoryview(body), wanted)) is not None:
                        yield message

    def _merged(self, wanted: dict[int, Channel]) -> Iterator[McapMessage]:
        chunks = [c for c in self._chunks if c.channels is None or c.channels & wanted.keys()]
        heap: list[tuple[int, int, int]] = []  # time, chunk, place in it
        opened: dict[int, tuple[list[McapMessage], int]] = {}
        held = following = 0
        while heap or following < len(chunks):
            while following < len(chunks) and (
                not heap or (chunks[following].start <= heap[0][0] and held < MAX_OPEN_BYTES)
            ):
                messages, size = self._chunk_messages(chunks[following], wanted)
                if messages:
                    opened[following] = messages, size
                    held += size
                    heapq.heappush(heap, (messages[0].log_time, following, 0))
                following += 1
            if not heap:
                return
            _, chunk, place = heapq.heappop(heap)
            messages, size = opened[chunk]
            yield messages[place]
            if place + 1 < len(messages):
                heapq.heappush(heap, (messages[place + 1].log_time, chunk, place + 1))
            else:
                held -= size
                del opened[chunk]

    def _chunk_messages(
        self, place: _ChunkPlace, wanted: dict[int, Channel]
    ) -> tuple[list[McapMessage], int]:
        try:
            records = self._chunk_records(place.offset, place.length)
        except StreamError as error:
            self._leave_out(error)
            return [], 0
        view = memoryview(records)
        found = [
            message
            for kind, offset, length in _walk(view)
            if kind == MESSAGE
            and (message := _message(view[offset : offset + length], wanted)) is not None
        ]
        return sorted(found, key=lambda message: message.log_time), sum(len(m.data) for m in found)

    def _leave_out(self, error: StreamError) -> None:
        self.damaged += 1
        if self.damaged == 1:
            log.warning("%s: left out a part that cannot be read (%s)", self.path.name, error)

    def _open(self) -> None:
        if self._read(0, len(MAGIC)) != MAGIC:
            raise StreamError(f"{self.path} is no MCAP file", DOCTOR)
        try:
            complete = self._read_summary()
        except (StreamError, struct.error, UnicodeDecodeError):
            complete = False
        if not complete:
            self._chunks, self.channels, self._schemas = [], {}, {}
            self._scan()
        if not self.channels:
            what = "breaks off before the first topic" if self.broken else "has no topics"
            raise StreamError(f"{self.path} {what}", DOCTOR)
        if self.broken:
            log.warning("%s breaks off; it is read up to there", self.path.name)
        self._chunks.sort()

    def _read_summary(self) -> bool:
        """Take channels and chunks from the end of the file; False if it does not tell them all."""
        foot = self._size - len(MAGIC) - _FOOTER_BYTES
        if foot < len(MAGIC) or self._read(self._size - len(MAGIC), len(MAGIC)) != MAGIC:
            return False
        kind, length, start = struct.unpack("<BQQ", self._read(foot, 17))
        if (kind, length) != (FOOTER, 20) or not len(MAGIC) < start <= foot:
            return False
        summary = memoryview(self._read(start, min(foot - start, MAX_SUMMARY_BYTES)))
        for kind, offset, length in _walk(summary):
            body = summary[offset : offset + length]
            if kind == CHUNK_INDEX:
                self._add_chunk_index(body)
            else:
                self._add_definition(kind, body)
        return bool(self.channels and self._chunks)

    def _scan(self) -> None:
        """Go through the file from the front, up to its end or to where it breaks off."""
        self.broken = True
        for kind, offset, length in self._records(len(MAGIC), self._size):
            try:
                if kind == CHUNK:
                    self._scan_chunk(offset, length)
                elif kind in (SCHEMA, CHANNEL, HEADER) and length <= MAX_MESSAGE_BYTES:
                    self._add_definition(kind, memoryview(self._read(offset, length)))
                elif kind == MESSAGE:
                    self._loose = True
            except StreamError as error:
                self._leave_out(error)
            except (struct.error, UnicodeDecodeError) as error:
                self._leave_out(StreamError(str(error)))
            if kind in (DATA_END, FOOTER):
                self.broken = False
                return

    def _scan_chunk(self, offset: int, length: int) -> None:
        records = memoryview(self._chunk_records(offset, length))
        for kind, place, size in _walk(records):
            if kind in (SCHEMA, CHANNEL):
                self._add_definition(kind, records[place : place + size])
        (start,) = struct.unpack("<Q", self._read(offset, 8))
        if len(self._chunks) < MAX_CHUNKS:
            self._chunks.append(_ChunkPlace(start, offset, length, None))

    def _add_chunk_index(self, body: memoryview) -> None:
        start, _, offset, length, size = struct.unpack_from("<QQQQI", body)
        channels = {n for n, _ in struct.iter_unpack("<HQ", body[36 : 36 + size - size % 10])}
        if len(self._chunks) >= MAX_CHUNKS or length < 9 or offset + length > self._size:
            raise StreamError("the index does not fit the file")
        known = frozenset(channels) or None
        self._chunks.append(_ChunkPlace(start, offset + 9, length - 9, known))

    def _add_definition(self, kind: int, body: memoryview) -> None:
        if kind == SCHEMA and len(self._schemas) < MAX_CHANNELS:
            (number,) = struct.unpack_from("<H", body)
            self._schemas[number], _ = _text(body, 2)
        elif kind == CHANNEL and len(self.channels) < MAX_CHANNELS:
            number, schema = struct.unpack_from("<HH", body)
            topic, place = _text(body, 4)
            encoding, _ = _text(body, place)
            type_name = normal_type(self._schemas.get(schema, ""))
            self.channels.setdefault(number, Channel(number, topic, encoding, type_name))

    def _chunk_records(self, offset: int, length: int) -> bytes:
        """What a chunk holds; its length is checked before it is read, its content afterwards."""
        if length > MAX_CHUNK_BYTES or length < 40:
            raise StreamError(f"a chunk of {length} bytes")
        body = memoryview(self._read(offset, length))
        try:
            _, _, size, checksum = struct.unpack_from("<QQQI", body)
            kind, place = _text(body, 28)
            (packed,) = struct.unpack_from("<Q", body, place)
        except (struct.error, UnicodeDecodeError) as error:
            raise StreamError(f"a damaged chunk: {error}") from error
        if size > MAX_CHUNK_BYTES or place + 8 + packed > length:
            raise StreamError(f"a chunk that says it holds {size} bytes")
        records = decompress(bytes(body[place + 8 : place + 8 + packed]), kind, size)
        if len(records) != size or (checksum and zlib.crc32(records) != checksum):
            raise StreamError("a chunk that does not match its checksum")
        return records

    def _records(self, offset: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Kind, place and length of the records of the file, as long as they are whole."""
        while offset + 9 <= end:
            kind, length = struct.unpack("<BQ", self._read(offset, 9))
            if length > end - offset - 9:
                return
            yield kind, offset + 9, length
            offset += 9 + length

    def _read(self, offset: int, length: int) -> bytes:
        if offset + length > self._size:
            raise StreamError(f"{self.path} ends too early", DOCTOR)
        try:
            self._file.seek(offset)
            data = self._file.read(length)
        except OSError as error:
            why = f"cannot read {self.path}: {error.strerror}"
            raise StreamError(why, system_hint(error)) from error
        if len(data) < length:
            raise StreamError(f"{self.path} ends too early", DOCTOR)
        return data


def _walk(records: memoryview) -> Iterator[tuple[int, int, int]]:
    """Kind, place and length of the records in a block, as long as they are whole."""
    offset = 0
    while offset + 9 <= len(records):
        kind, length = struct.unpack_from("<BQ", records, offset)
        if length > len(records) - offset - 9:
            return
        yield kind, offset + 9, length
        offset += 9 + length


def _message(body: memoryview, wanted: dict[int, Channel]) -> McapMessage | None:
    if len(body) < 22:
        return None
    number, _, log_time, _ = struct.unpack_from("<HIQQ", body)
    channel = wanted.get(number)
    return None if channel is None else McapMessage(channel, log_time, bytes(body[22:]))


def _text(body: memoryview, offset: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", body, offset)
    if length > len(body) - offset - 4:
        raise StreamError("a text that is longer than its record")
    return bytes(body[offset + 4 : offset + 4 + length]).decode(), offset + 4 + length
