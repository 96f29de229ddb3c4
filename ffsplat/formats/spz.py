"""SPZ by Niantic: some 20 bytes a Gaussian before compression, 15 after it.

Versions 2 and 3 are one gzip stream (version 3 has the better rotations; it is the default, since
every reader in use takes it, while Spark 2.2 and gsply without zstd refuse 4); version 4 is a plain header and one zstd stream for each attribute.
Attributes follow one another: positions as 24-bit fixed point, opacities, colours, log scales,
rotations, higher SH, bytes all. The axes are those of the PLY: nothing is turned, as by the tools
of Niantic and PlayCanvas. Source: github.com/nianticlabs/spz, README and load-spz.cc (2026).
"""

import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, UInt8

from ffsplat.errors import OutputError, SceneFileError, UsageError
from ffsplat.formats.packing import (
    MAX_GAUSSIANS,
    MAX_RATIO,
    Parts,
    byte,
    drop_largest,
    readable,
    restore_largest,
    writable,
)
from ffsplat.io.atomic import atomic_output
from ffsplat.io.header import read_limited
from ffsplat.types import Gaussians, Scene

MAGIC = b"NGSP"
HEADER = struct.Struct("<4sIIBBBB")
"""Magic, version, Gaussians, SH degree, fractional bits, flags, streams (0 before version 4)."""

COLOR_SCALE = 0.15
POSITION_BITS = 24
COEFFICIENTS = (0, 3, 8, 15)
SH_STEPS = (8, 16, 16)
"""Steps of the SH of each degree in 1/128: five bits of degree 1, four of the others."""

EXTENSION_BLOCKS = 16
"""MiB that may follow the attributes: extensions of vendors."""

_LONG_HEADER = 32
_GZIP = 16 + zlib.MAX_WBITS
_XYZW = [1, 2, 3, 0]
_WXYZ = [3, 0, 1, 2]
_TOP = (1 << 9) - 1
_HALF_ROOT = np.float32(np.sqrt(0.5))


class Packed(NamedTuple):
    """The attributes as bytes, in the order of the file."""

    positions: UInt8[np.ndarray, "n 3 3"]
    alphas: UInt8[np.ndarray, " n"]
    colors: UInt8[np.ndarray, "n 3"]
    scales: UInt8[np.ndarray, "n 3"]
    rotations: UInt8[np.ndarray, "n _"]
    sh: UInt8[np.ndarray, "n k 3"]


def write(
    scene: Scene, path: str | Path, *, overwrite: bool = False, spz_version: str = "3"
) -> None:
    """Write version 2, 3 or 4; the last needs a zstd library.

    Positions keep 1/4096 of the unit, or 1/65536 of the scene's extent where that is finer.
    Raises OutputError as `atomic_output`, and for Gaussians that are not finite.
    """
    gaussians, version = writable(scene), int(spz_version)
    bits = _fractional_bits(gaussians.means)
    packed = _pack(gaussians, bits, version)
    degree = COEFFICIENTS.index(packed.sh.shape[1])
    parts = [np.ascontiguousarray(part).data.cast("B") for part in packed if part.size]
    fields = (MAGIC, version, len(gaussians), degree, bits, 0)
    content = _framed(fields, parts) if version >= 4 else _zipped(fields, parts)
    with atomic_output(path, overwrite, len(content)) as file:
        file.write(content)


def read(path: str | Path) -> Scene:
    """Read version 2, 3 or 4 by any tool; SceneFileError names what is wrong."""
    path = Path(path)
    content = read_limited(path, 20 * MAX_GAUSSIANS)
    try:
        header, packed = _unframed(content) if content[:4] == MAGIC else _unzipped(content)
        parts = _unpack(packed, header.bits)
    except (ValueError, struct.error, zlib.error) as error:
        raise SceneFileError(f"{path.name} is not an SPZ file: {error}") from error
    return Scene(readable(parts, path.name))


class _Header(NamedTuple):
    version: int
    gaussians: int
    degree: int
    bits: int
    streams: int

    @classmethod
    def parse(cls, content: bytes, size: int) -> "_Header":
        """The fields, if a file of `size` bytes can hold so many Gaussians."""
        magic, version, count, degree, bits, _, streams = HEADER.unpack(content)
        if magic != MAGIC or not 2 <= version <= 4:
            raise ValueError(f"it is marked {magic!r}, version {version}, not NGSP 2 to 4")
        if degree > 3:
            raise ValueError(f"it has SH of degree {degree}, and 3 is the highest read here")
        if not 0 < count <= min(MAX_GAUSSIANS, size * MAX_RATIO // 19):
            raise ValueError(f"{count} Gaussians are not in {size} bytes")
        if bits > POSITION_BITS:
            raise ValueError(f"{bits} fractional bits of {POSITION_BITS}")
        return cls(version, count, degree, bits, streams)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of each attribute, those that are there."""
        rotation = 3 if self.version == 2 else 4
        shapes = [(3, 3), (), (3,), (3,), (rotation,), (COEFFICIENTS[self.degree], 3)]
        return [(self.gaussians, *shape) for shape in shapes]


def _zipped(fields: tuple, parts: list[memoryview]) -> bytes:
    """One gzip stream without a time, so that the same scene is the same file."""
    packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    pieces = [packer.compress(HEADER.pack(*fields, 0)), *map(packer.compress, parts)]
    return b"".join([*pieces, packer.flush()])


def _unzipped(content: bytes) -> tuple[_Header, Packed]:
    if content[:2] != b"\x1f\x8b":
        raise ValueError("it starts with neither NGSP nor gzip's mark")
    unpacker = zlib.decompressobj(_GZIP)
    start = unpacker.decompress(content, HEADER.size)
    header = _Header.parse(start, len(content))
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


def _framed(fields: tuple, parts: list[memoryview]) -> bytes:
    compress = _zstd().compress
    streams = [compress(part, 12) for part in parts]
    head = HEADER.pack(*fields, len(parts)) + struct.pack("<I12x", _LONG_HEADER)
    table = [struct.pack("<QQ", len(s), len(p)) for s, p in zip(streams, parts, strict=True)]
    return b"".join([head, *table, *streams])


def _unframed(content: bytes) -> tuple[_Header, Packed]:
    header = _Header.parse(content[: HEADER.size], len(content))
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


def _packed(header: _Header, bodies: list[bytes]) -> Packed:
    return Packed(
        *(
            np.frombuffer(body, np.uint8).reshape(shape)
            for body, shape in zip(bodies, header.shapes, strict=True)
        )
    )


def _fractional_bits(means: Float32[np.ndarray, "n 3"]) -> int:
    """Bits after the point: as `write` says, and never so many that the largest does not fit."""
    whole = int(np.ceil(np.log2(max(float(np.abs(means).max()), 2.0**-POSITION_BITS) + 2.0**-12)))
    bits = min(max(12, 16 - whole), POSITION_BITS - 1 - whole, POSITION_BITS - 1)
    if bits < 0:
        raise OutputError(
            "a position lies beyond 8 million units, more than SPZ holds", "write another format"
        )
    return bits


def _pack(gaussians: Gaussians, bits: int, version: int) -> Packed:
    fixed = np.rint(gaussians.means.astype(np.float64) * (1 << bits)).astype("<i4")
    xyzw = gaussians.quaternions_wxyz[:, _XYZW]
    return Packed(
        fixed[..., None].view(np.uint8).reshape(-1, 3, 4)[..., :3],
        byte(gaussians.opacities * 255),
        byte(gaussians.sh[:, 0] * np.float32(COLOR_SCALE * 255) + np.float32(127.5)),
        byte((np.log(gaussians.scales) + 10) * 16),
        _pack_first_three(xyzw) if version == 2 else _pack_smallest_three(xyzw),
        _pack_sh(gaussians.sh[:, 1:]),
    )


def _unpack(packed: Packed, bits: int) -> Parts:
    count = len(packed.alphas)
    fixed = np.zeros((count, 3, 4), np.uint8)
    fixed[..., 1:] = packed.positions  # the upper three bytes: shifting down keeps the sign
    means = (fixed.view("<i4")[..., 0] >> 8) / np.float64(1 << bits)
    dc = (packed.colors.astype(np.float32) / 255 - np.float32(0.5)) / np.float32(COLOR_SCALE)
    rest = (packed.sh.astype(np.float32) - 128) / 128
    three = packed.rotations.shape[1] == 3
    xyzw = (_unpack_first_three if three else _unpack_smallest_three)(packed.rotations)
    return Parts(
        means,
        np.exp(packed.scales / 16.0 - 10),
        xyzw[:, _WXYZ],
        packed.alphas.astype(np.float32) / 255,
        np.concatenate([dc[:, None], rest], axis=1),
    )


def _pack_first_three(xyzw: Float32[np.ndarray, "n 4"]) -> UInt8[np.ndarray, "n 3"]:
    """x, y and z of the quaternion whose w is positive."""
    sign = np.where(xyzw[:, 3:] < 0, np.float32(-127.5), np.float32(127.5))
    return byte(xyzw[:, :3] * sign + np.float32(127.5))


def _unpack_first_three(rotations: UInt8[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 4"]:
    xyz = rotations / np.float32(127.5) - 1
    squared = np.einsum("nk,nk->n", xyz, xyz)[:, None]
    return np.hstack([xyz, np.sqrt(np.maximum(0, 1 - squared))])


def _pack_smallest_three(xyzw: Float32[np.ndarray, "n 4"]) -> UInt8[np.ndarray, "n 4"]:
    """Two bits for the largest; then sign and nine bits of size for each of the others."""
    largest, rest = drop_largest(xyzw)
    sizes = np.minimum(_TOP * (np.abs(rest) / _HALF_ROOT) + np.float32(0.5), _TOP)
    a, b, c = (sizes.astype(np.uint32) | (rest < 0).astype(np.uint32) << 9).T
    fields = largest.astype(np.uint32) << 30 | a << 20 | b << 10 | c
    return fields.astype("<u4")[:, None].view(np.uint8)


def _unpack_smallest_three(rotations: UInt8[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    fields = np.ascontiguousarray(rotations).view("<u4")[:, 0]
    rest = np.stack([fields >> 20, fields >> 10, fields], axis=1)
    sizes = (rest & _TOP).astype(np.float32) * (_HALF_ROOT / _TOP)
    signed = np.where(rest >> 9 & 1, -sizes, sizes)
    return restore_largest((fields >> 30).astype(np.intp), signed)


def _pack_sh(rest: Float32[np.ndarray, "n k 3"]) -> UInt8[np.ndarray, "n k 3"]:
    """Bytes around 128, rounded to the steps of each degree, so that they compress."""
    packed = np.empty(rest.shape, np.uint8)
    for degree, step in enumerate(SH_STEPS, 1):
        band = slice(COEFFICIENTS[degree - 1], COEFFICIENTS[degree])
        packed[:, band] = byte(np.rint((rest[:, band] * 128 + 128) / step) * step)
    return packed
