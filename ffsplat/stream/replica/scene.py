"""A copied map as a `Scene`: Gaussians and cameras taken from their submaps into the world."""

from collections.abc import Iterator, Mapping
from dataclasses import fields

import numpy as np
from jaxtyping import Float32, Float64, UInt16, UInt32

from ffsplat import codes
from ffsplat.codebook import code_gram
from ffsplat.stream.delta import CODES, FramePoses, MapDelta, SplatRows
from ffsplat.stream.replica.state import Behind, lengthened
from ffsplat.types import SH_C0, Cameras, Codebook, Gaussians, Scene, SparseCode

CHUNK = 2**15
"""Gaussians placed at a time: temporaries stay in the cache."""

STEPS = 255.0
"""Steps of opacities, colours and weights on the wire."""

_CODE = fields(SparseCode)


class SceneKeeper:
    """Gaussians in the world by place, 81 bytes each: only what changed is worked out again."""

    def __init__(self):
        self._columns = {
            "means": np.zeros((0, 3), np.float32),
            "scales": np.zeros((0, 3), np.float32),
            "quaternions_wxyz": np.zeros((0, 4), np.float32),
            "opacities": np.zeros(0, np.float32),
            "sh": np.zeros((0, 1, 3), np.float32),
            "instances": np.zeros(0, np.int32),
            "ids": np.zeros((0, CODES), np.int16),
            "weights": np.zeros((0, CODES), np.float16),
            "norms": np.zeros(0, np.float16),
        }

    def scene(self, behind: Behind, provenance: Mapping[str, str]) -> Scene:
        """The scene of a map, Gaussians by rising place; cameras are the keyframes.

        There are no codes without a codebook. `metric` is False: a map does not say its unit.
        """
        snapshot, codebook = behind.snapshot, behind.snapshot.codebook
        self._grow(int(behind.places.max(initial=-1)) + 1)
        self._put(behind.moved.gids, _appearance(behind.moved, snapshot))
        if codebook is not None:
            code = _code(behind.recoded, codebook)
            self._put(behind.recoded.gids, {one.name: getattr(code, one.name) for one in _CODE})
        columns = {name: column[behind.places] for name, column in self._columns.items()}
        code = SparseCode(**{one.name: columns.pop(one.name) for one in _CODE})
        return Scene(
            instances=columns.pop("instances"),
            gaussians=Gaussians(**columns),
            codes=None if codebook is None else code,
            codebook=codebook,
            cameras=_cameras(snapshot),
            provenance=provenance,
        )

    def _grow(self, needed: int) -> None:
        """Make room for places up to `needed`, at least a quarter more at a time."""
        room = len(self._columns["means"])
        if needed > room:
            self._columns = {
                name: lengthened(column, max(needed, room + room // 4))
                for name, column in self._columns.items()
            }

    def _put(self, places: UInt32[np.ndarray, " n"], values: Mapping[str, np.ndarray]) -> None:
        for name, value in values.items():
            self._columns[name][places] = value


def _appearance(splats: SplatRows, snapshot: MapDelta) -> dict[str, np.ndarray]:
    """What Gaussians look like in the world."""
    means, scales, quaternions = _placed(splats, snapshot.submaps, snapshot.submap_poses)
    colors = splats.colors / np.float32(STEPS)
    return {
        "means": means,
        "scales": scales,
        "quaternions_wxyz": quaternions,
        "opacities": splats.opacities / np.float32(STEPS),
        "sh": ((colors - np.float32(0.5)) / np.float32(SH_C0))[:, None],
        "instances": splats.instances,
    }


def _code(splats: SplatRows, codebook: Codebook) -> SparseCode:
    weights = splats.weights / np.float32(STEPS)
    return codes.from_pairs(splats.ids, weights, CODES, code_gram(codebook))


def _placed(
    splats: SplatRows, submaps: UInt16[np.ndarray, " s"], poses: Float64[np.ndarray, "s 8"]
) -> tuple[Float32[np.ndarray, "n 3"], Float32[np.ndarray, "n 3"], Float32[np.ndarray, "n 4"]]:
    """Means, scales and unit quaternions (w, x, y, z) in the world; submaps rise."""
    means, scales = np.empty((2, len(splats), 3), np.float32)
    quaternions = np.empty((len(splats), 4), np.float32)
    rotations, scale, turn = matrices(poses[:, 1:5]), poses[:, 0], poses[:, 1:5]
    linear = rotations * scale[:, None, None]
    for rows in _chunks(len(splats)):
        at = np.searchsorted(submaps, splats.submaps[rows])
        points = splats.means[rows].astype(np.float64)
        means[rows] = np.einsum("nij,nj->ni", linear[at], points) + poses[at, 5:]
        scales[rows] = splats.scales[rows] * scale[at, None]
        local = splats.quaternions_wxyz[rows].astype(np.float32)
        local /= np.linalg.norm(local, axis=1, keepdims=True)
        quaternions[rows] = multiplied(turn[at].astype(np.float32), local)
    return means, scales, quaternions


def _cameras(snapshot: MapDelta) -> Cameras:
    """The frames of a snapshot, in the world."""
    frames: FramePoses = snapshot.frames
    at = np.searchsorted(snapshot.submaps, frames.submaps)
    poses = snapshot.submap_poses[at]
    rotations = matrices(poses[:, 1:5])
    world_from_camera = np.tile(np.eye(4), (len(frames), 1, 1))
    world_from_camera[:, :3, :3] = rotations @ matrices(frames.poses[:, :4])
    centers = np.einsum("nij,nj->ni", rotations, frames.poses[:, 4:])
    world_from_camera[:, :3, 3] = poses[:, :1] * centers + poses[:, 5:]
    intrinsics = np.tile(np.eye(3, dtype=np.float32), (len(frames), 1, 1))
    intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]] = frames.intrinsics[:, :4]
    return Cameras(
        world_from_camera.astype(np.float32),
        intrinsics,
        frames.intrinsics[:, 4:].astype(np.int32),
        tuple(f"frame {number}" for number in frames.numbers.tolist()),
    )


def matrices(quaternions_wxyz: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, "n 3 3"]:
    """Rotation matrices of quaternions (w, x, y, z) of nearly unit length.

    Source: Diebel, "Representing attitude", 2006, equation 125.
    """
    w, x, y, z = (quaternions_wxyz / np.linalg.norm(quaternions_wxyz, axis=1, keepdims=True)).T
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return np.stack(rows, axis=-1).reshape(-1, 3, 3)


def multiplied(
    left_wxyz: Float32[np.ndarray, "n 4"], right_wxyz: Float32[np.ndarray, "n 4"]
) -> Float32[np.ndarray, "n 4"]:
    """Hamilton products: the rotations `right` followed by the rotations `left`."""
    a, b, c, d = left_wxyz.T
    e, f, g, h = right_wxyz.T
    product = [
        a * e - b * f - c * g - d * h,
        a * f + b * e + c * h - d * g,
        a * g - b * h + c * e + d * f,
        a * h + b * g - c * f + d * e,
    ]
    return np.stack(product, axis=1)


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, count, CHUNK))
