"""A scene as named arrays, for containers that hold just that: npz and safetensors.

Gaussians stay as they are, bit by bit. A code takes 3 bytes a pair: the ID as uint16, 65535 for
none, and the weight in 255 parts. Codebook and cameras are the files of their own kinds, as bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float16, UInt8, UInt16

from ffsplat.errors import OutputError, SceneFileError
from ffsplat.formats.packing import Parts, readable, writable
from ffsplat.io.cameras import cameras_bytes, decode_cameras
from ffsplat.io.codebook_file import codebook_bytes, decode_codebook
from ffsplat.io.layout import MAX_CODES, MAX_ROWS, SH_COUNTS
from ffsplat.io.ply import with_norms
from ffsplat.types import NO_ID, Codebook, Scene, SparseCode

FORMAT = "ffsplat.scene 1"
NO_CODE = 65535
WHOLE = 255
"""Parts that the weights of a Gaussian sum to."""

MAX_NOTES = 1 << 20

SHAPES = {
    "notes": ("|u1", (None,)),
    "means": ("<f4", ("n", 3)),
    "scales": ("<f4", ("n", 3)),
    "quaternions_wxyz": ("<f4", ("n", 4)),
    "opacities": ("<f4", ("n",)),
    "sh": ("<f4", ("n", None, 3)),
    "meaning_opacities": ("<f4", ("n",)),
    "code_ids": ("<u2", ("n", None)),
    "code_weights": ("|u1", ("n", None)),
    "instances": ("<i4", ("n",)),
    "codebook": ("|u1", (None,)),
    "cameras": ("|u1", (None,)),
}
"""Every array: its numpy type and its shape, "n" the number of Gaussians, None any number."""

NEEDED = ("notes", "means", "scales", "quaternions_wxyz", "opacities", "sh")


def columns_of(scene: Scene) -> dict[str, np.ndarray]:
    """The scene as arrays of SHAPES; OutputError for what they cannot hold."""
    gaussians = writable(scene)
    notes = {"format": FORMAT, "metric": scene.metric, "provenance": dict(scene.provenance)}
    columns = {
        "notes": _bytes(json.dumps(notes, sort_keys=True).encode()),
        "means": gaussians.means,
        "scales": gaussians.scales,
        "quaternions_wxyz": gaussians.quaternions_wxyz,
        "opacities": gaussians.opacities,
        "sh": gaussians.sh,
    }
    if gaussians.meaning_opacities is not None:
        columns["meaning_opacities"] = np.clip(gaussians.meaning_opacities, 0, 1)
    if scene.codes is not None:
        weights = pack_weights(scene.codes.weights)
        columns["code_ids"] = pack_ids(scene.codes, weights)
        columns["code_weights"] = weights
    if scene.instances is not None:
        columns["instances"] = scene.instances
    if scene.codebook is not None:
        columns["codebook"] = _bytes(codebook_bytes(scene.codebook))
    if scene.cameras is not None:
        columns["cameras"] = _bytes(cameras_bytes(scene.cameras))
    return {name: np.ascontiguousarray(column, SHAPES[name][0]) for name, column in columns.items()}


def check_columns(found: Mapping[str, tuple[str, tuple[int, ...]]], name: str) -> None:
    """Refuse arrays that are not a scene, before they are read.

    `found` maps a name to numpy type and shape. Raises SceneFileError.
    """
    unknown = [column for column in found if column not in SHAPES]
    missing = [column for column in NEEDED if column not in found]
    if unknown or missing:
        raise SceneFileError(
            f"{name} is not a scene: " + (f"it has no {missing[0]}" if missing else unknown[0][:40])
        )
    count = found["means"][1][:1]
    for column, (kind, shape) in found.items():
        expected, sizes = SHAPES[column]
        exact = [count[0] if count and size == "n" else size for size in sizes]
        fits = len(shape) == len(exact) and all(
            want in (None, size) for want, size in zip(exact, shape, strict=True)
        )
        if kind != expected or not fits:
            raise SceneFileError(f"{name}: {column} is {kind} {list(shape)[:4]}")
    widths = [found[column][1][1] for column in ("code_ids", "code_weights") if column in found]
    if widths and (len(widths) < 2 or widths[0] != widths[1] or widths[0] > MAX_CODES):
        raise SceneFileError(f"{name}: IDs and weights of codes do not belong together")
    if found["sh"][1][1] not in SH_COUNTS:
        raise SceneFileError(f"{name} has {found['sh'][1][1]} SH coefficients")


def scene_of(columns: Mapping[str, np.ndarray], name: str) -> Scene:
    """Undo `columns_of` for arrays that `check_columns` let pass; SceneFileError."""
    metric, provenance = _notes(columns["notes"], name)
    keys = ("means", "scales", "quaternions_wxyz", "opacities", "sh", "meaning_opacities")
    parts = {key: columns[key] for key in keys if key in columns}
    meaning = parts.pop("meaning_opacities", None)
    gaussians = readable(Parts(**parts), name)
    if meaning is not None:
        if not ((meaning >= 0) & (meaning <= 1)).all():
            raise SceneFileError(f"{name} has opacities of meaning outside 0 to 1")
        gaussians = replace(gaussians, meaning_opacities=meaning)
    codebook, cameras = columns.get("codebook"), columns.get("cameras")
    book = None if codebook is None else decode_codebook(codebook.tobytes(), f"{name}: codebook")
    return Scene(
        gaussians,
        codes=_codes(columns, book, name),
        instances=_instances(columns.get("instances"), name),
        codebook=book,
        cameras=None if cameras is None else decode_cameras(cameras.tobytes(), f"{name}: cameras"),
        metric=metric,
        provenance=provenance,
    )


def pack_weights(weights: Float16[np.ndarray, "n k"]) -> UInt8[np.ndarray, "n k"]:
    """Weights in 255 parts that sum to 255, or 0 without evidence: the largest remainders go up.

    The order by weight stays, since equal floors go up by size.
    """
    exact = weights.astype(np.float32)
    total = exact.sum(axis=1, keepdims=True)
    exact = np.divide(exact * WHOLE, total, out=np.zeros_like(exact), where=total > 0)
    floors = np.floor(exact)
    open_parts = np.where(total[:, 0] > 0, WHOLE - floors.sum(axis=1), 0)
    order = np.argsort(floors - exact, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(weights.shape[1])[None], axis=1)
    return (floors + (rank < open_parts[:, None])).astype(np.uint8)


def pack_ids(codes: SparseCode, weights: UInt8[np.ndarray, "n k"]) -> UInt16[np.ndarray, "n k"]:
    """IDs as uint16, NO_CODE where there is none or its weight came to nothing."""
    if codes.ids.size and codes.ids.min() < NO_ID:
        raise OutputError(f"the scene has the codebook ID {codes.ids.min()}")
    unused = (codes.ids == NO_ID) | (weights == 0)
    return np.where(unused, NO_CODE, codes.ids).astype(np.uint16)


def _codes(
    columns: Mapping[str, np.ndarray], codebook: Codebook | None, name: str
) -> SparseCode | None:
    if "code_ids" not in columns:
        return None
    packed, parts = columns["code_ids"], columns["code_weights"]
    used = packed != NO_CODE
    rows = MAX_ROWS if codebook is None else len(codebook)
    if (packed[used] >= rows).any():
        raise SceneFileError(f"{name} has codebook IDs beyond row {rows - 1}")
    if parts[~used].any() or (parts.sum(axis=1, dtype=np.int64) > WHOLE).any():
        raise SceneFileError(f"{name} has code weights that sum to more than 1, or on no ID")
    ids = np.where(used, packed, 0).astype(np.int16)
    ids[~used] = NO_ID
    return with_norms(ids, (parts / np.float32(WHOLE)).astype(np.float16), codebook)


def _instances(instances: np.ndarray | None, name: str) -> np.ndarray | None:
    if instances is not None and instances.size and instances.min() < NO_ID:
        raise SceneFileError(f"{name} has the instance {instances.min()}")
    return instances


def _notes(content: np.ndarray, name: str) -> tuple[bool, dict[str, str]]:
    try:
        notes = json.loads(content.tobytes()[:MAX_NOTES])
    except (ValueError, RecursionError) as error:
        raise SceneFileError(f"{name} has no readable notes: {error}") from error
    match notes:
        case {"format": "ffsplat.scene 1", "metric": bool(metric), "provenance": dict(provenance)}:
            if all(isinstance(value, str) for value in provenance.values()):
                return metric, provenance
    raise SceneFileError(f"{name} is not marked as {FORMAT}")


def _bytes(content: bytes) -> UInt8[np.ndarray, " size"]:
    return np.frombuffer(content, np.uint8)
