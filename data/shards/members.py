"""The tar layer of a shard: the parts of a clip as ustar members that stand side by side.

They are written by WebDataset and read by ourselves: tarfile accepts links, sparse files, headers
that contradict each other and sizes beyond the file, and a shard needs none of them. Source of the
layout: IEEE Std 1003.1-2017, pax, "ustar Interchange Format".
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader

from data.clip import KEY
from data.shards.errors import ShardError

BLOCK = 512
"""Bytes that headers have and that contents are padded to."""
END = bytes(2 * BLOCK)
"""What stands after the last member."""
MAX_CLIP_BYTES = 1 << 29
"""Bytes of all members of one clip."""

_NAME = re.compile(rf"({KEY.pattern})\.([a-z0-9]+(?:\.[a-z0-9]+){{0,2}})")
_OCTAL = re.compile(rb"[ 0]*([0-7]{1,11})[ \0]*")


@dataclass(frozen=True)
class Sample:
    """Where the members of one clip stand in their shard, in bytes, and their CRC-32."""

    key: str
    offset: int
    size: int
    crc32: int


def unpack(content: bytes, key: str) -> dict[str, bytes]:
    """The parts of one clip by name, from the bytes of its members.

    Raises ShardError for anything but plain members `KEY.<part>` that fill `content` exactly.
    """
    parts: dict[str, bytes] = {}
    offset = 0
    while offset < len(content):
        found, part, size = _header(content[offset : offset + BLOCK])
        offset += BLOCK
        if found != key:
            raise ShardError(f"a member of clip {found} stands among its own")
        if part in parts:
            raise ShardError(f"its part {part} stands there twice")
        if _padded(size) > len(content) - offset:
            raise ShardError(f"its part {part} is said to have {size} bytes, more than are there")
        parts[part] = content[offset : offset + size]
        offset += _padded(size)
    return parts


def scan(file: BufferedReader, size: int) -> Iterator[Sample]:
    """The clips of a whole shard of `size` bytes, as they stand there; names only, no decoding.

    Raises ShardError where the shard is truncated or has members that `unpack` would refuse.
    """
    sample: Sample | None = None
    while any(header := file.read(BLOCK)):
        offset = file.tell() - len(header)
        key, part, length = _header(header)
        if _padded(length) > size - file.tell():
            raise ShardError(f"truncated: {key}.{part} has {length} bytes, more than are left")
        if sample is not None and sample.key != key:
            yield sample
            sample = None
        sample = sample or Sample(key, offset, 0, 0)
        grown = sample.size + BLOCK + _padded(length)
        if grown > MAX_CLIP_BYTES:
            raise ShardError(f"clip {key} has more than {MAX_CLIP_BYTES >> 20} MB")
        checksum = zlib.crc32(file.read(_padded(length)), zlib.crc32(header, sample.crc32))
        sample = Sample(key, sample.offset, grown, checksum)
    if header + file.read(BLOCK) != END:
        raise ShardError("truncated: the archive has no end")
    if sample is not None:
        yield sample


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _header(header: bytes) -> tuple[str, str, int]:
    """Key, part and size in bytes of a member."""
    if len(header) < BLOCK:
        raise ShardError("truncated within a header")
    total = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
    if header[257:262] != b"ustar" or _octal(header[148:156]) != total:
        raise ShardError("damaged: where a tar header should stand is none")
    name = header[:100].split(b"\0")[0].decode("latin-1")
    match = _NAME.fullmatch(name)
    if header[156:157] not in (b"0", b"\0") or header[345:500].strip(b"\0") or not match:
        raise ShardError(
            f"its member {name!r} is not a plain file KEY.part in a name of at most 100 bytes",
            "write it with tar --format=ustar",
        )
    return match[1], match[2], _octal(header[124:136])


def _octal(digits: bytes) -> int:
    match = _OCTAL.fullmatch(digits)
    if not match:
        raise ShardError(f"damaged: a tar header has {digits!r} for a number")
    return int(match[1], 8)
