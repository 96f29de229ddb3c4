"""SPZ by Niantic: some 20 bytes a Gaussian before compression, 15 after it.

Version 3 is the default, since every reader in use takes it: version 2 has coarser rotations, and
Spark 2.2 and gsply without zstd refuse version 4.
Attributes follow one another: positions as 24-bit fixed point, opacities, colours, log scales,
rotations, higher SH, bytes all. The axes are those of the PLY: nothing is turned, as by the tools
of Niantic and PlayCanvas. Source: github.com/nianticlabs/spz, README and load-spz.cc (2026).
"""

import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, UInt8

from ffsplat.errors import OutputError, SceneFileError
from ffsplat.formats.packing import (
    MAX_GAUSSIANS,
    Parts,
    byte,
    drop_largest,
    readable,
    restore_largest,
    writable,
)
from ffsplat.formats.spz_container import (
    COEFFICIENTS,
    MAGIC,
    POSITION_BITS,
    Packed,
    framed,
    unframed,
    unzipped,
    zipped,
)
from ffsplat.io.atomic import atomic_output
from ffsplat.io.header import read_limited
from ffsplat.types import Gaussians, Scene

COLOR_SCALE = 0.15
SH_STEPS = (8, 16, 16)
"""Steps of the SH of each degree in 1/128: five bits of degree 1, four of the others."""

_XYZW = [1, 2, 3, 0]
_WXYZ = [3, 0, 1, 2]
_TOP = (1 << 9) - 1
_HALF_ROOT = np.float32(np.sqrt(0.5))


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
    content = framed(fields, parts) if version >= 4 else zipped(fields, parts)
    with atomic_output(path, overwrite, len(content)) as file:
        file.write(content)


def read(path: str | Path) -> Scene:
    """Read version 2, 3 or 4 by any tool; SceneFileError names what is wrong."""
    path = Path(path)
    content = read_limited(path, 20 * MAX_GAUSSIANS)
    try:
        header, packed = unframed(content) if content[:4] == MAGIC else unzipped(content)
        parts = _unpack(packed, header.bits)
    except (ValueError, struct.error, zlib.error) as error:
        raise SceneFileError(f"{path.name} is not an SPZ file: {error}") from error
    return Scene(readable(parts, path.name))


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
