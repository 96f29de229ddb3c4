"""glTF 2.0 with KHR_gaussian_splatting: what a glTF viewer shows, and all that we know beside it.

The Gaussians are a point primitive: POSITION, COLOR_0 for viewers without the extension, and the
extension's rotation (x, y, z, w), linear scale, linear opacity and SH. Our own attributes are
`_FFSPLAT_IDS_<i>` and `_FFSPLAT_WEIGHTS_<i>` (four code pairs each, ID -1 for none),
`_FFSPLAT_INSTANCE` and `_FFSPLAT_OPACITY`; the codebook is a buffer view that holds its
safetensors file. Every number stays as it is: the axes are turned by the node (half a turn about
z, from x right, y down, z forward), not in the data.
Source: KhronosGroup/glTF, extensions/2.0/Khronos/KHR_gaussian_splatting (2026), glTF 2.0 section 3.
"""

import json
import struct
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np

from ffsplat.errors import OutputError
from ffsplat.formats.packing import byte, writable
from ffsplat.io.atomic import atomic_output
from ffsplat.io.cameras import thumbnail_entry
from ffsplat.io.codebook_file import codebook_bytes
from ffsplat.io.layout import MAX_INSTANCE
from ffsplat.types import NO_ID, Cameras, Scene

EXTENSION = "KHR_gaussian_splatting"
EXTRAS = "ffsplat"
GLB_HEADER = struct.Struct("<4sII")
CHUNK_HEADER = struct.Struct("<I4s")
JSON_CHUNK, BINARY_CHUNK = b"JSON", b"BIN\0"
COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
CODES_IN_ONE = 4
"""Code pairs in one attribute: a VEC4."""

HALF_TURN = (0, 0, 1, 0)
"""Rotation x, y, z, w of the node: half a turn about z."""

TURNED = np.diag(np.array([-1, -1, 1, 1], np.float32))
LOOKING_BACK = np.diag(np.array([1, -1, -1, 1], np.float32))
"""From the axes of our cameras to those of glTF's, which look along -z with y up."""

_ARRAY_BUFFER = 34962
_MAX_BYTES = (1 << 32) - 1
_KINDS = {np.dtype(kind): code for code, kind in COMPONENTS.items()}
_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}


class _Buffer:
    """The one buffer, its views and accessors, in the order in which they are added."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, content: bytes, **properties: int) -> int:
        """A view of these bytes, aligned to 4; its index."""
        view = {"buffer": 0, "byteOffset": self.size, "byteLength": len(content), **properties}
        self.views.append(view)
        padded = content + bytes(-len(content) % 4)
        self.parts.append(padded)
        self.size += len(padded)
        return len(self.views) - 1

    def attribute(self, values: np.ndarray, **properties: Any) -> int:
        """An accessor of one row a Gaussian; its index."""
        rows = np.ascontiguousarray(values)
        width = 1 if rows.ndim == 1 else rows.shape[1]
        self.accessors.append(
            {
                "bufferView": self.add(rows.tobytes(), target=_ARRAY_BUFFER),
                "componentType": _KINDS[rows.dtype.newbyteorder("<")],
                "count": len(rows),
                "type": _TYPES[width],
                **properties,
            }
        )
        return len(self.accessors) - 1


def write(scene: Scene, path: str | Path, *, overwrite: bool = False) -> None:
    """Write all of the scene as `.glb`, or as `.gltf` with the buffer inside.

    Raises OutputError as `atomic_output`, for Gaussians that are not finite, instances of 2^24 and
    more, and more than 4 GB.
    """
    buffer = _Buffer()
    document = _document(scene, buffer)
    if buffer.size > _MAX_BYTES - (1 << 24):
        raise OutputError(f"a glTF of {buffer.size / 1e9:.1f} GB is more than the format holds")
    if Path(path).suffix.lower() == ".gltf":
        data = b64encode(b"".join(buffer.parts)).decode()
        document["buffers"][0]["uri"] = f"data:application/octet-stream;base64,{data}"
        content = [json.dumps(document, indent=1, allow_nan=False).encode()]
    else:
        content = _binary(document, buffer)
    with atomic_output(path, overwrite, sum(map(len, content))) as file:
        for part in content:
            file.write(part)


def coefficients(count: int) -> list[str]:
    """Names of the attributes of so many SH coefficients, in our order."""
    names = [f"SH_DEGREE_{degree}_COEF_{i}" for degree in range(4) for i in range(2 * degree + 1)]
    return [f"{EXTENSION}:{name}" for name in names[:count]]


def _binary(document: dict[str, Any], buffer: _Buffer) -> list[bytes]:
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    total = GLB_HEADER.size + 2 * CHUNK_HEADER.size + len(text) + buffer.size
    return [
        GLB_HEADER.pack(b"glTF", 2, total),
        CHUNK_HEADER.pack(len(text), JSON_CHUNK),
        text,
        CHUNK_HEADER.pack(buffer.size, BINARY_CHUNK),
        *buffer.parts,
    ]


def _document(scene: Scene, buffer: _Buffer) -> dict[str, Any]:
    """The JSON part; the buffer is filled on the way."""
    attributes = _standard(scene, buffer) | _meaning(scene, buffer)
    nodes: list[dict[str, Any]] = [{"mesh": 0, "rotation": HALF_TURN, "name": "Gaussians"}]
    cameras = [] if scene.cameras is None else _cameras(scene.cameras)
    for number, camera in enumerate(cameras):
        nodes.append({"camera": number, **camera.pop("node")})
    kernel = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    primitive = {"attributes": attributes, "mode": 0, "extensions": {EXTENSION: kernel}}
    document = {
        "asset": {"version": "2.0", "generator": "ffsplat"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": list(range(len(nodes)))}],
        "nodes": nodes,
        "meshes": [{"primitives": [primitive], "extras": {EXTRAS: _extras(scene, buffer)}}],
    }
    if cameras:
        document["cameras"] = cameras
    return document | {
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": buffer.size}],
    }


def _standard(scene: Scene, buffer: _Buffer) -> dict[str, int]:
    """What every reader of the extension knows, and colours for the others."""
    gaussians = writable(scene)
    means = gaussians.means
    bounds = {"min": means.min(axis=0).tolist(), "max": means.max(axis=0).tolist()}
    linear = np.where(
        gaussians.colors <= 0.04045,
        gaussians.colors / 12.92,
        ((gaussians.colors + 0.055) / 1.055) ** 2.4,
    )  # COLOR_0 is linear light (IEC 61966-2-1)
    fallback = byte(np.column_stack([linear, gaussians.opacities]) * 255)
    attributes = {
        "POSITION": buffer.attribute(means, **bounds),
        "COLOR_0": buffer.attribute(fallback, normalized=True),
        f"{EXTENSION}:ROTATION": buffer.attribute(gaussians.quaternions_wxyz[:, [1, 2, 3, 0]]),
        f"{EXTENSION}:SCALE": buffer.attribute(gaussians.scales),
        f"{EXTENSION}:OPACITY": buffer.attribute(gaussians.opacities),
    }
    for i, name in enumerate(coefficients(gaussians.sh.shape[1])):
        attributes[name] = buffer.attribute(gaussians.sh[:, i])
    return attributes


def _meaning(scene: Scene, buffer: _Buffer) -> dict[str, int]:
    """Codes, instances and the opacities of meaning, where the scene has them."""
    attributes = {}
    if scene.codes is not None:
        missing = -scene.codes.ids.shape[1] % CODES_IN_ONE
        ids = np.pad(scene.codes.ids, ((0, 0), (0, missing)), constant_values=NO_ID)
        weights = np.pad(scene.codes.weights.astype(np.float32), ((0, 0), (0, missing)))
        for i in range(ids.shape[1] // CODES_IN_ONE):
            four = slice(CODES_IN_ONE * i, CODES_IN_ONE * (i + 1))
            attributes[f"_FFSPLAT_IDS_{i}"] = buffer.attribute(ids[:, four])
            attributes[f"_FFSPLAT_WEIGHTS_{i}"] = buffer.attribute(weights[:, four])
    if scene.instances is not None:
        if scene.instances.max(initial=0) >= MAX_INSTANCE:
            raise OutputError(f"an instance of {MAX_INSTANCE} and more is not exact in float32")
        attributes["_FFSPLAT_INSTANCE"] = buffer.attribute(scene.instances.astype(np.float32))
    if scene.gaussians.meaning_opacities is not None:
        opacities = np.clip(scene.gaussians.meaning_opacities, 0, 1)
        attributes["_FFSPLAT_OPACITY"] = buffer.attribute(opacities)
    return attributes


def _extras(scene: Scene, buffer: _Buffer) -> dict[str, Any]:
    extras: dict[str, Any] = {
        "format": 1,
        "metric": scene.metric,
        "provenance": dict(scene.provenance),
        "codes": 0 if scene.codes is None else scene.codes.ids.shape[1],
    }
    if scene.codebook is not None:
        extras["codebook"] = buffer.add(codebook_bytes(scene.codebook))
    return extras


def _cameras(cameras: Cameras) -> list[dict[str, Any]]:
    """Perspective cameras with the node of each; intrinsics and size whole in the extras."""
    listed = []
    rows = zip(
        cameras.names, cameras.sizes, cameras.intrinsics, cameras.world_from_camera, strict=True
    )
    for index, (name, (width, height), intrinsics, pose) in enumerate(rows):
        matrix = TURNED @ pose @ LOOKING_BACK
        lens = {
            "yfov": float(2 * np.arctan(height / 2 / intrinsics[1, 1])),
            "aspectRatio": float(width / height * intrinsics[1, 1] / intrinsics[0, 0]),
            "znear": 0.01,
        }
        exact = {
            "size": [int(width), int(height)],
            "intrinsics": intrinsics.tolist(),
            **thumbnail_entry(cameras, index),
        }
        node = {"name": name, "matrix": matrix.T.ravel().tolist(), "extras": {EXTRAS: exact}}
        listed.append({"type": "perspective", "perspective": lens, "node": node})
    return listed


def read(path: str | Path) -> Scene:
    """Read a `.glb` or `.gltf`; see `ffsplat.formats.gltf_read.read`."""
    from ffsplat.formats import gltf_read

    return gltf_read.read(path)
