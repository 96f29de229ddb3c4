"""The two containers of SPZ: one gzip stream, or a plain header and a zstd stream an attribute.

Sizes in a header are believed only as far as the file can hold them.
Source: github.com/nianticlabs/spz, README and load-spz.cc (2026); RFC 1952 for gzip.
"""

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from ffsplat.errors import UsageError
from ffsplat.formats.packing import MAX_GAUSSIANS, check_promise
from ffsplat.io.layout import MAX_THREADS

MAGIC = b"NGSP"
HEADER = struct.Struct("<4sIIBBBB")
"""Magic, version, Gaussians, SH degree, fractional bits, flags, streams (0 before version 4)."""

POSITION_BITS = 24
COEFFICIENTS = (0, 3, 8, 15)
"""Higher SH of each degree, a channel."""

MIN_BYTES = 19
"""Bytes of a Gaussian without SH, before compression."""

GZIP_HEADER = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
"""Deflate, no flags, no time, no system."""

GZIP_BLOCK = 1 << 20
GZIP_LEVEL = 6
ZSTD_LEVEL = 12
EXTENSION_BLOCKS = 16
"""MiB that may follow the attributes: extensions of vendors."""

_LONG_HEADER = 32
_GZIP = 16 + zlib.MAX_WBITS


class Packed(NamedTuple):
    """The attributes as bytes, in the order of the file."""

    positions: UInt8[np.ndarray, "n 3 3"]
    alphas: UInt8[np.ndarray, " n"]
    colors: UInt8[np.ndarray, "n 3"]
    scales: UInt8[np.ndarray, "n 3"]
    rotations: UInt8[np.ndarray, "n _"]
    sh: UInt8[np.ndarray, "n k 3"]


class Header(NamedTuple):
    """What a file says of itself, once it is believed."""

    version: int
    gaussians: int
    degree: int
    bits: int
    streams: int

    @classmethod
    def parse(cls, content: bytes, size: int) -> "Header":
        """The fields, if a file of `size` bytes can hold so many Gaussians."""
        magic, version, count, degree, bits, _, streams = HEADER.unpack(content)
        if magic != MAGIC or not 2 <= version <= 4:
            raise ValueError(f"it is marked {magic!r}, version {version}, not NGSP 2 to 4")
        if degree > 3:
            raise ValueError(f"it has SH of degree {degree}, and 3 is the highest read here")
        if not 0 < count <= MAX_GAUSSIANS:
            raise ValueError(f"it has {count} Gaussians")
        check_promise(count * (MIN_BYTES + 3 * COEFFICIENTS[degree]), size)
        if bits > POSITION_BITS:
            raise ValueError(f"{bits} fractional bits of {POSITION_BITS}")
        return cls(version, count, degree, bits, streams)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of each attribute, those that are there."""
        rotation = 3 if self.version == 2 else 4
        shapes = [(3, 3), (), (3,), (3,), (rotation,), (COEFFICIENTS[self.degree], 3)]
        return [(self.gaussians, *shape) for shape in shapes]


def zipped(fields: tuple, parts: list[memoryview]) -> bytes:
    """One gzip stream without a time, so that the same scene is the same file.

    Its blocks are deflated side by side, as pigz does it, each flushed to a whole byte.
    """
    content = b"".join([HEADER.pack(*fields, 0), *parts])
    starts = range(0, len(content), GZIP_BLOCK)

    def deflate(start: int) -> bytes:
        packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        last = start + GZIP_BLOCK >= len(content)
        block = packer.compress(content[start : start + GZIP_BLOCK])
        return block + packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)

    with ThreadPoolExecutor(MAX_THREADS) as pool:
        blocks = list(pool.map(deflate, starts))
    trailer = struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF)
    return b"".join([GZIP_HEADER, *blocks, trailer])


def unzipped(content: bytes) -> tuple[Header, Packed]:
    """Undo `zipped` for a file by any tool; ValueError, struct.error or zlib.error."""
    if content[:2] != b"\x1f\x8b":
        raise ValueError("it starts with neither NGSP nor gzip's mark")
    unpacker = zlib.decompressobj(_GZIP)
    start = unpacker.decompress(content, HEADER.size)
    header = Header.parse(start, len(content))
    if header.version > 3:
        raise ValueError(f"version {header.version} in a gzip stream")
    sizes = [int(np.prod(shape)) for shape in header.shapes]
    body = unpacker.decompress(unpacker.unconsumed_tail, sum(sizes) + 1)
    _finish(unpacker)
    if len(body) < sum(sizes):
        raise ValueError(f"{sum(sizes) - len(body)} of its bytes are missing")
    ends = np.cumsum(sizes)
    return header, _packed(
        header, [body[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    )


def _finish(unpacker: Any) -> None:
    """Go to the end of a stream, past extensions that are not read, for its checksum."""
    for _ in range(EXTENSION_BLOCKS):
        if unpacker.eof:
            return
        if not unpacker.decompress(unpacker.unconsumed_tail, 1 << 20) and not unpacker.eof:
            raise ValueError("its end is missing")
    raise ValueError("it goes on after its last Gaussian")


def framed(fields: tuple, parts: list[memoryview]) -> bytes:
    """Header, table of the streams, streams; UsageError without a zstd library."""
    compress = _zstd().compress
    streams = [compress(part, ZSTD_LEVEL) for part in parts]
    head = HEADER.pack(*fields, len(parts)) + struct.pack("<I12x", _LONG_HEADER)
    table = [struct.pack("<QQ", len(s), len(p)) for s, p in zip(streams, parts, strict=True)]
    return b"".join([head, *table, *streams])


def unframed(content: bytes) -> tuple[Header, Packed]:
    """Undo `framed` for a file by any tool; ValueError, struct.error or UsageError."""
    header = Header.parse(content[: HEADER.size], len(content))
    if header.version < 4:
        raise ValueError(f"version {header.version} without a gzip stream")
    (table,) = struct.unpack_from("<I", content, HEADER.size)
    sizes = [int(np.prod(shape)) for shape in header.shapes]
    expected = [size for size in sizes if size]
    if table < _LONG_HEADER or header.streams != len(expected):
        raise ValueError(f"{header.streams} streams where {len(expected)} belong")
    place, bodies = table + 16 * len(expected), []
    for i, size in enumerate(expected):
        packed, plain = struct.unpack_from("<QQ", content, table + 16 * i)
        if plain != size or place + packed > len(content):
            raise ValueError(f"stream {i} has {packed} bytes for {plain}, not {size}")
        bodies.append(_decompress(content[place : place + packed], size))
        place += packed
    return header, _packed(header, [*bodies, *[b""] * (len(sizes) - len(bodies))])


def _decompress(stream: bytes, size: int) -> bytes:
    zstd = _zstd()
    try:
        body = zstd.ZstdDecompressor().decompress(stream, size)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error
    if len(body) != size:
        raise ValueError(f"a stream holds {len(body)} bytes, not {size}")
    return body


def _zstd() -> Any:
    """The standard library's zstd, or its backport."""
    try:
        try:
            from compression import zstd  # pyright: ignore[reportMissingImports] - Python 3.14
        except ImportError:
            from backports import zstd
    except ImportError as error:
        raise UsageError(
            "version 4 of SPZ needs a zstd library",
            'pip install "ffsplat[spz]", or --spz-version 3 to write',
        ) from error
    return zstd


def _packed(header: Header, bodies: list[bytes]) -> Packed:
    return Packed(
        *(
            np.frombuffer(body, np.uint8).reshape(shape)
            for body, shape in zip(bodies, header.shapes, strict=True)
        )
    )
