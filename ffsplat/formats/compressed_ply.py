"""The compressed PLY of PlayCanvas and SuperSplat: 16 bytes a Gaussian, in chunks of 256.

A chunk holds the range of its positions, log scales and colours; a Gaussian its place in that
range in 11, 10 and 11 bits (8 for colours), its rotation as index of the largest component and
three of 10 bits, and its opacity in 8. Higher SH follow as bytes over [-4, 4].
Source: PlayCanvas, "The compressed PLY format"; splat-transform 3 is its reference.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, UInt8, UInt32

from ffsplat.errors import SceneFileError
from ffsplat.formats.packing import (
    Parts,
    along_morton_curve,
    dc_of,
    drop_largest,
    level,
    readable,
    restore_largest,
    writable,
)
from ffsplat.io.atomic import atomic_output
from ffsplat.io.header import Element, Header, open_regular, read_header
from ffsplat.types import SH_C0, Gaussians, Scene

CHUNK = 256
LOG_SCALE = 20.0
"""Log scales are clamped to +- this."""

BOUNDS = tuple(
    f"{end}_{name}"
    for names in (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))
    for end in ("min", "max")
    for name in names
)
PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
SH_OF = {9: 4, 24: 9, 45: 16}
_ROOT2 = np.float32(np.sqrt(2))
_BYTES = np.array([24, 16, 8, 0], np.uint32)
_TENS = np.array([20, 10, 0], np.uint32)
_TOPS = np.array([2047, 1023, 2047], np.float32)


def write(scene: Scene, path: str | Path, *, overwrite: bool = False) -> None:
    """Write the Gaussians along a Morton curve, so that those of a chunk are near each other.

    Raises OutputError as `atomic_output`, and for Gaussians that are not finite.
    """
    gaussians = writable(scene)
    gaussians = along_morton_curve(gaussians)
    logs = np.clip(np.log(gaussians.scales), -LOG_SCALE, LOG_SCALE)
    colors = np.float32(SH_C0) * gaussians.sh[:, 0] + np.float32(0.5)
    places, bounds = zip(*map(_in_chunks, (gaussians.means, logs, colors)), strict=True)
    packed = np.empty((len(gaussians), 4), "<u4")
    packed[:, 0] = _pack_11_10_11(places[0])
    packed[:, 1] = _pack_rotation(gaussians.quaternions_wxyz)
    packed[:, 2] = _pack_11_10_11(places[1])
    red, green, blue = level(places[2], 8).T
    alpha = np.clip(level(gaussians.opacities, 8), 1, 254)  # its readers take the logit
    packed[:, 3] = red << 24 | green << 16 | blue << 8 | alpha
    content = [_header(gaussians), np.hstack(bounds).astype("<f4").tobytes(), packed.tobytes()]
    content.append(_sh_bytes(gaussians.sh[:, 1:]).tobytes())
    with atomic_output(path, overwrite, sum(map(len, content))) as file:
        for part in content:
            file.write(part)


def read(path: str | Path) -> Scene:
    """Read such a file by any tool; SceneFileError names what is wrong."""
    path = Path(path)
    with open_regular(path) as file:
        header = read_header(file, path.name)
        header.check_size(path.name)
        elements = _elements(header, path.name)
        file.seek(header.size)
        tables = {e.name: _table(file.read(e.count * e.stride), e, header) for e in elements}
    packed = tables["vertex"]
    count = len(packed)
    of_chunk = np.arange(count) // CHUNK
    bounds = tables["chunk"].astype(np.float32)[of_chunk]
    with np.errstate(all="ignore"):  # what becomes infinite or NaN is refused by `readable`
        position = _lerp(bounds[:, 0:6], _unpack_11_10_11(packed[:, 0]))
        scale = np.exp(_lerp(bounds[:, 6:12], _unpack_11_10_11(packed[:, 2])).astype(np.float64))
        rgba = (packed[:, 3, None] >> _BYTES & 255).astype(np.float32) / 255
        color = _lerp(bounds[:, 12:18], rgba[:, :3]) if bounds.shape[1] == 18 else rgba[:, :3]
        sh = [dc_of(color)]
        if "sh" in tables:
            sh.append(_sh_values(tables["sh"]))
        rotation = _unpack_rotation(packed[:, 1])
        parts = Parts(position, scale, rotation, rgba[:, 3], np.concatenate(sh, axis=1))
    return Scene(readable(parts, path.name))


def _in_chunks(
    values: Float32[np.ndarray, "n 3"],
) -> tuple[Float32[np.ndarray, "n 3"], Float32[np.ndarray, "chunks 6"]]:
    """The place of each row between the bounds of its chunk, and the bounds."""
    starts = np.arange(0, len(values), CHUNK)
    low = np.minimum.reduceat(values, starts)
    high = np.maximum.reduceat(values, starts)
    extent = np.where(high > low, high - low, 1)
    of_chunk = np.arange(len(values)) // CHUNK
    return (values - low[of_chunk]) / extent[of_chunk], np.hstack([low, high])


def _lerp(
    bounds: Float32[np.ndarray, "n 6"], places: Float32[np.ndarray, "n 3"]
) -> Float32[np.ndarray, "n 3"]:
    return bounds[:, :3] * (1 - places) + bounds[:, 3:] * places


def _pack_11_10_11(places: Float32[np.ndarray, "n 3"]) -> UInt32[np.ndarray, " n"]:
    x, y, z = (level(places[:, axis], bits) for axis, bits in enumerate((11, 10, 11)))
    return x << 21 | y << 11 | z


def _unpack_11_10_11(packed: UInt32[np.ndarray, " n"]) -> Float32[np.ndarray, "n 3"]:
    x, y, z = packed >> 21, packed >> 11 & 1023, packed & 2047
    return np.stack([x, y, z], axis=1).astype(np.float32) / _TOPS


def _pack_rotation(quaternions: Float32[np.ndarray, "n 4"]) -> UInt32[np.ndarray, " n"]:
    largest, rest = drop_largest(quaternions)
    a, b, c = level(rest / _ROOT2 + np.float32(0.5), 10).T
    return largest.astype(np.uint32) << 30 | a << 20 | b << 10 | c


def _unpack_rotation(packed: UInt32[np.ndarray, " n"]) -> Float[np.ndarray, "n 4"]:
    levels = packed[:, None] >> _TENS & 1023
    rest = (levels.astype(np.float32) / 1023 - np.float32(0.5)) * _ROOT2
    return restore_largest((packed >> 30).astype(np.intp), rest)


def _sh_bytes(rest: Float32[np.ndarray, "n k 3"]) -> UInt8[np.ndarray, "n columns"]:
    """Bytes of the higher SH, all red first; 0.5 of a step is added back by the reader."""
    steps = np.clip((rest / 8 + np.float32(0.5)) * 256, 0, 255).astype(np.uint8)
    return steps.transpose(0, 2, 1).reshape(len(rest), -1)


def _sh_values(columns: UInt8[np.ndarray, "n columns"]) -> Float32[np.ndarray, "n k 3"]:
    steps = columns.astype(np.float32)
    places = np.where(columns == 0, 0, np.where(columns == 255, 1, (steps + 0.5) / 256))
    values = ((places - 0.5) * 8).astype(np.float32)
    return values.reshape(len(columns), 3, -1).transpose(0, 2, 1)


def _header(gaussians: Gaussians) -> bytes:
    count, rest = len(gaussians), 3 * (gaussians.sh.shape[1] - 1)
    lines = ["ply", "format binary_little_endian 1.0", f"element chunk {-(-count // CHUNK)}"]
    lines += [f"property float {name}" for name in BOUNDS]
    lines.append(f"element vertex {count}")
    lines += [f"property uint {name}" for name in PACKED]
    if rest:
        lines.append(f"element sh {count}")
        lines += [f"property uchar f_rest_{i}" for i in range(rest)]
    return "\n".join([*lines, "end_header", ""]).encode()


def _elements(header: Header, name: str) -> tuple[Element, ...]:
    """The elements, if they are exactly those of this format."""
    found = {element.name: element for element in header.elements}
    chunk, vertex, sh = found.get("chunk"), header.vertex, found.get("sh")
    expected = [("chunk", "vertex"), ("chunk", "vertex", "sh")]
    good = (
        tuple(element.name for element in header.elements) in expected
        and chunk is not None
        and _is(chunk, "f4", BOUNDS, BOUNDS[:12])
        and _is(vertex, "u4", PACKED)
        and chunk.count == -(-vertex.count // CHUNK)
        and (sh is None or (sh.count == vertex.count and len(sh.properties) in SH_OF))
        and (sh is None or _is(sh, "u1", tuple(f"f_rest_{i}" for i in range(len(sh.properties)))))
    )
    if not good:
        raise SceneFileError(f"{name} is not a compressed splat as PlayCanvas defines it")
    return header.elements


def _is(element: Element, kind: str, *columns: tuple[str, ...]) -> bool:
    names = tuple(name for name, _ in element.properties)
    return names in columns and set(element.kinds) == {kind}


def _table(content: bytes, element: Element, header: Header) -> np.ndarray:
    if len(content) != element.count * element.stride:
        raise SceneFileError("the file became shorter while it was read")
    kind = np.dtype(header.order + element.kinds[0])
    table = np.frombuffer(content, kind).reshape(element.count, -1)
    return table.astype(kind.newbyteorder("="), copy=False)
