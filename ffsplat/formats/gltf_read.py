"""Read a Gaussian splat from glTF: ours without loss, others' as KHR_gaussian_splatting says.

Only what is inside the file is read: a `.gltf` may hold its buffer as base64, but no other file
or address is opened.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from ffsplat.errors import SceneFileError
from ffsplat.formats.gltf import (
    CODES_IN_ONE,
    EXTENSION,
    EXTRAS,
    HALF_TURN,
    LOOKING_BACK,
    TURNED,
    coefficients,
)
from ffsplat.formats.gltf_container import File, parse, whole
from ffsplat.formats.packing import Parts, readable
from ffsplat.io.cameras import CONVENTIONS, decode_cameras
from ffsplat.io.cameras import FORMAT as CAMERA_FORMAT
from ffsplat.io.codebook_file import decode_codebook
from ffsplat.io.header import read_limited
from ffsplat.io.layout import MAX_CODES, MAX_INSTANCE, MAX_ROWS
from ffsplat.io.ply import with_norms
from ffsplat.types import NO_ID, Cameras, Codebook, Gaussians, Scene, SparseCode

MALFORMED = (ValueError, TypeError, LookupError, OverflowError)
"""What wrong values of JSON raise where they are used."""

MAX_BYTES = (1 << 32) + (1 << 20)


def read(path: str | Path) -> Scene:
    """Read a `.glb` or `.gltf` of one primitive of Gaussians; SceneFileError says what is wrong.

    The node of the Gaussians may be turned as ours is, or not at all; anything else is refused.
    """
    path = Path(path)
    content = read_limited(path, MAX_BYTES)
    try:
        with np.errstate(all="ignore"):  # numbers that are not finite are refused as such
            return _scene(parse(content, path.name))
    except (*MALFORMED, AttributeError, RecursionError) as error:
        raise SceneFileError(f"{path.name} is not a glTF of Gaussians: {error}") from error


def _scene(file: File) -> Scene:
    mesh, primitive = _primitive(file)
    attributes = primitive["attributes"]
    gaussians = _gaussians(file, attributes)
    gaussians = _in_our_axes(file, mesh, gaussians)
    extras = (file.item("meshes", mesh).get("extras") or {}).get(EXTRAS) or {}
    codebook = None
    if extras.get("codebook") is not None:
        content, _ = file.view(extras["codebook"])
        codebook = decode_codebook(bytes(content), f"{file.name}: codebook")
    width = whole(extras.get("codes", 0), "codes")
    provenance = extras.get("provenance", {})
    if not all(isinstance(value, str) for value in provenance.values()):
        raise ValueError("its provenance is no text")
    return Scene(
        gaussians,
        codes=_codes(file, attributes, width, codebook, len(gaussians)),
        instances=_instances(file, attributes, len(gaussians)),
        codebook=codebook,
        cameras=_cameras(file),
        metric=extras.get("metric") is True,
        provenance=dict(provenance),
    )


def _primitive(file: File) -> tuple[int, dict[str, Any]]:
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
    if not isinstance(found[0][1]["attributes"], dict):
        raise ValueError("its Gaussians have no attributes")
    return found[0]


def _gaussians(file: File, attributes: dict[str, Any]) -> Gaussians:
    means = file.rows(attributes, "POSITION", 3)
    count, names = len(means), coefficients(16)
    sh = next((k for k in (16, 9, 4) if all(name in attributes for name in names[:k])), 1)
    bands = [file.rows(attributes, name, 3, count) for name in names[:sh]]
    xyzw = file.rows(attributes, f"{EXTENSION}:ROTATION", 4, count)
    parts = Parts(
        means.astype(np.float32),
        file.rows(attributes, f"{EXTENSION}:SCALE", 3, count).astype(np.float32),
        xyzw[:, [3, 0, 1, 2]].astype(np.float32),
        file.rows(attributes, f"{EXTENSION}:OPACITY", 1, count)[:, 0].astype(np.float32),
        np.stack(bands, axis=1).astype(np.float32),
    )
    gaussians = readable(parts, file.name)
    if "_FFSPLAT_OPACITY" not in attributes:
        return gaussians
    meaning = file.rows(attributes, "_FFSPLAT_OPACITY", 1, count)[:, 0].astype(np.float32)
    if not ((meaning >= 0) & (meaning <= 1)).all():
        raise ValueError("it has opacities of meaning outside 0 to 1")
    return replace(gaussians, meaning_opacities=meaning)


def _in_our_axes(file: File, mesh: int, gaussians: Gaussians) -> Gaussians:
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
    file: File, attributes: dict[str, Any], width: int, codebook: Codebook | None, count: int
) -> SparseCode | None:
    if "_FFSPLAT_IDS_0" not in attributes:
        return None
    if not 0 < width <= MAX_CODES:
        raise ValueError(f"it has {width} codes a Gaussian")
    groups = range(-(-width // CODES_IN_ONE))
    ids, weights = (
        np.hstack([file.rows(attributes, f"{name}_{i}", CODES_IN_ONE, count) for i in groups])
        for name in ("_FFSPLAT_IDS", "_FFSPLAT_WEIGHTS")
    )
    ids, weights = ids[:, :width], weights[:, :width].astype(np.float32)
    rows = MAX_ROWS if codebook is None else len(codebook)
    good = (ids >= NO_ID) & (ids < rows) & (weights >= 0) & ((ids != NO_ID) | (weights == 0))
    if not good.all() or not (weights.sum(axis=1) <= 1 + 1e-3).all():
        raise ValueError("it has codes with IDs or weights out of range")
    return with_norms(ids.astype(np.int16), weights.astype(np.float16), codebook)


def _instances(file: File, attributes: dict[str, Any], count: int) -> np.ndarray | None:
    if "_FFSPLAT_INSTANCE" not in attributes:
        return None
    instances = file.rows(attributes, "_FFSPLAT_INSTANCE", 1, count)[:, 0]
    if not ((instances >= NO_ID) & (instances < MAX_INSTANCE)).all():
        raise ValueError("it has instances out of range")
    return instances.astype(np.int32)


def _cameras(file: File) -> Cameras | None:
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
                **{key: exact[key] for key in ("thumbnail",) if key in exact},
            }
        )
    if not listed:
        return None
    content = {"format": CAMERA_FORMAT, "conventions": CONVENTIONS, "cameras": listed}
    return decode_cameras(json.dumps(content).encode(), f"{file.name}: cameras")
