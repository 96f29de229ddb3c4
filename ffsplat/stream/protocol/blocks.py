"""The document of a delta in parts that fit a message, and the parts put together again."""

from collections.abc import Sequence
from struct import Struct

from ffsplat.stream.delta import MapDelta
from ffsplat.stream.protocol.document import read_document, write_document
from ffsplat.stream.protocol.errors import MALFORMED, TOO_LARGE, ProtocolError
from ffsplat.stream.protocol.header import Kind, Message, pack

MAX_PART = 1 << 20
"""Bytes of the payload of a part before it is compressed: 1 MiB."""

MAX_DOCUMENT = 1 << 28
"""Bytes of a document: 256 MiB, five million Gaussians."""

_PART = Struct("<III")  # index of the part, count of parts, bytes of the whole document


def encode_delta(delta: MapDelta) -> list[bytes]:
    """The payloads of the parts of a delta, each of at most MAX_PART bytes.

    Raises ProtocolError as `write_document`, and (4413) for a document over MAX_DOCUMENT.
    """
    document = write_document(delta)
    if len(document) > MAX_DOCUMENT:
        raise ProtocolError(TOO_LARGE, f"a delta of {len(document)} bytes, over {MAX_DOCUMENT}")
    step = MAX_PART - _PART.size
    pieces = [document[start : start + step] for start in range(0, len(document), step)]
    return [_PART.pack(i, len(pieces), len(document)) + piece for i, piece in enumerate(pieces)]


def decode_delta(payloads: Sequence[bytes]) -> MapDelta:
    """The delta of these payloads, all of them and in order; ProtocolError for anything else."""
    parts = Joined()
    for i, payload in enumerate(payloads):
        document = parts.add(payload)
        if (document is None) != (i + 1 < len(payloads)):
            break
        if document is not None:
            return read_document(document)
    raise ProtocolError(MALFORMED, f"{len(payloads)} parts are not one delta")


def pack_delta(delta: MapDelta, kind: Kind = Kind.DELTA) -> list[bytes]:
    """The binary messages of a delta, or of a snapshot, compressed where it pays."""
    parts = encode_delta(delta)
    return [pack(Message(kind, delta.number, delta.time_ns, part), True) for part in parts]


class Joined:
    """Parts of one document at a time, put together in at most `limit` bytes."""

    def __init__(self, limit: int = MAX_DOCUMENT):
        self._limit = min(limit, MAX_DOCUMENT)
        self._count = self._size = self._next = 0
        self._document = bytearray()

    def add(self, payload: bytes) -> bytes | None:
        """The document that this part completes, None until then.

        Part 0 begins anew, whatever came before. Raises ProtocolError: 4413 for a document over
        the limit, 4400 for a part that is broken or out of its order.
        """
        if not _PART.size < len(payload) <= MAX_PART:
            raise ProtocolError(MALFORMED, f"a part of {len(payload)} bytes")
        index, count, size = _PART.unpack_from(payload)
        if size > self._limit:
            raise ProtocolError(TOO_LARGE, f"a delta of {size} bytes, over {self._limit}")
        if index == 0:
            self._count, self._size, self._next, self._document = count, size, 0, bytearray()
        left = self._size - len(self._document) - (len(payload) - _PART.size)
        last = index + 1 == count
        if (index, count, size) != (self._next, self._count, self._size) or index >= count:
            raise ProtocolError(MALFORMED, f"part {index} of {count} is out of its order")
        if left < 0 or last != (left == 0):
            raise ProtocolError(MALFORMED, f"part {index} of {count} ends {left} bytes early")
        self._document += memoryview(payload)[_PART.size :]
        self._next += 1
        if not last:
            return None
        document, self._document, self._count = bytes(self._document), bytearray(), 0
        return document


class Deltas:
    """Takes the messages of deltas and snapshots in, and gives each whole once it is complete."""

    def __init__(self, limit: int = MAX_DOCUMENT):
        self._parts = Joined(limit)
        self._key: tuple[int, int, int] | None = None

    def add(self, message: Message) -> tuple[Kind, MapDelta] | None:
        """The delta, and whether it is a snapshot, that this message completes; None until then.

        Raises ProtocolError (4400, 4413) for a part that is broken, too large, out of its order or
        of another delta than the part before, and for a message of another kind.
        """
        if message.kind not in (Kind.DELTA, Kind.SNAPSHOT):
            raise ProtocolError(MALFORMED, f"a message of kind {message.kind} is no delta")
        key = message.kind, message.number, message.time_ns
        first = message.payload[:4] == bytes(4)
        if not first and key != self._key:
            raise ProtocolError(MALFORMED, f"a part of delta {message.number} without those before")
        self._key = key
        document = self._parts.add(message.payload)
        if document is None:
            return None
        self._key, delta = None, read_document(document)
        if (delta.number, delta.time_ns) != key[1:]:
            raise ProtocolError(MALFORMED, f"delta {message.number} says it is {delta.number}")
        return Kind(message.kind), delta
