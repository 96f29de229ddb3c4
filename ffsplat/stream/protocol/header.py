"""Binary messages: a header of 32 bytes, little-endian, and a payload, maybe compressed.

Everything that a header states is checked before anything of that size is allocated.
"""

import zlib
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

from ffsplat.stream.protocol.errors import MALFORMED, TOO_LARGE, VERSION, ProtocolError
from ffsplat.stream.protocol.fields import EXACT

SUBPROTOCOL = "ffsplat.v1"
"""What both sides name in the WebSocket handshake (RFC 6455, section 1.9)."""

MAGIC = b"FFS1"
HEADER = Struct("<4sBBHQqII")
"""magic, kind, flags, reserved, sequence number, time in ns, bytes of the payload, its CRC-32."""

COMPRESSED = 1
"""The flag of a payload that is its inflated size (uint32) and a zlib stream (RFC 1950)."""

MAX_PAYLOAD = 1 << 26
"""Bytes of a payload, inflated or not, that nobody may exceed, whatever else was agreed: 64 MiB."""

MAX_RATIO = 1000
"""Times that a payload may grow when it is inflated; deflate itself reaches 1032."""

WORTH = 512
"""Bytes from which compression is tried."""

_SIZE = Struct("<I")


class Kind(IntEnum):
    """What a binary message holds."""

    FRAME = 1
    DELTA = 2
    SNAPSHOT = 3


@dataclass(frozen=True, eq=False)
class Message:
    """A binary message; `number` is that of the frame or the delta, `kind` may be a future one."""

    kind: int
    number: int
    time_ns: int
    payload: bytes


def pack(message: Message, compress: bool = False) -> bytes:
    """The bytes of a message; compressed, if that is wanted and makes it an eighth smaller.

    Raises ProtocolError (4413) for a payload over MAX_PAYLOAD.
    """
    payload, flags = message.payload, 0
    if len(payload) > MAX_PAYLOAD:
        raise ProtocolError(TOO_LARGE, f"a payload of {len(payload)} bytes")
    if compress and len(payload) >= WORTH:
        packed = _SIZE.pack(len(payload)) + zlib.compress(payload, 1)
        if len(packed) <= len(payload) * 7 // 8 and len(payload) <= MAX_RATIO * len(packed):
            payload, flags = packed, COMPRESSED
    head = HEADER.pack(
        MAGIC,
        message.kind,
        flags,
        0,
        message.number,
        message.time_ns,
        len(payload),
        zlib.crc32(payload),
    )
    return head + payload


def unpack(data: bytes, limit: int, inflate: bool = True) -> Message:
    """The message in these bytes, its payload inflated.

    Raises ProtocolError: 4413 for a payload of more than `limit` bytes, as sent or inflated, 4409
    for another magic, 4400 for a breach of the format or a wrong checksum, and for a compressed
    payload where `inflate` is False.
    """
    if len(data) < HEADER.size:
        raise ProtocolError(MALFORMED, f"a binary message of {len(data)} bytes has no header")
    magic, kind, flags, reserved, number, time_ns, size, checksum = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ProtocolError(VERSION, f"magic {magic!r} in place of {MAGIC!r}")
    if max(size, len(data) - HEADER.size) > min(limit, MAX_PAYLOAD):
        raise ProtocolError(TOO_LARGE, f"a payload of {size} bytes, over {limit}")
    if size != len(data) - HEADER.size:
        raise ProtocolError(MALFORMED, f"{len(data) - HEADER.size} bytes follow, not {size}")
    if flags & ~COMPRESSED or reserved or number > EXACT:  # text messages name numbers too
        raise ProtocolError(MALFORMED, "an unknown flag, a reserved field or a number over 2**53")
    payload = data[HEADER.size :]
    if zlib.crc32(payload) != checksum:
        raise ProtocolError(MALFORMED, "the checksum does not match the payload")
    if flags & COMPRESSED:
        if not inflate:
            raise ProtocolError(MALFORMED, f"a compressed payload in a message of kind {kind}")
        payload = _inflate(payload, min(limit, MAX_PAYLOAD))
    return Message(kind, number, time_ns, payload)


def _inflate(payload: bytes, limit: int) -> bytes:
    """What a compressed payload held; its stated size is checked first."""
    if len(payload) < _SIZE.size:
        raise ProtocolError(MALFORMED, "a compressed payload without its size")
    (size,) = _SIZE.unpack_from(payload)
    if size > min(limit, MAX_RATIO * len(payload)):
        raise ProtocolError(TOO_LARGE, f"a payload of {len(payload)} bytes inflates to {size}")
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(payload[_SIZE.size :], size + 1)
    except zlib.error as error:
        raise ProtocolError(MALFORMED, "a compressed payload is damaged") from error
    if len(inflated) != size or not stream.eof or stream.unused_data:
        raise ProtocolError(MALFORMED, "a compressed payload does not have its stated size")
    return inflated
