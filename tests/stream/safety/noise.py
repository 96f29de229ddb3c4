"""Messages that nobody should send: whole ones that lie, and good ones that were damaged."""

import json
import random
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from ffsplat.stream.protocol.control import Bye, Flush, Hello, Query, dump
from ffsplat.stream.protocol.frames import frame_message
from ffsplat.stream.protocol.header import COMPRESSED, HEADER, Kind, Message, pack
from tests.stream.safety.stack import jpeg, step
from tests.stream.safety.wire import BINARY, TEXT, framed

FIELDS = (
    ("kind", 8), ("flags", 8), ("reserved", 16), ("number", 64), ("time_ns", 63), ("size", 32),
    ("checksum", 32),
)  # fmt: skip
"""Of a header after its magic: name and bits."""

NUMBERS = (0, 1, -1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 1e308, -1e308, 1e-320, 1e400)


def frame(number: int, meta: object = None, image: bytes | None = None, **head: int) -> bytes:
    """A frame with any JSON and any picture, whose length and checksum are right."""
    block = b"" if meta is None else json.dumps(meta).encode()
    payload = struct.pack("<I", len(block)) + block + (jpeg(0) if image is None else image)
    return pack(Message(Kind.FRAME, number, head.get("time_ns", 0), payload))


def header(payload: bytes, **fields: int) -> bytes:
    """A header of which each field may lie, and a payload."""
    truth = {
        "kind": Kind.FRAME, "flags": 0, "reserved": 0, "number": 1, "time_ns": 0,
        "size": len(payload), "checksum": zlib.crc32(payload),
    }  # fmt: skip
    return HEADER.pack(b"FFS1", *(truth | fields).values()) + payload


def bomb(size: int = 50 << 20) -> bytes:
    """Some kilobytes that would become many megabytes of zeros."""
    packed = struct.pack("<I", size) + zlib.compress(bytes(size), 9)
    return header(packed, flags=COMPRESSED)


def sized_jpeg(width: int, height: int) -> bytes:
    """A picture whose header says that it is so large."""
    good = bytearray(jpeg(0))
    at = good.index(b"\xff\xc0") + 5
    struct.pack_into(">HH", good, at, height, width)
    return bytes(good)


def damaged(draw: random.Random, data: bytes) -> bytes:
    """Some bytes changed, cut off, doubled, or put in another place."""
    found = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(found) + 1)
        match draw.randrange(5):
            case 0:
                found[place : place + 1] = draw.randbytes(1)
            case 1:
                del found[place : place + draw.choice((1, 4, len(found)))]
            case 2:
                found[place:place] = found[place : place + draw.randrange(1, 200)]
            case 3:
                found[place:place] = draw.randbytes(draw.randrange(1, 40))
            case 4:
                found[place : place + 4] = struct.pack("<I", draw.choice((0, 1, 2**31, 2**32 - 1)))
    return bytes(found)


def value(draw: random.Random, depth: int = 3) -> object:
    """Any value of JSON."""
    kinds = 7 if depth else 5
    match draw.randrange(kinds):
        case 0:
            return draw.choice(NUMBERS)
        case 1:
            return draw.random()
        case 2:
            return draw.choice(("", "frame", "a" * 300, "\x00", "\ud800", "é🙂"))
        case 3:
            return draw.choice((True, False, None))
        case 4:
            return draw.randint(-(2**70), 2**70)
        case 5:
            return [value(draw, depth - 1) for _ in range(draw.randrange(20))]
        case _:
            return {f"{draw.randrange(9)}": value(draw, depth - 1) for _ in range(5)}


def control(draw: random.Random) -> bytes:
    """A control message with one field replaced, or one that is damaged."""
    good = draw.choice(
        (
            Hello(want=()),
            Query(draw.randrange(99), "red chair", threshold=0.5),
            Flush(draw.randrange(99)),
            Bye(),
        )
    )
    text = dump(good)
    if draw.random() < 0.5:
        return damaged(draw, text.encode())
    fields = json.loads(text)
    fields[draw.choice([*fields, "other"])] = value(draw)
    return json.dumps(fields).encode("utf-8", "surrogatepass")


def picture(draw: random.Random) -> bytes:
    """A frame with a damaged picture and a right checksum, or with any pose and intrinsics."""
    number = draw.randrange(2**40)
    meta = None
    if draw.random() < 0.3:
        meta = {draw.choice(("pose", "intrinsics", "else")): value(draw)}
    elif draw.random() < 0.3:
        far = np.eye(4)
        far[:3, 3] = [draw.choice((0.0, 1.0, 1e7, -1e7, 1e9, -1e9, 1e-300)) for _ in range(3)]
        focal = draw.choice((1.0, 60.0, 1e6))
        meta = {"pose": far.ravel().tolist(), "intrinsics": [focal, focal, 0.0, 1e6]}
    image = jpeg(draw.randrange(20))
    if draw.random() < 0.7:
        image = damaged(draw, image)
    return frame(number, meta, image, time_ns=draw.choice((0, -(2**63), 2**63 - 1, number)))


@dataclass(frozen=True)
class Noise:
    """Bytes for a WebSocket; the server may wait for more of them unless they are whole frames."""

    data: bytes
    is_whole: bool = True


def message(draw: random.Random) -> Noise:
    """What a client may send at a time: of all kinds of noise one."""
    match draw.randrange(10):
        case 0 | 1 | 2:
            return Noise(framed(control(draw), TEXT))
        case 3 | 4 | 5:
            number = draw.randrange(2**40)
            good = pack(frame_message(step(number, time_ns=number)), draw.random() < 0.2)
            return Noise(framed(damaged(draw, good), BINARY))
        case 6:
            return Noise(framed(picture(draw), BINARY))
        case 7:
            name, bits = draw.choice(FIELDS)
            lie = {name: draw.getrandbits(bits)}
            return Noise(framed(header(frame(1)[HEADER.size :], **lie), BINARY))
        case 8:
            return Noise(framed(draw.randbytes(draw.randrange(200)), draw.choice((TEXT, BINARY))))
        case _:
            text = framed(dump(Flush(1)).encode(), TEXT)
            if draw.random() < 0.5:
                return Noise(damaged(draw, text), is_whole=False)
            # An unknown opcode, a close, a ping, or a continuation of nothing.
            return Noise(framed(b"x", draw.randrange(16), draw.choice((0x80, 0, 0xF0))), False)
