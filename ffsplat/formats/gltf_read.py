"""Read a Gaussian splat from glTF: ours without loss, others' as KHR_gaussian_splatting says.

Only what is inside the file is read: a `.gltf` may hold its buffer as base64, but no other file
or address is opened.
"""

import binascii
import json
from base64 import b64decode
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from ffsplat.errors import SceneFileError
from ffsplat.formats.gltf import (
    BINARY_CHUNK,
    CHUNK_HEADER,
    CODES_IN_ONE,
    COMPONENTS,
    EXTENSION,
    EXTRAS,
    GLB_HEADER,
    HALF_TURN,
    JSON_CHUNK,
    LOOKING_BACK,
    TURNED,
    WIDTHS,
    coefficients,
)
from ffsplat.formats.packing import Parts, readable
from ffsplat.io.cameras import CONVENTIONS, decode_cameras
from ffsplat.io.cameras import FORMAT as CAMERA_FORMAT
from ffsplat.io.codebook_file import decode_codebook
from ffsplat.io.header import read_limited
from ffsplat.io.layout import MAX_CODES, MAX_INSTANCE, MAX_ROWS
from ffsplat.io.ply import with_norms
from ffsplat.types import NO_ID, Cameras, Codebook, Gaussians, Scene, SparseCode

MAX_BYTES = (1 << 32) + (1 << 20)
MAX_JSON = 1 << 26
DATA_URI = "data:application/octet-stream;base64,"


class _File(NamedTuple):
    document: dict[str, Any]
    binary: bytes
    name: str

    def item(self, kind: str, index: object) -> dict[str, Any]:
        """An entry of a list of the document; ValueError if it is not there."""
        entries = self.document.get(kind)
        if not isinstance(entries, list) or not _whole(index) or index >= len(entries):  # pyright: ignore[reportOperatorIssue]
            raise ValueError(f"{kind} {str(index)[:20]} is not there")
        entry = entries[index]  # pyright: ignore[reportArgumentType, reportCallIssue]
        if not isinstance(entry, dict):
            raise ValueError(f"{kind} {index} is no object")
        return entry

    def view(self, index: object) -> tuple[bytes, int]:
        """The bytes of a buffer view, and the distance of its rows, 0 where it has none."""
        view = self.item("bufferViews", index)
        start, size = view.get("byteOffset", 0), view.get("byteLength")
        stride = view.get("byteStride", 0)
        if view.get("buffer") != 0 or not (_whole(start) and _whole(size) and _whole(stride)):
            raise ValueError(f"bufferView {index} is malformed")
        if start + size > len(self.binary):
            raise ValueError(f"bufferView {index} ends after the buffer")
        return self.binary[start : start + size], stride

    def rows(self, attributes: dict[str, Any], name: str, count: int | None = None) -> np.ndarray:
        """The numbers of an attribute, one row a Gaussian, normalised ones as float32."""
        accessor = self.item("accessors", attributes.get(name))
        kind, shape = accessor.get("componentType"), accessor.get("type")
        number, start = accessor.get("count"), accessor.get("byteOffset", 0)
        if kind not in COMPONENTS or shape not in WIDTHS or "sparse" in accessor:
            raise ValueError(f"{name} is of a kind that is not read")
        if not (_whole(number) and _whole(start)) or count not in (None, number):
            raise ValueError(f"{name} has {str(number)[:20]} rows")
        content, stride = self.view(accessor.get("bufferView"))
        dtype, width, length = np.dtype(COMPONENTS[kind]), WIDTHS[shape], int(number or 0)
        row = dtype.itemsize * width
        stride = stride or row
        if stride < row or start + stride * (length - 1) + row > len(content):
            raise ValueError(f"{name} ends after its bufferView")
        table = np.ndarray((length, width), dtype, content, start, (stride, dtype.itemsize))
        if not accessor.get("normalized"):
            return table
        top = np.iinfo(dtype).max if dtype.kind in "iu" else 1
        return np.maximum(table.astype(np.float32) / np.float32(top), -1)


def read(path: str | Path) -> Scene:
    """Read a `.glb` or `.gltf` of one primitive of Gaussians; SceneFileError says what is wrong.

    The node of the Gaussians may be turned as ours is, or not at all; anything else is refused.
    """
    path = Path(path)
    content = read_limited(path, MAX_BYTES)
    try:
        file = _parse(content, path.name)
        return _scene(file)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SceneFileError(f"{path.name} is not a glTF of Gaussians: {error}") from error


def _parse(content: bytes, name: str) -> _File:
    if content[:4] != b"glTF":
        document = _object(content)
        uri = str(document["buffers"][0]["uri"])
        if not uri.startswith(DATA_URI):
            raise ValueError("its buffer is another file; a .glb holds all in one")
        try:
            return _File(document, b64decode(uri[len(DATA_URI) :], validate=True), name)
        except binascii.Error as error:
            raise ValueError(f"its buffer is not base64: {error}") from error
    if len(content) < GLB_HEADER.size or GLB_HEADER.unpack_from(content)[1:] != (2, len(content)):
        raise ValueError("its version is not 2, or its length is not what it says")
    chunks, place = [], GLB_HEADER.size
    while place < len(content):
        if place + CHUNK_HEADER.size > len(content):
            raise ValueError("a chunk is cut off")
        size, kind = CHUNK_HEADER.unpack_from(content, place)
        place += CHUNK_HEADER.size
        if place + size > len(content):
            raise ValueError("a chunk is cut off")
        chunks.append((kind, content[place : place + size]))
        place += size
    if [kind for kind, _ in chunks[:2]] != [JSON_CHUNK, BINARY_CHUNK]:
        raise ValueError("it has no JSON and binary part")
    return _File(_object(chunks[0][1]), chunks[1][1], name)


def _object(content: bytes) -> dict[str, Any]:
    document = json.loads(content)
    if not isinstance(document, dict):
        raise ValueError("its JSON is no object")
    return document


def _scene(file: _File) -> Scene:
    mesh, primitive = _primitive(file)
    attributes = primitive["attributes"]
    gaussians = _gaussians(file, attributes)
    gaussians = _in_our_axes(file, mesh, gaussians)
    extras = (file.item("meshes", mesh).get("extras") or {}).get(EXTRAS) or {}
    codebook = None
    if extras.get("codebook") is not None:
        content, _ = file.view(extras["codebook"])
        codebook = decode_codebook(content, f"{file.name}: codebook")
    provenance = extras.get("provenance", {})
    if not all(isinstance(value, str) for value in provenance.values()):
        raise ValueError("its provenance is no text")
    return Scene(
        gaussians,
        codes=_codes(file, attributes, extras.get("codes", 0), codebook, len(gaussians)),
        instances=_instances(file, attributes, len(gaussians)),
        codebook=codebook,
        cameras=_cameras(file),
        metric=extras.get("metric") is True,
        provenance=dict(provenance),
    )


def _primitive(file: _File) -> tuple[int, dict[str, Any]]:
    """The one primitive of Gaussians, and the index of its mesh."""
    found = [
        (number, primitive)
        for number, mesh in enumerate(file.document.get("meshes", []))
        for primitive in mesh["primitives"]
        if EXTENSION in (primitive.get("extensions") or {})
    ]
    if len(found) != 1:
        raise ValueError(f"it has {len(found)} primitives with {EXTENSION}, not 1")
    if found[0][1]["extensions"][EXTENSION].get("extensions"):
        raise ValueError("its Gaussians are compressed by a further extension")
    return found[0]


def _gaussians(file: _File, attributes: dict[str, Any]) -> Gaussians:
    means = file.rows(attributes, "POSITION")
    count, present = len(means), [name in attributes for name in coefficients(16)]
    sh = next((k for k in (16, 9, 4, 1) if all(present[:k])), 0)
    if not sh:
        raise ValueError(f"it has no {coefficients(1)[0]}")
    for name, width in ((f"{EXTENSION}:ROTATION", 4), (f"{EXTENSION}:SCALE", 3)):
        _need(file.rows(attributes, name, count), width, name)
    rotations = file.rows(attributes, f"{EXTENSION}:ROTATION", count)
    bands = [_need(file.rows(attributes, n, count), 3, n) for n in coefficients(sh)]
    opacities = _need(file.rows(attributes, f"{EXTENSION}:OPACITY", count), 1, "OPACITY")
    parts = Parts(
        _need(means, 3, "POSITION").astype(np.float32),
        file.rows(attributes, f"{EXTENSION}:SCALE", count).astype(np.float32),
        rotations[:, [3, 0, 1, 2]].astype(np.float32),
        opacities[:, 0].astype(np.float32),
        np.stack(bands, axis=1).astype(np.float32),
    )
    gaussians = readable(parts, file.name)
    if "_FFSPLAT_OPACITY" not in attributes:
        return gaussians
    meaning = _need(file.rows(attributes, "_FFSPLAT_OPACITY", count), 1, "_FFSPLAT_OPACITY")[:, 0]
    if not ((meaning >= 0) & (meaning <= 1)).all():
        raise ValueError("it has opacities of meaning outside 0 to 1")
    return Gaussians(*parts_of(gaussians), meaning.astype(np.float32))


def parts_of(gaussians: Gaussians) -> Parts:
    """The parameters without the opacities of meaning."""
    return Parts(
        gaussians.means,
        gaussians.scales,
        gaussians.quaternions_wxyz,
        gaussians.opacities,
        gaussians.sh,
    )


def _need(rows: np.ndarray, width: int, name: str) -> np.ndarray:
    if rows.shape[1] != width:
        raise ValueError(f"{name} has {rows.shape[1]} numbers a row, not {width}")
    return rows


def _in_our_axes(file: _File, mesh: int, gaussians: Gaussians) -> Gaussians:
    """Gaussians of a node that is turned as ours stay; those of glTF's own axes are turned back."""
    nodes = [node for node in file.document.get("nodes", []) if node.get("mesh") == mesh]
    if len(nodes) != 1 or any(key in nodes[0] for key in ("translation", "scale", "matrix")):
        raise ValueError("its Gaussians are moved or scaled by a node")
    turn = tuple(nodes[0].get("rotation", (0, 0, 0, 1)))
    if turn == HALF_TURN:
        return gaussians
    if turn != (0, 0, 0, 1):
        raise ValueError("its Gaussians are turned by a node")
    return half_turned(gaussians)


def half_turned(gaussians: Gaussians) -> Gaussians:
    """The Gaussians after half a turn about z: x and y change their signs.

    So do the SH of odd order m: the basis functions are odd in (x, y) there.
    """
    w, x, y, z = gaussians.quaternions_wxyz.T
    signs = np.array([1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1], np.float32)
    sh = gaussians.sh * signs[: gaussians.sh.shape[1], None]
    return Gaussians(
        gaussians.means * np.array([-1, -1, 1], np.float32),
        gaussians.scales,
        np.stack([-z, -y, x, w], axis=1),
        gaussians.opacities,
        sh,
        gaussians.meaning_opacities,
    )


def _codes(
    file: _File, attributes: dict[str, Any], width: int, codebook: Codebook | None, count: int
) -> SparseCode | None:
    if "_FFSPLAT_IDS_0" not in attributes:
        return None
    if not _whole(width) or not 0 < width <= MAX_CODES:
        raise ValueError(f"{str(width)[:20]} codes a Gaussian")
    groups = range(-(-width // CODES_IN_ONE))
    ids, weights = (
        np.hstack([_need(file.rows(attributes, f"{name}_{i}", count), 4, name) for i in groups])
        for name in ("_FFSPLAT_IDS", "_FFSPLAT_WEIGHTS")
    )
    ids, weights = ids[:, :width], weights[:, :width].astype(np.float32)
    rows = MAX_ROWS if codebook is None else len(codebook)
    good = (ids >= NO_ID) & (ids < rows) & (weights >= 0) & ((ids != NO_ID) | (weights == 0))
    if not good.all() or not (weights.sum(axis=1) <= 1 + 1e-3).all():
        raise ValueError("it has codes with IDs or weights out of range")
    return with_norms(ids.astype(np.int16), weights.astype(np.float16), codebook)


def _instances(file: _File, attributes: dict[str, Any], count: int) -> np.ndarray | None:
    if "_FFSPLAT_INSTANCE" not in attributes:
        return None
    name = "_FFSPLAT_INSTANCE"
    instances = _need(file.rows(attributes, name, count), 1, name)[:, 0]
    if not ((instances >= NO_ID) & (instances < MAX_INSTANCE)).all():
        raise ValueError("it has instances out of range")
    return instances.astype(np.int32)


def _cameras(file: _File) -> Cameras | None:
    """The cameras that we wrote; those of others lack the size of their image."""
    listed = []
    for node in file.document.get("nodes", []):
        exact = (node.get("extras") or {}).get(EXTRAS)
        if "camera" not in node or exact is None:
            continue
        matrix: Float32[np.ndarray, "4 4"] = np.array(node["matrix"], np.float32).reshape(4, 4).T
        width, height = exact["size"]
        listed.append(
            {
                "name": node.get("name", ""),
                "width": width,
                "height": height,
                "intrinsics": exact["intrinsics"],
                "world_from_camera": (TURNED @ matrix @ LOOKING_BACK).tolist(),
            }
        )
    if not listed:
        return None
    content = {"format": CAMERA_FORMAT, "conventions": CONVENTIONS, "cameras": listed}
    return decode_cameras(json.dumps(content).encode(), f"{file.name}: cameras")


def _whole(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 40
